//! Keeps a lock while somebody works under it: renews it in time, and says so when it is lost.
//!
//! What counts is our own clock from the moment a request was sent: Redis begins to count later, so it lets go later. A renewal
//! that is not acknowledged before the time is up is as bad as one that is refused, for somebody else may hold the lock by then.

use super::messages::{Extend, LockHandle, Release};
use bytes::Bytes;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::time::{Instant, sleep_until, timeout_at};
use uuid::Uuid;

/// Renewals in a life: two may fail before it is over.
const RENEWALS: u32 = 3;
/// The part of a life after which one that failed is tried again.
const AGAIN: u32 = 10;
/// The part of a life that is given up, so that whoever is told stops before the time is up.
const MARGIN: u32 = 10;

/// A lock that is asked for, or was acquired.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) locks: LockHandle,
    pub(super) name: Bytes,
    pub(super) token: Uuid,
    pub(super) ttl: Duration,
}

impl Kept {
    /// Lets it go. Whoever is refused, or finds nobody who answers, has nothing left to do: it ends by itself.
    pub(super) async fn release(&self) {
        let _ends_by_itself = self.locks.release.ask(self.releasing()).await;
    }

    /// The same, without waiting: for what is dropped.
    pub(super) fn release_later(&self) {
        // Where there is no runtime any more, nobody could send it.
        if Handle::try_current().is_ok() {
            let _ends_by_itself = self.locks.release.tell(self.releasing());
        }
    }

    fn releasing(&self) -> Release {
        Release {
            name: self.name.clone(),
            token: self.token,
        }
    }

    /// Renews it until it is lost; `until`: how long it is ours without that.
    pub(super) async fn until_lost(&self, until: Instant) {
        let mut end = until - self.ttl / MARGIN;
        let mut next = Instant::now() + self.ttl / RENEWALS;
        loop {
            sleep_until(next.min(end)).await;
            let sent = Instant::now();
            if sent >= end {
                return;
            }
            let extend = self.locks.extend.ask(Extend {
                name: self.name.clone(),
                token: self.token,
                ttl: self.ttl,
            });
            match timeout_at(end, extend).await {
                Ok(Ok(Ok(true))) => {
                    end = sent + self.ttl - self.ttl / MARGIN;
                    next = sent + self.ttl / RENEWALS;
                }
                Ok(Ok(Ok(false))) | Err(_) => return,
                // Redis is away, or the actor restarts: for the time that is left it may come back.
                Ok(Ok(Err(_)) | Err(_)) => next = sent + self.ttl / AGAIN,
            }
        }
    }
}
