//! Why an invalidation has no answer.

use crate::cache::CacheError;
use crate::store::StoreError;
use crate::supervisor::AskError;

/// Why a request of this room has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidationError {
    /// The keys named could not be invalidated; patterns named with them wait for their sweep all the same.
    #[error("{0}")]
    Keys(CacheError),
    /// Redis is needed for this.
    #[error("{0}")]
    Store(StoreError),
    /// The actor is overloaded, restarting, or late.
    #[error("{0}")]
    Actor(AskError),
    /// Somebody gave the sweep up: what it has not removed stays.
    #[error("the sweep was cancelled")]
    Cancelled,
    /// The daemon stops with the sweep under way.
    #[error("the daemon stops before the sweep is done")]
    Stopped,
}

impl InvalidationError {
    /// The same in the words of the cache room, which doors match on.
    pub fn into_cache(self) -> CacheError {
        match self {
            InvalidationError::Keys(error) => error,
            InvalidationError::Store(error) => CacheError::Store(error),
            InvalidationError::Actor(error) => CacheError::Actor(error),
            InvalidationError::Cancelled => CacheError::Cancelled,
            InvalidationError::Stopped => CacheError::Restarted,
        }
    }
}
