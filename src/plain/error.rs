//! Why a command on plain keys has no answer of Redis.

use crate::keyspace::PatternError;
use crate::store::StoreError;
use crate::supervisor::AskError;

/// What an error means to whoever asked; the doors match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The command is wrong, and will be tomorrow.
    Invalid,
    /// The pattern of a `SCAN` is.
    BadPattern,
    /// Refused at once, so that nothing is queued without bound; ask again.
    Busy,
    /// Redis is away, or the actor is restarting.
    Unavailable,
}

/// Why a command has no answer of Redis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlainError {
    /// What Redis itself would say.
    #[error("syntax error")]
    Syntax,
    /// No passthrough declares it.
    #[error("no passthrough is declared for a key of this command")]
    Undeclared,
    /// `SCAN` of more than plain keys.
    #[error("SCAN is for plain keys only: write MATCH with a pattern that begins with {known}")]
    Unbounded { known: String },
    /// `SCAN` with a pattern that is none, or leads beyond plain keys.
    #[error(transparent)]
    Pattern(#[from] PatternError),
    /// Redis is needed for this.
    #[error("{0}")]
    Store(StoreError),
    /// The actor is overloaded, restarting, or late.
    #[error("{0}")]
    Actor(AskError),
}

impl PlainError {
    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            PlainError::Syntax | PlainError::Undeclared | PlainError::Unbounded { .. } => {
                Class::Invalid
            }
            PlainError::Pattern(_) => Class::BadPattern,
            PlainError::Actor(AskError::Overloaded { .. }) => Class::Busy,
            PlainError::Store(_) | PlainError::Actor(_) => Class::Unavailable,
        }
    }

    /// What somebody can do about it, if the error does not say.
    pub fn mend(&self) -> Option<&'static str> {
        match self {
            PlainError::Syntax | PlainError::Unbounded { .. } | PlainError::Pattern(_) => None,
            PlainError::Undeclared => Some("declare it as [passthrough.NAME]"),
            PlainError::Store(_) => Some("start Redis, or check [redis] url"),
            PlainError::Actor(_) => Some("ask again"),
        }
    }
}
