//! Locks that are held by a connection, for as long as it lives.

use std::time::Duration;

use cachewarden::lock::{
    Acquire, EndSession, Info, Leave, LockError, LockHandle, Lost, Session, SessionId, Standing,
};
use cachewarden::supervisor::AskError;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    LONG, World, acquire, alone, extend, force, info, name, spawn, until_waiting, waiting,
};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;

/// Renewed several times while a test runs.
const TTL: Duration = Duration::from_millis(900);

pub struct Connected {
    session: Session,
    pub lost: mpsc::Receiver<Lost>,
}

pub fn connect(id: u64) -> Connected {
    let (sender, lost) = mpsc::channel(8);
    let id = SessionId(id);
    let session = Session { id, lost: sender };
    Connected { session, lost }
}

impl Connected {
    pub fn with(&self, acquire: Acquire) -> Acquire {
        Acquire {
            session: Some(self.session.clone()),
            ttl: TTL,
            ..acquire
        }
    }

    async fn standing(&self, locks: &LockHandle, lock: &str) -> Option<Standing> {
        let (name, session) = (name(lock), Some(self.session.id));
        let told = locks.info.ask(Info { name, session }).await;
        told.unwrap().unwrap().yours
    }
}

/// Waits until a lock was renewed a few times.
pub async fn until_renewed(locks: &LockHandle, lock: &str, fence: i64) {
    for _ in 0..6 {
        let mut before = info(locks, lock).await.left;
        // It falls all the time, and grows only by a renewal.
        eventually(DEADLINE, async || {
            let told = info(locks, lock).await;
            assert_eq!(told.fence, Some(fence));
            match std::mem::replace(&mut before, told.left) {
                before if before < told.left => Ok(()),
                before => Err(before),
            }
        })
        .await;
    }
}

async fn until_free(locks: &LockHandle, lock: &str) {
    eventually(DEADLINE, async || match info(locks, lock).await {
        told if told.held == 0 => Ok(()),
        told => Err(told),
    })
    .await;
}

#[tokio::test]
async fn what_a_session_holds_is_renewed_until_it_ends() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let mut one = connect(1);
    let grant = acquire(locks, one.with(alone("a"))).await;
    until_renewed(locks, "a", grant.fence).await;
    assert_eq!(one.standing(locks, "a").await, Some(Standing::Held));
    assert_eq!(connect(2).standing(locks, "a").await, None);
    let asked = one.with(alone("b"));
    acquire(locks, Acquire { ttl: LONG, ..asked }).await;
    let waits = spawn(locks, one.with(waiting("a")));
    until_waiting(locks, "a", 1).await;
    let session = one.session.id;
    locks.end_session.ask(EndSession { session }).await.unwrap();
    until_free(locks, "a").await;
    until_free(locks, "b").await;
    assert!(waits.await.is_err(), "nobody answers it");
    assert!(one.lost.try_recv().is_err(), "it lost nothing");
    daemon.stop().await;
}

