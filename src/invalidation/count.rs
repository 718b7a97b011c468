//! Counts what an invalidation would remove, without removing it.

use super::walk::Walk;
use crate::keyspace::{Scope, Targets};
use crate::store::{Store, StoreError};
use std::collections::HashSet;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128;

/// Keys counted exactly: Redis may show a key twice while it grows or shrinks, and so many are remembered.
const MAX_REMEMBERED: usize = 1_000_000;
/// Keys looked at by one exchange.
const NAMES_A_LOOK: usize = 256;
/// What a remembered missing row looks like in Redis: no value.
const MISSING: &[u8] = b"null";

/// How many keys `targets` would remove now.
pub(super) async fn count(
    store: &Store,
    scope: &Arc<Scope>,
    targets: &Targets,
) -> Result<u64, StoreError> {
    let mut seen = HashSet::new();
    for names in targets.names().chunks(NAMES_A_LOOK) {
        // One byte more than a remembered missing row has, to tell it from what only begins like it.
        let heads = store.peek(names, MISSING.len() + 1).await?;
        for (name, (_, head)) in names.iter().zip(heads) {
            if !head.is_empty() && head != MISSING {
                seen.insert(xxh3_128(name));
            }
        }
    }
    let mut beyond = 0;
    if !targets.patterns.is_empty() {
        let pinned = store.pin().await?;
        let mut walk = Walk::new(targets.patterns.clone(), Arc::clone(scope));
        while !walk.is_over() {
            let (_, page) = walk.page(&pinned, &[], &[]).await?;
            for key in page.doomed {
                if seen.len() < MAX_REMEMBERED {
                    seen.insert(xxh3_128(&key));
                } else {
                    beyond += u64::from(!seen.contains(&xxh3_128(&key)));
                }
            }
            walk.pause().await;
        }
    }
    Ok(u64::try_from(seen.len()).unwrap_or(u64::MAX) + beyond)
}
