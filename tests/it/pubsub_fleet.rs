//! Published invalidations where several daemons hear them: who sweeps, who answers, and what the others give out.

use std::time::Duration;

use super::pubsub::{ack, acks, daemon, heard_by, set, there};
use super::support::DEADLINE;
use super::support::eventually::eventually;
use super::support::resp::Value;
use super::support::servers::redis;
use super::support::world::{World, figure, raw};

const SHOP: &str = "
    CREATE TABLE courses (id bigint PRIMARY KEY, title text);
    INSERT INTO courses SELECT g, 'new' FROM generate_series(1, 1000) g";

const COURSES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
"#;

const OTHER: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

const SWEEP: &str = "6ba7b811-9dad-11d1-80b4-00c04fd430c8";

#[tokio::test]
async fn of_two_daemons_one_sweeps_a_published_pattern() {
    const PUBLISHED: u64 = 20;
    let redis = redis();
    let daemons = [daemon(&redis, "").await, daemon(&redis, "").await];
    let (mut raw, mut acks) = (raw(&redis).await, acks(&redis).await);
    heard_by(&mut raw, 2).await;
    let mut by = Vec::new();
    for number in 0..PUBLISHED {
        set(&mut raw, &["calc:1"]).await;
        let message = format!("{{\"id\":{number},\"patterns\":[\"calc:*\"]}}");
        raw.command(&["PUBLISH", "cache:invalidate", &message])
            .await;
        // A second sweep, of a daemon that was late to hear, is acknowledged too.
        let ack = loop {
            let ack = ack(&mut acks).await;
            if ack["id"] == number {
                break ack;
            }
        };
        assert_eq!(there(&mut raw, &["calc:1"]).await, Value::Int(0));
        by.push(ack["by"].clone());
    }
    let mut swept = 0;
    for daemon in &daemons {
        let mut client = daemon.client().await;
        swept += figure(&mut client, "cachewarden_invalidations_total", "pubsub").await;
    }
    let once = PUBLISHED..PUBLISHED * 3 / 2;
    assert!(once.contains(&swept), "{swept}");
    for daemon in daemons {
        daemon.stop().await;
    }
}

#[tokio::test]
async fn what_another_daemon_is_about_to_sweep_is_not_given_out_any_more() {
    let world = World::start(SHOP, COURSES).await;
    let (mut raw, mut client) = (world.raw().await, world.client().await);
    let mut get = async |key: &str| client.command(&["GET", key]).await;
    let old = Value::bulk("\"old\"");
    for id in 1..=3 {
        let key = format!("courses:{id}");
        raw.command(&["SET", &key, "\"old\"", "EX", "600"]).await;
    }
    assert_eq!(get("courses:1").await, old, "nobody has announced anything");
    let notice = format!("announce {OTHER} {SWEEP} 60000 courses:[12]");
    raw.command(&["PUBLISH", "cachewarden:sweeps", &notice])
        .await;
    let new = Value::bulk("\"new\"");
    eventually(DEADLINE, async || {
        let seen = get("courses:1").await;
        (seen == new).then_some(()).ok_or(seen)
    })
    .await;
    // Renewed once; from then on it is a hit like any other.
    raw.command(&["SET", "courses:1", "\"newer\"", "EX", "600"])
        .await;
    assert_eq!(get("courses:1").await, Value::bulk("\"newer\""));
    assert_eq!(get("courses:3").await, old, "it does not match");
    // The end is told, too.
    let end = format!("end {OTHER} {SWEEP}");
    raw.command(&["PUBLISH", "cachewarden:sweeps", &end]).await;
    let marker = format!("announce {OTHER} {OTHER} 60000 courses:3");
    raw.command(&["PUBLISH", "cachewarden:sweeps", &marker])
        .await;
    eventually(DEADLINE, async || {
        let seen = get("courses:3").await;
        (seen == new).then_some(()).ok_or(seen)
    })
    .await;
    assert_eq!(get("courses:2").await, old, "its sweep has ended");
    let mut client = world.client().await;
    let doubted = figure(&mut client, "cachewarden_doubted_hits_total", "").await;
    assert_eq!(doubted, 2);
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_starts_during_a_sweep_knows_of_it() {
    let redis = redis();
    let mut straight = raw(&redis).await;
    straight
        .command(&["SET", "courses:1", "\"old\"", "EX", "600"])
        .await;
    let (entry, end) = (format!("{SWEEP} courses:*"), "99999999999999");
    straight
        .command(&["ZADD", "cachewarden:sweeps", end, &entry])
        .await;
    let world = World::start_on(redis, SHOP, COURSES).await;
    let mut client = world.client().await;
    eventually(Duration::from_secs(5), async || {
        let seen = client.command(&["GET", "courses:1"]).await;
        (seen == Value::bulk("\"new\"")).then_some(()).ok_or(seen)
    })
    .await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn messages_that_name_the_same_pattern_are_each_acknowledged_and_measured() {
    let redis = redis();
    let daemons = [daemon(&redis, "").await, daemon(&redis, "").await];
    let (mut raw, mut acks) = (raw(&redis).await, acks(&redis).await);
    heard_by(&mut raw, 2).await;
    for id in 1..=5 {
        let message = format!(r#"{{"id":{id},"patterns":["calc:a:*"]}}"#);
        raw.command(&["PUBLISH", "cache:invalidate", &message])
            .await;
    }
    let mut ids = Vec::new();
    for _ in 1..=5 {
        ids.push(ack(&mut acks).await["id"].as_u64().unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, [1, 2, 3, 4, 5]);
    let mut client = daemons[0].client().await;
    let name = "cachewarden_invalidation_seconds_count";
    let mut others = daemons[1].client().await;
    let measured =
        figure(&mut client, name, "pubsub").await + figure(&mut others, name, "pubsub").await;
    assert_eq!(measured, 5);
    for daemon in daemons {
        daemon.stop().await;
    }
}
