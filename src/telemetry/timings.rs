//! How long things take, and how many go together: histograms. An observation takes a lock that all cores share, so there
//! is one a batch and never one a key.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use std::time::Instant;

/// From a hit beside its Redis to the longest `load_timeout` in use: half a decade a step.
const SECONDS: [f64; 11] = [
    0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0,
];
/// From one key to as many as one statement carries: doubled each step.
const KEYS: u16 = 11;

/// One label named `cache`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct CacheName {
    pub cache: String,
}

/// One label named `source`.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct Source {
    pub source: &'static str,
}

type PerSource = Family<Source, Histogram, fn() -> Histogram>;
type PerCache = Family<CacheName, Histogram, fn() -> Histogram>;

/// The histograms of one daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Timings {
    pub(super) read_seconds: PerCache,
    pub(super) load_seconds: Histogram,
    pub(super) load_batch_keys: Histogram,
    pub(super) invalidation_seconds: PerSource,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            read_seconds: Family::new_with_constructor(seconds),
            load_seconds: seconds(),
            load_batch_keys: Histogram::new(exponential_buckets(1.0, 2.0, KEYS)),
            invalidation_seconds: Family::new_with_constructor(seconds),
        }
    }
}

impl Timings {
    /// Where the times of one cache's reads are kept.
    pub fn reads_of(&self, cache: &str) -> Stopwatch {
        let cache = cache.to_owned();
        Stopwatch(self.read_seconds.get_or_create_owned(&CacheName { cache }))
    }

    /// A change told by `source` was acknowledged so many seconds after it was made.
    pub fn invalidated(&self, source: &'static str, seconds: f64) {
        let histogram = self.invalidation_seconds.get_or_create(&Source { source });
        histogram.observe(seconds);
    }

    /// A load of so many keys begins.
    pub fn load(&self, keys: usize) -> Timer {
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        self.load_batch_keys.observe(f64::from(keys));
        Stopwatch(self.load_seconds.clone()).start()
    }
}

/// Takes the time of what is alike.
#[derive(Clone, Debug)]
pub struct Stopwatch(Histogram);

impl Stopwatch {
    /// Something begins; it is over when the timer is dropped.
    pub fn start(&self) -> Timer {
        Timer {
            began: Instant::now(),
            seconds: self.0.clone(),
        }
    }
}

/// Something under way whose time is taken, until this is dropped.
#[derive(Debug)]
pub struct Timer {
    began: Instant,
    seconds: Histogram,
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.seconds.observe(self.began.elapsed().as_secs_f64());
    }
}

pub(super) fn seconds() -> Histogram {
    Histogram::new(SECONDS)
}
