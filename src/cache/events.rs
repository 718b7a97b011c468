//! What comes back to a cache actor from the local tasks that wait for it.

use super::CacheError;
use super::leases::{Lease, Token};
use super::lookups::{LookedUp, Pending};
use super::messages::Want;
use crate::store::StoreError;
use bytes::Bytes;
use std::time::Instant;

/// Something came back.
pub(super) enum Event {
    /// A look-up.
    LookedUp {
        reads: Vec<Pending>,
        found: Result<LookedUp, StoreError>,
        /// When it was sent.
        asked: Instant,
    },
    /// The acquire script.
    Acquired {
        wants: Vec<Want>,
        token: Token,
        leases: Result<Vec<Lease>, StoreError>,
        /// When it was sent; `None`: its keys were invalidated just before, and what is there is beyond doubt.
        asked: Option<Instant>,
    },
    /// Postgres, or a program's loader.
    Loaded {
        wants: Vec<Want>,
        /// The token of the leases these loads hold; `None`: they hold none.
        token: Option<Token>,
        values: Vec<Result<Option<Bytes>, CacheError>>,
    },
    /// The script that ends leases: which of them were ours.
    Ended {
        keys: Vec<Bytes>,
        ours: Result<Vec<bool>, StoreError>,
    },
}
