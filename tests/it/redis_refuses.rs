//! Redis that answers, and refuses: full, read-only, without rights. Reads go on, and caching comes back by itself.

use super::redis_away::{CACHES, ITEMS, assert_reads, item, until_caching, until_leased, world};
use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config};
use super::support::eventually::eventually;
use super::support::resp::Value;
use super::support::servers::{database, redis};
use super::support::world::{count, figure, raw, release, statements};

#[tokio::test]
async fn a_full_redis_serves_hits_and_invalidations_and_reads_beside_it_are_right() {
    let world = world().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    assert_reads(&mut client, 1..=3).await;
    let before = statements(&mut client).await;
    raw.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    assert_reads(&mut client, 1..=3).await;
    assert_eq!(statements(&mut client).await, before);
    assert_reads(&mut client, 4..=8).await;
    assert_eq!(raw.command(&["EXISTS", "items:4"]).await, Value::Int(0));
    world
        .database
        .execute("UPDATE items SET name = 'item 77' WHERE id = 1")
        .await;
    assert_eq!(client.command(&["DEL", "items:1"]).await, Value::Int(1));
    assert_eq!(client.command(&["GET", "items:1"]).await, item(77));
    assert_eq!(figure(&mut client, "cachewarden_redis_up", "").await, 1);
    raw.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    until_caching(&world.daemon, &mut raw).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_runs_full_during_a_load_gets_the_lease_back() {
    let world = world().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    let lock = world.lock("items").await;
    client.send(b"GET items:1\r\n").await.unwrap();
    until_leased(&mut raw, "{items:1}:lease", 1).await;
    raw.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    release(lock).await;
    assert_eq!(client.read().await.unwrap(), item(1));
    assert_eq!(raw.command(&["EXISTS", "items:1"]).await, Value::Int(0));
    until_leased(&mut raw, "{items:1}:lease", 0).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_read_only_redis_serves_hits_refuses_invalidations_and_reads_beside_it_are_right() {
    let world = world().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    assert_reads(&mut client, 1..=3).await;
    let before = statements(&mut client).await;
    // A replica of nobody: it serves what it has, and takes no write.
    raw.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_reads(&mut client, 1..=3).await;
    assert_eq!(statements(&mut client).await, before);
    assert_reads(&mut client, 4..=8).await;
    assert_eq!(raw.command(&["EXISTS", "items:4"]).await, Value::Int(0));
    let refusal = client.command(&["CACHE.INVALIDATE", "items:1"]).await;
    assert!(refusal.error().starts_with("UNAVAILABLE "), "{refusal:?}");
    raw.command(&["REPLICAOF", "NO", "ONE"]).await;
    until_caching(&world.daemon, &mut raw).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn without_rights_in_redis_reads_are_right_and_with_them_they_are_cached() {
    let (database, redis) = (database().await, redis());
    database.execute(ITEMS).await;
    let mut raw = raw(&redis).await;
    let url = format!("redis://warden:secret@127.0.0.1:{}", redis.port());
    for rights in ["-evalsha", "-set", "-mget", "-zadd", "-@all +ping", "-@all"] {
        raw.command(&["FLUSHALL"]).await;
        let mut words = vec![
            "ACL", "SETUSER", "warden", "reset", "on", ">secret", "~*", "+@all",
        ];
        words.extend(rights.split(' '));
        assert_eq!(raw.command(&words).await.text(), "OK", "{rights}");
        let daemon = InProcess::start(&config(database.url(), &url, CACHES)).await;
        let mut client = daemon.client().await;
        assert_reads(&mut client, 1..=4).await;
        assert_eq!(client.command(&["GET", "items:4444"]).await, Value::Nil);
        // Neither values nor leases, which others would wait for.
        eventually(DEADLINE, async || match count(&mut raw).await {
            0 => Ok(()),
            keys => Err((rights, keys)),
        })
        .await;
        // What is not done is said.
        if rights == "-evalsha" || rights.starts_with("-@all") {
            let refusal = client.command(&["CACHE.INVALIDATE", "items:1"]).await;
            assert!(refusal.error().starts_with("UNAVAILABLE "), "{refusal:?}");
        }
        raw.command(&["ACL", "SETUSER", "warden", "+@all"]).await;
        until_caching(&daemon, &mut raw).await;
        daemon.stop().await;
    }
}

#[tokio::test]
async fn a_redis_that_refuses_is_told_of_once_and_not_at_every_read() {
    let (database, redis) = (database().await, redis());
    database.execute(ITEMS).await;
    let mut raw = raw(&redis).await;
    let daemon = Spawned::start(database.url(), &redis.redis_url(), CACHES).await;
    let mut client = daemon.client().await;
    raw.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    assert_reads(&mut client, 1..=50).await;
    let warnings = |text: &str| {
        let lines = text
            .lines()
            .filter(|line| line.contains("WARN") || line.contains("ERROR"));
        lines.map(String::from).collect::<Vec<_>>()
    };
    let told = eventually(DEADLINE, async || match warnings(&daemon.stderr()) {
        told if told.is_empty() => Err("nothing"),
        told => Ok(told),
    })
    .await;
    assert_eq!(told.len(), 1, "{told:#?}");
    assert!(
        told[0].contains("OOM") && told[0].contains("uncached"),
        "{told:?}"
    );
    raw.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_reads(&mut client, [60]).await;
    assert_eq!(raw.command(&["GET", "items:60"]).await, item(60));
    assert_eq!(warnings(&daemon.stderr()), told);
}
