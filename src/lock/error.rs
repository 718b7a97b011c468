//! Why a lock has no answer.

use crate::repository::RepositoryError;
use crate::store::StoreError;
use crate::supervisor::AskError;

/// What an error means to whoever asked; the doors match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request is wrong, and will be tomorrow.
    Invalid,
    /// Refused at once, so that nothing is queued without bound; ask again.
    Busy,
    /// Redis or Postgres is needed for this and is away, or the actor is restarting. No lock was taken, or it ends by itself.
    Unavailable,
}

/// Why a request of this room has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// What was asked is out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// It could not be had, after all tries.
    #[error("the lock `{name}` is held by another")]
    HeldByAnother { name: String },
    /// As many wait for locks as may.
    #[error("{limit} requests wait for locks already")]
    TooManyWaiting { limit: usize },
    /// Sessions hold as many locks as they may.
    #[error("sessions hold {limit} locks already")]
    TooManyHeld { limit: usize },
    /// Redis is needed for this.
    #[error("{0}")]
    Store(StoreError),
    /// A lock needs a fencing token, and Postgres mints none.
    #[error("no lock can be had: {0}")]
    Fence(RepositoryError),
    /// There is no `[postgres]` that mints fencing tokens.
    #[error("no fencing token can be had: there is no [postgres]")]
    NoDatabase,
    /// The lock was taken, and lost before its fencing token was there.
    #[error("the lock was lost before its fencing token was minted")]
    LostOnTheWay,
    /// The actor is overloaded, restarting, or late.
    #[error("{0}")]
    Actor(AskError),
}

impl LockError {
    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            LockError::Invalid(_) => Class::Invalid,
            LockError::HeldByAnother { .. }
            | LockError::TooManyWaiting { .. }
            | LockError::TooManyHeld { .. }
            | LockError::Actor(AskError::Overloaded { .. }) => Class::Busy,
            _ => Class::Unavailable,
        }
    }

    /// What somebody can do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            LockError::Invalid(_) => "mend the request",
            LockError::Store(_) => "start Redis, or check [redis] url",
            LockError::Fence(RepositoryError::Fence { is_installed, .. }) => match is_installed {
                false => "run `cachewarden migrate`",
                true => "mend what it names",
            },
            LockError::Fence(_) => "start Postgres, or check [postgres] url",
            LockError::NoDatabase => "declare [postgres]",
            LockError::LostOnTheWay => "ask again, with a longer ttl if Postgres is slow",
            LockError::TooManyHeld { .. } => "release locks that are not needed",
            LockError::HeldByAnother { .. }
            | LockError::TooManyWaiting { .. }
            | LockError::Actor(_) => "ask again",
        }
    }
}
