//! What is answered from memory, in which order, and how much memory that takes.

use super::{asked, from_memory, new, old, until_in_memory, until_read, until_tracking, world};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::resp::{Client, Value};
use crate::support::world::{World, figure, statements};

#[tokio::test]
async fn a_value_in_memory_is_answered_without_asking_redis_and_told_as_such() {
    let world = world().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    // Again, if Redis was not believed meanwhile: on a busy machine its proof may come late.
    let described = eventually(DEADLINE, async || {
        until_in_memory(&mut client, "items:1").await;
        let before = (asked(&mut raw).await, from_memory(&mut client).await);
        for _ in 0..10 {
            assert_eq!(client.command(&["GET", "items:1"]).await, old());
        }
        let both = client.command(&["MGET", "items:1", "items:1"]).await;
        assert_eq!(both, Value::Array(vec![old(), old()]));
        let described = client.command(&["CACHE.GET", "items:1"]).await;
        let after = (asked(&mut raw).await, from_memory(&mut client).await);
        match after == (before.0.clone(), before.1 + 13) {
            true => Ok(described),
            false => Err((before, after)),
        }
    })
    .await;
    let number = |name| match described.field(name) {
        Some(Value::Int(number)) => *number,
        other => panic!("{name}: {other:?}"),
    };
    // Each is cut to whole milliseconds.
    let life = number("age_ms") + number("ttl_ms");
    assert!((599_999..=600_000).contains(&life), "{described:?}");
    assert!(number("age_ms") < 60_000, "{described:?}");
    assert!(figure(&mut client, "cachewarden_l1_bytes", "").await > 100);
    world.daemon.stop().await;
}

