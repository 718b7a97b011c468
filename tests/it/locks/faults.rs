//! What goes wrong around a lock: none of it lets two hold it without the fences telling who came later.

use std::time::Duration;

use cachewarden::lock::{Acquire, Grant, LockError, LockHandle};
use rustix::process::Signal;
use uuid::Uuid;

use super::sessions::{connect, until_renewed};
use super::{
    LOCKS, LONG, World, acquire, alone, ask, extend, info, release, spawn, until_waiting, waiting,
};
use crate::support::DEADLINE;
use crate::support::daemon::{InProcess, Spawned, config};
use crate::support::eventually::eventually;
use crate::support::grenade::ask_with_a_panic;
use crate::support::proxy::Proxy;
use crate::support::resp::Value;
use crate::support::servers::redis;
use crate::support::watched::Watched;

/// Acquires as soon as whoever is needed is there again.
async fn acquire_again(locks: &LockHandle, acquire: Acquire) -> Grant {
    eventually(2 * DEADLINE, async || {
        match locks.acquire.ask(acquire.clone()).await {
            Ok(Ok(Some(grant))) => Ok(grant),
            other => Err(other),
        }
    })
    .await
}

#[tokio::test]
async fn a_redis_that_lost_everything_hands_out_higher_fences_and_knows_no_old_owner() {
    let mut world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let mut last = acquire(locks, alone("a")).await;
    for restarted in [false, true] {
        if restarted {
            world.redis.kill().unwrap();
            world.redis.start_again().unwrap();
        } else {
            world.raw().await.command(&["FLUSHALL"]).await;
        }
        let next = acquire_again(locks, alone("a")).await;
        assert!(next.fence > last.fence);
        assert!(!extend(locks, "a", last.token, LONG).await);
        assert!(!release(locks, "a", last.token).await);
        assert_eq!(info(locks, "a").await.fence, Some(next.fence));
        last = next;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_was_frozen_longer_than_its_locks_last_holds_them_no_more() {
    let world = World::start().await;
    let here = world.daemon().await;
    let (postgres, redis) = (world.watched.database.url(), world.redis.redis_url());
    let frozen = Spawned::start(postgres, &redis, LOCKS).await;
    let mut client = frozen.client().await;
    let held = client
        .command(&["LOCK.ACQUIRE", "a", "1000", "SESSION"])
        .await;
    let Value::Array(held) = held else {
        panic!("{held:?}")
    };
    let (token, Value::Int(fence)) = (held[0].text(), &held[1]) else {
        panic!("{held:?}")
    };
    let locks = here.warden.locks();
    let next = spawn(locks, waiting("a"));
    until_waiting(locks, "a", 1).await;
    frozen.signal(Signal::STOP);
    let next = next.await.unwrap().unwrap().expect("it has expired");
    assert!(next.fence > *fence);
    frozen.signal(Signal::CONT);
    let extended = client.command(&["LOCK.EXTEND", "a", token, "1000"]).await;
    assert_eq!(extended, Value::Int(0));
    let released = client.command(&["LOCK.RELEASE", "a", token]).await;
    assert_eq!(released, Value::Int(0));
    assert_eq!(info(locks, "a").await.fence, Some(next.fence));
    here.stop().await;
}

#[tokio::test]
async fn without_postgres_there_is_no_lock_and_none_stays_taken() {
    let (mut postgres, watched) = Watched::start_apart("CREATE TABLE t (id int)", LOCKS).await;
    let redis = redis();
    let more = format!("postgres.statement_timeout = \"300ms\"\n{LOCKS}");
    let text = config(watched.database.url(), &redis.redis_url(), &more);
    let daemon = InProcess::start(&text).await;
    let locks = daemon.warden.locks();
    let first = acquire(locks, alone("first")).await;
    for frozen in [true, false] {
        match frozen {
            true => drop(postgres.freeze().unwrap()),
            false => postgres.kill().unwrap(),
        }
        let answer = ask(locks, alone("a")).await;
        assert!(matches!(answer, Err(LockError::Fence(_))), "{answer:?}");
        eventually(DEADLINE, async || match info(locks, "a").await.held {
            0 => Ok(()),
            held => Err(held),
        })
        .await;
        // What is held needs no new fence.
        assert!(extend(locks, "first", first.token, LONG).await);
        match frozen {
            true => postgres.thaw().unwrap(),
            false => postgres.start_again().unwrap(),
        }
        let next = acquire_again(locks, alone("a")).await;
        assert!(next.fence > first.fence);
        assert!(release(locks, "a", next.token).await);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_lock_that_is_lost_before_it_is_fenced_is_told_so_or_waited_for_anew() {
    let (mut postgres, watched) = Watched::start_apart("CREATE TABLE t (id int)", LOCKS).await;
    let redis = redis();
    let text = config(watched.database.url(), &redis.redis_url(), LOCKS);
    let daemon = InProcess::start(&text).await;
    let locks = daemon.warden.locks();
    let first = acquire(locks, alone("first")).await;
    postgres.freeze().unwrap();
    let ttl = Duration::from_millis(300);
    let brief = Acquire { ttl, ..alone("a") };
    let patient = Acquire {
        ttl,
        ..waiting("b")
    };
    let (brief, patient) = (spawn(locks, brief), spawn(locks, patient));
    for wanted in [1, 0] {
        for lock in ["a", "b"] {
            eventually(DEADLINE, async || match info(locks, lock).await.held {
                held if held == wanted => Ok(()),
                held => Err(held),
            })
            .await;
        }
    }
    postgres.thaw().unwrap();
    assert_eq!(brief.await.unwrap(), Err(LockError::LostOnTheWay));
    let grant = patient.await.unwrap().unwrap().expect("it is free");
    assert!(grant.fence > first.fence);
    daemon.stop().await;
}

#[tokio::test]
async fn a_lock_whose_reply_was_lost_is_had_by_asking_again() {
    let world = World::start().await;
    let mut proxy = Proxy::before_port(world.redis.port()).await;
    let url = format!("redis://{}", proxy.address());
    let text = config(world.watched.database.url(), &url, LOCKS);
    let daemon = InProcess::start(&text).await;
    let locks = daemon.warden.locks();
    // Its connections are made.
    acquire(locks, alone("other")).await;
    proxy.hold();
    let asked = alone("a");
    let answer = ask(locks, asked.clone()).await;
    assert!(matches!(answer, Err(LockError::Store(_))), "{answer:?}");
    proxy.pass().await;
    let attempt = Uuid::new_v4();
    let again = Acquire {
        attempt,
        ..asked.clone()
    };
    let grant = acquire_again(locks, again).await;
    assert_eq!(grant.token, asked.token);
    assert!(extend(locks, "a", grant.token, LONG).await);
    assert_eq!(info(locks, "a").await.fence, Some(grant.fence));
    daemon.stop().await;
}

#[tokio::test]
async fn an_actor_that_panics_is_replaced_and_what_was_held_stays_held() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let held = acquire(locks, alone("a")).await;
    let mut session = connect(1);
    // Longer than a restart takes on a busy machine.
    let ttl = Duration::from_secs(5);
    let bound = session.with(alone("bound"));
    let bound = acquire(locks, Acquire { ttl, ..bound }).await;
    let waits = spawn(locks, waiting("a"));
    until_waiting(locks, "a", 1).await;
    let wait = Duration::from_millis(1);
    let asking = ask_with_a_panic(|| Box::pin(locks.acquire.ask(Acquire { wait, ..alone("a") })));
    let told = waits.await;
    assert!(told.is_err(), "it is told that nobody answers: {told:?}");
    drop(asking);
    let next = acquire_again(locks, alone("b")).await;
    let restarts = daemon.warden.health();
    let lock = restarts
        .snapshot()
        .into_iter()
        .find(|one| one.name == "lock");
    assert!(lock.is_some_and(|lock| lock.last_exit.is_some() || lock.restarts > 0));
    assert!(next.fence > held.fence);
    assert_eq!(ask(locks, alone("a")).await, Ok(None));
    assert!(release(locks, "a", held.token).await);
    until_renewed(locks, "bound", bound.fence).await;
    assert!(session.lost.try_recv().is_err(), "it lost nothing");
    daemon.stop().await;
}
