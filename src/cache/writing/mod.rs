//! Saves and deletes rows for clients, and sees that what they make outdated is gone before they are answered.
//!
//! 1. Nothing is sent that is no JSON, or larger than the cache allows.
//! 2. The transaction queues what it makes outdated in the same commit, so that whatever happens behind it, somebody
//!    invalidates. That we do it as well is only quicker, and so it is no failure of the write when Redis is away. Who
//!    empties the queue does not do it a second time ([`Told`]).
//! 3. A commit that was sent and not confirmed is followed by the same: it may have happened.
//! 4. `after_save = "update"` is a read like any other, behind the invalidation: with a lease, and a fill that an
//!    invalidation on the way refuses. The client's bytes are never what is cached, for Postgres may make something else
//!    of them.

mod actor;
mod messages;
mod told;

pub use messages::{Remove, Save};
pub use told::Told;

use super::CacheError;
use super::behind::LateWrite;
use super::means::Means;
use super::messages::{CacheHandle, Invalidate, Origin, Read, WriteLate};
use crate::keyspace::RoutedKey;
use crate::repository::{LoadError, Write, WriteError};
use bytes::Bytes;
use serde::de::IgnoredAny;
use std::sync::Arc;
use std::time::Instant;

/// Saves all of the values, or none. `caches` is any cache actor's handle.
pub(super) async fn save(
    means: &Means,
    caches: &CacheHandle,
    save: Save,
) -> Result<(), CacheError> {
    for (key, value) in &save.values {
        check(means, key, value)?;
    }
    if is_late(means, save.values.iter().map(|(key, _)| key))? {
        let writes = save.values.into_iter().map(|(key, value)| LateWrite {
            key,
            value: Some(value),
        });
        return write_late(caches, writes.collect()).await;
    }
    let update = save.values.iter().map(|(key, _)| key);
    let update = update.filter(|key| means.spaces.get(key.space).update_after_save);
    let update: Arc<[RoutedKey]> = update.cloned().collect();
    let writes = save.values.into_iter().map(|(key, value)| Write {
        key,
        value: Some(value),
    });
    let done = write(means, caches, writes.collect()).await?;
    if done.is_invalidated && !update.is_empty() {
        let read = Read {
            keys: update,
            with_age: false,
        };
        // It is saved. Whoever reads next finds out what is wrong with the load.
        let _found = caches.read.ask(read).await;
    }
    Ok(())
}

/// Deletes the rows of all of the keys, or of none: how many there were.
pub(super) async fn remove(
    means: &Means,
    caches: &CacheHandle,
    remove: Remove,
) -> Result<u64, CacheError> {
    if is_late(means, remove.keys.iter())? {
        let keys = u64::try_from(remove.keys.len()).unwrap_or(u64::MAX);
        let writes = remove.keys.into_iter();
        let writes = writes.map(|key| LateWrite { key, value: None });
        // How many rows there are, nobody knows yet.
        return write_late(caches, writes.collect()).await.map(|()| keys);
    }
    let writes = remove
        .keys
        .into_iter()
        .map(|key| Write { key, value: None });
    let done = write(means, caches, writes.collect()).await?;
    Ok(done.rows.iter().sum())
}

/// Whether all of these keys are of caches that save later; an error, if only some are: they could not be saved together.
fn is_late<'a>(
    means: &Means,
    keys: impl Iterator<Item = &'a RoutedKey>,
) -> Result<bool, CacheError> {
    let modes: Vec<bool> = keys
        .map(|key| means.spaces.get(key.space).journaled)
        .collect();
    let is_late = modes.contains(&true);
    match is_late && modes.contains(&false) {
        true => Err(CacheError::MixedModes),
        false => Ok(is_late),
    }
}

async fn write_late(caches: &CacheHandle, writes: Vec<LateWrite>) -> Result<(), CacheError> {
    let answer = caches.write_late.ask(WriteLate { writes }).await;
    answer.unwrap_or_else(|error| Err(CacheError::Actor(error)))
}

/// What Postgres has done, and whether Redis knows.
struct Done {
    rows: Vec<u64>,
    is_invalidated: bool,
}

async fn write(
    means: &Means,
    caches: &CacheHandle,
    writes: Vec<Write>,
) -> Result<Done, CacheError> {
    let Some(repository) = &means.repository else {
        let reason = Arc::from("no [postgres] is configured");
        return Err(CacheError::Load(LoadError::Unavailable { reason }));
    };
    let keys: Vec<RoutedKey> = writes.iter().map(|write| write.key.clone()).collect();
    let mut names = repository.outdated_by(&writes).keys;
    names.retain(|name| keys.iter().all(|key| key.key != name.as_bytes()));
    let written = repository.write(writes).await;
    // Committed, if it was at all.
    let begun = Instant::now();
    if let Err(error) = &written
        && !error.may_be_committed()
    {
        return Err(CacheError::Write(error.clone()));
    }
    let invalidate = Invalidate {
        keys,
        others: names.into_iter().map(Bytes::from).collect(),
        origin: Origin::Write,
    };
    let is_invalidated = match caches.invalidate.ask(invalidate).await {
        Ok(Ok(_removed)) => true,
        Ok(Err(error)) => later(&error),
        Err(error) => later(&error),
    };
    let written = written.map_err(CacheError::Write)?;
    if let Some(row) = written.queued.filter(|_| is_invalidated) {
        means.told.add(row, begun);
    }
    Ok(Done {
        rows: written.rows,
        is_invalidated,
    })
}

/// What is outdated stays in the database's queue until it is invalidated.
fn later(error: &dyn std::fmt::Display) -> bool {
    tracing::debug!(%error, "a write is invalidated by the database's queue alone");
    false
}

/// Whether Postgres can be given the value at all.
fn check(means: &Means, key: &RoutedKey, value: &Bytes) -> Result<(), CacheError> {
    let (bytes, limit) = (value.len(), means.spaces.get(key.space).max_value);
    if bytes > limit {
        return Err(CacheError::TooLargeToSave { bytes, limit });
    }
    let why = match std::str::from_utf8(value) {
        Ok(text) => serde_json::from_str::<IgnoredAny>(text)
            .err()
            .map(|why| why.to_string()),
        Err(why) => Some(why.to_string()),
    };
    match why {
        None => Ok(()),
        Some(why) => {
            let key = String::from_utf8_lossy(&key.key).into_owned();
            Err(CacheError::NotJson { key, why })
        }
    }
}

impl CacheError {
    /// Whether it was refused for what it is, and would be again.
    pub(super) fn is_refused_write(&self) -> bool {
        match self {
            CacheError::NotJson { .. }
            | CacheError::TooLargeToSave { .. }
            | CacheError::MixedModes => true,
            CacheError::Write(error) => matches!(
                error,
                WriteError::Refused { .. }
                    | WriteError::NoRow { .. }
                    | WriteError::Undeclared { .. }
            ),
            _ => false,
        }
    }
}
