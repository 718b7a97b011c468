//! `index = true`: a pattern is swept by the index of its keys, and by nothing else that Redis holds.

use std::collections::HashMap;
use std::time::Duration;

use cachewarden::Warden;
use cachewarden::cache::Scripts;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config_without_postgres};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::{redis, redis_with};
use super::support::world::{World, figure, raw};
use super::sweeps::fill;

const INDEX: &str = "cachewarden:index:calc:";

/// A daemon whose programs fill `calc:`.
async fn programs(redis: &Redis, indexed: bool) -> InProcess {
    let more = format!(
        "redis.timeout = \"5s\"\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\nindex = {indexed}\n"
    );
    InProcess::start(&config_without_postgres(&redis.redis_url(), &more)).await
}

/// A program stores `<prefix>1` to `<prefix>count`.
async fn store(warden: &Warden, prefix: &str, count: u32) {
    store_for(warden, prefix, count, None).await;
}

async fn store_for(warden: &Warden, prefix: &str, count: u32, life: Option<Duration>) {
    let values: HashMap<String, u32> = (1..=count).map(|n| (format!("{prefix}{n}"), n)).collect();
    let values: Vec<(&str, &u32)> = values.iter().map(|(key, n)| (key.as_str(), n)).collect();
    warden.mset(&values, life).await.unwrap();
}

/// The marks of an index: how many say that it is whole, and how many that it is being built.
async fn marks(raw: &mut Client, index: &str) -> (usize, usize) {
    let of = async |raw: &mut Client, from: &str, to: &str| match raw
        .command(&["ZRANGEBYLEX", index, from, to])
        .await
    {
        Value::Array(marks) => marks.len(),
        other => panic!("{other:?}"),
    };
    let whole = of(raw, "[:whole:", "(:whole;").await;
    (whole, of(raw, "[:build:", "(:build;").await)
}

async fn count(raw: &mut Client, words: &[&str]) -> i64 {
    match raw.command(words).await {
        Value::Int(count) => count,
        other => panic!("{other:?}"),
    }
}

/// How many keys there are.
async fn keys(raw: &mut Client, pattern: &str) -> usize {
    match raw.command(&["KEYS", pattern]).await {
        Value::Array(keys) => keys.len(),
        other => panic!("{other:?}"),
    }
}

/// How often Redis was asked to walk through all its keys since the last `CONFIG RESETSTAT`.
async fn scans(raw: &mut Client) -> u64 {
    let stats = raw.command(&["INFO", "commandstats"]).await;
    let line = stats
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("cmdstat_scan:calls="));
    let calls = line.and_then(|line| line.split(',').next());
    calls.map_or(0, |calls| calls.parse().unwrap())
}

async fn sweep(daemon: &InProcess, pattern: &str) -> u64 {
    daemon.warden.invalidate(&[pattern]).await.unwrap()
}

