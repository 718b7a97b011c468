//! Why a run could not be made, or not be ended.

use crate::lock::LockError;
use crate::repository::{LoadError, RepositoryError};
use crate::store::StoreError;
use std::time::Duration;

/// Why a run could not be made, or not be ended. What was loaded before stays cached.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WarmError {
    /// Redis did not answer.
    #[error("redis does not answer: {0}")]
    Redis(#[from] StoreError),
    /// Postgres did not give the keys.
    #[error("{0}")]
    Keys(#[from] RepositoryError),
    /// One batch after the other failed as a whole.
    #[error(
        "given up after {batches} batches in {took:?} of which no key was loaded, the last because {last}"
    )]
    InVain {
        batches: u32,
        took: Duration,
        last: LoadError,
    },
    /// Another daemon is at it.
    #[error("another daemon is warming `{cache}`; ask again when it is done")]
    Elsewhere { cache: String },
    /// The lock could not be had.
    #[error("who warms `{cache}` cannot be decided: {source}")]
    Lock { cache: String, source: LockError },
    /// Redis, or a pause, has taken the lock away, and another daemon may go on.
    #[error("the lock of `{cache}` was lost on the way")]
    LockLost { cache: String },
    /// The daemon stops, or its actor was restarted.
    #[error(
        "the run of `{cache}` was broken off: the daemon is stopping, or its warmup begins anew"
    )]
    BrokenOff { cache: String },
    /// No cache of this name is warmed.
    #[error("`{name}` is no cache with a [caches.{name}.warm] section")]
    Unknown { name: String },
}
