//! How many loads of a cache Postgres bears while Redis is away and every read is its own: additive increase, multiplicative
//! decrease (Chiu and Jain, 1989), as TCP finds out what a network bears.
//!
//! With Redis, a load that waits is a load that others join, or whose value they find afterwards. Without it everything that is
//! let in is work for Postgres, and what it cannot do in time is work for nothing.

use std::time::{Duration, Instant};

/// A statement that takes longer says that it was too much: what is left of it when that happens again and again.
const DECREASE: f64 = 0.5;

/// What one cache may have on its way, in keys.
#[derive(Debug)]
pub(super) struct Bearing {
    most: f64,
    limit: f64,
    /// A statement is meant to take no longer.
    target: Duration,
    /// What was sent before this tells of a load that has been decreased already.
    decreased: Option<Instant>,
}

impl Bearing {
    /// At most `most` keys; statements are meant to take no longer than `target`.
    pub(super) fn new(most: usize, target: Duration) -> Self {
        let most = most.max(1) as f64;
        Self {
            most,
            limit: most,
            target,
            decreased: None,
        }
    }

    /// So many keys may be on their way: at least one, or nothing would be found out any more.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// A statement of so many keys, sent at `sent`, has ended at `now`; `in_time`: with an answer.
    pub(super) fn ended(&mut self, keys: usize, sent: Instant, in_time: bool, now: Instant) {
        if in_time && now.saturating_duration_since(sent) <= self.target {
            // One more for each time that as many as may be have been answered.
            let more = keys as f64 / self.limit;
            self.limit = (self.limit + more).min(self.most);
        } else if self.decreased.is_none_or(|at| sent >= at) {
            self.limit = (self.limit * DECREASE).max(1.0);
            self.decreased = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(100);

    fn after(start: Instant, ms: u64) -> Instant {
        start + Duration::from_millis(ms)
    }

    #[test]
    fn it_shrinks_to_what_is_borne_and_grows_back_slowly() {
        let start = Instant::now();
        let mut bearing = Bearing::new(64, TARGET);
        assert_eq!(bearing.limit(), 64);
        for (n, limit) in [32, 16, 8, 4, 2, 1, 1].into_iter().enumerate() {
            let sent = after(start, 1000 * (n as u64 + 1));
            bearing.ended(1, sent, false, sent);
            assert_eq!(bearing.limit(), limit);
        }
        let mut answered = 0;
        while bearing.limit() < 8 {
            let sent = after(start, 100_000 + answered);
            bearing.ended(1, sent, true, sent + TARGET);
            answered += 1;
        }
        // 1 + 2 + ... + 7, and a little more as a limit is whole.
        assert!((28..45).contains(&answered), "{answered}");
        for _ in 0..10_000 {
            bearing.ended(16, start, true, start);
        }
        assert_eq!(bearing.limit(), 64);
    }

    #[test]
    fn what_was_sent_together_is_one_sign_that_it_was_too_much() {
        let start = Instant::now();
        let mut bearing = Bearing::new(64, TARGET);
        for n in 0..16 {
            bearing.ended(4, after(start, n), true, after(start, 500 + n));
        }
        assert_eq!(bearing.limit(), 32);
        bearing.ended(4, after(start, 600), true, after(start, 900));
        assert_eq!(bearing.limit(), 16);
    }

    /// A server that answers so many keys at once in the target's time, and proportionally later otherwise.
    #[test]
    fn against_a_server_that_bears_ten_it_stays_around_ten() {
        let mut bearing = Bearing::new(1000, TARGET);
        let mut now = Instant::now();
        let mut limits = Vec::new();
        for _ in 0..500 {
            let sent = now;
            let keys = bearing.limit();
            now += TARGET * u32::try_from(keys).unwrap() / 10;
            bearing.ended(keys, sent, true, now);
            limits.push(bearing.limit());
        }
        let settled = &limits[50..];
        let (least, most) = (settled.iter().min().unwrap(), settled.iter().max().unwrap());
        assert!(
            (4..=6).contains(least) && (10..=11).contains(most),
            "{least} to {most}"
        );
    }
}
