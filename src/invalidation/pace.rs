//! How fast a sweep goes: as fast as its neighbours on Redis do not mind. Pure.
//!
//! Measured on a million keys: with 200 µs after each page a neighbour's median wait stays that of an idle server, 0.05 ms,
//! for who asks all the time asks several times in such a pause, and once during a page; after each fourth page only, it was
//! 0.47 ms. The size of a page is what the longest wait comes from. What remains of a pause with its change of thread, 0.3 ms,
//! is the half of a page of 1,000 keys, and a quarter of one of 2,000.

use std::time::Duration;

/// Keys Redis looks at for one page.
const MOST: usize = 2000;
const LEAST: usize = 100;
/// Between two pages.
const PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// A page that takes longer finds Redis, or its machine, busy with others.
const BUDGET: Duration = Duration::from_millis(5);

/// The pace of one pass.
#[derive(Debug)]
pub(super) struct Pace {
    count: usize,
    pause: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self {
            count: MOST,
            pause: PAUSE,
        }
    }

    /// Keys to ask for next.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// How long to leave Redis to others now.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// A page took this long. Backs off at once, and comes back slowly.
    pub(super) fn page_took(&mut self, took: Duration) {
        if took > BUDGET {
            self.count = (self.count / 2).max(LEAST);
            self.pause = took.min(LONGEST_PAUSE);
        } else {
            self.count = (self.count + LEAST).min(MOST);
            self.pause = (self.pause / 2).max(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_page_makes_the_next_ones_small_and_rare_until_they_are_quick_again() {
        let mut pace = Pace::new();
        pace.page_took(Duration::from_millis(2));
        assert_eq!((pace.count(), pace.pause()), (MOST, PAUSE));
        pace.page_took(Duration::from_millis(20));
        assert_eq!((pace.count(), pace.pause().as_millis()), (MOST / 2, 20));
        for _ in 0..10 {
            pace.page_took(Duration::from_secs(1));
        }
        assert_eq!((pace.count(), pace.pause()), (LEAST, LONGEST_PAUSE));
        for _ in 0..20 {
            pace.page_took(Duration::from_millis(1));
        }
        assert_eq!((pace.count(), pace.pause()), (MOST, PAUSE));
    }
}
