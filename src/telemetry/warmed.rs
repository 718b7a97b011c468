//! What is counted of runs that warm caches.

use super::metrics::CacheResult;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

/// The counters of warmup. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Warmed {
    pub(super) runs: Family<CacheResult, Counter>,
}

impl Warmed {
    /// A run has ended: `done`, or `failed`.
    pub fn ran(&self, cache: &str, result: &'static str) {
        let cache = cache.to_owned();
        let labels = CacheResult { cache, result };
        self.runs.get_or_create(&labels).inc();
    }
}
