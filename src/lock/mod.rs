//! Keeps true that a lock is held by one at a time, and that who held it before can be told from who holds it now.
//!
//! See [`messages`] for what one may ask.

mod error;
mod guarded;
mod keep;
mod leader;
mod messages;

pub use error::{Class, LockError};
pub use guarded::{Held, Locking, Retry};
pub use leader::Leader;
pub use messages::{
    Acquire, EndSession, Extend, Force, Grant, Info, Kind, Leave, List, LockHandle, LockInfo, Lost,
    MAX_PERMITS, MAX_WAIT, MAX_WAITERS, Release, Session, SessionId, Standing,
};
