//! L1, made to hear on the stores that are read.

use super::freshness::Keeping;
use crate::cache::{L1, Spaces};
use crate::config::Config;
use crate::store::Store;
use crate::telemetry::Metrics;

/// One shard a store, none if no cache uses it. Before the stores are kept: only what is connected later tells.
pub(super) fn open(
    config: &Config,
    spaces: &Spaces,
    stores: &[Store],
    keeping: &Keeping,
    metrics: &Metrics,
) -> L1 {
    let judges = (keeping.sweeps.clone(), keeping.freshness.clone());
    let l1 = L1::new(&config.l1, stores.len(), spaces, judges, metrics);
    if l1.is_used() {
        let caches = config.caches.iter().filter(|cache| cache.l1);
        let prefixes: Vec<_> = caches.map(|cache| cache.key.prefix().to_owned()).collect();
        for (shard, store) in stores.iter().enumerate() {
            store.track(&prefixes, l1.listener(shard));
        }
    }
    l1
}
