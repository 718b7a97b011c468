//! Why a read, an invalidation or a put has no answer.

use crate::repository::{LoadError, WriteError};
use crate::store::StoreError;
use crate::supervisor::AskError;

/// What a domain's error means to whoever asked; the doors match on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Postgres, or the program's loader, gave no answer.
    LoadFailed,
    /// Refused at once, so that nothing is queued without bound; ask again.
    Busy,
    /// Redis is needed for this and is away, or an actor is restarting.
    Unavailable,
    /// It makes no sense, and would not another time.
    Invalid,
}

/// Why a request of this room has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The value could not be loaded.
    #[error("{0}")]
    Load(LoadError),
    /// The program's loader failed, with its words.
    #[error("the loader failed: {0}")]
    Loader(String),
    /// The program's loader panicked.
    #[error("the loader panicked")]
    LoaderPanicked,
    /// No answer within the time a load may take.
    #[error("timed out after {after_ms} ms")]
    TimedOut { after_ms: u64 },
    /// It was not saved, or deleted.
    #[error("{0}")]
    Write(WriteError),
    /// What is to be saved is no JSON.
    #[error("the value for '{key}' is no JSON: {why}")]
    NotJson { key: String, why: String },
    /// What is to be saved is larger than its cache allows.
    #[error("a value of {bytes} bytes is larger than max_value, {limit}, and was not saved")]
    TooLargeToSave { bytes: usize, limit: usize },
    /// Some of what is to be written is saved at once, and some later.
    #[error("some of these keys are saved at once and some later, so nothing was written")]
    MixedModes,
    /// As many readers wait for loads as may.
    #[error("{limit} reads wait for loads already")]
    TooManyWaiting { limit: usize },
    /// Redis is needed for this.
    #[error("{0}")]
    Store(StoreError),
    /// The actor is overloaded, restarting, or late.
    #[error("{0}")]
    Actor(AskError),
    /// The actor died with the request in hand.
    #[error("the cache actor restarted; ask again")]
    Restarted,
    /// An invalidation was given up half-way.
    #[error("the sweep was cancelled, and outdated values may be left")]
    Cancelled,
    /// A value that a program wants stored is larger than its namespace allows.
    #[error("a value of {bytes} bytes is larger than max_value, {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// As many writes wait to be saved as may.
    #[error("{limit} writes wait to be saved in postgres already")]
    JournalFull { limit: usize },
}

impl CacheError {
    /// What kind of failure this is.
    pub fn class(&self) -> Class {
        match self {
            error if error.is_refused_write() => Class::Invalid,
            CacheError::Load(LoadError::Busy { .. })
            | CacheError::Write(WriteError::Busy { .. })
            | CacheError::TooManyWaiting { .. }
            | CacheError::JournalFull { .. }
            | CacheError::Actor(AskError::Overloaded { .. }) => Class::Busy,
            CacheError::Load(_)
            | CacheError::Loader(_)
            | CacheError::LoaderPanicked
            | CacheError::TimedOut { .. }
            | CacheError::Write(_)
            | CacheError::NotJson { .. }
            | CacheError::MixedModes
            | CacheError::TooLargeToSave { .. }
            | CacheError::TooLarge { .. } => Class::LoadFailed,
            CacheError::Store(_)
            | CacheError::Restarted
            | CacheError::Cancelled
            | CacheError::Actor(AskError::Unavailable { .. } | AskError::TimedOut { .. }) => {
                Class::Unavailable
            }
        }
    }

    /// Whether it is for want of time that there is no answer.
    pub fn is_late(&self) -> bool {
        matches!(
            self,
            CacheError::TimedOut { .. }
                | CacheError::Load(LoadError::TimedOut { .. })
                | CacheError::Write(WriteError::TimedOut { .. })
        )
    }

    /// What somebody can do about it.
    pub fn mend(&self) -> &'static str {
        match self {
            CacheError::Write(error) => mend_write(error),
            CacheError::NotJson { .. } => "send a JSON text; a string stands in double quotes",
            CacheError::MixedModes => "write them apart",
            CacheError::TooLargeToSave { .. } => "make the value smaller, or raise max_value",
            CacheError::Load(LoadError::Unavailable { .. }) => {
                "start Postgres, or check [postgres] url"
            }
            CacheError::Load(LoadError::TimedOut { .. }) | CacheError::TimedOut { .. } => {
                "look for locks and slow plans in Postgres, or raise load_timeout"
            }
            CacheError::Load(LoadError::Refused { .. }) => "mend the cache's query or the row",
            CacheError::Load(LoadError::TooLarge { .. }) | CacheError::TooLarge { .. } => {
                "make the value smaller"
            }
            CacheError::Load(LoadError::Busy { .. }) | CacheError::TooManyWaiting { .. } => {
                "ask again, or raise max_loads"
            }
            CacheError::Loader(_) | CacheError::LoaderPanicked => "mend the program's loader",
            CacheError::Store(_) => "start Redis, or check [redis] url",
            CacheError::JournalFull { .. } => {
                "look why postgres takes no writes, or raise [redis] max_journal"
            }
            CacheError::Cancelled => "invalidate again",
            CacheError::Actor(_) | CacheError::Restarted => "ask again",
        }
    }
}

fn mend_write(error: &WriteError) -> &'static str {
    match error {
        WriteError::Undeclared { .. } => "declare it in the cache's `write`",
        WriteError::NoRow { .. } => "make the row first, or declare a statement that makes it",
        WriteError::Refused { .. } => "mend the value, or the declared statement",
        WriteError::Busy { .. } => "ask again, or raise pool_size",
        WriteError::TimedOut { .. } => {
            "look for locks in Postgres, or raise load_timeout and statement_timeout"
        }
        WriteError::Unavailable { .. } => "start Postgres, or check [postgres] url",
        WriteError::Unknown { .. } => "read the key, and save it again if it has the old value",
    }
}
