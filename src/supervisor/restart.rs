//! When a dead actor comes back: a jittered, growing pause, and an end to patience.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// How a child is restarted.
#[derive(Clone, Copy, Debug)]
pub struct RestartPolicy {
    /// Restarts allowed within `window`; one more gives up.
    pub max_restarts: usize,
    /// The time over which restarts are counted.
    pub window: Duration,
    /// The pause before the first restart; doubled by every further one within the window.
    pub first_pause: Duration,
    /// The longest pause.
    pub longest_pause: Duration,
    /// An actor that leaves a [`Ping`](super::Ping) unanswered this long is stuck.
    pub stuck_after: Duration,
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self {
            max_restarts: 10,
            window: Duration::from_secs(60),
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_secs(5),
            stuck_after: Duration::from_secs(10),
        }
    }
}

/// The restarts of one child that still count.
pub(super) struct RestartWindow {
    policy: RestartPolicy,
    restarts: VecDeque<Instant>,
}

impl RestartWindow {
    pub(super) fn new(policy: RestartPolicy) -> Self {
        Self {
            policy,
            restarts: VecDeque::new(),
        }
    }

    /// The pause before the next restart, or `None` to give up.
    pub(super) fn next_pause(&mut self, now: Instant) -> Option<Duration> {
        let policy = self.policy;
        self.restarts
            .retain(|at| now.duration_since(*at) < policy.window);
        if self.restarts.len() >= policy.max_restarts {
            return None;
        }
        let doublings = u32::try_from(self.restarts.len())
            .unwrap_or(u32::MAX)
            .min(16);
        self.restarts.push_back(now);
        let pause = policy
            .first_pause
            .saturating_mul(1 << doublings)
            .min(policy.longest_pause);
        // Between half and all of it, so that actors felled by one cause do not come back in step.
        Some(pause.mul_f64(0.5 + fastrand::f64() / 2.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> RestartPolicy {
        RestartPolicy {
            max_restarts: 3,
            window: Duration::from_secs(10),
            first_pause: Duration::from_millis(100),
            longest_pause: Duration::from_millis(250),
            ..RestartPolicy::default()
        }
    }

    #[test]
    fn pauses_grow_to_the_longest_and_then_patience_ends() {
        let mut window = RestartWindow::new(policy());
        let now = Instant::now();
        let pauses: Vec<_> = (0..4).map(|_| window.next_pause(now)).collect();
        for (pause, (least, most)) in pauses.iter().zip([(50, 100), (100, 200), (125, 250)]) {
            let pause = pause.expect("within the limit").as_millis();
            assert!((least..=most).contains(&pause), "{pause} ms");
        }
        assert_eq!(pauses[3], None);
    }

    #[test]
    fn restarts_older_than_the_window_are_forgotten() {
        let mut window = RestartWindow::new(policy());
        let start = Instant::now();
        for _ in 0..3 {
            assert!(window.next_pause(start).is_some());
        }
        assert!(window.next_pause(start + Duration::from_secs(9)).is_none());
        assert!(window.next_pause(start + Duration::from_secs(10)).is_some());
    }
}
