//! Why a daemon does not start, and why a call of the library has no answer.

use crate::cache::CacheError;
use crate::http;
use crate::keyspace::{KeyError, PatternError, TargetError};
use crate::lock::LockError;
use crate::rate_limit::LimitError;
use crate::repository::RepositoryError;
use crate::resp::OpenError;
use crate::store::StoreError;
use crate::supervisor::AskError;
use crate::warmup::WarmError;
use std::io;
use std::sync::Arc;

/// Why a daemon did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address of `[resp] listen` cannot be bound.
    #[error("{0}")]
    Address(#[source] OpenError),
    /// The address of `[http]` cannot be bound.
    #[error(transparent)]
    Http(#[from] http::OpenError),
    /// The certificate or the key of `[resp]` cannot be used.
    #[error("{0}")]
    Tls(#[source] OpenError),
    /// A socket that was passed on is not in `[resp] listen`.
    #[error("{0}")]
    Passed(#[source] OpenError),
    /// `[redis]` names nothing usable.
    #[error(transparent)]
    Redis(#[from] StoreError),
    /// `[postgres]` names nothing usable.
    #[error(transparent)]
    Postgres(#[from] RepositoryError),
    /// Postgres refuses declared queries; each with its place in the file.
    #[error("{0}")]
    Queries(String),
    /// Watched tables lack their triggers; each with its place in the file.
    #[error("{0}")]
    Watches(String),
    /// Redis would lose writes that are acknowledged before Postgres has them.
    #[error("{0}")]
    Journal(String),
    /// The operating system gives no thread.
    #[error("cannot start a thread: {0}")]
    Thread(#[source] io::Error),
    /// An actor could not be kept running.
    #[error("{0}")]
    Actor(String),
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Tcp { .. } | OpenError::Unix { .. } => StartError::Address(error),
            OpenError::Tls(_) => StartError::Tls(error),
            OpenError::Undeclared { .. } => StartError::Passed(error),
        }
    }
}

/// Why a call of the library has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WardenError {
    /// The key leads nowhere, or is not spelled as it should be.
    #[error("{0}")]
    Key(#[from] KeyError),
    /// The pattern cannot be swept.
    #[error("{0}")]
    Pattern(#[from] PatternError),
    /// The read, put or invalidation failed.
    #[error("{0}")]
    Cache(#[from] CacheError),
    /// The lock could not be had, or kept.
    #[error("{0}")]
    Lock(#[from] LockError),
    /// What is to be warmed is no cache that is.
    #[error("{0}")]
    Warm(#[from] WarmError),
    /// The limit could not be asked, or what was asked makes no sense for it.
    #[error("{0}")]
    Limit(#[from] LimitError),
    /// The value's bytes are not what the caller wants them to be.
    #[error("the value of `{key}` cannot be read as `{wanted}`: {why}")]
    Decode {
        key: String,
        wanted: &'static str,
        why: Arc<serde_json::Error>,
    },
    /// The value cannot be written as JSON.
    #[error("the value for `{key}` cannot be written as JSON: {why}")]
    Encode {
        key: String,
        why: Arc<serde_json::Error>,
    },
    /// The key belongs to a declared cache, whose values come from Postgres alone.
    #[error("`{key}` belongs to a declared cache; programs fill the keys of [namespaces.*]")]
    NotANamespace { key: String },
    /// More keys at once than one call takes.
    #[error("{given} keys in one call are more than {limit}")]
    TooMany { given: usize, limit: usize },
}

impl From<TargetError> for WardenError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Key(error) => WardenError::Key(error),
            TargetError::Pattern(error) => WardenError::Pattern(error),
        }
    }
}

impl From<AskError> for WardenError {
    fn from(error: AskError) -> Self {
        WardenError::Cache(CacheError::Actor(error))
    }
}
