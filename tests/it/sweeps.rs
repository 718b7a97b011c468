//! Invalidation by pattern: leases first, then a pass through all keys of Redis.

use std::sync::Arc;

use actix_rt::Arbiter;
use cachewarden::cache::{Origin, Sweeps};
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::invalidation::{
    InvalidateTargets, InvalidationActor, InvalidationHandle, InvalidationParts,
};
use cachewarden::keyspace::Targets;
use cachewarden::store::Store;
use cachewarden::supervisor::{ChildSpec, RestartPolicy, Supervisor};
use cachewarden::telemetry::Metrics;
use tokio::task::JoinSet;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config_without_postgres};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::{World, count, figure, raw, release};

const SHOP: &str = "
    CREATE TABLE courses (id bigint PRIMARY KEY, title text);
    INSERT INTO courses SELECT g, 'old' FROM generate_series(1, 1000) g";

const CACHES: &str = r#"
    invalidation.prefixes = ["legacy:"]

    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "10m"

    [namespaces.calc]
    prefix = "calc:"
    ttl = "5m"
"#;

/// A daemon over a Redis alone.
async fn alone(redis: &Redis) -> InProcess {
    let more = "invalidation.prefixes = [\"legacy:\"]\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"";
    InProcess::start(&config_without_postgres(&redis.redis_url(), more)).await
}

const FILLED_AT_ONCE: usize = 10_000;

/// Keys `<prefix>1` to `<prefix>count` behind the daemon's back.
pub(super) async fn fill(raw: &mut Client, prefix: &str, count: u32) {
    let script = "for i = ARGV[2], ARGV[3] do redis.call('SET', ARGV[1] .. i, 'x') end";
    // In parts: a Redis that is busy for long is away to a daemon.
    for first in (1..=count).step_by(FILLED_AT_ONCE) {
        let last = (first + FILLED_AT_ONCE as u32 - 1).min(count);
        let (first, last) = (first.to_string(), last.to_string());
        let words = ["EVAL", script, "0", prefix, &first, &last];
        assert_eq!(raw.command(&words).await, Value::Nil);
    }
}

async fn size(raw: &mut Client) -> Value {
    Value::Int(count(raw).await)
}

async fn passes(client: &mut Client, result: &str) -> u64 {
    figure(client, "cachewarden_sweep_passes_total", result).await
}

