//! `CACHE.EXPLAIN` tells what a key is, what has happened to it, and what would invalidate it.

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::raw;

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 50) n";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
    ttl_jitter = "0%"

    [namespaces.calc]
    prefix = "calc:"
    ttl = "5m"

    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}"]
    [[invalidation.event]]
    channel = "events"
    event = "course.changed"
    invalidate = ["courses:{courseId}"]
"#;

async fn explain(client: &mut Client, key: &str) -> Value {
    client.command(&["CACHE.EXPLAIN", key]).await
}

fn number(value: &Value, name: &str) -> i64 {
    match value.field(name) {
        Some(Value::Int(number)) => *number,
        other => panic!("{name}: {other:?}"),
    }
}

#[tokio::test]
async fn a_key_is_explained_before_and_after_it_was_filled_in_both_protocols() {
    let watched = Watched::start(COURSES, CACHES).await;
    let redis = redis();
    let daemon =
        InProcess::start(&config(watched.database.url(), &redis.redis_url(), CACHES)).await;
    let mut client = daemon.client().await;
    client.command(&["HELLO", "3"]).await;
    let cold = explain(&mut client, "courses:42").await;
    assert_eq!(cold.field("cache").map(Value::text), Some("course"));
    assert_eq!(cold.field("redis_key").map(Value::text), Some("courses:42"));
    for absent in [
        "age_ms",
        "ttl_ms",
        "lease",
        "last_invalidation",
        "last_fill",
    ] {
        assert_eq!(cold.field(absent), Some(&Value::Nil), "{absent}");
    }
    assert_eq!((number(&cold, "l1"), number(&cold, "cached")), (0, 0));
    let Some(Value::Array(by)) = cold.field("invalidated_by") else {
        panic!("{cold:?}")
    };
    let by: Vec<&str> = by.iter().map(Value::text).collect();
    assert_eq!(
        by,
        [
            "watch \"courses\": courses:{id}",
            "event course.changed on events: courses:{courseId}",
            "message on cache:invalidate"
        ]
    );
    client.command(&["GET", "courses:42"]).await;
    let warm = explain(&mut client, "courses:42").await;
    let (age, left) = (number(&warm, "age_ms"), number(&warm, "ttl_ms"));
    assert!((0..20_000).contains(&age) && (3_580_000..=3_600_000).contains(&left));
    let lease = warm.field("last_lease").expect("a lease");
    let token = lease.field("token").expect("its token").text();
    assert_eq!(token.chars().count(), 9, "{token}");
    for event in ["last_lease", "last_fill"] {
        let event = warm.field(event).expect("it happened");
        assert!((0..20_000).contains(&number(event, "ago_ms")), "{event:?}");
        assert!(number(event, "at_ms") > 1_700_000_000_000, "{event:?}");
    }
    // A flat list of the same for the older protocol.
    let mut old = daemon.client().await;
    let Value::Array(flat) = explain(&mut old, "courses:42").await else {
        panic!("no list")
    };
    assert_eq!(
        (flat.len(), flat[0].text(), flat[1].text()),
        (24, "cache", "course")
    );
    let namespace = explain(&mut client, "calc:x").await;
    assert_eq!(namespace.field("cache").map(Value::text), Some("calc"));
    assert_eq!(
        explain(&mut client, "nobody:1")
            .await
            .error()
            .split(' ')
            .next(),
        Some("ERR")
    );
    assert!(
        explain(&mut client, "courses:007")
            .await
            .error()
            .starts_with("BADKEY")
    );
    daemon.stop().await;
}

#[tokio::test]
async fn a_lease_that_is_held_is_told_without_its_token() {
    let watched = Watched::start(COURSES, CACHES).await;
    let redis = redis();
    let daemon =
        InProcess::start(&config(watched.database.url(), &redis.redis_url(), CACHES)).await;
    let mut client = daemon.client().await;
    client.command(&["HELLO", "3"]).await;
    let held = [
        "SET",
        "{courses:1}:lease",
        "abcdefghijklmnop",
        "PX",
        "60000",
    ];
    raw(&redis).await.command(&held).await;
    let told = explain(&mut client, "courses:1").await;
    let lease = told.field("lease").expect("a lease");
    assert_eq!(lease.field("token").map(Value::text), Some("61626364…"));
    assert!((1..=60_000).contains(&number(lease, "ttl_ms")));
    daemon.stop().await;
}

#[tokio::test]
async fn the_last_invalidation_is_told_with_its_source_whatever_that_was() {
    let watched = Watched::start(COURSES, CACHES).await;
    let redis = redis();
    let text = config(watched.database.url(), &redis.redis_url(), CACHES);
    let (daemon, other) = (InProcess::start(&text).await, InProcess::start(&text).await);
    let (mut client, mut neighbour) = (daemon.client().await, other.client().await);
    client.command(&["HELLO", "3"]).await;
    let mut publisher = raw(&redis).await;
    let event = r#"{"event": "course.changed", "courseId": 4}"#;
    client.command(&["DEL", "courses:1"]).await;
    client.command(&["CACHE.INVALIDATE", "courses:2*"]).await;
    publisher
        .command(&["PUBLISH", "cache:invalidate", "courses:3"])
        .await;
    publisher.command(&["PUBLISH", "events", event]).await;
    neighbour.command(&["CACHE.INVALIDATE", "courses:6*"]).await;
    for (key, source, named) in [
        ("courses:1", "command", "courses:1"),
        ("courses:2", "command", "courses:2*"),
        ("courses:3", "pubsub", "courses:3"),
        ("courses:4", "event", "courses:4"),
        ("courses:6", "sweep", "courses:6*"),
    ] {
        let last = eventually(DEADLINE, async || {
            let told = explain(&mut client, key).await;
            match told.field("last_invalidation") {
                Some(Value::Nil) | None => Err(told),
                Some(last) => Ok(last.clone()),
            }
        })
        .await;
        let told = (last.field("source"), last.field("named"));
        let told = (told.0.map(Value::text), told.1.map(Value::text));
        assert_eq!(told, (Some(source), Some(named)), "{last:?}");
    }
    other.stop().await;
    // Alone, it is the one that empties the queue.
    watched
        .execute("UPDATE courses SET title = 'new' WHERE id = 5")
        .await;
    eventually(DEADLINE, async || {
        let told = explain(&mut client, "courses:5").await;
        let last = told.field("last_invalidation").cloned();
        let source = last.as_ref().and_then(|last| last.field("source"));
        match source.map(Value::text) {
            Some("watch") => Ok(()),
            _ => Err(told),
        }
    })
    .await;
    daemon.stop().await;
}
