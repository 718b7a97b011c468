//! Many readers of one cold key are one load, and nobody waits for a loader that is gone.
//!
//! The gate of these tests is a table lock: the load waits at it until all readers are known to be there.

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::world::{World, figure, joined, keys_with_life, release, statements};

const ITEMS: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, name text);
    INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 100) g;
    CREATE FUNCTION wait_at_gate(id bigint) RETURNS text LANGUAGE sql AS
        'SELECT pg_advisory_lock_shared(id); SELECT pg_advisory_unlock_shared(id)::text'";

const CACHES: &str = r#"
    [caches.item]
    key = "items:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "1m"

    [caches.uncached]
    key = "uncached:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "1m"
    max_value = "1B"

    [caches.failing]
    key = "failing:{id:bigint}"
    query = "SELECT 1 / (id - id) FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "1m"

    [caches.gated]
    key = "gated:{id:bigint}"
    query = "SELECT name || left(wait_at_gate(id), 0) FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "1m"
"#;

/// Connections that have sent `GET key` and wait.
async fn readers(daemon: &InProcess, count: usize, key: &str) -> Vec<Client> {
    let mut readers = Vec::with_capacity(count);
    for _ in 0..count {
        readers.push(daemon.client().await);
    }
    for reader in &mut readers {
        let get = format!("GET {key}\r\n");
        reader.send(get.as_bytes()).await.unwrap();
    }
    readers
}

/// Waits until the loads under way of these daemons have been joined by `count` reads.
async fn until_joined(clients: &mut [&mut Client], count: u64) {
    eventually(DEADLINE, async || {
        let mut sum = 0;
        for client in clients.iter_mut() {
            sum += joined(client).await;
        }
        if sum >= count { Ok(()) } else { Err(sum) }
    })
    .await;
}

async fn answers(readers: Vec<Client>) -> Vec<Value> {
    let mut answers = Vec::with_capacity(readers.len());
    for mut reader in readers {
        answers.push(reader.read().await.unwrap());
    }
    answers
}

#[tokio::test]
async fn five_hundred_connections_on_one_cold_key_are_one_statement() {
    let world = World::start(ITEMS, CACHES).await;
    let mut client = world.client().await;
    let lock = world.lock("items").await;
    let readers = readers(&world.daemon, 500, "items:1").await;
    until_joined(&mut [&mut client], 499).await;
    release(lock).await;
    let answers = answers(readers).await;
    assert_eq!(answers, vec![Value::bulk("\"item 1\""); 500]);
    assert_eq!(statements(&mut client).await, 1);
    // Who asked while the lease was being acquired is told that it was a miss, too: all came before the load.
    let misses = figure(&mut client, "cachewarden_reads_total", "miss").await;
    assert_eq!(misses, 500);
    world.daemon.stop().await;
}

