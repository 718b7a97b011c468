//! Values near `max_value`, hundreds at a time: they are served from Redis, and whoever reads beside them feels nothing.
//! `redis.timeout` is what users have, and Redis is reached over what carries about as much as a network of 1 Gbit/s: all the
//! values together take twice as long.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use cachewarden::cli::demo::servers::Redis;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config_without_postgres};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value, frame};
use super::support::servers::{Database, database, redis};
use super::support::world::{figure, raw, statements, until};

/// Values of 1,024,002 bytes, just below the default `max_value`.
const HUGE: usize = 100;
const REPEATS: usize = 32_000;
const MEGABYTES_A_SECOND: u32 = 100;
/// What two rounds may leave behind, in bytes of memory: half of what one brings.
const LEFT_BEHIND_BYTES: usize = (HUGE << 20) / 2;

/// Nothing is stored: the values are made when they are asked for. The first 100 keys of `mixed` are small.
const CACHES: &str = r#"
    [caches.huge]
    key = "huge:{id:bigint}"
    query = "SELECT repeat(lpad((:id)::text, 32, '0'), 32000)"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "20s"
    max_loads = 1000

    [caches.mixed]
    key = "mixed:{id:bigint}"
    query = "SELECT repeat(lpad((:id)::text, 32, '0'), CASE WHEN :id <= 100 THEN 1 ELSE 32000 END)"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "20s"
    max_loads = 1000

    [caches.small]
    key = "small:{id:bigint}"
    query = "SELECT :id"
    shape = "scalar"
    ttl = "10m"
"#;

struct World {
    daemon: Spawned,
    redis: Redis,
    _link: Proxy,
    _database: Database,
}

async fn world() -> World {
    let (database, redis) = (database().await, redis());
    let (link, url) = link(&redis).await;
    let daemon = Spawned::start(database.url(), &url, CACHES).await;
    World {
        daemon,
        redis,
        _link: link,
        _database: database,
    }
}

async fn link(redis: &Redis) -> (Proxy, String) {
    let link = Proxy::before_port(redis.port()).await;
    link.narrow(MEGABYTES_A_SECOND);
    let url = format!("redis://{}", link.address());
    (link, url)
}

impl World {
    /// How often the breaker opened, on whichever connection.
    fn outages(&self) -> usize {
        self.daemon.stderr().matches("redis is away").count()
    }
}

fn huge(id: usize) -> Value {
    Value::bulk(format!("\"{}\"", format!("{id:032}").repeat(REPEATS)))
}

async fn mget(client: &mut Client, cache: &str, ids: Range<usize>) -> Vec<Value> {
    let keys: Vec<String> = ids.map(|id| format!("{cache}:{id}")).collect();
    let words = ["MGET"].into_iter().chain(keys.iter().map(String::as_str));
    match client.command(&words.collect::<Vec<_>>()).await {
        Value::Array(values) => values,
        other => panic!("{other:?}"),
    }
}

async fn assert_all_huge(client: &mut Client, cache: &str, ids: Range<usize>) {
    let values = mget(client, cache, ids.clone()).await;
    assert_eq!(values.len(), ids.len());
    for (value, id) in values.into_iter().zip(ids) {
        // Not by `assert_eq`: it would print a megabyte.
        assert!(value == huge(id), "{cache}:{id}: {value:.80?}");
    }
}

