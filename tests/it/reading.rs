//! What a read gives, and what it leaves in Redis.

use std::time::Duration;

use cachewarden::keyspace::expiry::jittered;

use super::support::DEADLINE;
use super::support::resp::{Client, Value};
use super::support::world::{World, keys_with_life, statements};

const TTL: Duration = Duration::from_secs(600);

const SHOP: &str = "
    CREATE TABLE courses (id bigint PRIMARY KEY, title text, price int);
    INSERT INTO courses SELECT g, 'course ' || g, g * 10 FROM generate_series(1, 200) g;
    INSERT INTO courses VALUES (1000, repeat('x', 5000), NULL)";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT id, title FROM courses WHERE id = :id"
    shape = "object"
    ttl = "10m"
    missing_ttl = "1m"
    max_value = "1KiB"

    [caches.course_with_price]
    key = "v2:courses:{id:bigint}"
    query = "SELECT id, title, price FROM courses WHERE id = :id"
    shape = "object"
    ttl = "10m"

    [caches.fleeting]
    key = "fleeting:{id:bigint}"
    query = "SELECT id FROM courses WHERE id = :id"
    shape = "object"
    ttl = "10m"
    missing_ttl = "0s"

    [caches.range]
    key = "range:{from:int}:{to:int}"
    query = "SELECT id FROM courses WHERE id BETWEEN :from AND :to ORDER BY id"
    shape = "array"
    ttl = "10m"

    [caches.count]
    key = "courses:count"
    query = "SELECT count(*) FROM courses"
    shape = "scalar"
    ttl = "10m"

    [caches.price]
    key = "price:{id:bigint}"
    query = "SELECT price FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "10m"

    [caches.brittle]
    key = "brittle:{id:int}"
    query = "SELECT 12 / (:id - 3) AS share"
    shape = "object"
    ttl = "10m"

    [caches.twin]
    key = "twin:{id:int}"
    query = "SELECT g FROM generate_series(1, CASE :id WHEN 3 THEN 2 ELSE 1 END) g"
    shape = "object"
    ttl = "10m"
"#;

async fn shop() -> World {
    World::start(SHOP, CACHES).await
}

fn pttl(reply: &Value) -> Duration {
    match reply {
        Value::Int(ms @ 1..) => Duration::from_millis(ms.unsigned_abs()),
        other => panic!("no remaining life: {other:?}"),
    }
}

/// `life` has been running for less than any test takes.
fn just_began(left: Duration, life: Duration) -> bool {
    left <= life && left + DEADLINE >= life
}

