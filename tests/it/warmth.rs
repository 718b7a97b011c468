//! A cache that nearly always misses is read without a look-up first, and with one again once its values are there.

use super::support::resp::{Client, Value};
use super::support::world::{World, figure, statements};

const ITEMS: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, name text);
    INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 10000) g";

const CACHES: &str = r#"
    [caches.item]
    key = "items:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    # So small that a look-up need not be cut before a value was seen.
    max_value = "1KiB"
"#;

/// Keys of one `MGET`.
const KEYS: u64 = 32;

/// Reads so many ranges of [`KEYS`] keys, each with an `MGET`, and finds every value right.
async fn read(client: &mut Client, ranges: std::ops::Range<u64>) {
    for range in ranges {
        let ids = range * KEYS + 1..=(range + 1) * KEYS;
        let keys: Vec<String> = ids.clone().map(|id| format!("items:{id}")).collect();
        let words: Vec<&str> = std::iter::once("MGET")
            .chain(keys.iter().map(String::as_str))
            .collect();
        let values = ids.map(|id| Value::bulk(format!("\"item {id}\"")));
        assert_eq!(client.command(&words).await, Value::Array(values.collect()));
    }
}

/// Look-ups that Redis was sent since this was asked last.
async fn lookups(raw: &mut Client) -> u64 {
    let stats = raw.command(&["INFO", "commandstats"]).await;
    raw.command(&["CONFIG", "RESETSTAT"]).await;
    let calls = |command: &str| {
        let begin = format!("cmdstat_{command}:calls=");
        let mut lines = stats.text().lines();
        let rest = lines.find_map(|line| line.strip_prefix(&begin))?;
        rest.split(',').next()?.parse::<u64>().ok()
    };
    // The scripts that begin and end a load say `MGET` once each, and beside it what nobody else says; but for a daemon that
    // starts, and asks once what is being swept.
    let by = |command| calls(command).unwrap_or(0);
    by("mget") + by("zrevrangebyscore") - by("time") - by("zmscore")
}

#[tokio::test]
async fn cold_reads_do_without_a_look_up_and_warm_ones_get_theirs_back_and_all_are_right() {
    let world = World::start(ITEMS, CACHES).await;
    // All reads over one connection: every core guesses for itself.
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    lookups(&mut raw).await;
    // As long as nothing is known of a cache, it is looked up.
    read(&mut client, 0..4).await;
    assert_eq!(lookups(&mut raw).await, 4);
    read(&mut client, 4..32).await;
    lookups(&mut raw).await;
    // It is cold by now: of a hundred reads only a sample is looked up.
    read(&mut client, 32..132).await;
    let sampled = lookups(&mut raw).await;
    assert!((1..=10).contains(&sampled), "{sampled} of 100");

    // What holds for a look-up holds without one: a value there is a hit, and what was invalidated is gone.
    let loaded = statements(&mut client).await;
    read(&mut client, 131..132).await;
    assert_eq!(statements(&mut client).await, loaded);
    world
        .database
        .execute("UPDATE items SET name = 'new' WHERE id = 1")
        .await;
    assert_eq!(client.command(&["DEL", "items:1"]).await, Value::Int(1));
    let both = client.command(&["MGET", "items:1", "items:2"]).await;
    let values = ["\"new\"", "\"item 2\""].map(Value::bulk);
    assert_eq!(both, Value::Array(values.into()));

    // Everything is there now. Before long the sample has told so, and every read is looked up.
    let loaded = statements(&mut client).await;
    let hits = figure(&mut client, "cachewarden_reads_total", "state=\"hit\"").await;
    read(&mut client, 1..131).await;
    lookups(&mut raw).await;
    read(&mut client, 1..31).await;
    assert_eq!(lookups(&mut raw).await, 30);
    assert_eq!(statements(&mut client).await, loaded);
    let hits = figure(&mut client, "cachewarden_reads_total", "state=\"hit\"").await - hits;
    assert_eq!(hits, 160 * KEYS);
    world.daemon.stop().await;
}
