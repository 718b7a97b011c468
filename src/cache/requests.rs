//! How often keys were asked for of late, in bounded memory: a count-min sketch (Cormode and Muthukrishnan, "An improved data
//! stream summary", 2005) that ages as TinyLFU's does (Einziger, Friedman and Manes, 2017): after so many requests all counts
//! are halved, so that what was popular once is forgotten.
//!
//! A count is never too low before it is halved, and too high only where a key shares all its counters with others. Shared by
//! all threads without a lock: a count that is lost to a race is an estimate like the others.

use super::spaces::Space;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Counters a key has; it is estimated by the lowest of them.
const ROWS: usize = 4;
/// Counters a row: a MiB all together.
const WIDTH: usize = 1 << 16;
/// Requests after which all counts are halved: ten a counter of a row, as TinyLFU has it.
const AGE_AFTER: u64 = 10 * WIDTH as u64;

/// Counts of requests by key. Cheap to clone.
#[derive(Clone)]
pub struct Requests(Option<Arc<Sketch>>);

struct Sketch {
    hasher: foldhash::fast::RandomState,
    counters: Box<[AtomicU32]>,
    since_aged: AtomicU64,
}

impl Requests {
    /// Takes no memory where no space wants to know.
    pub fn of(spaces: &[Space]) -> Self {
        let is_used = spaces.iter().any(Space::counts_requests);
        match is_used {
            true => Self::used(),
            false => Self(None),
        }
    }

    pub(super) fn used() -> Self {
        Self(Some(Arc::new(Sketch::new())))
    }

    /// One more request of `key`; how many that makes.
    pub fn count(&self, key: &[u8]) -> u32 {
        self.0.as_ref().map_or(0, |sketch| sketch.count(key))
    }

    /// How many requests of `key` there were.
    pub fn of_key(&self, key: &[u8]) -> u32 {
        let Some(sketch) = &self.0 else { return 0 };
        let counts = sketch.places(key).map(|place| sketch.at(place));
        counts.into_iter().min().unwrap_or_default()
    }
}

impl Sketch {
    fn new() -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            counters: (0..ROWS * WIDTH).map(|_| AtomicU32::new(0)).collect(),
            since_aged: AtomicU64::new(0),
        }
    }

    fn count(&self, key: &[u8]) -> u32 {
        if self.since_aged.fetch_add(1, Ordering::Relaxed) + 1 == AGE_AFTER {
            self.age();
        }
        let mut least = u32::MAX;
        for place in self.places(key) {
            let Some(counter) = self.counters.get(place) else {
                continue;
            };
            let count = counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
            least = least.min(count);
        }
        least
    }

    fn at(&self, place: usize) -> u32 {
        let counter = self.counters.get(place);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Where a key is counted: four places by two halves of one hash (Kirsch and Mitzenmacher, 2006).
    fn places(&self, key: &[u8]) -> [usize; ROWS] {
        let hash = self.hasher.hash_one(key);
        let (first, step) = (hash as u32, (hash >> 32) as u32 | 1);
        std::array::from_fn(|row| {
            let mixed = first.wrapping_add(step.wrapping_mul(row as u32));
            row * WIDTH + mixed as usize % WIDTH
        })
    }

    /// By whoever counts the last request of an age; the others go on counting meanwhile.
    fn age(&self) {
        for counter in &self.counters {
            let count = counter.load(Ordering::Relaxed);
            counter.store(count / 2, Ordering::Relaxed);
        }
        self.since_aged.store(AGE_AFTER / 2, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_counts_and_keys_are_told_apart() {
        let requests = Requests::used();
        for n in 1..=100 {
            assert_eq!(requests.count(b"a"), n);
        }
        assert_eq!(requests.of_key(b"a"), 100);
        assert_eq!(requests.of_key(b"b"), 0);
    }

    #[test]
    fn among_many_keys_counts_are_hardly_too_high_and_never_too_low() {
        let requests = Requests::used();
        let key = |n: u32| n.to_be_bytes();
        for n in 0..50_000 {
            for _ in 0..=n % 3 {
                requests.count(&key(n));
            }
        }
        let mut too_high = 0;
        for n in 0..50_000 {
            let (told, truth) = (requests.of_key(&key(n)), n % 3 + 1);
            assert!(told >= truth);
            too_high += u32::from(told > truth);
        }
        // A key meets another one in a row with 1 - exp(-50,000 / 65,536) = 53 %, in all four with 8 %.
        assert!(too_high < 50_000 / 8, "{too_high}");
    }

    #[test]
    fn what_was_popular_once_is_forgotten() {
        let requests = Requests::used();
        for _ in 0..1000 {
            requests.count(b"once");
        }
        for n in 0..20 * AGE_AFTER {
            // Few others, so that none of their counters is another's.
            requests.count(&(n % 50).to_be_bytes());
        }
        assert!(requests.of_key(b"once") < 10);
    }
}
