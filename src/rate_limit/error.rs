//! Why a limit has no answer.

use crate::store::StoreError;
use crate::supervisor::AskError;

/// What an error means to whoever asked; the doors match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The request is wrong, and will be tomorrow.
    Invalid,
    /// Refused at once, so that nothing is queued without bound; ask again.
    Busy,
    /// Redis is needed for this and is away, or the actor is restarting.
    Unavailable,
}

/// Why a request of this room has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// No limit has this name.
    #[error("no limit `{name}` is declared")]
    Undeclared { name: String },
    /// What was asked makes no sense for this limit, or is out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// Redis is needed for this.
    #[error("{0}")]
    Store(StoreError),
    /// The actor is overloaded, restarting, or late.
    #[error("{0}")]
    Actor(AskError),
}

impl LimitError {
    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            LimitError::Undeclared { .. } | LimitError::Invalid(_) => Class::Invalid,
            LimitError::Actor(AskError::Overloaded { .. }) => Class::Busy,
            LimitError::Store(_) | LimitError::Actor(_) => Class::Unavailable,
        }
    }

    /// What somebody can do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            LimitError::Undeclared { .. } => "declare it as [limits.NAME]",
            LimitError::Invalid(_) => "mend the request",
            LimitError::Store(_) => "start Redis, or check [redis] url",
            LimitError::Actor(_) => "ask again",
        }
    }
}
