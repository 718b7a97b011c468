//! Redis killed, frozen, restarted, slow or cut off: reads go on, and caching comes back by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::Arbiter;
use cachewarden::config::Config;
use cachewarden::store::Store;
use cachewarden::supervisor::{ChildSpec, RestartPolicy, Supervisor};
use tokio::sync::Notify;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config, config_without_postgres};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::{World, figure, joined, keys_with_life, raw, release, statements};

pub(super) const ITEMS: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, name text);
    INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 1000) g";

/// Two caches, so that each core owns the loads of one.
pub(super) const CACHES: &str = r#"
    [caches.item]
    key = "items:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "20s"
    max_loads = 4

    [caches.other]
    key = "others:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "20s"

    [namespaces.calc]
    prefix = "calc:"
    ttl = "5m"
"#;

pub(super) async fn world() -> World {
    World::start(ITEMS, CACHES).await
}

pub(super) fn item(id: u64) -> Value {
    Value::bulk(format!("\"item {id}\""))
}

pub(super) async fn assert_reads(client: &mut Client, ids: impl IntoIterator<Item = u64>) {
    for id in ids {
        for cache in ["items", "others"] {
            let key = format!("{cache}:{id}");
            assert_eq!(client.command(&["GET", &key]).await, item(id), "{key}");
        }
    }
}

/// Everything that needs Redis says so.
async fn assert_unavailable(client: &mut Client) {
    let commands: &[&[&str]] = &[
        &["CACHE.INVALIDATE", "items:1"],
        &["DEL", "items:1", "items:2"],
        &["EXISTS", "items:1"],
        &["TTL", "items:1"],
        &["GET", "calc:1"],
    ];
    for command in commands {
        let reply = client.command(command).await;
        assert!(
            reply.error().starts_with("UNAVAILABLE "),
            "{command:?}: {reply:?}"
        );
    }
}

/// Reads are cached again, and invalidations acknowledged, on a connection of every core.
pub(super) async fn until_caching(daemon: &InProcess, raw: &mut Client) {
    let cores = std::thread::available_parallelism().unwrap().get() as u64;
    for id in 901..=900 + cores {
        let mut client = daemon.client().await;
        for key in [format!("items:{id}"), format!("others:{id}")] {
            eventually(DEADLINE, async || {
                assert_eq!(client.command(&["GET", &key]).await, item(id));
                let cached = raw.command(&["GET", &key]).await;
                if cached == item(id) {
                    Ok(())
                } else {
                    Err(cached)
                }
            })
            .await;
            eventually(DEADLINE, async || {
                match client.command(&["DEL", &key]).await {
                    Value::Int(removed) => Ok(removed),
                    error => Err(error),
                }
            })
            .await;
        }
    }
    for (key, left) in keys_with_life(raw).await {
        assert!(left > 0, "{key} lives for ever");
    }
}

