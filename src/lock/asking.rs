//! An acquisition under way: what is asked for, by whom, and until when.

use super::LockError;
use super::messages::{Acquire, Grant};
use crate::supervisor::Promise;
use std::time::Instant;

/// Who is told what became of an acquisition.
pub(super) type Asker = Promise<Result<Option<Grant>, LockError>>;

/// An acquisition under way.
pub(super) struct Asking {
    pub(super) acquire: Acquire,
    pub(super) promise: Asker,
    pub(super) since: Instant,
}

impl Asking {
    /// Until when it waits; none: it does not.
    pub(super) fn until(&self) -> Option<Instant> {
        let waits = !self.acquire.wait.is_zero();
        waits.then(|| self.since + self.acquire.wait)
    }

    /// What becomes of one that is still on its way at this time: its wait, or all of the lock's life, is over.
    pub(super) fn overdue(&self, now: Instant) -> Option<Result<Option<Grant>, LockError>> {
        let (end, answer) = match self.until() {
            Some(until) => (until, Ok(None)),
            None => (self.since + self.acquire.ttl, Err(LockError::LostOnTheWay)),
        };
        (end <= now).then_some(answer)
    }
}