/// One token may be answered to several: whoever goes, the lock is held for the others, and for as long as they were told.
#[tokio::test]
async fn a_lock_that_was_answered_to_several_lasts_until_the_last_of_them_is_gone() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let (one, two) = (connect(1), connect(2));
    let asked = Acquire {
        ttl: TTL,
        ..alone("a")
    };
    let again = || Acquire {
        attempt: Uuid::new_v4(),
        ..asked.clone()
    };
    let leave = async |attempt| locks.leave.ask(Leave { attempt }).await.unwrap();
    let end = async |session| locks.end_session.ask(EndSession { session }).await.unwrap();
    let grant = acquire(locks, one.with(again())).await;
    for repeat in [again(), two.with(again())] {
        let attempt = repeat.attempt;
        assert_eq!(acquire(locks, repeat).await.fence, grant.fence);
        leave(attempt).await;
        until_renewed(locks, "a", grant.fence).await;
    }
    for other in [one.with(again()), two.with(again()), two.with(again())] {
        acquire(locks, other).await;
    }
    end(two.session.id).await;
    until_renewed(locks, "a", grant.fence).await;
    assert_eq!(two.standing(locks, "a").await, None);
    assert_eq!(one.standing(locks, "a").await, Some(Standing::Held));
    let there = world.daemon().await;
    let last = two.with(again());
    acquire(there.warden.locks(), last).await;
    end(one.session.id).await;
    until_renewed(there.warden.locks(), "a", grant.fence).await;
    let session = two.session.id;
    let end_there = &there.warden.locks().end_session;
    end_there.ask(EndSession { session }).await.unwrap();
    until_free(locks, "a").await;
    daemon.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn a_session_that_asks_again_and_again_lets_go_once_it_ends() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let one = connect(1);
    let asked = Acquire {
        ttl: LONG,
        ..one.with(alone("a"))
    };
    // More often than Redis counts those who were told.
    for _ in 0..40 {
        let attempt = Uuid::new_v4();
        let again = Acquire {
            attempt,
            ..asked.clone()
        };
        acquire(locks, again).await;
    }
    let session = one.session.id;
    locks.end_session.ask(EndSession { session }).await.unwrap();
    until_free(locks, "a").await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_session_whose_end_nobody_was_told_of_lets_go_as_well() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let one = connect(1);
    let grant = acquire(locks, one.with(alone("a"))).await;
    until_renewed(locks, "a", grant.fence).await;
    // As if the actor had been restarting just then, or the connection had panicked.
    drop(one);
    until_free(locks, "a").await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_session_is_told_once_what_was_taken_away_from_it() {
    let world = World::start().await;
    let (here, there) = (world.daemon().await, world.daemon().await);
    let locks = here.warden.locks();
    let mut one = connect(1);
    let grant = acquire(locks, one.with(alone("a"))).await;
    let asked = one.with(alone("b"));
    let other = acquire(locks, Acquire { ttl: LONG, ..asked }).await;
    assert!(force(there.warden.locks(), "a").await);
    let lost = one.lost.recv().await.unwrap();
    let (token, fence) = (grant.token, grant.fence);
    let name = name("a");
    assert_eq!(lost, Lost { name, token, fence });
    assert_eq!(one.standing(locks, "a").await, Some(Standing::Lost));
    assert_eq!(one.standing(locks, "b").await, Some(Standing::Held));
    assert!(!extend(locks, "a", token, TTL).await);
    // By its own asking, long before a renewal would find out.
    assert!(force(there.warden.locks(), "b").await);
    extend(locks, "b", other.token, TTL).await;
    assert_eq!(one.lost.recv().await.unwrap().token, other.token);
    assert!(one.lost.try_recv().is_err(), "told once");
    here.stop().await;
    there.stop().await;
}

#[tokio::test]
async fn a_session_is_told_of_a_lock_that_nobody_could_renew() {
    let mut world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let mut one = connect(1);
    let grant = acquire(locks, one.with(alone("a"))).await;
    world.redis.kill().unwrap();
    assert_eq!(one.lost.recv().await.unwrap().token, grant.token);
    world.redis.start_again().unwrap();
    let next = eventually(DEADLINE, async || {
        match super::ask(locks, alone("a")).await {
            Ok(Some(grant)) => Ok(grant),
            other => Err(other),
        }
    })
    .await;
    assert!(next.fence > grant.fence);
    daemon.stop().await;
}

#[tokio::test]
async fn a_stop_lets_go_of_what_sessions_hold_and_tells_who_waits() {
    let world = World::start().await;
    let (here, there) = (world.daemon().await, world.daemon().await);
    let locks = here.warden.locks();
    let one = connect(1);
    let asked = one.with(alone("a"));
    acquire(locks, Acquire { ttl: LONG, ..asked }).await;
    acquire(locks, alone("b")).await;
    let waits = spawn(locks, waiting("b"));
    until_waiting(there.warden.locks(), "b", 1).await;
    here.stop().await;
    let told = waits.await.unwrap();
    assert!(
        matches!(told, Err(LockError::Actor(AskError::Unavailable { .. }))),
        "{told:?}"
    );
    assert_eq!(info(there.warden.locks(), "a").await.held, 0);
    let told = info(there.warden.locks(), "b").await;
    assert_eq!((told.held, told.waiters), (1, 0), "its mark is gone, too");
    there.stop().await;
}
