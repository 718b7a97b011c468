//! Leader election: of all who campaign for a name, one leads at a time, and the next one leads when it is gone.
//!
//! A leader is who holds the lock of that name, so all that is true of locks is true here: who was paused for longer than the
//! lock's life may believe to lead for a moment after another does, and its fence tells which of them came later.

use super::keep::Kept;
use super::messages::{Acquire, Grant, Kind, Leave, LockHandle};
use bytes::Bytes;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use uuid::Uuid;

/// The longest wait in one turn of a campaign.
const WAIT: Duration = Duration::from_secs(60);
/// The pause after a turn in which nobody could say who leads: jittered by half.
const PAUSE: Duration = Duration::from_secs(1);

/// A campaign, and whether it leads. Dropped, it resigns.
#[derive(Debug)]
pub struct Leader {
    fence: watch::Receiver<Option<i64>>,
    campaign: JoinHandle<()>,
}

impl Leader {
    /// Campaigns for `name` from now on; who dies is followed by another after `ttl`.
    pub fn campaign(locks: LockHandle, name: &str, ttl: Duration) -> Self {
        let name = Bytes::copy_from_slice(name.as_bytes());
        let (tell, fence) = watch::channel(None);
        let campaign = tokio::spawn(async move {
            loop {
                let mut turn = Turn::new(&locks, &name, ttl);
                match turn.win().await {
                    Some(grant) => {
                        tell.send_replace(Some(grant.fence));
                        turn.kept.until_lost(grant.until.into()).await;
                        tell.send_replace(None);
                    }
                    None => sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await,
                }
            }
        });
        Self { fence, campaign }
    }

    /// The fencing token of the term, while it leads.
    pub fn fence(&self) -> Option<i64> {
        *self.fence.borrow()
    }

    /// Waits until it leads; the term's fencing token.
    pub async fn elected(&self) -> i64 {
        let mut fence = self.fence.clone();
        match fence.wait_for(Option::is_some).await.map(|fence| *fence) {
            Ok(Some(fence)) => fence,
            // The runtime has dropped the campaign: nobody will be elected.
            _ => std::future::pending().await,
        }
    }

    /// Waits until it does not lead (any more).
    pub async fn deposed(&self) {
        let mut fence = self.fence.clone();
        let _or_gone = fence.wait_for(Option::is_none).await;
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        // What its turn holds, or waits for, is let go with it.
        self.campaign.abort();
    }
}

/// One try to lead.
struct Turn {
    kept: Kept,
    /// None while nothing is asked for.
    attempt: Option<Uuid>,
}

impl Turn {
    fn new(locks: &LockHandle, name: &Bytes, ttl: Duration) -> Self {
        let kept = Kept {
            locks: locks.clone(),
            name: name.clone(),
            token: Uuid::new_v4(),
            ttl,
        };
        Self {
            kept,
            attempt: None,
        }
    }

    /// Waits for the lock; `None`: another still leads, or nobody knows.
    async fn win(&mut self) -> Option<Grant> {
        let acquire = Acquire {
            name: self.kept.name.clone(),
            kind: Kind::Exclusive,
            ttl: self.kept.ttl,
            wait: WAIT,
            token: self.kept.token,
            session: None,
            attempt: Uuid::new_v4(),
        };
        self.attempt = Some(acquire.attempt);
        let answer = self.kept.locks.acquire.ask(acquire).await;
        self.attempt = None;
        match answer {
            Ok(Ok(grant)) => grant,
            Ok(Err(error)) => {
                tracing::debug!(%error, "nobody can be elected");
                None
            }
            Err(error) => {
                tracing::debug!(%error, "nobody can be elected");
                None
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        match self.attempt {
            Some(attempt) if Handle::try_current().is_ok() => {
                let _ends_by_itself = self.kept.locks.leave.tell(Leave { attempt });
            }
            _ => self.kept.release_later(),
        }
    }
}
