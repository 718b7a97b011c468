//! The page of metrics, as a strict reader of the exposition format takes it.

use std::collections::{BTreeMap, BTreeSet};

use cachewarden::telemetry::METRICS;

use super::super::support::eventually::eventually;
use super::super::support::resp::Value as Resp;
use super::*;

/// What programs outside of this repository were promised.
const PROMISED: [&str; 30] = [
    "cachewarden_reads_total",
    "cachewarden_read_seconds",
    "cachewarden_loads_total",
    "cachewarden_load_seconds",
    "cachewarden_load_batch_keys",
    "cachewarden_fills_total",
    "cachewarden_flights_joined_total",
    "cachewarden_invalidations_total",
    "cachewarden_invalidation_seconds",
    "cachewarden_outbox_rows",
    "cachewarden_outbox_lag_seconds",
    "cachewarden_subscriber_deaf_seconds_total",
    "cachewarden_warm_runs_total",
    "cachewarden_locks_held",
    "cachewarden_lock_wait_seconds",
    "cachewarden_limit_decisions_total",
    "cachewarden_audit_checked_total",
    "cachewarden_audit_inconsistent_total",
    "cachewarden_actor_restarts_total",
    "cachewarden_actor_mailbox_depth",
    "cachewarden_connections",
    "cachewarden_redis_up",
    "cachewarden_postgres_up",
    "cachewarden_tracking_up",
    "cachewarden_breaker_open",
    "cachewarden_l1_bytes",
    "cachewarden_sweeps_pending",
    "cachewarden_journal_rows",
    "cachewarden_dead_rows",
    "cachewarden_build_info",
];

/// Of these a daemon that has done nothing of the kind says nothing: they are families, and have no member yet.
const WITHOUT_MEMBERS: [&str; 3] = [
    "cachewarden_warm_runs_total",
    "cachewarden_lock_wait_seconds",
    "cachewarden_invalidation_seconds",
];

/// One metric of a page: its kind, and its samples by name and labels.
#[derive(Debug, Default)]
struct Metric {
    kind: String,
    samples: BTreeMap<(String, Labels), f64>,
}

type Labels = BTreeMap<String, String>;

/// Reads version 0.0.4 of the text format. Stricter than Prometheus: samples stand behind their `TYPE`, and that behind its
/// `HELP`.
fn parse(page: &str) -> BTreeMap<String, Metric> {
    assert!(page.ends_with('\n'));
    let mut metrics = BTreeMap::<String, Metric>::new();
    let mut helped = None;
    let mut current = String::new();
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').expect("a text");
            assert!(!text.is_empty());
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a kind");
            assert_eq!(helped.take().as_deref(), Some(name), "{line}");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            let metric = Metric {
                kind: kind.to_owned(),
                ..Metric::default()
            };
            assert!(
                metrics.insert(name.to_owned(), metric).is_none(),
                "{name} twice"
            );
            current = name.to_owned();
        } else {
            let (name, labels, value) = sample(line);
            let metric = metrics.get_mut(&current).expect("a TYPE first");
            let end = name
                .strip_prefix(&current)
                .unwrap_or_else(|| panic!("{line} in {current}"));
            match metric.kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&end), "{line}"),
                _ => assert_eq!(end, "", "{line}"),
            }
            let twice = metric.samples.insert((name, labels), value);
            assert!(twice.is_none(), "{line} twice");
        }
    }
    metrics
        .iter()
        .filter(|(_, metric)| metric.kind == "histogram")
        .for_each(check_histogram);
    metrics
}

/// `name{label="value",…} number`
fn sample(line: &str) -> (String, Labels, f64) {
    let (head, value) = line.rsplit_once(' ').expect("a value");
    let value = match value {
        "+Inf" => f64::INFINITY,
        number => number.parse().unwrap_or_else(|_| panic!("{line}")),
    };
    let (name, labels) = match head.split_once('{') {
        None => (head, ""),
        Some((name, labels)) => (name, labels.strip_suffix('}').expect("an end")),
    };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    assert!(!name.is_empty() && name.chars().all(is_name), "{line}");
    let mut labels = labels.chars().peekable();
    let mut read = Labels::new();
    while labels.peek().is_some() {
        let label: String = labels.by_ref().take_while(|c| *c != '=').collect();
        assert!(!label.is_empty() && label.chars().all(is_name), "{line}");
        assert_eq!(labels.next(), Some('"'), "{line}");
        let mut text = String::new();
        loop {
            match labels.next().unwrap_or_else(|| panic!("{line}")) {
                '"' => break,
                '\\' => match labels.next() {
                    Some('n') => text.push('\n'),
                    Some(c @ ('\\' | '"')) => text.push(c),
                    other => panic!("{other:?} in {line}"),
                },
                c => text.push(c),
            }
        }
        assert!(read.insert(label, text).is_none(), "{line}");
        match labels.next() {
            None => break,
            Some(c) => assert_eq!(c, ',', "{line}"),
        }
    }
    (name.to_owned(), read, value)
}

