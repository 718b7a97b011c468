//! Work under a lock: acquired with patience, renewed meanwhile, released however the work ends.

use super::keep::Kept;
use super::messages::{Acquire, Grant, Kind, Leave, LockHandle};
use super::{Class, LockError};
use bytes::Bytes;
use futures_util::FutureExt;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

/// How often a lock is tried for, and how long the pause is in between: jittered by half.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// At least 1.
    pub tries: u32,
    pub pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            tries: 3,
            pause: Duration::from_millis(100),
        }
    }
}

/// A lock that somebody works under.
#[derive(Clone, Debug)]
pub struct Held {
    grant: Grant,
    lost: watch::Receiver<bool>,
}

impl Held {
    /// The fencing token: higher than that of whoever held the lock before. For `SELECT cachewarden.fence('name', fence)`.
    pub fn fence(&self) -> i64 {
        self.grant.fence
    }

    /// Whether somebody else may hold the lock by now.
    pub fn is_lost(&self) -> bool {
        *self.lost.borrow()
    }

    /// Returns once somebody else may hold the lock; never while it is ours.
    pub async fn lost(&self) {
        let mut lost = self.lost.clone();
        if lost.wait_for(|lost| *lost).await.is_err() {
            // Nobody renews it any more: the work is over.
            std::future::pending().await
        }
    }
}

/// How a lock is to be had. Made by `Warden::lock`.
#[derive(Clone, Debug)]
#[must_use = "nothing is locked before `run`"]
pub struct Locking {
    locks: LockHandle,
    name: Bytes,
    ttl: Duration,
    wait: Duration,
    kind: Kind,
    retry: Retry,
}

impl Locking {
    /// The lock `name`, held for `ttl` after the last renewal.
    pub fn new(locks: LockHandle, name: &str, ttl: Duration) -> Self {
        Self {
            locks,
            name: Bytes::copy_from_slice(name.as_bytes()),
            ttl,
            wait: Duration::ZERO,
            kind: Kind::Exclusive,
            retry: Retry::default(),
        }
    }

    /// How long it may take, after its holder dies, until another gets it: what is renewed every third of this time.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Beside whom it may be held.
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// How long each try waits in the queue; zero: not at all.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// How often it is tried for.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// Runs `work` under the lock. It is renewed while the work goes on, and released when that returns, panics or is dropped.
    /// The work is told when the lock is lost, and must then stop by itself: what it still writes, only a fence refuses.
    ///
    /// # Errors
    /// If the lock cannot be had, after all tries. `work` was not called then.
    pub async fn run<T, F, Fut>(self, work: F) -> Result<T, LockError>
    where
        F: FnOnce(Held) -> Fut,
        Fut: Future<Output = T>,
    {
        let grant = self.acquire().await?;
        let guard = Guard::new(self.kept(grant.token), grant.until.into());
        let held = Held {
            grant,
            lost: guard.lost.clone(),
        };
        // A panic is the caller's, and so is the lock's release before it goes on.
        let work = AssertUnwindSafe(async { work(held).await });
        let outcome = work.catch_unwind().await;
        guard.release().await;
        outcome.map_err(|panic| resume_unwind(panic))
    }

    async fn acquire(&self) -> Result<Grant, LockError> {
        // One token for all tries: if only the answer was lost, the lock is ours already.
        let token = Uuid::new_v4();
        let mut tries = self.retry.tries.max(1);
        loop {
            let outcome = match self.try_once(token).await {
                Ok(Some(grant)) => return Ok(grant),
                Ok(None) => LockError::HeldByAnother {
                    name: String::from_utf8_lossy(&self.name).into_owned(),
                },
                Err(error) => error,
            };
            tries -= 1;
            if tries == 0 || outcome.class() == Class::Invalid {
                return Err(outcome);
            }
            sleep(self.retry.pause.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn try_once(&self, token: Uuid) -> Result<Option<Grant>, LockError> {
        let acquire = Acquire {
            name: self.name.clone(),
            kind: self.kind,
            ttl: self.ttl,
            wait: self.wait,
            token,
            session: None,
            attempt: Uuid::new_v4(),
        };
        let mut waiting = Waiting {
            locks: &self.locks,
            attempt: Some(acquire.attempt),
        };
        let answer = self.locks.acquire.ask(acquire).await;
        waiting.attempt = None;
        answer.map_err(LockError::Actor)?
    }

    fn kept(&self, token: Uuid) -> Kept {
        Kept {
            locks: self.locks.clone(),
            name: self.name.clone(),
            token,
            ttl: self.ttl,
        }
    }
}

/// Gives up the place in the queue when nobody waits any more.
struct Waiting<'a> {
    locks: &'a LockHandle,
    /// None once it is answered.
    attempt: Option<Uuid>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let (Some(attempt), Ok(_runtime)) = (self.attempt, Handle::try_current()) {
            let _ends_by_itself = self.locks.leave.tell(Leave { attempt });
        }
    }
}

/// Renews a lock in a task of its own, for the work may keep its own from being polled; releases it when dropped.
struct Guard {
    kept: Option<Kept>,
    lost: watch::Receiver<bool>,
    renewing: JoinHandle<()>,
}

impl Guard {
    fn new(kept: Kept, until: Instant) -> Self {
        let (tell, lost) = watch::channel(false);
        let renewed = kept.clone();
        let renewing = tokio::spawn(async move {
            renewed.until_lost(until).await;
            tell.send_replace(true);
            // Who asks later is to find it lost, and not that nobody knows.
            tell.closed().await;
        });
        Self {
            kept: Some(kept),
            lost,
            renewing,
        }
    }

    async fn release(mut self) {
        self.renewing.abort();
        if let Some(kept) = self.kept.take() {
            kept.release().await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.renewing.abort();
        if let Some(kept) = self.kept.take() {
            kept.release_later();
        }
    }
}
