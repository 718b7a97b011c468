//! After a return, watched caches are read from the database until all is applied that was committed before.
//!
//! The daemon, Redis or the queue was out of reach, and the database went on: what is cached may be outdated by changes that
//! wait in the queue. So the watched caches are in doubt, every hit is loaded anew, until a look at the queue finds none of
//! the rows left that were there when it was over. What is committed later is applied as ever.

use super::doubts::Doubts;
use crate::cache::{Sweeps, Told};
use crate::keyspace::Pattern;
use crate::telemetry::Metrics;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// The barrier of one daemon. Cheap to clone.
#[derive(Clone)]
pub struct Barrier(Arc<Inner>);

struct Inner {
    doubts: Doubts,
    patterns: Vec<Pattern>,
    /// Since when it is up: what was committed before has to be applied.
    returned: Mutex<Option<Instant>>,
    is_down: watch::Sender<bool>,
    metrics: Metrics,
    told: Told,
}

impl Barrier {
    /// Before everything under the prefixes of `patterns`; down.
    pub fn new(sweeps: Sweeps, patterns: Vec<Pattern>, metrics: Metrics) -> Self {
        Self::doubting(sweeps, patterns, metrics, Told::default())
    }

    /// The same; what was told before a return is doubted, too.
    pub fn doubting(sweeps: Sweeps, patterns: Vec<Pattern>, metrics: Metrics, told: Told) -> Self {
        Self(Arc::new(Inner {
            told,
            doubts: Doubts::new(sweeps),
            patterns,
            returned: Mutex::default(),
            is_down: watch::Sender::new(true),
            metrics,
        }))
    }

    /// Something is back, at `returned`: what was committed before has to be applied first.
    pub fn raise(&self, returned: Instant) {
        self.0.told.doubt();
        let mut since = self.0.returned.lock();
        *since = (*since).max(Some(returned));
        self.0.doubts.raise(self.0.patterns.iter());
        self.0.metrics.barrier_up.set(1);
        self.0.is_down.send_replace(false);
    }

    /// All that was committed before `applied` is applied.
    pub fn applied(&self, applied: Instant) {
        let mut since = self.0.returned.lock();
        if since.is_some_and(|returned| returned <= applied) {
            *since = None;
            self.0.doubts.lay();
            self.0.metrics.barrier_up.set(0);
            self.0.is_down.send_replace(true);
        }
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        !*self.0.is_down.borrow()
    }

    /// Waits until it is up.
    pub async fn up(&self) {
        let mut is_down = self.0.is_down.subscribe();
        let _open = is_down.wait_for(|is_down| !*is_down).await;
    }

    /// Waits until it is down.
    pub async fn down(&self) {
        let mut is_down = self.0.is_down.subscribe();
        // We hold the other end.
        let _open = is_down.wait_for(|is_down| *is_down).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn it_stands_until_all_is_applied_that_was_there_at_the_last_return() {
        let sweeps = Sweeps::default();
        let pattern = Pattern::all_under("courses:");
        let told = Told::default();
        let barrier =
            Barrier::doubting(sweeps.clone(), vec![pattern], Metrics::new(), told.clone());
        assert!(!barrier.is_up() && sweeps.is_empty());
        let first = Instant::now();
        told.add(1, Instant::now());
        assert!(told.has(1, first));
        let (second, third) = (
            first + Duration::from_secs(1),
            first + Duration::from_secs(2),
        );
        barrier.raise(first);
        assert!(!told.has(1, first));
        barrier.raise(second);
        // A return that is told late is none of yesterday's.
        barrier.raise(first);
        assert!(barrier.is_up());
        barrier.applied(first);
        assert!(barrier.is_up() && !sweeps.is_empty());
        barrier.applied(third);
        assert!(!barrier.is_up() && sweeps.is_empty());
    }
}
