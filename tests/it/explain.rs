//! `CACHE.EXPLAIN` tells what a key is, what has happened to it, and what would invalidate it.

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{figure, raw};

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
    prefixes = ["legacy:"]
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
    // Alone, it is the one that empties the queue. Both together, so that they may well be claimed together.
    watched
        .execute(
            "BEGIN; UPDATE courses SET title = 'new' WHERE id = 5;
             SELECT cachewarden.invalidate('courses:7', 'courses:8*'); COMMIT",
        )
        .await;
    for (key, expected) in [
        ("courses:5", "watch"),
        ("courses:7", "sql"),
        ("courses:8", "sql"),
    ] {
        eventually(DEADLINE, async || {
            let told = explain(&mut client, key).await;
            let last = told.field("last_invalidation").cloned();
            let source = last.as_ref().and_then(|last| last.field("source"));
            match source.map(Value::text) {
                Some(source) if source == expected => Ok(()),
                _ => Err(told),
            }
        })
        .await;
    }
    let counted = figure(&mut client, "cachewarden_invalidations_total", "sql").await;
    assert_eq!(counted, 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_key_of_other_programs_is_deleted_and_explained_as_theirs() {
    let watched = Watched::start(COURSES, CACHES).await;
    let redis = redis();
    let daemon =
        InProcess::start(&config(watched.database.url(), &redis.redis_url(), CACHES)).await;
    let (mut client, mut raw) = (daemon.client().await, raw(&redis).await);
    client.command(&["HELLO", "3"]).await;
    raw.command(&["SET", "legacy:1", "theirs", "PX", "60000"])
        .await;
    raw.command(&["RPUSH", "legacy:list", "theirs"]).await;
    raw.command(&["SET", "{legacy:1}:lease", "abcdefghijklmnop", "PX", "60000"])
        .await;
    let told = explain(&mut client, "legacy:1").await;
    assert_eq!(told.field("cache"), Some(&Value::Nil));
    assert_eq!(told.field("redis_key").map(Value::text), Some("legacy:1"));
    assert_eq!(told.field("age_ms"), Some(&Value::Nil));
    assert!((1..=60_000).contains(&number(&told, "ttl_ms")));
    let lease = told.field("lease").and_then(|lease| lease.field("token"));
    assert_eq!(lease.map(Value::text), Some("61626364…"));
    for key in ["legacy:1", "legacy:list"] {
        let told = explain(&mut client, key).await;
        assert_eq!(number(&told, "cached"), 1, "{told:?}");
    }
    client.command(&["GET", "courses:1"]).await;
    let removed = client.command(&["DEL", "legacy:1", "courses:1"]).await;
    assert_eq!(removed, Value::Int(2));
    assert_eq!(
        client.command(&["UNLINK", "legacy:list"]).await,
        Value::Int(1)
    );
    for key in ["legacy:1", "legacy:list"] {
        assert_eq!(raw.command(&["EXISTS", key]).await, Value::Int(0), "{key}");
        let told = explain(&mut client, key).await;
        let last = told.field("last_invalidation").expect("told");
        assert_eq!(
            last.field("source").map(Value::text),
            Some("command"),
            "{told:?}"
        );
        assert_eq!(number(&told, "cached"), 0, "{told:?}");
    }
    // Whatever lies beside the declared keys of a cache is as likely a slip.
    let refused = client.command(&["DEL", "courses:1:typo"]).await;
    assert!(refused.error().starts_with("ERR no cache"), "{refused:?}");
    daemon.stop().await;
}
