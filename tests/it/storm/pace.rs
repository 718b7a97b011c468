//! Whether writers are held up by being watched: how long their changes take, beside the same change of a table that nobody
//! watches, by the same session in the same moment.
//!
//! Changes a second would say as much about the machine: readers, writers, servers and daemons share it, and who else may be
//! on it. What is busy makes both changes late alike.

use std::time::Duration;

/// A change of a watched table costs its trigger and a row of the queue, and never so many times one without.
const DEAREST: u32 = 4;

#[derive(Clone, Debug, Default)]
pub struct Pace {
    watched: Vec<Duration>,
    unwatched: Vec<Duration>,
}

impl Pace {
    pub fn add(&mut self, watched: Duration, unwatched: Duration) {
        self.watched.push(watched);
        self.unwatched.push(unwatched);
    }

    pub fn plus(mut self, other: Self) -> Self {
        self.watched.extend(other.watched);
        self.unwatched.extend(other.unwatched);
        self
    }

    /// The medians: of a change that is watched, and of one that is not.
    pub fn medians(&self) -> (Duration, Duration) {
        (median(&self.watched), median(&self.unwatched))
    }

    /// It was measured, and nobody is held up.
    pub fn is_free(&self) -> bool {
        let (watched, unwatched) = self.medians();
        !watched.is_zero() && watched < DEAREST * unwatched
    }
}

fn median(times: &[Duration]) -> Duration {
    let mut times = times.to_vec();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

#[test]
fn who_is_held_up_is_told_from_who_is_slow_anyhow() {
    let pace = |watched, unwatched| {
        let mut pace = Pace::default();
        for tenth in 5..=15 {
            let times = |ms| Duration::from_millis(ms) * tenth / 10;
            pace.add(times(watched), times(unwatched));
        }
        pace
    };
    assert!(pace(3, 2).is_free());
    assert!(pace(300, 200).is_free());
    assert!(!pace(30, 2).is_free());
    assert!(!Pace::default().is_free());
}
