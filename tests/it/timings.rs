//! How long reads and loads take, and how many wait, as the daemon tells it: by samples that cost a batch, not a key.

use std::time::Instant;

use super::support::DEADLINE;
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::world::{World, figure, release};

const ITEMS: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, name text);
    INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 1000) g";

/// Two caches, so that each core owns the loads of one.
const CACHES: &str = r#"
    [caches.item]
    key = "items:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "20s"

    [caches.other]
    key = "others:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
"#;

async fn world() -> World {
    World::start(ITEMS, CACHES).await
}

/// What `INFO` says of a figure with these labels.
async fn told(client: &mut Client, figure: &str) -> f64 {
    let info = client.command(&["INFO", "cachewarden"]).await;
    let mut lines = info.text().lines();
    let value = lines.find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    value.unwrap_or("0").parse().unwrap()
}

async fn reads_timed(client: &mut Client, cache: &str) -> f64 {
    let name = format!("cachewarden_read_seconds_count{{cache=\"{cache}\"}}");
    told(client, &name).await
}

#[tokio::test]
async fn a_batch_is_timed_once_however_many_keys_it_has() {
    let world = world().await;
    let mut client = world.client().await;
    let five = [
        "MGET", "items:1", "items:2", "items:3", "items:4", "items:5",
    ];
    client.command(&five).await;
    assert_eq!(
        told(&mut client, "cachewarden_load_batch_keys_count").await,
        1.0
    );
    assert_eq!(
        told(&mut client, "cachewarden_load_batch_keys_sum").await,
        5.0
    );
    assert_eq!(
        told(&mut client, "cachewarden_load_seconds_count").await,
        1.0
    );
    assert!(told(&mut client, "cachewarden_load_seconds_sum").await > 0.0);
    assert_eq!(reads_timed(&mut client, "item").await, 1.0);
    // Hits are timed as well, and are no loads.
    for _ in 0..9 {
        client.command(&five).await;
    }
    assert_eq!(reads_timed(&mut client, "item").await, 10.0);
    assert_eq!(reads_timed(&mut client, "other").await, 0.0);
    assert_eq!(
        told(&mut client, "cachewarden_load_seconds_count").await,
        1.0
    );
    // Reads that go together are one sample.
    let pipeline: Vec<&[&str]> = vec![&["GET", "items:1"]; 200];
    client.pipeline(&pipeline).await;
    let timed = reads_timed(&mut client, "item").await - 10.0;
    assert!((1.0..=20.0).contains(&timed), "{timed} of 200");
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_read_that_waits_is_in_the_mailbox_and_afterwards_in_the_time_that_reads_take() {
    let world = world().await;
    let mut client = world.client().await;
    let lock = world.lock("items").await;
    let mut readers = Vec::new();
    for id in 1..=10 {
        let mut reader = world.client().await;
        let get = format!("GET items:{id}\r\n");
        reader.send(get.as_bytes()).await.unwrap();
        readers.push(reader);
    }
    let waiting = async |client: &mut Client| {
        figure(client, "cachewarden_actor_mailbox_depth", "actor=\"cache-").await
    };
    eventually(DEADLINE, async || match waiting(&mut client).await {
        10 => Ok(()),
        other => Err(other),
    })
    .await;
    eventually(DEADLINE, async || {
        match figure(&mut client, "postgres_statements_running", "").await {
            0 => Err("no load has begun"),
            _ => Ok(()),
        }
    })
    .await;
    let (began, timed) = (Instant::now(), reads_timed(&mut client, "item").await);
    assert_eq!(timed, 0.0);
    release(lock).await;
    let least = began.elapsed().as_secs_f64();
    for mut reader in readers {
        assert!(matches!(reader.read().await.unwrap(), Value::Bulk(_)));
    }
    eventually(DEADLINE, async || match waiting(&mut client).await {
        0 => Ok(()),
        other => Err(other),
    })
    .await;
    assert!(reads_timed(&mut client, "item").await >= 1.0);
    let sum = "cachewarden_read_seconds_sum{cache=\"item\"}";
    assert!(told(&mut client, sum).await >= least);
    assert!(told(&mut client, "cachewarden_load_seconds_sum").await >= least);
    world.daemon.stop().await;
}
