//! What one may ask the lock actor.

use super::{LockActor, LockError};
use crate::supervisor::Handle;
use actix::{Addr, Message};
use bytes::Bytes;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Beside whom a lock may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nobody.
    Exclusive,
    /// Others who share it.
    Shared,
    /// A semaphore: all in all at most so many, 1 to [`MAX_PERMITS`].
    Permits(u32),
}

/// A connection that holds locks for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

/// A session, and where it is told what it has lost.
#[derive(Clone, Debug)]
pub struct Session {
    pub id: SessionId,
    /// Told at most as often as there is room; what is not told can be asked for ([`Info`]). Its receiver dropped, the
    /// session has ended.
    pub lost: mpsc::Sender<Lost>,
}

/// A session's lock is not its own any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    pub name: Bytes,
    pub token: Uuid,
    pub fence: i64,
}

/// A lock that was acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Who holds it: only this token extends or releases it.
    pub token: Uuid,
    /// Higher than that of any acquisition before, of any lock.
    pub fence: i64,
    /// How long it is held at least, unless Redis loses it: by this process' clock, from before Redis began to count.
    pub until: Instant,
}

/// Takes a lock, or waits for it. `None`: others hold it, and the wait is over.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Option<Grant>, LockError>")]
pub struct Acquire {
    /// 1 to 512 bytes of UTF-8 without control characters.
    pub name: Bytes,
    pub kind: Kind,
    pub ttl: Duration,
    /// How long to wait for it; zero: not at all.
    pub wait: Duration,
    /// Asked again with the same token, a lock that this token holds is answered the same.
    pub token: Uuid,
    /// Bound to it: renewed while it lives, and released when it ends.
    pub session: Option<Session>,
    /// By which a wait is given up ([`Leave`]).
    pub attempt: Uuid,
}

/// Gives up a wait: nobody is there any more to be told. If the lock was acquired meanwhile, it is released.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    pub attempt: Uuid,
}

/// Holds a lock for `ttl` from now on. Whether it was still the token's.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, LockError>")]
pub struct Extend {
    pub name: Bytes,
    pub token: Uuid,
    pub ttl: Duration,
}

/// Lets a lock go. Whether it was still the token's.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, LockError>")]
pub struct Release {
    pub name: Bytes,
    pub token: Uuid,
}

/// Takes a lock away from whoever holds it. Whether anybody did.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, LockError>")]
pub struct Force {
    pub name: Bytes,
    /// Who wants it, for the audit line.
    pub by: String,
}

/// Whether a session has what it had acquired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    Held,
    Lost,
}

/// What is known of a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockInfo {
    pub name: Bytes,
    /// How many hold it.
    pub held: u64,
    /// The latest fence among them; none while nobody holds it, or it is still being minted.
    pub fence: Option<i64>,
    /// How long it is held at most, if nobody extends it; zero if nobody holds it.
    pub left: Duration,
    /// Daemons of which somebody waits for it; this daemon's waiters are counted one by one.
    pub waiters: u64,
    /// How the session that asks stands; none if it never had this lock.
    pub yours: Option<Standing>,
}

/// Asks for a lock.
#[derive(Debug, Message)]
#[rtype(result = "Result<LockInfo, LockError>")]
pub struct Info {
    pub name: Bytes,
    pub session: Option<SessionId>,
}

/// Asks for all locks that are held, or waited for, and whose names begin with `prefix`; at most 10,000, in the order of
/// their names.
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<LockInfo>, LockError>")]
pub struct List {
    pub prefix: Bytes,
}

/// A session has ended: what it holds is released, and its waits are given up.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct EndSession {
    pub session: SessionId,
}

/// The most holders that a semaphore may have.
pub const MAX_PERMITS: u32 = 1000;
/// The longest that one may wait for a lock.
pub const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Requests that may wait for locks at once; one more is refused.
pub const MAX_WAITERS: usize = 20_000;
/// The most that share a lock; one more waits.
pub const MAX_SHARED: u32 = 1000;
/// What is not waited for: requests in flight.
const MAX_IN_FLIGHT: usize = 20_000;
/// Beyond the wait: what Redis and Postgres may take, which have deadlines of their own.
const DEADLINE: Duration = Duration::from_secs(60);

/// What the actor is called in errors.
pub(super) const NAME: &str = "lock";

/// The handles of the lock actor. Cheap to clone. Who waits takes no room from who releases.
#[derive(Clone, Debug)]
pub struct LockHandle {
    pub acquire: Handle<Acquire>,
    pub leave: Handle<Leave>,
    pub extend: Handle<Extend>,
    pub release: Handle<Release>,
    pub force: Handle<Force>,
    pub info: Handle<Info>,
    pub list: Handle<List>,
    pub end_session: Handle<EndSession>,
}

impl LockHandle {
    /// Handles nobody answers yet.
    pub fn unbound() -> Self {
        Self {
            acquire: Handle::unbound(NAME, MAX_WAITERS + MAX_IN_FLIGHT, MAX_WAIT + DEADLINE),
            leave: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            extend: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            release: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            force: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            info: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            list: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
            end_session: Handle::unbound(NAME, MAX_IN_FLIGHT, DEADLINE),
        }
    }

    pub(super) fn bind_each(&self, address: Option<&Addr<LockActor>>) {
        let Some(address) = address else {
            self.acquire.unbind();
            self.leave.unbind();
            self.extend.unbind();
            self.release.unbind();
            self.force.unbind();
            self.info.unbind();
            self.list.unbind();
            self.end_session.unbind();
            return;
        };
        self.acquire.bind(address.clone().recipient());
        self.leave.bind(address.clone().recipient());
        self.extend.bind(address.clone().recipient());
        self.release.bind(address.clone().recipient());
        self.force.bind(address.clone().recipient());
        self.info.bind(address.clone().recipient());
        self.list.bind(address.clone().recipient());
        self.end_session.bind(address.clone().recipient());
    }

    /// Requests that the actor has taken and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.acquire.in_flight()
            + self.leave.in_flight()
            + self.extend.in_flight()
            + self.release.in_flight()
            + self.force.in_flight()
            + self.info.in_flight()
            + self.list.in_flight()
            + self.end_session.in_flight()
    }
}
