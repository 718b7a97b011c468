//! Locks: held by one at a time, told apart by fences that only rise, whatever happens to whom.

mod basics;
mod crowd;
mod expected;
mod faults;
mod model;
mod sessions;
mod waiting;

use std::time::Duration;

use bytes::Bytes;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::lock::{
    Acquire, Extend, Force, Grant, Info, Kind, LockError, LockHandle, LockInfo, Release,
};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::raw;

/// What nothing watched needs is installed for locks alone.
const LOCKS: &str = "[locks]\n";

/// Long enough that no test sees it pass.
const LONG: Duration = Duration::from_secs(600);

/// A database that mints fences, and a Redis.
struct World {
    watched: Watched,
    redis: Redis,
}

impl World {
    async fn start() -> Self {
        Self {
            watched: Watched::start("CREATE TABLE t (id int)", LOCKS).await,
            redis: redis(),
        }
    }

    fn config(&self) -> String {
        config(self.watched.database.url(), &self.redis.redis_url(), LOCKS)
    }

    async fn daemon(&self) -> InProcess {
        InProcess::start(&self.config()).await
    }

    async fn raw(&self) -> Client {
        raw(&self.redis).await
    }
}

/// A name as messages carry it.
fn name(name: &str) -> Bytes {
    Bytes::copy_from_slice(name.as_bytes())
}

/// What is asked where nothing else is said: alone, for long, without waiting.
fn alone(lock: &str) -> Acquire {
    Acquire {
        name: name(lock),
        kind: Kind::Exclusive,
        ttl: LONG,
        wait: Duration::ZERO,
        token: Uuid::new_v4(),
        session: None,
        attempt: Uuid::new_v4(),
    }
}

/// The same, waiting until the test has failed.
fn waiting(lock: &str) -> Acquire {
    let wait = 10 * DEADLINE;
    Acquire {
        wait,
        ..alone(lock)
    }
}

async fn ask(locks: &LockHandle, acquire: Acquire) -> Result<Option<Grant>, LockError> {
    locks.acquire.ask(acquire).await.unwrap()
}

/// Acquires what can be had.
async fn acquire(locks: &LockHandle, acquire: Acquire) -> Grant {
    let answer = ask(locks, acquire).await;
    answer.unwrap().expect("nobody holds it")
}

async fn release(locks: &LockHandle, lock: &str, token: Uuid) -> bool {
    let name = name(lock);
    let answer = locks.release.ask(Release { name, token }).await;
    answer.unwrap().unwrap()
}

async fn extend(locks: &LockHandle, lock: &str, token: Uuid, ttl: Duration) -> bool {
    let name = name(lock);
    let answer = locks.extend.ask(Extend { name, token, ttl }).await;
    answer.unwrap().unwrap()
}

async fn force(locks: &LockHandle, lock: &str) -> bool {
    let (name, by) = (name(lock), "a test".to_owned());
    locks.force.ask(Force { name, by }).await.unwrap().unwrap()
}

async fn info(locks: &LockHandle, lock: &str) -> LockInfo {
    let (name, session) = (name(lock), None);
    let answer = locks.info.ask(Info { name, session }).await;
    answer.unwrap().unwrap()
}

/// Acquires in a task of its own.
fn spawn(locks: &LockHandle, acquire: Acquire) -> JoinHandle<Result<Option<Grant>, LockError>> {
    let locks = locks.clone();
    tokio::spawn(async move { ask(&locks, acquire).await })
}

/// Waits until so many are seen to wait for a lock.
async fn until_waiting(locks: &LockHandle, lock: &str, wanted: u64) {
    eventually(DEADLINE, async || match info(locks, lock).await.waiters {
        seen if seen == wanted => Ok(()),
        seen => Err(seen),
    })
    .await;
}

/// The keys of locks that never expire, and those there are.
async fn lock_keys(raw: &mut Client) -> Vec<(String, i64)> {
    let keys = raw.command(&["KEYS", "cachewarden:lock*"]).await;
    let Value::Array(keys) = keys else {
        panic!("KEYS gave no array")
    };
    let mut lives = Vec::new();
    for key in keys {
        let Value::Int(life) = raw.command(&["PTTL", key.text()]).await else {
            panic!("PTTL gave no number")
        };
        lives.push((key.text().to_owned(), life));
    }
    lives
}
