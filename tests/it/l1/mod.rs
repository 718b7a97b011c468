//! The level in the daemon's own memory: what it answers is what Redis holds, or held a moment ago and has not told yet.
//!
//! Of each test the premise is that the value lies in memory, which [`until_in_memory`] sees to; and without what Redis
//! tells, it would stay there for `l1.ttl`, which is longer than any test waits.

mod answers;
mod heard;

use super::support::DEADLINE;
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::world::{World, figure};

const ITEMS: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, name text);
    INSERT INTO items SELECT g, 'old' FROM generate_series(1, 100) g";

const CACHES: &str = r#"
    l1.ttl = "1h"

    [caches.item]
    key = "items:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    ttl_jitter = "0%"
    l1 = true

    [caches.plain]
    key = "plain:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
"#;

fn old() -> Value {
    Value::bulk("\"old\"")
}

fn new() -> Value {
    Value::bulk("\"new\"")
}

async fn world() -> World {
    World::start(ITEMS, CACHES).await
}

/// Whether Redis is heard.
async fn tracking(client: &mut Client) -> u64 {
    figure(client, "cachewarden_tracking_up", "").await
}

async fn until_tracking(client: &mut Client, up: u64) {
    eventually(DEADLINE, async || match tracking(client).await {
        seen if seen == up => Ok(()),
        seen => Err(seen),
    })
    .await;
}

/// Reads a key until it comes from memory.
async fn until_in_memory(client: &mut Client, key: &str) {
    eventually(DEADLINE, async || {
        let described = client.command(&["CACHE.GET", key]).await;
        match described.field("state") {
            Some(state) if state.text() == "hit-l1" => Ok(()),
            _ => Err(described),
        }
    })
    .await;
}

async fn until_read(client: &mut Client, key: &str, expected: &Value) {
    eventually(DEADLINE, async || {
        match client.command(&["GET", key]).await {
            value if value == *expected => Ok(()),
            value => Err(value),
        }
    })
    .await;
}

/// Reads that were answered from memory.
async fn from_memory(client: &mut Client) -> u64 {
    figure(client, "cachewarden_reads_total", "hit-l1").await
}

/// How often Redis was asked for values.
async fn asked(raw: &mut Client) -> String {
    let stats = raw.command(&["INFO", "commandstats"]).await;
    let mget = |line: &&str| line.starts_with("cmdstat_mget:");
    let line = stats.text().lines().find(mget).unwrap_or_default();
    line.split(',').next().unwrap_or_default().to_owned()
}
