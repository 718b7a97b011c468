//! What a cache actor is asked to write.

use super::super::CacheError;
use crate::keyspace::RoutedKey;
use actix::Message;
use bytes::Bytes;

/// Saves values in Postgres, by the statements that their caches declare: all of them in one transaction, or none. Answered
/// once what they make outdated is invalidated.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CacheError>")]
pub struct Save {
    /// Key and JSON.
    pub values: Vec<(RoutedKey, Bytes)>,
}

/// Deletes the rows of keys, by the statements that their caches declare: all of them in one transaction, or none. Answered
/// with how many there were, once what that makes outdated is invalidated.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, CacheError>")]
pub struct Remove {
    pub keys: Vec<RoutedKey>,
}
