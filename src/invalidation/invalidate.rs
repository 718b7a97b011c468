//! One invalidation from its beginning to its acknowledgement: keys by name, patterns by sweep.

use super::InvalidationError;
use super::actor::InvalidationParts;
use crate::cache::{Invalidate, Origin};
use crate::keyspace::Targets;
use crate::store::StoreError;
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

/// Keys one message to a cache actor carries.
const KEYS_A_MESSAGE: usize = 10_000;

/// How long Redis may be away before who waits for a sweep is told. The sweep begins again when it is back.
const PATIENCE: Duration = Duration::from_secs(2);

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
    let by_name = keys(parts, targets, origin).await;
    let by_pattern = tokio::select! {
        removed = wait(swept) => removed,
        () = away(parts.store.up()) => Err(InvalidationError::Store(StoreError::Away)),
    };
    Ok(by_name? + by_pattern?)
}

/// Returns once Redis has been away for too long.
async fn away(mut up: watch::Receiver<bool>) {
    loop {
        // A keeper that is gone counts as away.
        drop(up.wait_for(|up| !*up).await);
        let back = tokio::time::timeout(PATIENCE, up.wait_for(|up| *up)).await;
        if !matches!(back, Ok(Ok(_))) {
            return;
        }
    }
}

/// Has the patterns swept. `claim` is deleted when that begins.
pub(super) fn queue(
    parts: &InvalidationParts,
    targets: &Targets,
    origin: Origin,
    claim: Option<&Bytes>,
) -> Vec<oneshot::Receiver<u64>> {
    parts.count_patterns(targets.patterns.len(), origin.label());
    let patterns = targets.patterns.iter().cloned();
    patterns
        .map(|pattern| parts.queue.add(&parts.scope, pattern, claim.cloned()))
        .collect()
}

/// Waits for sweeps; how many keys they removed.
pub(super) async fn wait(swept: Vec<oneshot::Receiver<u64>>) -> Result<u64, InvalidationError> {
    let mut removed = 0;
    for swept in swept {
        removed += swept.await.map_err(|_gone| InvalidationError::Stopped)?;
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