#[tokio::test]
async fn who_has_a_key_explained_is_told_whether_it_is_in_memory() {
    let world = world().await;
    let mut client = world.client().await;
    let in_memory = async |client: &mut Client| {
        let explained = client.command(&["CACHE.EXPLAIN", "items:1"]).await;
        explained.field("l1").cloned()
    };
    assert_eq!(in_memory(&mut client).await, Some(Value::Int(0)));
    eventually(DEADLINE, async || {
        until_in_memory(&mut client, "items:1").await;
        match in_memory(&mut client).await {
            Some(Value::Int(1)) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    client.command(&["DEL", "items:1"]).await;
    assert_eq!(in_memory(&mut client).await, Some(Value::Int(0)));
    world.daemon.stop().await;
}

#[tokio::test]
async fn answers_from_memory_from_redis_and_from_postgres_come_in_order() {
    let world = world().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for id in 1..=3 {
        until_in_memory(&mut client, &format!("items:{id}")).await;
    }
    for id in 1..=3 {
        let (key, value) = (format!("plain:{id}"), format!("\"plain {id}\""));
        let set = ["SET", &key, &value, "PX", "60000"];
        assert_eq!(raw.command(&set).await.text(), "OK");
    }
    let replies = client
        .pipeline(&[
            &["GET", "items:1"],
            &["GET", "plain:1"],
            &[
                "MGET", "items:2", "plain:2", "items:07", "items:3", "items:50",
            ],
            &["GET", "items:3"],
            &["GET", "nothing:1"],
            &["GET", "items:1"],
        ])
        .await;
    assert_eq!(replies[0], old());
    assert_eq!(replies[1], Value::bulk("\"plain 1\""));
    let Value::Array(many) = &replies[2] else {
        panic!("{replies:?}")
    };
    assert_eq!(many[..2], [old(), Value::bulk("\"plain 2\"")]);
    assert!(many[2].error().starts_with("BADKEY"), "{many:?}");
    assert_eq!(many[3..], [old(), old()]);
    assert_eq!((&replies[3], &replies[5]), (&old(), &old()));
    assert!(replies[4].error().starts_with("ERR no cache"));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_pipeline_larger_than_what_is_sent_at_once_is_answered_in_order() {
    let sql = "CREATE TABLE pages (id bigint PRIMARY KEY, body text);
        INSERT INTO pages SELECT g, repeat(chr(64 + g), 10000) FROM generate_series(1, 20) g";
    let caches = "l1.ttl = \"1h\"\n[caches.page]\nkey = \"pages:{id:bigint}\"\nshape = \"scalar\"\nttl = \"10m\"\n\
        query = \"SELECT body FROM pages WHERE id = :id\"\nl1 = true";
    let world = World::start(sql, caches).await;
    let mut client = world.client().await;
    for id in 1..=20 {
        until_in_memory(&mut client, &format!("pages:{id}")).await;
    }
    let before = from_memory(&mut client).await;
    let page = |id: u8| {
        Value::bulk(format!(
            "\"{}\"",
            char::from(64 + id).to_string().repeat(10_000)
        ))
    };
    // Arrays and lines in turn, and a description among them.
    for id in 1..=20u8 {
        let key = format!("pages:{id}");
        let get = match id % 2 {
            0 => format!("GET {key}\r\n"),
            _ => format!("*2\r\n$3\r\nGET\r\n${}\r\n{key}\r\n", key.len()),
        };
        client.send(get.as_bytes()).await.unwrap();
        client
            .send(b"cache.get pages:3\r\nmget pages:1 pages:99 'pages:2'\r\n")
            .await
            .unwrap();
    }
    for id in 1..=20u8 {
        assert_eq!(client.read().await.unwrap(), page(id), "{id}");
        let described = client.read().await.unwrap();
        assert_eq!(described.field("value"), Some(&page(3)), "{id}");
        let many = Value::Array(vec![page(1), Value::Nil, page(2)]);
        assert_eq!(client.read().await.unwrap(), many, "{id}");
    }
    let hits = from_memory(&mut client).await - before;
    assert_eq!(hits, 20 * 4, "{hits}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_missing_row_is_remembered_in_memory_until_it_is_there() {
    let world = world().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    until_tracking(&mut client, 1).await;
    eventually(DEADLINE, async || {
        let before = asked(&mut raw).await;
        assert_eq!(client.command(&["GET", "items:555"]).await, Value::Nil);
        let described = client.command(&["CACHE.GET", "items:555"]).await;
        assert_eq!(described.field("state").map(Value::text), Some("missing"));
        match asked(&mut raw).await {
            after if after == before => Ok(()),
            after => Err((before, after)),
        }
    })
    .await;
    world
        .database
        .execute("INSERT INTO items VALUES (555, 'new')")
        .await;
    raw.command(&["DEL", "items:555"]).await;
    until_read(&mut client, "items:555", &new()).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_cache_that_does_not_ask_for_it_is_never_kept_in_memory() {
    let world = world().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    until_tracking(&mut client, 1).await;
    assert_eq!(client.command(&["GET", "plain:1"]).await, old());
    for number in 0..20 {
        let value = format!("\"{number}\"");
        raw.command(&["SET", "plain:1", &value, "EX", "60"]).await;
        assert_eq!(
            client.command(&["GET", "plain:1"]).await,
            Value::bulk(value)
        );
    }
    assert_eq!(figure(&mut client, "cachewarden_l1_bytes", "").await, 0);
    assert_eq!(
        figure(&mut client, "cachewarden_reads_total", "hit-l1").await,
        0
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_flood_of_large_values_takes_no_more_memory_than_it_may() {
    const CAPACITY: u64 = 1 << 20;
    let sql = "CREATE TABLE pages (id bigint PRIMARY KEY, body text);
        INSERT INTO pages SELECT g, repeat('x', g * 400) FROM generate_series(1, 200) g";
    let caches = "l1.capacity = \"1MiB\"\n[caches.page]\nkey = \"pages:{id:bigint}\"\nshape = \"scalar\"\nttl = \"10m\"\n\
        query = \"SELECT body FROM pages WHERE id = :id\"\nl1 = true";
    let world = World::start(sql, caches).await;
    let mut client = world.client().await;
    until_in_memory(&mut client, "pages:1").await;
    let mut most = 0;
    for id in (1..=200).chain(1..=200) {
        for _ in 0..2 {
            let value = client.command(&["GET", &format!("pages:{id}")]).await;
            assert_eq!(value.text().len(), id * 400 + 2);
        }
        let bytes = figure(&mut client, "cachewarden_l1_bytes", "").await;
        assert!(bytes <= CAPACITY, "{bytes}");
        most = most.max(bytes);
    }
    // Of two shards, one is read by this connection.
    assert!(most > CAPACITY / 4, "{most}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn the_library_reads_from_memory_too() {
    let world = world().await;
    let mut client = world.client().await;
    until_tracking(&mut client, 1).await;
    let warden = &world.daemon.warden;
    let loads = statements(&mut client).await;
    eventually(DEADLINE, async || {
        let keys = ["items:1", "plain:1", "items:1"];
        let values: Vec<Option<String>> = warden.mget(&keys).await.unwrap();
        assert!(values.iter().all(|value| value.as_deref() == Some("old")));
        match figure(&mut client, "cachewarden_reads_total", "hit-l1").await {
            0 => Err("none from memory"),
            _ => Ok(()),
        }
    })
    .await;
    assert!(statements(&mut client).await <= loads + 2);
    world
        .database
        .execute("UPDATE items SET name = 'new'")
        .await;
    warden.invalidate(&["items:1"]).await.unwrap();
    for _ in 0..4 {
        let value: Option<String> = warden.get("items:1").await.unwrap();
        assert_eq!(value.as_deref(), Some("new"));
    }
    world.daemon.stop().await;
}
