//! Why a term as leader ends before its daemon does, or pauses.

use crate::store::StoreError;

/// Why the journal is left alone for a moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JournalError {
    /// Postgres saves nothing now; the journal keeps what there is.
    #[error("{0}")]
    Database(String),
    /// Redis, where the journal lies, is away or refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another daemon leads.
    #[error("{0}")]
    Fenced(String),
    /// The lock is lost.
    #[error("the lock of the journal is lost")]
    Deposed,
    /// What is left is of caches that this daemon does not declare: another daemon may.
    #[error("what is left in the journal is of caches that are not declared here")]
    Foreign,
}
