//! What comes back to the lock actor from the local tasks that wait for it.

use super::LockError;
use super::held::{Holder, Renewal};
use super::messages::{LockInfo, SessionId};
use super::queue::{Ticket, Try};
use super::scripts::{Extended, Letting, Look, Taken};
use crate::repository::RepositoryError;
use crate::store::StoreError;
use crate::supervisor::Promise;
use bytes::Bytes;
use std::time::{Duration, Instant};

/// A try under way.
#[derive(Debug)]
pub(super) struct Trying {
    pub(super) tried: Try,
    pub(super) ttl: Duration,
    pub(super) letting: Letting,
    pub(super) asker: u64,
}

/// A lock that was taken, and has no fence yet.
#[derive(Debug)]
pub(super) struct Passage {
    pub(super) ticket: Ticket,
    pub(super) letting: Letting,
    pub(super) ttl: Duration,
    /// Who took it, and the fence that was minted for that.
    pub(super) birth: u64,
    pub(super) fence: i64,
}

/// A lock that is to be extended.
pub(super) enum Extending {
    Asked {
        holder: Holder,
        ttl: Duration,
        promise: Promise<Result<bool, LockError>>,
    },
    Renewed(Renewal),
}

/// A lock that is to be let go; somebody may wait for that.
pub(super) struct Releasing {
    pub(super) letting: Letting,
    pub(super) promise: Option<Promise<Result<bool, LockError>>>,
}

/// Who wants to know what locks look like.
pub(super) enum Curious {
    One {
        session: Option<SessionId>,
        promise: Promise<Result<LockInfo, LockError>>,
    },
    Many(Promise<Result<Vec<LockInfo>, LockError>>),
}

/// Something came back.
pub(super) enum Event {
    Taken {
        out: Vec<Trying>,
        sent: Instant,
        answer: Result<Vec<Taken>, StoreError>,
    },
    Minted {
        out: Vec<Passage>,
        answer: Result<Vec<i64>, RepositoryError>,
    },
    Confirmed {
        out: Vec<Passage>,
        sent: Instant,
        answer: Result<Vec<Extended>, StoreError>,
    },
    Extended {
        out: Vec<Extending>,
        sent: Instant,
        answer: Result<Vec<Extended>, StoreError>,
    },
    Released {
        out: Vec<Releasing>,
        answer: Result<Vec<bool>, StoreError>,
    },
    /// Marks were taken away, or could not be.
    Left,
    /// Somebody has taken a lock away from its holders.
    Forced { name: Bytes },
    Seen {
        answer: Result<Vec<(Bytes, Look)>, StoreError>,
        curious: Curious,
    },
}