#[tokio::test]
async fn two_daemons_on_one_redis_load_a_cold_key_with_one_statement() {
    let world = World::start(ITEMS, CACHES).await;
    let text = config(world.database.url(), &world.redis.redis_url(), CACHES);
    let other = InProcess::start(&text).await;
    let (mut here, mut there) = (world.client().await, other.client().await);
    let lock = world.lock("items").await;
    let mut all = readers(&world.daemon, 100, "items:1").await;
    all.extend(readers(&other, 100, "items:1").await);
    until_joined(&mut [&mut here, &mut there], 198).await;
    release(lock).await;
    assert_eq!(answers(all).await, vec![Value::bulk("\"item 1\""); 200]);
    let sent = (statements(&mut here).await, statements(&mut there).await);
    assert_eq!(sent.0 + sent.1, 1, "{sent:?}");
    other.stop().await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn cold_keys_wanted_by_many_connections_are_each_loaded_once() {
    let world = World::start(ITEMS, CACHES).await;
    let mut client = world.client().await;
    let lock = world.lock("items").await;
    let mut all = Vec::new();
    for id in 1..=20 {
        all.extend(readers(&world.daemon, 10, &format!("items:{id}")).await);
    }
    until_joined(&mut [&mut client], 20 * 9).await;
    release(lock).await;
    for (at, answer) in answers(all).await.iter().enumerate() {
        assert_eq!(answer.text(), format!("\"item {}\"", at / 10 + 1));
    }
    assert_eq!(
        figure(&mut client, "cachewarden_loads_total", "loaded").await,
        20
    );
    assert!(statements(&mut client).await <= 20);
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_not_cached_goes_only_to_those_who_came_before_its_read() {
    let world = World::start(ITEMS, CACHES).await;
    let mut client = world.client().await;
    let lock = world.lock("items").await;
    // One leads, and its statement is sent; ninety-nine come while it waits at the gate.
    let mut all = readers(&world.daemon, 1, "uncached:1").await;
    eventually(DEADLINE, async || match statements(&mut client).await {
        1 => Ok(()),
        sent => Err(sent),
    })
    .await;
    all.extend(readers(&world.daemon, 99, "uncached:1").await);
    until_joined(&mut [&mut client], 99).await;
    release(lock).await;
    assert_eq!(answers(all).await, vec![Value::bulk("\"item 1\""); 100]);
    assert_eq!(statements(&mut client).await, 2);
    assert_eq!(
        world.raw().await.command(&["EXISTS", "uncached:1"]).await,
        Value::Int(0)
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_failure_is_told_to_all_who_wait_and_tried_once() {
    let world = World::start(ITEMS, CACHES).await;
    let mut client = world.client().await;
    let lock = world.lock("items").await;
    let readers = readers(&world.daemon, 200, "failing:1").await;
    until_joined(&mut [&mut client], 199).await;
    release(lock).await;
    for answer in answers(readers).await {
        let error = answer.error();
        assert!(error.starts_with("LOADFAIL 'failing:1': "), "{error}");
        assert!(error.contains("division by zero"), "{error}");
    }
    assert_eq!(statements(&mut client).await, 1);
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_failed_load_gives_its_lease_back() {
    let world = World::start(ITEMS, CACHES).await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for sent in 1..=3 {
        client.command(&["GET", "failing:1"]).await.error();
        assert_eq!(statements(&mut client).await, sent);
        eventually(DEADLINE, async || {
            let leases = raw
                .command(&["EXISTS", "{failing:1}:lease", "cachewarden:leases"])
                .await;
            if leases == Value::Int(0) {
                Ok(())
            } else {
                Err(keys_with_life(&mut raw).await)
            }
        })
        .await;
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_invalidation_during_a_load_makes_it_read_again_for_all_who_wait() {
    let world = World::start(ITEMS, CACHES).await;
    let mut client = world.client().await;
    // The load's snapshot is taken, and older than the change, while its statement waits at the gate.
    let gate = world.database.client().await;
    gate.batch_execute("SELECT pg_advisory_lock(1)")
        .await
        .unwrap();
    let mut all = readers(&world.daemon, 50, "gated:1").await;
    until_joined(&mut [&mut client], 49).await;
    eventually(DEADLINE, async || match at_gate(&gate).await {
        1 => Ok(()),
        waiting => Err(waiting),
    })
    .await;
    world
        .database
        .execute("UPDATE items SET name = 'new'")
        .await;
    let acknowledged = client.command(&["CACHE.INVALIDATE", "gated:1"]).await;
    assert_eq!(acknowledged, Value::Int(0));
    all.extend(readers(&world.daemon, 50, "gated:1").await);
    until_joined(&mut [&mut client], 99).await;
    gate.batch_execute("SELECT pg_advisory_unlock(1)")
        .await
        .unwrap();
    assert_eq!(answers(all).await, vec![Value::bulk("\"new\""); 100]);
    let cached = world.raw().await.command(&["GET", "gated:1"]).await;
    assert_eq!(cached, Value::bulk("\"new\""));
    let refused = figure(&mut client, "cachewarden_fills_total", "refused").await;
    assert_eq!((refused, statements(&mut client).await), (1, 2));
    world.daemon.stop().await;
}

/// Sessions that wait for an advisory lock.
async fn at_gate(session: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
               AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    session.query_one(sql, &[]).await.unwrap().get(0)
}

/// Plants what the death of a daemon leaves: a lease, and its entry in the index, that nobody will end.
async fn plant_lease(world: &World, key: &str) {
    let mut raw = world.raw().await;
    let lease = format!("{{{key}}}:lease");
    raw.command(&["SET", &lease, "nobody's token!!", "PX", "600000"])
        .await;
    raw.command(&["ZADD", "cachewarden:leases", "9000000000000", key])
        .await;
}

#[tokio::test]
async fn a_lease_whose_holder_died_costs_half_of_load_timeout_and_the_answer_is_not_cached() {
    let caches = CACHES.replace(r#"load_timeout = "1m""#, r#"load_timeout = "1s""#);
    let world = World::start(ITEMS, &caches).await;
    plant_lease(&world, "items:1").await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    let readers = readers(&world.daemon, 50, "items:1").await;
    // A reader's own patience is all of `load_timeout`: had more than half been spent waiting for the holder, and then a
    // load's, these would be errors.
    for answer in answers(readers).await {
        assert_eq!(answer, Value::bulk("\"item 1\""));
    }
    assert!(
        statements(&mut client).await <= 2,
        "one flight, and one for late comers"
    );
    assert_eq!(raw.command(&["EXISTS", "items:1"]).await, Value::Int(0));
    // An invalidation ends the dead one's lease: the next read is cached.
    client.command(&["DEL", "items:1"]).await;
    client.command(&["GET", "items:1"]).await;
    assert_eq!(raw.command(&["EXISTS", "items:1"]).await, Value::Int(1));
    world.daemon.stop().await;
}

#[tokio::test]
async fn every_read_ends_with_its_caches_load_timeout_whichever_core_it_came_in_on() {
    let caches = CACHES.replace(r#"load_timeout = "1m""#, r#"load_timeout = "400ms""#);
    let world = World::start(ITEMS, &caches).await;
    plant_lease(&world, "items:1").await;
    plant_lease(&world, "uncached:1").await;
    // Half of the time goes to the dead holder; the load that follows is stuck for all of its own.
    let lock = world.lock("items").await;
    let cores = std::thread::available_parallelism().unwrap().get();
    for key in ["items:1", "uncached:1"] {
        for answer in answers(readers(&world.daemon, cores, key).await).await {
            let error = answer.error();
            let begin = format!("LOADFAIL '{key}': timed out after 400 ms");
            assert!(error.starts_with(&begin), "{error}");
        }
    }
    release(lock).await;
    world.daemon.stop().await;
}
