//! Guesses how large the values of a space are, so that a reply is not larger than it may be before anyone has seen it.
//!
//! A mean a space, of the values that were found and of those that were filled. It rises at once and falls slowly: asking for
//! too little costs an exchange, asking for too much can take longer than `redis.timeout`. What is not known yet is taken for
//! as large as it may be, and so is everything that was under way when Redis did not answer in time. What was not there says
//! nothing of what will be. It is a guess about cost, never about truth.
//!
//! All shards share it: a space is filled by the one that owns it, and read by all.

use crate::keyspace::SpaceId;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// So many values of another size make half of the guess when it falls.
const INERTIA: usize = 32;

/// The sizes of values, by space. Cheap to clone; clones share what was learned.
#[derive(Clone, Debug)]
pub(super) struct Sizes(Arc<[Size]>);

/// In bytes.
#[derive(Debug)]
struct Size {
    mean: AtomicUsize,
    largest: usize,
}

impl Sizes {
    /// Nothing is known but how large the values of each space may be.
    pub(super) fn new(largest: impl Iterator<Item = usize>) -> Self {
        let sizes = largest.map(|largest| Size {
            mean: AtomicUsize::new(largest),
            largest,
        });
        Self(sizes.collect())
    }

    /// What a value of this space has, probably, in bytes.
    pub(super) fn expected(&self, space: SpaceId) -> usize {
        self.of(space).mean.load(Relaxed)
    }

    /// So many values of this space, of so many bytes together, were found or are filled.
    pub(super) fn seen(&self, space: SpaceId, values: usize, bytes: usize) {
        if values == 0 {
            return;
        }
        let learned = |mean: usize| {
            let risen = bytes / values;
            let fallen = mean.saturating_mul(INERTIA).saturating_add(bytes) / (INERTIA + values);
            let next = risen.max(fallen);
            // Unwritten, it stays in the caches of all cores.
            (next != mean).then_some(next)
        };
        let mean = &self.of(space).mean;
        let _as_it_was = mean.fetch_update(Relaxed, Relaxed, learned);
    }

    /// A reply was not there in time: perhaps because it was larger than expected.
    pub(super) fn doubt(&self, space: SpaceId) {
        let size = self.of(space);
        size.mean.fetch_max(size.largest, Relaxed);
    }

    fn of(&self, space: SpaceId) -> &Size {
        &self.0[usize::from(space.0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId(0);
    const OTHER: SpaceId = SpaceId(1);

    fn sizes() -> Sizes {
        Sizes::new([1 << 20, 2 << 20].into_iter())
    }

    #[test]
    fn what_was_never_seen_is_as_large_as_it_may_be() {
        let sizes = sizes();
        sizes.seen(SPACE, 0, 0);
        assert_eq!(sizes.expected(SPACE), 1 << 20);
        assert_eq!(sizes.expected(OTHER), 2 << 20);
    }

    #[test]
    fn a_guess_falls_slowly_and_rises_at_once() {
        let sizes = sizes();
        sizes.seen(SPACE, 1, 100);
        assert!(sizes.expected(SPACE) > 1_000_000);
        for _ in 0..1000 {
            sizes.seen(SPACE, 1, 100);
        }
        let small = sizes.expected(SPACE);
        assert!((100..200).contains(&small), "{small}");
        sizes.seen(SPACE, 2, 2 << 20);
        assert_eq!(sizes.expected(SPACE), 1 << 20);
        assert_eq!(sizes.expected(OTHER), 2 << 20);
    }

    #[test]
    fn many_values_weigh_more_than_one() {
        let sizes = sizes();
        sizes.seen(SPACE, INERTIA, 0);
        assert_eq!(sizes.expected(SPACE), 1 << 19);
    }

    #[test]
    fn doubt_takes_everything_for_as_large_as_it_may_be_and_nothing_for_smaller_than_it_is() {
        let sizes = sizes();
        for _ in 0..100 {
            sizes.seen(SPACE, 100, 100);
        }
        assert!(sizes.expected(SPACE) < 10);
        sizes.doubt(SPACE);
        assert_eq!(sizes.expected(SPACE), 1 << 20);
        // Another program need not heed our limit.
        sizes.seen(SPACE, 1, 3 << 20);
        sizes.doubt(SPACE);
        assert_eq!(sizes.expected(SPACE), 3 << 20);
    }
}