async fn hits(client: &mut Client, cache: &str) -> u64 {
    let label = format!("cache=\"{cache}\",state=\"hit\"");
    figure(client, "cachewarden_reads_total", &label).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_huge_values_are_served_from_redis_and_disturb_nobody() {
    const SMALL: usize = 50;
    let world = &world().await;
    let daemon = &world.daemon;
    let (mut greedy, mut watcher) = (daemon.client().await, daemon.client().await);
    // One on each core: one of them shares the connection to Redis with the greedy one.
    let mut neighbours = Vec::new();
    for _ in 0..2 {
        let mut neighbour = daemon.client().await;
        for id in 0..SMALL {
            neighbour.command(&["GET", &format!("small:{id}")]).await;
        }
        neighbours.push(neighbour);
    }
    let over = Arc::new(AtomicBool::new(false));
    let before = hits(&mut watcher, "small").await;
    let reading: Vec<_> = neighbours
        .into_iter()
        .map(|mut neighbour| {
            let over = Arc::clone(&over);
            tokio::spawn(async move {
                let mut reads = 0;
                while !over.load(Relaxed) {
                    let id = reads % SMALL;
                    let answer = neighbour.command(&["GET", &format!("small:{id}")]).await;
                    assert_eq!(answer, Value::bulk(id.to_string()));
                    reads += 1;
                }
                reads as u64
            })
        })
        .collect();
    let mut held = Vec::new();
    for round in 0..3 {
        assert_all_huge(&mut greedy, "huge", 0..HUGE).await;
        held.push(daemon.resident_bytes());
        assert_eq!(world.outages(), 0, "in round {round}:\n{}", daemon.stderr());
    }
    over.store(true, Relaxed);
    let mut reads = 0;
    for task in reading {
        reads += task.await.unwrap();
    }
    assert_eq!(hits(&mut watcher, "small").await - before, reads);
    assert_eq!(hits(&mut watcher, "huge").await, 2 * HUGE as u64);
    // The first round takes what any takes, in the allocator's large steps.
    let grown = held[2].saturating_sub(held[0]);
    assert!(grown < LEFT_BEHIND_BYTES, "it holds {held:?} bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_turn_out_huge_are_served_from_redis_from_the_second_try_on() {
    let world = &world().await;
    let mut client = world.daemon.client().await;
    // What the daemon has seen of this cache is small...
    for _ in 0..20 {
        mget(&mut client, "mixed", 0..100).await;
    }
    // ... and what another program has put there is not.
    let mut raw = raw(&world.redis).await;
    let ids = 101..101 + HUGE;
    for id in ids.clone() {
        let (key, value) = (format!("mixed:{id}"), huge(id));
        let set = frame(&["SET", &key, value.text(), "EX", "600"]);
        raw.send(&set).await.unwrap();
        assert_eq!(raw.read().await.unwrap().text(), "OK");
    }
    assert_all_huge(&mut client, "mixed", ids.clone()).await;
    // This many at once took too long, as it had to for the test to mean anything. Every connection tells of it.
    let outages = 4; // Of two serving threads, of locks and limits, and of upkeep.
    eventually(DEADLINE, async || match world.outages() {
        told if told == outages => Ok(()),
        other => Err(other),
    })
    .await;
    until(&mut client, "cachewarden_redis_up", 1).await;
    let before = hits(&mut client, "mixed").await;
    for _ in 0..2 {
        assert_all_huge(&mut client, "mixed", ids.clone()).await;
    }
    assert_eq!(world.outages(), outages, "{}", world.daemon.stderr());
    assert_eq!(hits(&mut client, "mixed").await - before, 2 * HUGE as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_stores_and_reads_many_huge_values_at_once() {
    let redis = redis();
    let (_link, url) = link(&redis).await;
    let text = config_without_postgres(
        &url,
        "[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\nload_timeout = \"20s\"\n",
    );
    let daemon = InProcess::start(&text).await;
    let value = "v".repeat(32 * REPEATS);
    let keys: Vec<String> = (0..HUGE).map(|id| format!("calc:{id}")).collect();
    let values: Vec<(&str, &String)> = keys.iter().map(|key| (key.as_str(), &value)).collect();
    daemon.warden.mset(&values, None).await.unwrap();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let found = daemon.warden.mget::<String>(&keys).await;
    for found in found.unwrap() {
        assert!(found.is_some_and(|found| found == value));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_first_read_of_a_cache_is_one_statement_whatever_its_values_may_have() {
    let world = &world().await;
    let mut client = world.daemon.client().await;
    let answers = mget(&mut client, "small", 0..100).await;
    let expected: Vec<_> = (0..100).map(|id| Value::bulk(id.to_string())).collect();
    assert_eq!(answers, expected);
    assert_eq!(statements(&mut client).await, 1);
}
