//! Keeps true that a lock is held by one at a time, and that who held it before can be told from who holds it now.
//!
//! 1. A lock is held by a token. Only who has the token extends or releases it, in one script each; one that has expired is
//!    never revived. Asked for again with the same token, it is answered the same: a lost reply does no harm, nor does a repeat
//!    that nobody waits for any more.
//! 2. Every acquisition has a fencing token, higher than those of all before: from Postgres, after the lock was taken in
//!    Redis, which may lose everything. Without one there is no lock.
//! 3. Who waits is served in the order in which it came: in its daemon by a line a lock (`queue`), among daemons by the age of
//!    the oldest of each, which stands in Redis beside the lock.
//! 4. Who waits is woken by the release. A message that is lost costs a second, no more.
//! 5. What a session holds is renewed, and it is told once when it is lost: when Redis says so, or when no renewal was
//!    acknowledged before the lock's end by our own clock (`held`).
//! 6. Who is gone holds nothing: its waits are given up, and what was acquired for it meanwhile is let go. Of a token that was
//!    answered to several, the last to go lets go.
//! 7. Every key expires with the last deadline in it.
//!
//! ```text
//!  Acquire ─▶ line ─▶ take ─refused─▶ waits ◀── released · heard · a second · the holder's end
//!                      └─taken─▶ mint (Postgres) ─▶ confirm ─▶ Grant ─▶ held: renewed, or lost
//!                                    └─fails─▶ let go   └─not ours any more─▶ line, or LostOnTheWay
//! ```
//!
//! Faults survived, each with a test in `tests/it/locks/`: a reply that is lost, a waiter that goes away, an actor that panics, a
//! daemon that is frozen, a Redis that is restarted empty, a Postgres that is killed or frozen.

mod actor;
mod asking;
mod bounds;
mod calls;
mod engine;
mod error;
mod events;
mod gather;
mod guarded;
mod held;
mod keep;
mod leader;
mod listener;
mod messages;
mod queue;
mod scripts;
mod told;

pub use actor::{LockActor, LockParts};
pub use error::{Class, LockError};
pub use guarded::{Held, Locking, Retry};
pub use leader::Leader;
pub use messages::{
    Acquire, EndSession, Extend, Force, Grant, Info, Kind, Leave, List, LockHandle, LockInfo, Lost,
    MAX_PERMITS, MAX_SHARED, MAX_WAIT, MAX_WAITERS, Release, Session, SessionId, Standing,
};
pub use scripts::{
    Extended, Extension, Fence, Letting, Locks, Look, MAX_BATCH, Scripts, Take, Taken,
};
