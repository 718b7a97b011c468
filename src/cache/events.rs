//! What comes back to a cache actor from the local tasks that wait for it.

use super::CacheError;
use super::leases::{Lease, Token};
use super::lookup::Held;
use super::lookups::Sent;
use super::messages::Want;
use super::parts::Part;
use super::renewal::Renewed;
use crate::keyspace::RoutedKey;
use crate::store::StoreError;
use bytes::Bytes;
use std::time::Instant;

/// Something came back.
pub(super) enum Event {
    /// A part of a look-up.
    LookedUp {
        sent: Sent,
        found: Result<Vec<Option<Held>>, StoreError>,
    },
    /// The acquire script.
    Acquired {
        wants: Vec<Want>,
        part: Part,
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
    /// Values that were loaded anew behind an answer.
    Refreshed {
        keys: Vec<RoutedKey>,
        renewed: Vec<Renewed>,
    },
    /// The script that ends leases: which of them were ours.
    Ended {
        keys: Vec<Bytes>,
        part: Part,
        ours: Result<Vec<bool>, StoreError>,
    },
    /// The script that puts writes into the journal; who wrote has been told.
    Accepted,
}