/// Of each set of labels the buckets rise, and the last of them is the number of all.
fn check_histogram((name, metric): (&String, &Metric)) {
    let mut buckets = BTreeMap::<Labels, Vec<(f64, f64)>>::new();
    for ((sample, labels), count) in &metric.samples {
        if sample.ends_with("_bucket") {
            let mut labels = labels.clone();
            let bound = labels.remove("le").expect("a bound");
            let bound = match bound.as_str() {
                "+Inf" => f64::INFINITY,
                number => number.parse().expect("a number"),
            };
            buckets.entry(labels).or_default().push((bound, *count));
        }
    }
    for (labels, mut buckets) in buckets {
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        assert!(
            buckets.is_sorted_by(|one, next| one.1 <= next.1),
            "{name} {labels:?}"
        );
        let (bound, all) = *buckets.last().expect("a bucket");
        let count = metric.samples[&(format!("{name}_count"), labels.clone())];
        assert_eq!((bound, all), (f64::INFINITY, count), "{name} {labels:?}");
        assert!(
            metric
                .samples
                .contains_key(&(format!("{name}_sum"), labels))
        );
    }
}

async fn page(daemon: &InProcess) -> BTreeMap<String, Metric> {
    let response = get(daemon, "/metrics").await;
    assert_eq!(response.status, 200);
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(response.header("content-type"), Some(kind));
    parse(&response.body)
}

#[tokio::test]
async fn the_page_has_what_was_promised_and_nothing_that_the_table_does_not_explain() {
    let limit = "[limits.api]\nalgorithm = \"fixed_window\"\nlimit = 9\nwindow = \"1h\"\n";
    let world = world(limit).await;
    let mut client = world.client().await;
    for command in [
        ["GET", "courses:1"],
        ["GET", "courses:1"],
        ["DEL", "courses:1"],
    ] {
        client.command(&command).await;
    }
    let known: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    let seen = page(&world.daemon).await;
    for promised in PROMISED {
        assert!(known.contains(promised), "{promised} is in no table");
        let there = seen
            .get(promised)
            .is_some_and(|metric| !metric.samples.is_empty());
        assert!(
            there || WITHOUT_MEMBERS.contains(&promised),
            "{promised}: {:?}",
            seen.keys()
        );
    }
    for name in seen.keys() {
        assert!(known.contains(name.as_str()), "{name} is in no table");
    }
    let labels = |pairs: &[(&str, &str)]| -> Labels {
        let owned = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    let sample = |name: &str, pairs: &[(&str, &str)]| {
        let samples = &seen[name].samples;
        samples.get(&(name.to_owned(), labels(pairs))).copied()
    };
    for state in ["hit", "miss"] {
        let reads = sample(
            "cachewarden_reads_total",
            &[("cache", "course"), ("state", state)],
        );
        assert_eq!(reads, Some(1.0), "{state}");
    }
    for target in ["redis", "postgres"] {
        let open = sample("cachewarden_breaker_open", &[("target", target)]);
        assert_eq!(open, Some(0.0), "{target}");
    }
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(sample("cachewarden_build_info", &version), Some(1.0));
    assert_eq!(sample("cachewarden_connections", &[]), Some(1.0));
    for actor in ["cache-0", "invalidation", "audit", "lock", "rate-limit"] {
        let depth = sample("cachewarden_actor_mailbox_depth", &[("actor", actor)]);
        assert!(depth.is_some(), "{actor}");
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_is_only_looked_at_is_looked_at_for_the_page() {
    let mut world = world("").await;
    let gauge = async |name: &str| {
        let seen = page(&world.daemon).await;
        seen[name].samples[&(name.to_owned(), Labels::new())]
    };
    assert_eq!(gauge("cachewarden_redis_up").await, 1.0);
    world.redis.kill().unwrap();
    eventually(DEADLINE, async || {
        match gauge("cachewarden_redis_up").await {
            0.0 => Ok(()),
            up => Err(up),
        }
    })
    .await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn values_in_memory_are_counted_in_bytes() {
    let world = World::start(COURSES, &format!("{HTTP}{COURSE}l1 = true\n")).await;
    let mut client = world.client().await;
    eventually(DEADLINE, async || {
        client.command(&["GET", "courses:1"]).await;
        let seen = page(&world.daemon).await;
        let gauge = |name: &str| seen[name].samples[&(name.to_owned(), Labels::new())];
        match (
            gauge("cachewarden_l1_bytes"),
            gauge("cachewarden_tracking_up"),
        ) {
            (bytes, 1.0) if bytes > 0.0 => Ok(()),
            other => Err(other),
        }
    })
    .await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn who_reads_openmetrics_gets_that() {
    let world = world("").await;
    let accept =
        "Accept: application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
    let response = send(&world.daemon, "GET", "/metrics", &[accept], "").await;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(response.header("content-type"), Some(kind));
    assert!(response.body.ends_with("# EOF\n"), "{response:?}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_key_is_never_a_label_whatever_stands_in_it() {
    let world = world("").await;
    let mut client = world.client().await;
    let refused = client.command(&["GET", "courses:\"}\n1"]).await;
    assert!(matches!(refused, Resp::Error(_)), "{refused:?}");
    get(&world.daemon, "/api/v1/keys/courses:%22%7D%0A1").await;
    let page = get(&world.daemon, "/metrics").await.body;
    parse(&page);
    assert!(!page.contains("courses:"), "{page}");
    world.daemon.stop().await;
}