#[tokio::test]
async fn a_killed_redis_leaves_reads_right_and_caching_resumes_when_it_is_back() {
    let mut world = world().await;
    let mut client = world.client().await;
    assert_reads(&mut client, 1..=3).await;
    world.redis.kill().unwrap();
    assert_reads(&mut client, 1..=20).await;
    assert_eq!(client.command(&["GET", "items:4444"]).await, Value::Nil);
    assert_unavailable(&mut client).await;
    assert_eq!(figure(&mut client, "cachewarden_redis_up", "").await, 0);
    world.redis.start_again().unwrap();
    until_caching(&world.daemon, &mut world.raw().await).await;
    assert_eq!(figure(&mut client, "cachewarden_redis_up", "").await, 1);
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_starts_without_redis_reads_and_caches_once_redis_is_there() {
    let mut redis = redis();
    redis.kill().unwrap();
    let mut world = World::start_on(redis, ITEMS, CACHES).await;
    let mut client = world.client().await;
    assert_reads(&mut client, 1..=3).await;
    assert_unavailable(&mut client).await;
    world.redis.start_again().unwrap();
    until_caching(&world.daemon, &mut world.raw().await).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn without_redis_many_readers_of_one_key_are_still_one_load_and_those_who_came_later_another()
{
    let mut world = world().await;
    let mut client = world.client().await;
    world.redis.kill().unwrap();
    let lock = world.lock("items").await;
    let mut readers = Vec::new();
    for _ in 0..100 {
        let mut reader = world.client().await;
        reader.send(b"GET items:1\r\n").await.unwrap();
        readers.push(reader);
    }
    eventually(DEADLINE, async || match joined(&mut client).await {
        99 => Ok(()),
        fewer => Err(fewer),
    })
    .await;
    release(lock).await;
    for mut reader in readers {
        assert_eq!(reader.read().await.unwrap(), item(1));
    }
    assert!(statements(&mut client).await <= 2);
    world.daemon.stop().await;
}

#[tokio::test]
async fn without_redis_a_load_beyond_max_loads_is_refused_at_once() {
    let mut world = world().await;
    let mut client = world.client().await;
    world.redis.kill().unwrap();
    // From here on the breaker is open: what follows is about loads alone.
    assert_reads(&mut client, [100]).await;
    let lock = world.lock("items").await;
    let mut readers = Vec::new();
    for id in 1..=4 {
        let mut reader = world.client().await;
        reader
            .send(format!("GET items:{id}\r\n").as_bytes())
            .await
            .unwrap();
        readers.push((id, reader));
        eventually(DEADLINE, async || {
            match figure(&mut client, "postgres_statements_running", "").await {
                running if running == id => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
    for id in 5..=9 {
        let refusal = client.command(&["GET", &format!("items:{id}")]).await;
        assert!(refusal.error().starts_with("BUSY "), "{refusal:?}");
    }
    release(lock).await;
    for (id, mut reader) in readers {
        assert_eq!(reader.read().await.unwrap(), item(id));
    }
    assert_reads(&mut client, 5..=9).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_frozen_redis_costs_one_timeout_and_then_nothing() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut world = World::start(ITEMS, &format!("redis.timeout = \"2s\"\n{CACHES}")).await;
    let mut client = world.client().await;
    assert_reads(&mut client, 1..=3).await;
    world.redis.freeze().unwrap();
    let began = Instant::now();
    assert_reads(&mut client, 1..=20).await;
    assert_unavailable(&mut client).await;
    // Fifty reads, on both cores' caches: none, or one, of them waited, and only once.
    let took = began.elapsed();
    assert!(took < 2 * TIMEOUT, "{took:?}");
    world.redis.thaw().unwrap();
    until_caching(&world.daemon, &mut world.raw().await).await;
    assert_reads(&mut client, 1..=3).await;
    world.daemon.stop().await;
}

pub(super) async fn until_leased(raw: &mut Client, lease: &str, count: i64) {
    eventually(DEADLINE, async || {
        match raw.command(&["EXISTS", lease]).await {
            Value::Int(there) if there == count => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test]
async fn a_load_during_which_redis_comes_back_empty_is_answered_and_caching_goes_on() {
    let mut world = world().await;
    let mut client = world.client().await;
    let lock = world.lock("items").await;
    client.send(b"GET items:1\r\n").await.unwrap();
    until_leased(&mut world.raw().await, "{items:1}:lease", 1).await;
    world.redis.kill().unwrap();
    world.redis.start_again().unwrap();
    release(lock).await;
    assert_eq!(client.read().await.unwrap(), item(1));
    until_caching(&world.daemon, &mut world.raw().await).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_comes_back_with_an_old_dataset_fails_nobody_and_obeys_invalidations() {
    let mut world = world().await;
    let mut client = world.client().await;
    assert_reads(&mut client, [1]).await;
    // Old values, and the leases of loads that are long over.
    let mut before = world.raw().await;
    before
        .command(&["SET", "{items:2}:lease", "long over", "PX", "600000"])
        .await;
    before
        .command(&["ZADD", "cachewarden:leases", "9000000000000", "items:2"])
        .await;
    assert_eq!(before.command(&["SAVE"]).await.text(), "OK");
    world.redis.kill().unwrap();
    world.redis.start_again().unwrap();
    let mut straight = world.raw().await;
    assert_eq!(straight.command(&["GET", "items:1"]).await, item(1));
    world
        .database
        .execute("UPDATE items SET name = 'item 77' WHERE id IN (1, 2)")
        .await;
    let removed = eventually(DEADLINE, async || {
        match client
            .command(&["CACHE.INVALIDATE", "items:1", "items:2"])
            .await
        {
            Value::Int(removed) => Ok(removed),
            error => Err(error),
        }
    })
    .await;
    // Or it is gone already: the data are of earlier.
    assert!(removed <= 1, "{removed}");
    for key in ["items:1", "items:2"] {
        assert_eq!(client.command(&["GET", key]).await, item(77));
        assert_eq!(straight.command(&["GET", key]).await, item(77));
    }
    world.daemon.stop().await;
}

/// A daemon that reaches its Redis through a proxy.
async fn behind_proxy(world: &World, more: &str) -> (Proxy, InProcess) {
    let proxy = Proxy::before_port(world.redis.port()).await;
    let url = format!("redis://{}", proxy.address());
    let text = config(world.database.url(), &url, &format!("{more}\n{CACHES}"));
    (proxy, InProcess::start(&text).await)
}

#[tokio::test]
async fn a_slow_redis_is_used_while_it_keeps_within_its_timeout_and_done_without_beyond() {
    let world = world().await;
    let (mut proxy, daemon) = behind_proxy(&world, "redis.timeout = \"1s\"").await;
    let (mut client, mut raw) = (daemon.client().await, world.raw().await);
    proxy.delay(Duration::from_millis(20));
    assert_reads(&mut client, 1..=2).await;
    assert_eq!(
        raw.command(&["EXISTS", "items:1", "others:2"]).await,
        Value::Int(2)
    );
    proxy.delay(Duration::from_millis(1500));
    assert_reads(&mut client, 1..=20).await;
    proxy.pass().await;
    until_caching(&daemon, &mut raw).await;
    daemon.stop().await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn reads_are_right_over_a_link_that_is_cut_again_and_again_and_while_it_is_down() {
    let world = world().await;
    let (mut proxy, daemon) = behind_proxy(&world, "").await;
    let mut client = daemon.client().await;
    for id in 1..=30 {
        assert_reads(&mut client, [id]).await;
        proxy.cut();
        assert_reads(&mut client, [id, id + 1]).await;
    }
    proxy.refuse().await;
    assert_reads(&mut client, 1..=20).await;
    assert_unavailable(&mut client).await;
    proxy.pass().await;
    until_caching(&daemon, &mut raw(&world.redis).await).await;
    daemon.stop().await;
    world.daemon.stop().await;
}

#[actix_rt::test]
async fn a_connection_whose_keeper_panicked_is_kept_again() {
    let mut redis = redis();
    let config = Config::from_toml(&config_without_postgres(&redis.redis_url(), "")).unwrap();
    let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
    let panic = Arc::new(Notify::new());
    let mut supervisor = Supervisor::new();
    let (kept, felled) = (store.clone(), Arc::clone(&panic));
    let keeper = move || {
        let (kept, felled) = (kept.clone(), Arc::clone(&felled));
        async move {
            tokio::select! {
                () = kept.keep() => {}
                () = felled.notified() => panic!("a keeper's panic, planned"),
            }
        }
    };
    let policy = RestartPolicy::default();
    supervisor.start(ChildSpec::task(
        "redis-0",
        Arbiter::current(),
        policy,
        keeper,
    ));
    let answers = async || {
        eventually(DEADLINE, async || store.mget(&["key"]).await).await;
    };
    answers().await;
    panic.notify_one();
    // Lost afterwards, the connection comes back only where somebody keeps it.
    redis.kill().unwrap();
    eventually(DEADLINE, async || match store.mget(&["key"]).await {
        Ok(found) => Err(found),
        Err(_away) => Ok(()),
    })
    .await;
    redis.start_again().unwrap();
    answers().await;
    let health = supervisor.health().snapshot().remove(0);
    assert_eq!(health.restarts, 1);
    assert_eq!(
        health.last_exit.unwrap(),
        "panicked: a keeper's panic, planned"
    );
    assert_eq!(supervisor.stop(DEADLINE).await, [""; 0]);
}

#[tokio::test]
async fn without_redis_no_more_is_let_in_than_postgres_bears_until_it_bears_more() {
    const SLOW: &str = "
        CREATE TABLE items (id bigint PRIMARY KEY, name text);
        INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 1000) g;
        CREATE TABLE pace (seconds float);
        INSERT INTO pace VALUES (0.4)";
    const CACHE: &str = r#"
        [caches.item]
        key = "items:{id:bigint}"
        query = "SELECT name FROM items, pg_sleep((SELECT seconds FROM pace)) WHERE id = :id"
        shape = "scalar"
        ttl = "10m"
        load_timeout = "1s"
        max_loads = 32
    "#;
    let mut world = World::start(SLOW, CACHE).await;
    let mut client = world.client().await;
    let bears = async |client: &mut Client| figure(client, "postgres_bears", "item").await;
    assert_eq!(bears(&mut client).await, 32);
    world.redis.kill().unwrap();
    // Statements that take longer than a quarter of what a read may: once after the other, what is let in is halved.
    let mut id = 0;
    eventually(DEADLINE, async || {
        id += 1;
        client.command(&["GET", &format!("items:{id}")]).await;
        match bears(&mut client).await {
            1 => Ok(()),
            more => Err(more),
        }
    })
    .await;
    // A stampede is refused at once, but for one that finds out whether it has become better.
    let mut readers = Vec::new();
    for id in 501..=540 {
        let mut reader = world.client().await;
        let get = format!("GET items:{id}\r\n");
        reader.send(get.as_bytes()).await.unwrap();
        readers.push(reader);
    }
    let mut answered = 0;
    for mut reader in readers {
        match reader.read().await.unwrap() {
            Value::Error(error) => assert!(error.starts_with("BUSY "), "{error}"),
            _value => answered += 1,
        }
    }
    assert!((1..=5).contains(&answered), "{answered}");

    world.database.execute("UPDATE pace SET seconds = 0").await;
    let mut id = 100;
    eventually(DEADLINE, async || {
        id += 1;
        client.command(&["GET", &format!("items:{id}")]).await;
        match bears(&mut client).await {
            more if more >= 8 => Ok(()),
            few => Err(few),
        }
    })
    .await;
    world.daemon.stop().await;
}
