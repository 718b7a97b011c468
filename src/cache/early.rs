//! When a hot value is refreshed before its life ends, so that nobody ever misses it: XFetch (Vattani, Chierichetti and
//! Lowenstein, "Optimal probabilistic cache stampede prevention", VLDB 2015).
//!
//! Whoever hits a value with `rem` of its life left refreshes it if `rem <= -delta * ln(u)`, `u` evenly from (0, 1] and
//! `delta` being what a load takes: with probability exp(-rem / delta), each by himself, without asking anybody. The more
//! readers, and the dearer the load, the earlier. Who asks seldom gains nothing: his value ends unread.

use crate::keyspace::SpaceId;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A load is taken to last at least so long.
const LEAST_LOAD: Duration = Duration::from_millis(1);
/// How much a new measurement counts: an eighth, as TCP's round trips do (RFC 6298).
const WEIGHT: u64 = 8;

/// What a load of each space takes, as measured. Shared by all shards; cheap to clone.
#[derive(Clone)]
pub struct LoadTimes(Arc<[AtomicU64]>);

impl LoadTimes {
    /// Nothing was measured yet.
    pub fn new(spaces: usize) -> Self {
        Self((0..spaces).map(|_| AtomicU64::new(0)).collect())
    }

    /// A load took so long.
    pub fn measured(&self, space: SpaceId, took: Duration) {
        let Some(mean) = self.0.get(usize::from(space.0)) else {
            return;
        };
        let took = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let before = mean.load(Ordering::Relaxed);
        let now = match before {
            0 => took,
            // A measurement that is lost to another thread's would have changed little.
            before => before - before / WEIGHT + took / WEIGHT,
        };
        mean.store(now.max(1), Ordering::Relaxed);
    }

    /// What one takes.
    pub fn of(&self, space: SpaceId) -> Duration {
        let mean = self.0.get(usize::from(space.0));
        let mean = mean.map_or(0, |mean| mean.load(Ordering::Relaxed));
        Duration::from_micros(mean).max(LEAST_LOAD)
    }
}

/// Whether a hit refreshes its value, which is fresh for `left` and takes `load` to be loaded; `u`: evenly from [0, 1).
pub fn is_due(left: Duration, load: Duration, u: f64) -> bool {
    // From (0, 1]: the logarithm of 0 would refresh anything.
    left.as_secs_f64() <= -load.as_secs_f64() * (1.0 - u).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_refreshed_with_the_probability_of_the_paper() {
        let load = Duration::from_millis(400);
        for (left_ms, expected) in [(2000, 0.0067), (400, 0.368), (100, 0.779)] {
            let left = Duration::from_millis(left_ms);
            let due = (0..100_000).filter(|n| is_due(left, load, f64::from(*n) / 100_000.0));
            let share = due.count() as f64 / 100_000.0;
            assert!((share - expected).abs() < 0.001, "{left:?}: {share}");
        }
        assert!(!is_due(Duration::from_nanos(1), load, 0.0));
    }

    #[test]
    fn what_a_load_takes_follows_what_is_measured_slowly() {
        let times = LoadTimes(Arc::from([AtomicU64::new(0)]));
        let space = SpaceId(0);
        assert_eq!(times.of(space), LEAST_LOAD);
        times.measured(space, Duration::from_millis(80));
        assert_eq!(times.of(space), Duration::from_millis(80));
        times.measured(space, Duration::from_millis(160));
        assert_eq!(times.of(space), Duration::from_millis(90));
        for _ in 0..100 {
            times.measured(space, Duration::from_micros(10));
        }
        assert_eq!(times.of(space), LEAST_LOAD);
        assert_eq!(times.of(SpaceId(7)), LEAST_LOAD);
    }
}
