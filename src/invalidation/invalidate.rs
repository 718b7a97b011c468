//! One invalidation from its beginning to its acknowledgement: keys by name, patterns by sweep.

use super::InvalidationError;
use super::actor::InvalidationParts;
use super::queue::{Swept, Unswept};
use crate::cache::{Invalidate, Origin};
use crate::keyspace::{Pattern, Targets};
use crate::store::StoreError;
use bytes::Bytes;
use tokio::sync::oneshot;

/// Keys one message to a cache actor carries.
const KEYS_A_MESSAGE: usize = 10_000;

/// Invalidates all of `targets`; how many keys were removed.
pub(super) async fn invalidate(
    parts: &InvalidationParts,
    targets: Targets,
    origin: Origin,
) -> Result<u64, InvalidationError> {
    if !parts.store.is_up() {
        return Err(InvalidationError::Store(StoreError::Away));
    }
    // Both at once: the leases of the patterns should not wait for the keys.
    let swept = queue(parts, &targets, origin, None);
    let patterns = targets.patterns.clone();
    let by_name = keys(parts, targets, origin).await;
    let by_pattern = wait(swept).await;
    note(parts, &patterns, origin);
    Ok(by_name? + by_pattern?)
}

/// Has the patterns swept. `claim` is deleted when that begins.
pub(super) fn queue(
    parts: &InvalidationParts,
    targets: &Targets,
    origin: Origin,
    claim: Option<&Bytes>,
) -> Vec<oneshot::Receiver<Swept>> {
    parts.count_patterns(targets.patterns.len(), origin.label());
    for pattern in &targets.patterns {
        parts.trace.swept(pattern, origin, None);
    }
    let patterns = targets.patterns.iter().cloned();
    patterns
        .map(|pattern| parts.queue.add(&parts.scope, pattern, claim.cloned()))
        .collect()
}

/// Notes patterns that were swept.
pub(super) fn note(parts: &InvalidationParts, patterns: &[Pattern], origin: Origin) {
    if origin.is_noted() && !patterns.is_empty() {
        parts.notes.patterns(patterns);
    }
}

/// Waits for sweeps; how many keys they removed.
pub(super) async fn wait(swept: Vec<oneshot::Receiver<Swept>>) -> Result<u64, InvalidationError> {
    let mut removed = 0;
    for swept in swept {
        let swept = swept.await.map_err(|_gone| InvalidationError::Stopped)?;
        removed += swept.map_err(|unswept| match unswept {
            Unswept::Late(error) => InvalidationError::Store(error),
            Unswept::Cancelled => InvalidationError::Cancelled,
        })?;
    }
    Ok(removed)
}

/// Invalidates the keys by name; how many values there were.
pub(super) async fn keys(
    parts: &InvalidationParts,
    targets: Targets,
    origin: Origin,
) -> Result<u64, InvalidationError> {
    let mut removed = 0;
    // Any of them can: it tells the others.
    let Some(cache) = parts.caches.first() else {
        return Ok(removed);
    };
    let (mut keys, mut others) = (targets.keys, targets.others);
    while !keys.is_empty() || !others.is_empty() {
        let rest = keys.split_off(keys.len().min(KEYS_A_MESSAGE));
        let other_rest = others.split_off(others.len().min(KEYS_A_MESSAGE));
        let ask = Invalidate {
            keys: std::mem::replace(&mut keys, rest),
            others: std::mem::replace(&mut others, other_rest),
            origin,
        };
        let answer = cache.invalidate.ask(ask).await;
        removed += answer
            .map_err(InvalidationError::Actor)?
            .map_err(InvalidationError::Keys)?;
    }
    Ok(removed)
}
