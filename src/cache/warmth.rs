//! Guesses whether a look-up is worth its while.
//!
//! The acquire script answers a value that is there, too, only dearer than `MGET` does. Where nearly nothing is there, as
//! after a restart of Redis or while somebody walks through all rows, a look-up first is a round trip for nothing: its keys
//! go to the acquire script at once. It is a guess about cost, never about truth.
//!
//! A counter a space, as branch predictors have them: misses make it colder, hits warmer, and much faster. A cold space is
//! still looked up now and then, to hear when it has become warm.

use crate::keyspace::SpaceId;

/// So many more misses than hits make a space cold.
const COLD: i32 = -256;
/// Neither cold nor warm is remembered beyond this: a change of the weather shows soon.
const COLDEST: i32 = -512;
const WARMEST: i32 = 256;
/// One hit outweighs so many misses: a needless look-up costs less than a hit by script does.
const HIT_WEIGHT: i32 = 8;
/// Every so many reads of a cold space are looked up all the same.
const SAMPLE: u32 = 32;

#[derive(Clone, Copy, Default)]
struct Degree {
    score: i32,
    skipped: u32,
}

/// The spaces' degrees, as one shard sees them.
pub(super) struct Warmth(Vec<Degree>);

impl Warmth {
    /// All of `spaces` lukewarm.
    pub(super) fn new(spaces: usize) -> Self {
        Self(vec![Degree::default(); spaces])
    }

    /// A look-up found so many of its keys of this space, and did not find so many.
    pub(super) fn looked_up(&mut self, space: SpaceId, hits: usize, misses: usize) {
        let number = |count| i32::try_from(count).unwrap_or(i32::MAX);
        if let Some(degree) = self.0.get_mut(usize::from(space.0)) {
            let change = number(hits).saturating_mul(HIT_WEIGHT) - number(misses);
            degree.score = degree.score.saturating_add(change).clamp(COLDEST, WARMEST);
        }
    }

    /// Whether the next read of this space does without a look-up.
    pub(super) fn skips(&mut self, space: SpaceId) -> bool {
        let Some(degree) = self.0.get_mut(usize::from(space.0)) else {
            return false;
        };
        if degree.score > COLD {
            return false;
        }
        degree.skipped = (degree.skipped + 1) % SAMPLE;
        degree.skipped != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: SpaceId = SpaceId(0);

    #[test]
    fn a_space_that_misses_is_skipped_but_for_a_sample() {
        let mut warmth = Warmth::new(1);
        assert!(!warmth.skips(SPACE));
        warmth.looked_up(SPACE, 0, 255);
        assert!(!warmth.skips(SPACE));
        warmth.looked_up(SPACE, 0, 1);
        let skipped = (0..SAMPLE).filter(|_| warmth.skips(SPACE)).count();
        assert_eq!(skipped, SAMPLE as usize - 1);
    }

    #[test]
    fn few_hits_make_the_coldest_space_warm_again() {
        let mut warmth = Warmth::new(1);
        warmth.looked_up(SPACE, 0, 1_000_000);
        assert!(warmth.skips(SPACE));
        warmth.looked_up(SPACE, 33, 0);
        assert!(!warmth.skips(SPACE));
    }

    #[test]
    fn a_space_of_which_some_keys_hit_stays_looked_up() {
        let mut warmth = Warmth::new(1);
        for _ in 0..10_000 {
            warmth.looked_up(SPACE, 2, 14);
            assert!(!warmth.skips(SPACE));
        }
    }
}