#[tokio::test]
async fn an_index_is_built_by_the_first_sweep_and_serves_the_next_ones_alone() {
    let redis = redis();
    let daemon = programs(&redis, true).await;
    let mut raw = raw(&redis).await;
    fill(&mut raw, "other:", 20_000).await;
    // There before the index is, and under the daemon's feet.
    fill(&mut raw, "calc:old:", 500).await;
    store(&daemon.warden, "calc:a:", 3_000).await;
    assert_eq!(sweep(&daemon, "calc:b:*").await, 0);
    assert_eq!(marks(&mut raw, INDEX).await, (1, 0));
    assert_eq!(count(&mut raw, &["ZCARD", INDEX]).await, 3_501);

    store(&daemon.warden, "calc:b:", 3_000).await;
    raw.command(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(sweep(&daemon, "calc:a:*").await, 3_000);
    assert_eq!(sweep(&daemon, "calc:?:2*9").await, 1 + 10 + 100);
    assert_eq!(sweep(&daemon, "calc:b:[13]00").await, 2);
    assert_eq!(sweep(&daemon, "calc:none:*").await, 0);
    assert_eq!(sweep(&daemon, "calc:old:*").await, 500);
    let left = 3_000 - 111 - 2;
    assert_eq!(keys(&mut raw, "calc:*").await, left);
    assert_eq!(sweep(&daemon, "calc:*").await, left as u64);
    assert_eq!(keys(&mut raw, "calc:*").await, 0);
    assert_eq!(scans(&mut raw).await, 0, "nothing else was looked at");
    assert_eq!(keys(&mut raw, "other:*").await, 20_000);
    // Nothing is left behind but the mark.
    assert_eq!(count(&mut raw, &["ZCARD", INDEX]).await, 1);
    let mut client = daemon.client().await;
    let swept = figure(&mut client, "cachewarden_indexed_sweeps_total", "swept").await;
    assert_eq!(swept, 6);
    daemon.stop().await;
}

#[tokio::test]
async fn a_whole_cache_and_its_missing_rows_are_swept_by_the_index() {
    let redis = redis();
    let world = World::start_on(
        redis,
        "CREATE TABLE t (id bigint PRIMARY KEY, v text); INSERT INTO t SELECT g, 'x' FROM generate_series(1, 300) g",
        r#"
            [caches.t]
            key = "t:{id:bigint}"
            query = "SELECT v FROM t WHERE id = :id"
            shape = "scalar"
            ttl = "10m"
            [caches.list]
            key = "t:list:{n:int}"
            query = "SELECT id FROM t LIMIT :n"
            shape = "array"
            ttl = "10m"
            index = true
        "#,
    )
    .await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    sweep(&world.daemon, "t:*").await;
    let mut get: Vec<String> = (1..=400).map(|id| format!("t:{id}")).collect();
    get.extend((1..=20).map(|n| format!("t:list:{n}")));
    let mut words = vec!["MGET"];
    words.extend(get.iter().map(String::as_str));
    client.command(&words).await;
    // 300 rows, 100 that are missing, 20 lists, and the mark: the caches share a first segment and so an index.
    let index = "cachewarden:index:t:";
    assert_eq!(count(&mut raw, &["ZCARD", index]).await, 421);
    let life = count(&mut raw, &["PTTL", index]).await;
    let value = count(&mut raw, &["PTTL", "t:list:7"]).await;
    assert!(life > value && value > 0, "{life} {value}");
    raw.command(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(sweep(&world.daemon, "t:list:*").await, 20);
    let published = [
        "PUBLISH",
        "cache:invalidate",
        r#"{"id": "1", "caches": ["t"]}"#,
    ];
    client.command(&published).await;
    eventually(DEADLINE, async || {
        let left = count(&mut raw, &["ZCARD", index]).await;
        (left == 1).then_some(()).ok_or(left)
    })
    .await;
    assert_eq!(keys(&mut raw, "t:*").await, 0);
    assert_eq!(scans(&mut raw).await, 0);
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_index_whose_mark_is_lost_is_not_believed_and_is_built_anew() {
    let redis = redis();
    let daemon = programs(&redis, true).await;
    let mut raw = raw(&redis).await;
    sweep(&daemon, "calc:*").await;
    for lost in ["mark", "index"] {
        store(&daemon.warden, "calc:", 1_000).await;
        if lost == "mark" {
            let from_to = ["ZREMRANGEBYLEX", INDEX, "[:whole:", "(:whole;"];
            assert_eq!(count(&mut raw, &from_to).await, 1);
            // Entries alone are no proof: this one is missing.
            raw.command(&["ZREM", INDEX, "calc:7"]).await;
        } else {
            raw.command(&["DEL", INDEX]).await;
        }
        store(&daemon.warden, "calc:later:", 10).await;
        raw.command(&["CONFIG", "RESETSTAT"]).await;
        assert_eq!(sweep(&daemon, "calc:?*").await, 1_010, "{lost}");
        assert!(scans(&mut raw).await > 0, "{lost}");
        assert_eq!(marks(&mut raw, INDEX).await, (1, 0), "{lost}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn an_index_that_redis_evicts_takes_its_mark_along() {
    let redis = redis_with(&["--maxmemory-policy", "allkeys-random"]);
    let daemon = programs(&redis, true).await;
    let mut raw = raw(&redis).await;
    sweep(&daemon, "calc:*").await;
    store(&daemon.warden, "calc:", 500).await;
    assert_eq!(marks(&mut raw, INDEX).await, (1, 0));
    // Full: a key goes for every one that comes, until it is the index' turn.
    let memory = raw.command(&["INFO", "memory"]).await;
    let used = memory
        .text()
        .lines()
        .find_map(|line| line.strip_prefix("used_memory:"));
    raw.command(&["CONFIG", "SET", "maxmemory", used.unwrap()])
        .await;
    let filler = "x".repeat(1_000);
    eventually(DEADLINE, async || {
        for n in 0..200 {
            raw.command(&["SET", &format!("other:{n}"), &filler]).await;
        }
        let left = count(&mut raw, &["EXISTS", INDEX]).await;
        (left == 0).then_some(()).ok_or(left)
    })
    .await;
    raw.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    // An index that begins anew, of these keys only.
    store(&daemon.warden, "calc:later:", 10).await;
    assert_eq!(marks(&mut raw, INDEX).await, (0, 0));
    sweep(&daemon, "calc:*").await;
    assert_eq!(keys(&mut raw, "calc:*").await, 0);
    assert_eq!(marks(&mut raw, INDEX).await, (1, 0));
    daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_has_no_index_to_believe() {
    let mut redis = redis();
    let daemon = programs(&redis, true).await;
    sweep(&daemon, "calc:*").await;
    store(&daemon.warden, "calc:", 100).await;
    redis.kill().unwrap();
    redis.start_again().unwrap();
    eventually(DEADLINE, async || {
        daemon.warden.set("calc:1", &1, None).await
    })
    .await;
    let mut raw = raw(&redis).await;
    assert_eq!(marks(&mut raw, INDEX).await, (0, 0));
    eventually(DEADLINE, async || {
        daemon.warden.invalidate(&["calc:*"]).await
    })
    .await;
    assert_eq!(keys(&mut raw, "calc:*").await, 0);
    assert_eq!(marks(&mut raw, INDEX).await, (1, 0));
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_keeps_no_index_costs_the_others_a_pass_and_no_value() {
    let redis = redis();
    let with = programs(&redis, true).await;
    let mut raw = raw(&redis).await;
    let without = programs(&redis, false).await;
    // It has been running for long when the index is built.
    sweep(&with, "calc:*").await;
    eventually(DEADLINE, async || {
        sweep(&with, "calc:*").await;
        let seen = marks(&mut raw, INDEX).await;
        (seen == (1, 0)).then_some(()).ok_or(seen)
    })
    .await;
    store(&with.warden, "calc:a:", 50).await;
    store(&without.warden, "calc:b:", 50).await;
    store(&with.warden, "calc:c:", 50).await;
    assert_eq!(marks(&mut raw, INDEX).await, (0, 0));
    assert_eq!(sweep(&with, "calc:*").await, 150);
    // And it sweeps by no index itself, whole as it may be.
    store(&with.warden, "calc:a:", 50).await;
    raw.command(&["CONFIG", "RESETSTAT"]).await;
    assert_eq!(sweep(&without, "calc:*").await, 50);
    assert!(scans(&mut raw).await > 0);
    without.stop().await;
    with.stop().await;
}

#[tokio::test]
async fn a_daemon_without_an_index_removes_the_one_that_was_kept() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let with = programs(&redis, true).await;
    sweep(&with, "calc:*").await;
    with.stop().await;
    assert_eq!(marks(&mut raw, INDEX).await, (1, 0));
    let without = programs(&redis, false).await;
    eventually(DEADLINE, async || {
        let left = count(&mut raw, &["EXISTS", INDEX]).await;
        (left == 0).then_some(()).ok_or(left)
    })
    .await;
    without.stop().await;
}

/// The control of the one above: were values stored with neither an entry nor the removal of the index, a sweep would miss them.
#[tokio::test]
async fn a_fill_that_lists_nothing_would_be_missed() {
    for unlisted in [false, true] {
        let redis = redis();
        let more = "[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\nindex = true\n";
        let text = config_without_postgres(&redis.redis_url(), more);
        let scripts = match unlisted {
            true => Scripts::with_end(include_str!("scripts/end_leases_unlisted.lua")),
            false => Scripts::default(),
        };
        let config = Config::from_toml(&text).unwrap();
        let warden = Warden::start_with_scripts(config, scripts).await.unwrap();
        let mut raw = raw(&redis).await;
        warden.invalidate(&["calc:*"]).await.unwrap();
        let loaded: Option<u32> = warden
            .get_or_load("calc:1", None, async || Ok(Some(1)))
            .await
            .unwrap();
        assert_eq!(loaded, Some(1));
        warden.invalidate(&["calc:*"]).await.unwrap();
        assert_eq!(keys(&mut raw, "calc:*").await, usize::from(unlisted));
        warden.stop().await;
    }
}

#[tokio::test]
async fn entries_of_expired_values_go_little_by_little() {
    let redis = redis();
    let daemon = programs(&redis, true).await;
    let mut raw = raw(&redis).await;
    let short = Some(Duration::from_millis(1));
    for round in 0..20 {
        let prefix = format!("calc:{round}:");
        store_for(&daemon.warden, &prefix, 1_000, short).await;
        eventually(DEADLINE, async || {
            let left = keys(&mut raw, &format!("{prefix}*")).await;
            (left == 0).then_some(()).ok_or(left)
        })
        .await;
    }
    let listed = count(&mut raw, &["ZCARD", INDEX]).await;
    assert!(listed < 4_000, "{listed} entries of 20,000");
    // Those of values that live are never among them.
    store(&daemon.warden, "calc:live:", 1_000).await;
    for round in 0..5 {
        store_for(&daemon.warden, &format!("calc:again:{round}:"), 500, short).await;
    }
    for n in 1..=1_000 {
        let entry = raw
            .command(&["ZSCORE", INDEX, &format!("calc:live:{n}")])
            .await;
        assert_ne!(entry, Value::Nil, "calc:live:{n}");
    }
    daemon.stop().await;
}
