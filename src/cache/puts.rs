//! Stores what a program brings.

use super::CacheError;
use super::means::Means;
use super::messages::Put;
use std::collections::HashMap;

/// Stores all of it, or nothing if any value is too large.
pub(super) async fn put(means: &Means, put: Put) -> Result<(), CacheError> {
    let values = put.values.into_iter().map(|(key, value, life)| {
        let space = means.spaces.get(key.space);
        let (bytes, limit) = (value.len(), space.max_value);
        if bytes > limit {
            return Err(CacheError::TooLarge { bytes, limit });
        }
        let life = space.life(&key.key, life, 0);
        Ok((key.space, (key.key, value, life)))
    });
    // What one script stores is of one index.
    let mut by_space: HashMap<_, Vec<_>> = HashMap::new();
    for (space, value) in values.collect::<Result<Vec<_>, _>>()? {
        by_space.entry(space).or_default().push(value);
    }
    for (space, values) in by_space {
        let storing = means.leases.put(&values, &means.spaces.get(space).index);
        let stored = storing.await;
        let keys: Vec<_> = values.into_iter().map(|(key, ..)| key).collect();
        means.notes.keys(&keys);
        stored.map_err(CacheError::Store)?;
        means.trace.filled(keys.iter());
    }
    Ok(())
}
