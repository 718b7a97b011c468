//! Before a connection is used, somebody vouches for the server it leads to: which one that is, and what lies in it, is
//! more than this room can judge.
//!
//! 1. A connection asks its server who it is, on itself: of two that are opened at once, one may lead to the old server and
//!    one to the new.
//! 2. It is used once its outage and that server were vouched for. Until then Redis is away, for all that ask.
//! 3. An outage ends what was vouched for: the same server is met again like any other.

use super::connection::{Current, PROBE_EVERY};
use super::pinned::identity_of;
use super::{Identity, Store, StoreError};
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::watch;

/// What the siblings share.
pub(super) struct Gate {
    is_guarded: AtomicBool,
    vouched: watch::Sender<Option<Vouched>>,
    /// Counts how often a connection asked.
    asked: watch::Sender<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Vouched {
    outage: u64,
    identity: Identity,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            is_guarded: AtomicBool::new(false),
            vouched: watch::Sender::new(None),
            asked: watch::Sender::new(0),
        }
    }
}

impl Gate {
    fn admits(&self, outage: u64, identity: &Identity) -> bool {
        let vouched = self.vouched.borrow();
        vouched.as_ref().is_some_and(|vouched| {
            vouched.outage == outage && identity.continues(&vouched.identity)
        })
    }
}

/// Who vouches for servers.
#[derive(Clone)]
pub struct Guard {
    store: Store,
    asked: watch::Receiver<u64>,
}

impl Store {
    /// From now on no connection of the siblings is used unless its server was vouched for. To be called before any is kept.
    pub fn guard(&self) -> Guard {
        let gate = self.gate();
        gate.is_guarded.store(true, Ordering::Release);
        Guard {
            store: self.clone(),
            asked: gate.asked.subscribe(),
        }
    }

    /// Waits until somebody vouches for the server of a new connection; gives the connection back then.
    pub(super) async fn vouched_for(
        &self,
        current: Current,
        outages: &mut watch::Receiver<u64>,
    ) -> Result<Current, StoreError> {
        let gate = self.gate();
        if !gate.is_guarded.load(Ordering::Acquire) {
            return Ok(current);
        }
        let mut vouched = gate.vouched.subscribe();
        loop {
            let identity = identity_of(&current.connection, self.timeout()).await?;
            vouched.mark_unchanged();
            if gate.admits(current.outage, &identity) {
                return Ok(current);
            }
            gate.asked.send_modify(|asked| *asked += 1);
            tokio::select! {
                _ = vouched.changed() => {}
                // Condemned: what it leads to is asked anew.
                _ = outages.changed() => return Err(StoreError::Lost),
                () = tokio::time::sleep(PROBE_EVERY) => {}
            }
        }
    }
}

impl Guard {
    /// Returns when a connection waits that nobody has vouched for. May be dropped at any time.
    pub async fn asked(&mut self) {
        // The store holds the other end.
        let _open = self.asked.changed().await;
    }

    /// Has [`asked`](Self::asked) return once more.
    pub fn ask_again(&mut self) {
        self.asked.mark_changed();
    }

    /// The outage of now. To be read before the server is met that is vouched for.
    pub fn outage(&self) -> u64 {
        self.store.outage()
    }

    /// Whether this server was vouched for since that outage.
    pub fn admits(&self, outage: u64, identity: &Identity) -> bool {
        self.store.gate().admits(outage, identity)
    }

    /// Lets the connections to this server be used that were made since that outage.
    pub fn vouch(&self, outage: u64, identity: Identity) {
        let vouched = Some(Vouched { outage, identity });
        self.store.gate().vouched.send_replace(vouched);
    }

    /// The server that may be used now.
    pub fn vouched(&self) -> Option<Identity> {
        let outage = self.outage();
        let vouched = self.store.gate().vouched.borrow();
        let current = vouched.as_ref().filter(|vouched| vouched.outage == outage);
        current.map(|vouched| vouched.identity.clone())
    }

    /// Ends all connections: the server is no more what it was.
    pub fn condemn(&self) {
        self.store.trip(self.outage());
    }
}
