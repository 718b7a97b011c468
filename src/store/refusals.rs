//! Tells that Redis refuses commands, without a line a read.

use super::StoreError;
use parking_lot::Mutex;
use std::time::{Duration, Instant};

/// A Redis that goes on refusing is told of this often.
const TELL_EVERY: Duration = Duration::from_secs(60);

/// What all siblings share of it: Redis refuses all of them alike.
#[derive(Default)]
pub(super) struct Refusals(Mutex<Told>);

#[derive(Default)]
struct Told {
    at: Option<Instant>,
    /// Refusals since then.
    more: u64,
}

impl Refusals {
    /// Redis refused a command.
    pub(super) fn tell(&self, error: &StoreError) {
        if let Some(untold) = self.due(Instant::now()) {
            tracing::warn!(
                %error,
                untold,
                "redis refuses commands; reads are answered from postgres, uncached: see its memory, its role, its users' rights"
            );
        }
    }

    /// Whether a refusal at `now` is told, and how many were not since the last that was.
    fn due(&self, now: Instant) -> Option<u64> {
        let mut told = self.0.lock();
        if told
            .at
            .is_some_and(|at| now.duration_since(at) < TELL_EVERY)
        {
            told.more += 1;
            return None;
        }
        told.at = Some(now);
        Some(std::mem::take(&mut told.more))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_once_a_minute_with_the_number_of_those_that_were_not() {
        let (refusals, start) = (Refusals::default(), Instant::now());
        let told = |seconds| refusals.due(start + Duration::from_secs(seconds));
        let told: Vec<_> = [0, 0, 1, 59, 60, 61, 3600].map(told).into();
        let (no, first) = (None, Some(0));
        assert_eq!(told, [first, no, no, no, Some(3), no, Some(1)]);
    }
}
