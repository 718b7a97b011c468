//! Why a typed repository has no answer.

use crate::daemon::WardenError;

/// What went wrong, and what was done all the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error<E: std::error::Error> {
    /// The repository's own error: nothing was written. (A load's error comes as [`Error::Cache`], in words: it may have been
    /// another caller's load that failed.)
    #[error("{0}")]
    Repository(E),
    /// The cache has no answer. Nothing was written.
    #[error("{0}")]
    Cache(WardenError),
    /// It is written, but what it outdates could not be invalidated: that may be read until its `ttl` is over, or a watch
    /// on the table tells. Call [`CacheRepository::forget`](super::CacheRepository::forget) again later.
    #[error("it is written, and the cache may still hold what was there before: {0}")]
    NotForgotten(WardenError),
    /// What means something in a pattern cannot stand in a key.
    #[error("the id '{id}' holds one of * ? [ \\ , which mean something in a pattern")]
    BadId { id: String },
    /// A page begins with 1, and holds 1 to [`MAX_LIMIT`](super::Page::MAX_LIMIT) entities.
    #[error("there is no page {page} of {limit} entities: pages begin with 1, and hold 1 to {most}", most = super::Page::MAX_LIMIT)]
    NoPage { page: u32, limit: u32 },
}