#[tokio::test]
async fn a_pattern_removes_all_that_matches_and_nothing_of_others() {
    let redis = redis();
    let daemon = alone(&redis).await;
    let (mut client, mut raw) = (daemon.client().await, raw(&redis).await);
    for (prefix, count) in [
        ("calc:a:", 30_000),
        ("calc:b:", 10_000),
        ("legacy:", 5_000),
        ("sess:", 40_000),
        ("calculus:", 40_000),
    ] {
        fill(&mut raw, prefix, count).await;
    }
    let others = 40_000 + 40_000;
    let mut ask = async |words: &[&str]| client.command(words).await;
    // Counted, and not removed.
    assert_eq!(ask(&["CACHE.COUNT", "calc:a:*"]).await, Value::Int(30_000));
    let twice = [
        "CACHE.COUNT",
        "calc:*",
        "calc:a:*",
        "legacy:7",
        "legacy:none",
    ];
    assert_eq!(ask(&twice).await, Value::Int(40_001));
    // Removed, and nothing else.
    let removed = ask(&["CACHE.INVALIDATE", "calc:a:*"]).await;
    assert_eq!(removed, Value::Int(30_000));
    assert_eq!(size(&mut raw).await, Value::Int(10_000 + 5_000 + others));
    // Keys and patterns together; a key of another program, too.
    let words = [
        "CACHE.INVALIDATE",
        "calc:b:1?",
        "calc:b:2",
        "legacy:9",
        "calc:b:[34]",
    ];
    assert_eq!(ask(&words).await, Value::Int(10 + 1 + 1 + 2));
    let removed = daemon.warden.invalidate(&["calc:*", "legacy:*"]).await;
    assert_eq!(removed.unwrap(), 10_000 - 13 + 5_000 - 1);
    assert_eq!(size(&mut raw).await, Value::Int(others));
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_too_wide_foreign_or_broken_is_refused_and_removes_nothing() {
    let redis = redis();
    let daemon = alone(&redis).await;
    let (mut client, mut raw) = (daemon.client().await, raw(&redis).await);
    fill(&mut raw, "calc:", 10).await;
    fill(&mut raw, "sess:", 10).await;
    let (long, wild) = (format!("calc:{}*", "x".repeat(508)), "calc:*********");
    for (argument, refusal) in [
        ("*", "BADPATTERN '*' is too wide"),
        ("?", "BADPATTERN '?' is too wide"),
        ("calc*", "BADPATTERN 'calc*' is too wide"),
        ("*:user", "BADPATTERN '*:user' is too wide"),
        (
            "sess:*",
            "BADPATTERN 'sess:*' begins with no declared prefix",
        ),
        (
            "[c]alc:*",
            "BADPATTERN '[c]alc:*' begins with no declared prefix",
        ),
        ("cachewarden:*", "BADPATTERN 'cachewarden:*' is reserved"),
        (
            "{calc:1}:lease*",
            "BADPATTERN '{calc:1}:lease*' is reserved",
        ),
        ("calc:[a", "BADPATTERN unclosed '[' at 5"),
        ("calc:\\", "BADPATTERN 'calc:\\' ends in '\\'"),
        (
            wild,
            "BADPATTERN 'calc:*********' has more than 8 wildcards",
        ),
        (&long, "BADPATTERN length 514 exceeds 512"),
        ("sess:1", "ERR no cache is declared for key 'sess:1'"),
        ("", "BADKEY key is empty"),
    ] {
        for command in ["CACHE.INVALIDATE", "CACHE.COUNT"] {
            let reply = client.command(&[command, "calc:1", argument]).await;
            let line = reply.error();
            assert!(line.starts_with(refusal), "{argument}: {line}");
        }
    }
    assert_eq!(size(&mut raw).await, Value::Int(20));
    daemon.stop().await;
}

#[tokio::test]
async fn a_load_that_began_before_a_pattern_does_not_fill_after_it() {
    let world = World::start(SHOP, CACHES).await;
    let (mut client, mut reader) = (world.client().await, world.client().await);
    let mut raw = world.raw().await;
    let lock = world.lock("courses").await;
    reader.send(b"GET courses:1\r\n").await.unwrap();
    eventually(DEADLINE, async || {
        let lease = raw.command(&["EXISTS", "{courses:1}:lease"]).await;
        (lease == Value::Int(1)).then_some(()).ok_or("no lease")
    })
    .await;
    // Nothing is there to remove; the load under way loses its right all the same.
    let removed = client.command(&["CACHE.INVALIDATE", "courses:*"]).await;
    assert_eq!(removed, Value::Int(0));
    let lease = raw.command(&["EXISTS", "{courses:1}:lease"]).await;
    assert_eq!(lease, Value::Int(0));
    let listed = raw.command(&["ZCARD", "cachewarden:leases"]).await;
    assert_eq!(listed, Value::Int(0));
    release(lock).await;
    assert_eq!(reader.read().await.unwrap(), Value::bulk("\"old\""));
    let refused = figure(&mut client, "cachewarden_fills_total", "refused").await;
    assert_eq!(refused, 1, "its first fill");
    world.daemon.stop().await;
}

/// The connection that sweeps.
pub(super) async fn sweeping_client(raw: &mut Client) -> String {
    eventually(DEADLINE, async || {
        let list = raw.command(&["CLIENT", "LIST"]).await;
        let mut lines = list.text().lines();
        let found = lines.find(|line| line.contains("cmd=scan"));
        let id = found.and_then(|line| line.split_once("id=")?.1.split_once(' '));
        id.map(|(id, _)| id.to_owned()).ok_or("nobody scans")
    })
    .await
}

#[tokio::test]
async fn a_sweep_whose_connection_is_killed_begins_again_and_is_acknowledged_once_it_is_whole() {
    let redis = redis();
    let daemon = alone(&redis).await;
    let (mut client, mut raw) = (daemon.client().await, raw(&redis).await);
    fill(&mut raw, "calc:", 60_000).await;
    fill(&mut raw, "other:", 400_000).await;
    client.send(b"CACHE.INVALIDATE calc:*\r\n").await.unwrap();
    let id = sweeping_client(&mut raw).await;
    assert_eq!(
        raw.command(&["CLIENT", "KILL", "ID", &id]).await,
        Value::Int(1)
    );
    let removed = client.read().await.unwrap();
    assert_eq!(size(&mut raw).await, Value::Int(400_000), "{removed:?}");
    assert!(passes(&mut client, "broken").await >= 1);
    assert_eq!(passes(&mut client, "done").await, 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_sweep_outlives_a_redis_that_is_emptied_or_restarted_in_the_middle() {
    let mut redis = redis();
    let daemon = alone(&redis).await;
    let mut client = daemon.client().await;
    for restart in [false, true] {
        let mut raw = raw(&redis).await;
        fill(&mut raw, "calc:", 60_000).await;
        fill(&mut raw, "other:", 400_000).await;
        client.send(b"CACHE.INVALIDATE calc:*\r\n").await.unwrap();
        sweeping_client(&mut raw).await;
        if restart {
            redis.kill().unwrap();
            redis.start_again().unwrap();
        } else {
            raw.command(&["FLUSHALL"]).await;
        }
        // However much it had removed before.
        let removed = client.read().await.unwrap();
        assert!(matches!(removed, Value::Int(_)), "{removed:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_server_that_takes_another_ones_data_during_a_sweep_is_swept_again() {
    let (redis, other) = (redis(), redis());
    let daemon = alone(&redis).await;
    let (mut client, mut straight) = (daemon.client().await, raw(&redis).await);
    let mut elsewhere = raw(&other).await;
    fill(&mut straight, "calc:", 60_000).await;
    fill(&mut straight, "other:", 400_000).await;
    fill(&mut elsewhere, "calc:", 500).await;
    fill(&mut elsewhere, "other:", 10).await;
    client.send(b"CACHE.INVALIDATE calc:*\r\n").await.unwrap();
    sweeping_client(&mut straight).await;
    let port = other.port().to_string();
    straight.command(&["REPLICAOF", "127.0.0.1", &port]).await;
    eventually(DEADLINE, async || {
        let seen = size(&mut straight).await;
        (seen == Value::Int(510)).then_some(()).ok_or(seen)
    })
    .await;
    straight.command(&["REPLICAOF", "NO", "ONE"]).await;
    // Who waits is told if that takes long; the sweep goes on.
    let reply = client.read().await.unwrap();
    let told = matches!(&reply, Value::Error(line) if line.starts_with("UNAVAILABLE"));
    assert!(told || matches!(reply, Value::Int(500..)), "{reply:?}");
    eventually(DEADLINE, async || {
        let seen = size(&mut straight).await;
        (seen == Value::Int(10)).then_some(()).ok_or(seen)
    })
    .await;
    assert!(passes(&mut client, "broken").await >= 1);
    daemon.stop().await;
}

#[actix_rt::test]
async fn what_waits_for_a_sweep_outlives_the_actor() {
    let redis = redis();
    let proxy = Proxy::before_port(redis.port()).await;
    let mut straight = raw(&redis).await;
    fill(&mut straight, "calc:", 10).await;
    let more = "redis.timeout = \"100ms\"\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"";
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let config = Config::from_toml(&config_without_postgres(&url, more)).unwrap();
    let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
    actix_rt::spawn(store.clone().keep());
    store.up().wait_for(|up| *up).await.unwrap();
    let parts = InvalidationParts::new(
        config.invalidation.clone(),
        config.scope(),
        store,
        Arc::new([]),
        Sweeps::default(),
        Metrics::new(),
    );
    let handle = InvalidationHandle::unbound();
    let arbiter = Arbiter::try_new().expect("a thread");
    let made = parts.clone();
    let spec = || {
        let (made, bound) = (made.clone(), handle.clone());
        ChildSpec::new(
            "invalidation",
            arbiter.handle(),
            RestartPolicy::default(),
            move || InvalidationActor::new(made.clone()),
            move |address| InvalidationActor::bind(&bound, address),
        )
    };
    proxy.hold();
    let mut first = Supervisor::new();
    first.start(spec());
    first.all_up().await.unwrap();
    let mut targets = Targets::default();
    config.scope().add(b"calc:*", &mut targets).unwrap();
    let origin = Origin::Command;
    let ask = handle.invalidate.clone();
    let asked = tokio::spawn(async move { ask.ask(InvalidateTargets { targets, origin }).await });
    eventually(DEADLINE, async || {
        let pending = parts.pending();
        (pending == 1).then_some(()).ok_or(pending)
    })
    .await;
    first.stop(DEADLINE).await;
    // Who asked is told at once. What they asked for is kept.
    assert!(!matches!(asked.await.unwrap(), Ok(Ok(_))));
    let mut second = Supervisor::new();
    second.start(spec());
    let mut proxy = proxy;
    proxy.pass().await;
    eventually(DEADLINE, async || {
        let seen = size(&mut straight).await;
        (seen == Value::Int(0)).then_some(()).ok_or(seen)
    })
    .await;
    second.stop(DEADLINE).await;
    arbiter.stop();
}

#[tokio::test]
async fn with_redis_away_a_pattern_is_refused_and_one_that_waits_is_told() {
    let mut redis = redis();
    let daemon = alone(&redis).await;
    let (mut client, mut straight) = (daemon.client().await, raw(&redis).await);
    fill(&mut straight, "other:", 400_000).await;
    client.send(b"CACHE.INVALIDATE calc:*\r\n").await.unwrap();
    sweeping_client(&mut straight).await;
    redis.kill().unwrap();
    // First the one that was under way, then one that comes later.
    for _ in 0..2 {
        let reply = client.read().await.unwrap();
        assert!(reply.error().starts_with("UNAVAILABLE"), "{reply:?}");
        client.send(b"CACHE.INVALIDATE calc:*\r\n").await.unwrap();
    }
    assert!(
        client
            .read()
            .await
            .unwrap()
            .error()
            .starts_with("UNAVAILABLE")
    );
    // What waited is swept all the same, and so is what comes now.
    redis.start_again().unwrap();
    eventually(DEADLINE, async || {
        let reply = client.command(&["CACHE.INVALIDATE", "calc:*"]).await;
        matches!(reply, Value::Int(_)).then_some(()).ok_or(reply)
    })
    .await;
    assert_eq!(
        figure(&mut client, "cachewarden_sweeps_pending", "").await,
        0
    );
    daemon.stop().await;
}

#[tokio::test]
async fn patterns_that_wait_are_served_by_one_pass() {
    let redis = redis();
    let daemon = alone(&redis).await;
    let mut raw = raw(&redis).await;
    fill(&mut raw, "calc:", 100_000).await;
    let mut clients = JoinSet::new();
    for digit in 1..=9 {
        let mut client = daemon.client().await;
        clients.spawn(async move {
            let pattern = format!("calc:{digit}*");
            client.command(&["CACHE.INVALIDATE", &pattern]).await
        });
    }
    let removed: i64 = clients
        .join_all()
        .await
        .into_iter()
        .map(|reply| match reply {
            Value::Int(removed) => removed,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(size(&mut raw).await, Value::Int(0));
    assert!(removed >= 100_000, "{removed}");
    let mut client = daemon.client().await;
    let passes = passes(&mut client, "done").await;
    assert!(passes <= 3, "nine patterns took {passes} passes");
    daemon.stop().await;
}