#[tokio::test]
async fn a_value_lies_in_redis_as_plain_bytes_under_its_own_key_for_a_jittered_time() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    let mut lives = Vec::new();
    for id in 1..=20 {
        let key = format!("courses:{id}");
        let value = Value::bulk(format!(r#"{{"id":{id},"title":"course {id}"}}"#));
        assert_eq!(client.command(&["GET", &key]).await, value);
        assert_eq!(raw.command(&["GET", &key]).await, value);
        let left = pttl(&raw.command(&["PTTL", &key]).await);
        let life = jittered(TTL, 0.1, key.as_bytes());
        assert!(just_began(left, life), "{left:?} of {life:?}");
        let shown = pttl(&client.command(&["PTTL", &key]).await);
        assert!(just_began(shown, left), "{shown:?} of {left:?}");
        lives.push(life);
    }
    let spread = *lives.iter().max().unwrap() - *lives.iter().min().unwrap();
    assert!(spread > TTL / 20, "twenty keys end within {spread:?}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_missing_row_lies_in_redis_as_null_for_missing_ttl_and_is_answered_nil() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for _ in 0..2 {
        assert_eq!(client.command(&["GET", "courses:777"]).await, Value::Nil);
        assert_eq!(
            raw.command(&["GET", "courses:777"]).await,
            Value::bulk("null")
        );
    }
    assert_eq!(statements(&mut client).await, 1);
    let left = pttl(&raw.command(&["PTTL", "courses:777"]).await);
    assert!(just_began(left, Duration::from_secs(60)), "{left:?}");
    for (command, none) in [("EXISTS", 0), ("TTL", -2), ("PTTL", -2), ("DEL", 0)] {
        let reply = client.command(&[command, "courses:777"]).await;
        assert_eq!(reply, Value::Int(none), "{command}");
    }
    assert_eq!(raw.command(&["EXISTS", "courses:777"]).await, Value::Int(0));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_row_whose_scalar_is_null_is_a_missing_row() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    assert_eq!(client.command(&["GET", "price:1000"]).await, Value::Nil);
    assert_eq!(
        raw.command(&["GET", "price:1000"]).await,
        Value::bulk("null")
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_missing_row_is_not_remembered_when_missing_ttl_is_zero() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for asked in 1..=3 {
        assert_eq!(client.command(&["GET", "fleeting:777"]).await, Value::Nil);
        assert_eq!(statements(&mut client).await, asked);
    }
    assert_eq!(keys_of_values(&mut raw).await, [""; 0]);
    world
        .database
        .execute("INSERT INTO courses VALUES (777)")
        .await;
    assert_eq!(
        client.command(&["GET", "fleeting:777"]).await,
        Value::bulk(r#"{"id":777}"#)
    );
    assert_eq!(keys_of_values(&mut raw).await, ["fleeting:777"]);
    world.daemon.stop().await;
}

/// All keys of a Redis that are not the daemon's own.
async fn keys_of_values(raw: &mut Client) -> Vec<String> {
    let keys = keys_with_life(raw).await.into_iter().map(|(key, _)| key);
    keys.filter(|key| !key.starts_with("cachewarden:"))
        .collect()
}

#[tokio::test]
async fn a_value_that_is_too_large_is_answered_and_not_cached() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for asked in 1..=2 {
        let value = client.command(&["GET", "courses:1000"]).await;
        assert!(value.text().len() > 5000);
        assert_eq!(statements(&mut client).await, asked);
    }
    assert_eq!(keys_of_values(&mut raw).await, [""; 0]);
    world.daemon.stop().await;
}

#[tokio::test]
async fn two_versions_of_a_shape_stand_side_by_side() {
    let world = shop().await;
    let mut client = world.client().await;
    let old = Value::bulk(r#"{"id":7,"title":"course 7"}"#);
    let new = Value::bulk(r#"{"id":7,"title":"course 7","price":70}"#);
    for _ in 0..2 {
        let both = client.command(&["MGET", "courses:7", "v2:courses:7"]).await;
        assert_eq!(both, Value::Array(vec![old.clone(), new.clone()]));
    }
    assert_eq!(
        client.command(&["DEL", "v2:courses:7"]).await,
        Value::Int(1)
    );
    assert_eq!(
        client.command(&["EXISTS", "courses:7"]).await,
        Value::Int(1)
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn each_shape_gives_its_kind_of_json() {
    let world = shop().await;
    let mut client = world.client().await;
    for (key, value) in [
        ("courses:3", r#"{"id":3,"title":"course 3"}"#),
        ("range:3:5", "[{\"id\":3}, \n {\"id\":4}, \n {\"id\":5}]"),
        ("range:900:901", "[]"),
        ("courses:count", "201"),
        ("price:3", "30"),
    ] {
        for _ in 0..2 {
            assert_eq!(client.command(&["GET", key]).await, Value::bulk(value));
        }
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn fifty_cold_keys_of_one_cache_are_one_statement_and_hits_are_none() {
    let world = shop().await;
    let mut client = world.client().await;
    let keys: Vec<String> = (1..=50).map(|id| format!("courses:{id}")).collect();
    let mget: Vec<&str> = ["MGET"]
        .into_iter()
        .chain(keys.iter().map(String::as_str))
        .collect();
    let cold = client.command(&mget).await;
    let Value::Array(values) = &cold else {
        panic!("{cold:?}")
    };
    for (value, id) in values.iter().zip(1..=50) {
        assert_eq!(
            value.text(),
            format!(r#"{{"id":{id},"title":"course {id}"}}"#)
        );
    }
    assert_eq!(statements(&mut client).await, 1);
    assert_eq!(client.command(&mget).await, cold);
    for key in &keys {
        client.command(&["GET", key]).await;
        client.command(&["CACHE.GET", key]).await;
        client.command(&["TTL", key]).await;
    }
    assert_eq!(statements(&mut client).await, 1);
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_pipeline_of_cold_and_warm_keys_is_answered_in_order() {
    let world = shop().await;
    let mut client = world.client().await;
    client.command(&["GET", "courses:2"]).await;
    let replies = client
        .pipeline(&[
            &["GET", "courses:1"],
            &["GET", "courses:2"],
            &["GET", "courses:999"],
            &["GET", "courses:007"],
            &["MGET", "courses:2", "price:2", "courses:2"],
            &["PING"],
        ])
        .await;
    assert_eq!(replies[0], Value::bulk(r#"{"id":1,"title":"course 1"}"#));
    assert_eq!(replies[1], Value::bulk(r#"{"id":2,"title":"course 2"}"#));
    assert_eq!(replies[2], Value::Nil);
    assert!(replies[3].error().starts_with("BADKEY"), "{replies:?}");
    let two = replies[1].clone();
    assert_eq!(
        replies[4],
        Value::Array(vec![two.clone(), Value::bulk("20"), two])
    );
    assert_eq!(replies[5].text(), "PONG");
    world.daemon.stop().await;
}

#[tokio::test]
async fn one_key_that_cannot_be_loaded_leaves_its_neighbours_their_answers() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for (cache, fault, value) in [
        (
            "brittle",
            "division by zero",
            [r#"{"share":-6}"#, r#"{"share":12}"#],
        ),
        ("twin", "more than one row", [r#"{"g":1}"#, r#"{"g":1}"#]),
    ] {
        let keys: Vec<String> = [1, 3, 4].map(|id| format!("{cache}:{id}")).into();
        let reply = client
            .command(&["MGET", &keys[0], &keys[1], &keys[2]])
            .await;
        let Value::Array(values) = &reply else {
            panic!("{reply:?}")
        };
        assert_eq!([&values[0], &values[2]].map(Value::text), value);
        let error = values[1].error();
        let begin = format!("LOADFAIL '{}'", keys[1]);
        assert!(
            error.starts_with(&begin) && error.contains(fault),
            "{error}"
        );
        assert_eq!(raw.command(&["EXISTS", &keys[1]]).await, Value::Int(0));
        let cached = raw.command(&["EXISTS", &keys[0], &keys[2]]).await;
        assert_eq!(cached, Value::Int(2));
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn cache_get_tells_where_an_answer_came_from_and_how_long_it_lives() {
    let world = shop().await;
    let mut client = world.client().await;
    for (key, states) in [
        ("courses:5", ["miss", "hit", "hit"]),
        ("courses:555", ["missing", "missing", "missing"]),
        ("courses:1000", ["miss", "miss", "miss"]),
    ] {
        for state in states {
            let found = client.command(&["CACHE.GET", key]).await;
            assert_eq!(found.field("state").unwrap().text(), state, "{key}");
            let Some(Value::Int(left)) = found.field("ttl_ms") else {
                panic!("{found:?}")
            };
            assert_eq!(*left > 0, key != "courses:1000", "{found:?}");
        }
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn every_key_in_redis_has_an_end() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for id in 190..=210 {
        for cache in [
            "courses",
            "v2:courses",
            "fleeting",
            "price",
            "brittle",
            "twin",
        ] {
            client.command(&["GET", &format!("{cache}:{id}")]).await;
        }
    }
    client.command(&["GET", "courses:1000"]).await;
    client.command(&["GET", "brittle:3"]).await;
    client
        .command(&["DEL", "courses:190", "courses:191", "courses:205"])
        .await;
    // Loads that are under way leave a lease, and an index entry, of their own.
    let lock = world.lock("courses").await;
    let mut waiting = world.client().await;
    waiting.send(b"GET courses:1\r\n").await.unwrap();
    let leases = super::support::eventually::eventually(DEADLINE, async || {
        let keys = keys_with_life(&mut raw).await;
        let leased = keys.iter().any(|(key, _)| key == "{courses:1}:lease");
        if leased { Ok(keys) } else { Err(keys) }
    })
    .await;
    assert!(leases.len() > 80, "{}", leases.len());
    assert!(leases.iter().any(|(key, _)| key == "cachewarden:leases"));
    for (key, left) in &leases {
        assert!(*left > 0, "{key} lives for ever");
    }
    super::support::world::release(lock).await;
    waiting.read().await.unwrap();
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_key_of_another_type_in_redis_is_an_absent_one() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    let plant = async |raw: &mut Client, key: &str| {
        raw.command(&["DEL", key]).await;
        raw.command(&["RPUSH", key, "a", "b"]).await;
    };
    client.command(&["GET", "courses:9"]).await;
    plant(&mut raw, "courses:8").await;
    for (command, reply) in [("EXISTS", 0), ("TTL", -2), ("PTTL", -2)] {
        assert_eq!(
            client.command(&[command, "courses:8"]).await,
            Value::Int(reply)
        );
    }
    let both = client.command(&["EXISTS", "courses:8", "courses:9"]).await;
    assert_eq!(both, Value::Int(1));
    let value = Value::bulk(r#"{"id":8,"title":"course 8"}"#);
    assert_eq!(client.command(&["GET", "courses:8"]).await, value);
    assert_eq!(raw.command(&["GET", "courses:8"]).await, value);
    plant(&mut raw, "courses:8").await;
    assert_eq!(
        client
            .command(&["CACHE.GET", "courses:8"])
            .await
            .field("value"),
        Some(&value)
    );
    plant(&mut raw, "courses:8").await;
    assert_eq!(client.command(&["DEL", "courses:8"]).await, Value::Int(1));
    assert_eq!(raw.command(&["EXISTS", "courses:8"]).await, Value::Int(0));
    world.daemon.stop().await;
}

#[tokio::test]
async fn scripts_that_redis_has_forgotten_are_loaded_again() {
    let world = shop().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for id in 1..=3 {
        raw.command(&["SCRIPT", "FLUSH"]).await;
        let key = format!("courses:{id}");
        assert!(
            client
                .command(&["GET", &key])
                .await
                .text()
                .contains("course")
        );
        assert_eq!(raw.command(&["EXISTS", &key]).await, Value::Int(1));
        raw.command(&["SCRIPT", "FLUSH"]).await;
        assert_eq!(client.command(&["DEL", &key]).await, Value::Int(1));
    }
    world.daemon.stop().await;
}
