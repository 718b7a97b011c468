//! Locks that live as long as the connection that took them.

use super::super::support::DEADLINE;
use super::super::support::eventually::eventually;
use super::super::support::resp::Value;
use super::super::support::world::raw;
use super::{LONG, World, acquired, info, until_free};

#[tokio::test]
async fn what_a_session_holds_is_released_when_its_connection_ends() {
    let world = World::start().await;
    let mut watcher = world.client().await;
    for way in ["closed", "QUIT", "RESET"] {
        let mut client = world.client().await;
        acquired(&mut client, &["a", LONG, "SESSION"]).await;
        acquired(&mut client, &["b", LONG, "SESSION", "SHARED"]).await;
        // Not bound: it outlives the connection.
        let (token, _) = acquired(&mut client, &["c", LONG]).await;
        match way {
            "closed" => drop(client),
            way => {
                client.command(&[way]).await;
            }
        }
        until_free(&mut watcher, "a").await;
        until_free(&mut watcher, "b").await;
        assert_eq!(
            info(&mut watcher, "c", "held").await,
            Value::Int(1),
            "{way}"
        );
        watcher.command(&["LOCK.RELEASE", "c", &token]).await;
    }
}

#[tokio::test]
async fn a_session_is_renewed_for_as_long_as_its_connection_lives() {
    let world = World::start().await;
    let (mut client, mut raw) = (world.client().await, raw(&world.redis).await);
    let (token, _) = acquired(&mut client, &["a", "300", "SESSION"]).await;
    let life =
        async |raw: &mut super::Client| match raw.command(&["PTTL", "cachewarden:lock:a"]).await {
            Value::Int(life) => life,
            other => panic!("{other:?}"),
        };
    // It falls, and it rises again, several times.
    let mut last = life(&mut raw).await;
    for _ in 0..5 {
        last = eventually(DEADLINE, async || {
            let now = life(&mut raw).await;
            assert!(now > 0, "the lock has expired");
            let before = std::mem::replace(&mut last, now);
            if now > before { Ok(now) } else { Err(now) }
        })
        .await;
    }
    assert_eq!(info(&mut client, "a", "yours").await, Value::bulk("held"));
    assert_eq!(
        client.command(&["LOCK.RELEASE", "a", &token]).await,
        Value::Int(1)
    );
    assert_eq!(info(&mut client, "a", "yours").await, Value::Nil);
}

#[tokio::test]
async fn a_session_is_told_of_a_lock_that_it_has_lost() {
    let world = World::start().await;
    let (mut newer, mut older, mut thief) = (
        world.client().await,
        world.client().await,
        world.client().await,
    );
    newer.command(&["HELLO", "3"]).await;
    let (token, fence) = acquired(&mut newer, &["a", "600000", "SESSION"]).await;
    // Long before it would be renewed.
    acquired(&mut older, &["b", "600000", "SESSION"]).await;
    for name in ["a", "b"] {
        assert_eq!(thief.command(&["LOCK.FORCE", name]).await, Value::Int(1));
    }
    let told = newer.read().await.unwrap();
    let parts = ["lock-lost", "a", &token].map(Value::bulk).to_vec();
    assert_eq!(told, Value::Push([parts, vec![Value::Int(fence)]].concat()));
    assert_eq!(info(&mut newer, "a", "yours").await, Value::bulk("lost"));
    // Who speaks the older protocol has to ask.
    eventually(DEADLINE, async || {
        match info(&mut older, "b", "yours").await {
            lost if lost == Value::bulk("lost") => Ok(()),
            other => Err(other),
        }
    })
    .await;
    // Nothing came in between that was not asked for.
    assert_eq!(older.command(&["PING"]).await, Value::Simple("PONG".into()));
}
