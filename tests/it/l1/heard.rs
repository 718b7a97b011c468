//! What Redis tells is not read from memory any more; and of a Redis that tells nothing, nothing is kept.

use cachewarden::cli::demo::servers::Redis;

use super::{
    CACHES, ITEMS, new, old, tracking, until_in_memory, until_read, until_tracking, world,
};
use crate::support::daemon::{InProcess, config};
use crate::support::resp::{Client, Value};
use crate::support::servers::{database, redis_with};
use crate::support::world::{figure, raw};

#[tokio::test]
async fn what_changes_in_redis_by_whatever_hand_is_not_read_from_memory_any_more() {
    let world = world().await;
    let url = world.redis.redis_url();
    let other = InProcess::start(&config(world.database.url(), &url, CACHES)).await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    let mut neighbour = other.client().await;
    let life = ["PEXPIRE", "items:3", "20"];
    let hands: [(&str, &mut Client, &[&str]); 6] = [
        ("items:1", &mut raw, &["DEL", "items:1"]),
        ("items:3", &mut world.raw().await, &life),
        ("items:4", &mut neighbour, &["DEL", "items:4"]),
        (
            "items:5",
            &mut other.client().await,
            &["CACHE.INVALIDATE", "items:5*"],
        ),
        (
            "items:6",
            &mut world.raw().await,
            &["PUBLISH", "cache:invalidate", "items:6"],
        ),
        ("items:7", &mut world.raw().await, &["FLUSHALL"]),
    ];
    for (key, _, _) in &hands {
        until_in_memory(&mut client, key).await;
    }
    until_in_memory(&mut client, "items:2").await;
    world
        .database
        .execute("UPDATE items SET name = 'new'")
        .await;
    for (key, hand, words) in hands {
        assert_eq!(client.command(&["GET", "items:7"]).await, old(), "{key}");
        hand.command(words).await;
        until_read(&mut client, key, &new()).await;
    }
    until_in_memory(&mut client, "items:2").await;
    raw.command(&["SET", "items:2", "\"by hand\"", "EX", "60"])
        .await;
    until_read(&mut client, "items:2", &Value::bulk("\"by hand\"")).await;
    world.daemon.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_connection_that_was_lost_takes_what_it_kept_true_with_it() {
    let world = world().await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    until_in_memory(&mut client, "items:1").await;
    world
        .database
        .execute("UPDATE items SET name = 'new'")
        .await;
    // In one step: nobody is there to be told.
    let script = "redis.call('DEL', 'items:1') return 1";
    let replies = raw
        .pipeline(&[
            &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"],
            &["EVAL", script, "0"],
        ])
        .await;
    assert_eq!(replies[1], Value::Int(1), "{replies:?}");
    until_read(&mut client, "items:1", &new()).await;
    until_in_memory(&mut client, "items:1").await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_finds_nothing_in_memory() {
    let mut world = world().await;
    let mut client = world.client().await;
    until_in_memory(&mut client, "items:1").await;
    world.redis.kill().unwrap();
    until_tracking(&mut client, 0).await;
    world
        .database
        .execute("UPDATE items SET name = 'new'")
        .await;
    until_read(&mut client, "items:1", &new()).await;
    world.redis.start_again().unwrap();
    until_in_memory(&mut client, "items:1").await;
    assert_eq!(client.command(&["GET", "items:1"]).await, new());
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_not_believed_for_longer_than_its_last_proof() {
    let mut world = world().await;
    let mut client = world.client().await;
    until_in_memory(&mut client, "items:1").await;
    world.redis.freeze().unwrap();
    // What is written now is told by nobody.
    world
        .database
        .execute("UPDATE items SET name = 'new'")
        .await;
    until_tracking(&mut client, 0).await;
    // That is said as soon as one thread has found out.
    until_read(&mut client, "items:1", &new()).await;
    world.redis.thaw().unwrap();
    until_tracking(&mut client, 1).await;
    world.daemon.stop().await;
}

/// A daemon that logs in as a user with fewer rights.
async fn restricted(redis: &Redis, rights: &[&str]) -> (InProcess, Client) {
    let (database, mut raw) = (database().await, raw(redis).await);
    database.execute(ITEMS).await;
    let user = [
        "ACL", "SETUSER", "warden", "reset", "on", ">secret", "~*", "&*", "+@all",
    ];
    let words = [&user[..], rights].concat();
    assert_eq!(raw.command(&words).await.text(), "OK");
    let url = format!("redis://warden:secret@127.0.0.1:{}", redis.port());
    let daemon = InProcess::start(&config(database.url(), &url, CACHES)).await;
    let client = daemon.client().await;
    (daemon, client)
}

#[tokio::test]
async fn where_redis_may_not_tell_nothing_is_kept_and_everything_else_goes_on() {
    const OWN_KEYS: [&str; 4] = ["resetkeys", "~items:*", "~{items:*", "~cachewarden:[^t]*"];
    let cases: [(&[&str], &[&str]); 3] = [
        (&[], &["-client|tracking"]),
        (&[], &OWN_KEYS),
        // A server, or a proxy before it, that knows the older protocol only.
        (&["--rename-command", "HELLO", ""], &[]),
    ];
    for (args, rights) in cases {
        let redis = redis_with(args);
        let (daemon, mut client) = restricted(&redis, rights).await;
        for _ in 0..5 {
            assert_eq!(
                client.command(&["GET", "items:1"]).await,
                old(),
                "{rights:?}"
            );
        }
        let described = client.command(&["CACHE.GET", "items:1"]).await;
        let state = described.field("state").map(Value::text);
        assert_eq!(state, Some("hit"), "{rights:?}");
        assert_eq!(tracking(&mut client).await, 0, "{rights:?}");
        assert_eq!(figure(&mut client, "cachewarden_l1_bytes", "").await, 0);
        daemon.stop().await;
    }
}

#[tokio::test]
async fn who_invalidates_reads_afresh_at_once_through_any_connection_of_the_same_daemon() {
    let world = world().await;
    let mut clients = [
        world.client().await,
        world.client().await,
        world.client().await,
    ];
    for version in 0..100 {
        let key = format!("items:{}", 1 + version % 5);
        for client in &mut clients {
            until_in_memory(client, &key).await;
        }
        let update = format!("UPDATE items SET name = 'v{version}'");
        world.database.execute(&update).await;
        let writer = &mut clients[version % 3];
        assert_eq!(writer.command(&["DEL", &key]).await, Value::Int(1));
        for client in &mut clients {
            let value = client.command(&["GET", &key]).await;
            assert_eq!(value, Value::bulk(format!("\"v{version}\"")));
        }
    }
    world.daemon.stop().await;
}
