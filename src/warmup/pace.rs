//! How fast a run may go: no more keys a second than declared, whatever it costs to load them.

use std::time::{Duration, Instant};

/// Of a second, the part for which keys go together: of a low rate few at a time, evenly.
const SLICE: usize = 10;

/// The pace of one run.
#[derive(Debug)]
pub(super) struct Pace {
    rate: usize,
    /// When the next keys may go.
    next: Instant,
}

impl Pace {
    /// So many keys a second, from `now` on.
    pub(super) fn new(rate: usize, now: Instant) -> Self {
        let rate = rate.max(1);
        Self { rate, next: now }
    }

    /// How many keys may go together.
    pub(super) fn most(&self) -> usize {
        (self.rate / SLICE).max(1)
    }

    /// How long so many keys have to wait, and that they then go. What was not used of the past is not made up for.
    pub(super) fn wait(&mut self, keys: usize, now: Instant) -> Duration {
        let go = self.next.max(now);
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        let nanos = 1_000_000_000 / u64::try_from(self.rate).unwrap_or(u64::MAX);
        self.next = go + Duration::from_nanos(nanos) * keys;
        go.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_no_faster_than_they_may_and_the_past_is_not_made_up_for() {
        let start = Instant::now();
        let mut pace = Pace::new(1000, start);
        assert_eq!(pace.most(), 100);
        assert_eq!(pace.wait(100, start), Duration::ZERO);
        assert_eq!(pace.wait(100, start), Duration::from_millis(100));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.wait(50, later), Duration::ZERO);
        assert_eq!(pace.wait(1, later), Duration::from_millis(50));
    }

    #[test]
    fn one_key_goes_at_the_lowest_rate() {
        let start = Instant::now();
        let mut pace = Pace::new(1, start);
        assert_eq!(pace.most(), 1);
        assert_eq!(pace.wait(1, start), Duration::ZERO);
        assert_eq!(pace.wait(1, start), Duration::from_secs(1));
    }
}
