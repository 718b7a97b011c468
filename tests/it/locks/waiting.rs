//! Waiting: woken by the release, in the order of coming, and given up.

use std::time::Duration;

use cachewarden::lock::{Acquire, Kind, Leave};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    LONG, World, acquire, alone, ask, force, info, lock_keys, release, spawn, until_waiting,
    waiting,
};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::monitor::Monitor;
use crate::support::world::{figure, until};

/// Of two daemons by turns, those who wait for one lock.
const WAITERS: u64 = 12;
/// How many places one may be off: daemons tell how long somebody has waited, and what that takes is not told. If a daemon
/// served its own first, it would be five.
const DISPLACED: u64 = 3;

#[tokio::test]
async fn those_who_wait_are_woken_by_the_release_in_the_order_of_the_whole_fleet() {
    let world = World::start().await;
    let (here, there) = (world.daemon().await, world.daemon().await);
    let (here_locks, there_locks) = (here.warden.locks(), there.warden.locks());
    let held = acquire(here_locks, alone("a")).await;
    let (order, mut got) = mpsc::channel(WAITERS as usize);
    // Daemons by turns; each sees as waiting its own, and of the other one whether there is any.
    for place in 0..WAITERS {
        let locks = [here_locks, there_locks][place as usize % 2].clone();
        let order = order.clone();
        let asking = locks.clone();
        tokio::spawn(async move {
            let grant = acquire(&asking, waiting("a")).await;
            order.send((place, grant.fence)).await.unwrap();
            assert!(release(&asking, "a", grant.token).await);
        });
        until_waiting(&locks, "a", place / 2 + 1 + place.min(1)).await;
    }
    let mut monitor = Monitor::start(&world.redis).await;
    assert!(release(here_locks, "a", held.token).await);
    let (mut last, mut came) = (held.fence, Vec::new());
    for place in 0..WAITERS {
        let (who, fence) = got.recv().await.unwrap();
        came.push(who);
        assert!(who.abs_diff(place) <= DISPLACED, "{came:?}");
        assert!(fence > last);
        last = fence;
    }
    for daemon in 0..2 {
        let of_one: Vec<_> = came.iter().filter(|who| **who % 2 == daemon).collect();
        assert!(of_one.is_sorted(), "{came:?}");
    }
    eventually(DEADLINE, async || match info(here_locks, "a").await.held {
        0 => Ok(()),
        held => Err(held),
    })
    .await;
    let told = monitor.commands().await.into_iter();
    let told = told.filter(|command| command.is("publish") && command.names("cachewarden:locks"));
    assert!(told.count() >= 5, "each release told the other daemon");
    // Where nobody else waits, nobody is told.
    let held = acquire(here_locks, alone("b")).await;
    let next = spawn(here_locks, waiting("b"));
    until_waiting(here_locks, "b", 1).await;
    assert!(release(here_locks, "b", held.token).await);
    next.await.unwrap().unwrap().expect("it was released");
    let mut told = monitor.commands().await.into_iter();
    assert!(!told.any(|command| command.is("publish") && command.names("cachewarden:locks")));
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn a_lock_whose_release_nobody_told_is_found_free_by_looking() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    acquire(locks, alone("a")).await;
    let next = spawn(locks, waiting("a"));
    until_waiting(locks, "a", 1).await;
    world
        .raw()
        .await
        .command(&["DEL", "cachewarden:lock:a"])
        .await;
    next.await.unwrap().unwrap().expect("it was removed");
    // And one that expires.
    let ttl = Duration::from_millis(100);
    let short = Acquire { ttl, ..alone("b") };
    acquire(locks, short).await;
    acquire(locks, waiting("b")).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_reader_does_not_overtake_a_writer_who_waits_in_another_daemon() {
    let world = World::start().await;
    let (here, there) = (world.daemon().await, world.daemon().await);
    let (here_locks, there_locks) = (here.warden.locks(), there.warden.locks());
    let shared = Acquire {
        kind: Kind::Shared,
        ..alone("a")
    };
    let reader = acquire(here_locks, shared.clone()).await;
    let writer = spawn(there_locks, waiting("a"));
    until_waiting(here_locks, "a", 1).await;
    let (token, attempt) = (Uuid::new_v4(), Uuid::new_v4());
    let late = Acquire {
        token,
        attempt,
        ..shared.clone()
    };
    assert_eq!(ask(here_locks, late.clone()).await, Ok(None));
    let late = spawn(here_locks, Acquire { wait: LONG, ..late });
    until_waiting(here_locks, "a", 2).await;
    assert!(release(here_locks, "a", reader.token).await);
    let wrote = writer.await.unwrap().unwrap().expect("a lock");
    assert!(!late.is_finished());
    assert!(release(there_locks, "a", wrote.token).await);
    let read = late.await.unwrap().unwrap().expect("a lock");
    assert!(read.fence > wrote.fence);
    // Readers go beside each other, those of other daemons too.
    let token = Uuid::new_v4();
    acquire(there_locks, Acquire { token, ..shared }).await;
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn a_wait_ends_in_time_and_leaves_nothing_behind() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let held = acquire(locks, alone("a")).await;
    let wait = Duration::from_millis(50);
    let brief = Acquire { wait, ..alone("a") };
    assert_eq!(ask(locks, brief).await, Ok(None));
    let mut client = daemon.client().await;
    until(&mut client, "cachewarden_lock_waiters", 0).await;
    assert_eq!(figure(&mut client, "cachewarden_locks_held", "").await, 1);
    let waits = "cachewarden_lock_wait_seconds_count";
    assert_eq!(figure(&mut client, waits, "refused").await, 1);
    let mut raw = world.raw().await;
    eventually(DEADLINE, async || {
        let fields = raw.command(&["HLEN", "cachewarden:lock:a"]).await;
        match fields == crate::support::resp::Value::Int(1) {
            true => Ok(()),
            false => Err(fields),
        }
    })
    .await;
    assert!(release(locks, "a", held.token).await);
    until(&mut client, "cachewarden_locks_held", 0).await;
    assert_eq!(lock_keys(&mut raw).await, []);
    daemon.stop().await;
}

#[tokio::test]
async fn who_leaves_makes_room_for_the_next_and_what_it_got_meanwhile_is_let_go() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let held = acquire(locks, alone("a")).await;
    let asked = waiting("a");
    let first = spawn(locks, asked.clone());
    until_waiting(locks, "a", 1).await;
    let dropped = spawn(locks, waiting("a"));
    until_waiting(locks, "a", 2).await;
    let last = spawn(locks, waiting("a"));
    until_waiting(locks, "a", 3).await;
    let attempt = asked.attempt;
    locks.leave.ask(Leave { attempt }).await.unwrap();
    assert!(first.await.is_err(), "nobody answers it");
    until_waiting(locks, "a", 2).await;
    // Without a word, too.
    dropped.abort();
    until_waiting(locks, "a", 1).await;
    assert!(release(locks, "a", held.token).await);
    let held = last.await.unwrap().unwrap().expect("a lock");
    // What was acquired is let go with its attempt, unless the token asked again.
    assert!(release(locks, "a", held.token).await);
    let (one, two) = (alone("a"), alone("b"));
    for acquired in [&one, &two] {
        acquire(locks, acquired.clone()).await;
    }
    let attempt = Uuid::new_v4();
    acquire(
        locks,
        Acquire {
            attempt,
            ..two.clone()
        },
    )
    .await;
    for attempt in [two.attempt, one.attempt] {
        locks.leave.ask(Leave { attempt }).await.unwrap();
    }
    eventually(DEADLINE, async || match info(locks, "a").await.held {
        0 => Ok(()),
        held => Err(held),
    })
    .await;
    assert_eq!(info(locks, "b").await.held, 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_lock_that_is_taken_away_by_force_goes_to_the_next() {
    let world = World::start().await;
    let (here, there) = (world.daemon().await, world.daemon().await);
    for locks in [here.warden.locks(), there.warden.locks()] {
        let held = acquire(locks, alone("a")).await;
        let next = spawn(here.warden.locks(), waiting("a"));
        until_waiting(here.warden.locks(), "a", 1).await;
        assert!(force(there.warden.locks(), "a").await);
        let next = next.await.unwrap().unwrap().expect("a lock");
        assert!(next.fence > held.fence);
        assert!(!release(locks, "a", held.token).await);
        assert!(release(locks, "a", next.token).await);
    }
    here.stop().await;
    there.stop().await;
}
