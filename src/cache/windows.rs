//! How long a value is fresh, and for how long after that it may still be answered.
//!
//! ```text
//!  filled ──────── fresh ────────┬─ revalidate ─┬── on error only ──┐
//!                      early ────┤              │                   ▼
//!  remaining life:              grace       usable                  0: gone
//! ```
//! The value's expiry in Redis lies at the end of it all; what it is worth is told from its remaining life, which is the same
//! for every daemon of the same declaration (coherence is theirs: a value that was invalidated is gone, in whatever part).

use std::time::Duration;

/// The part of `ttl` within which a hot value is refreshed before it ends. One slow load must not cause constant refresh.
const EARLY_PART: u32 = 5;

/// As `[caches.*]` declares it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// After its life a value is answered at once for so long, and refreshed behind it.
    pub revalidate: Duration,
    /// After its life a value is answered for so long where it cannot be loaded.
    pub on_error: Duration,
    /// A load that takes longer counts as one that fails, for whoever waits for it.
    pub soft_timeout: Duration,
    /// Whether an invalidated value is answered, too, where it cannot be loaded because Postgres is down.
    pub keeps_invalidated: bool,
    /// How long before the end of its life a value may be refreshed; zero: never.
    pub early: Duration,
}

/// What a value is worth that has so much life left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Zone {
    /// It is fresh, for so long.
    Fresh(Duration),
    /// It is answered, and refreshed.
    Revalidate,
    /// It is loaded anew first; answered if that fails.
    OnError,
}

impl Windows {
    /// The longest time before the end of a life of `ttl` in which it is refreshed early.
    pub fn early_of(ttl: Duration) -> Duration {
        ttl / EARLY_PART
    }

    /// For how long a value outlives its fresh life.
    pub fn grace(&self) -> Duration {
        self.revalidate.max(self.on_error)
    }

    /// The least remaining life of a value that is answered without being loaded anew first.
    pub fn usable(&self) -> Duration {
        self.grace() - self.revalidate
    }

    /// The least remaining life of a value that is not refreshed.
    pub fn settled(&self) -> Duration {
        self.grace() + self.early
    }

    /// Whether what a hit is worth has to be told from its remaining life.
    pub fn is_used(&self) -> bool {
        !self.grace().is_zero() || !self.early.is_zero()
    }

    /// What a value is worth that has `left`. What says that a row is missing has no windows: it is not asked about.
    pub fn zone(&self, left: Duration) -> Zone {
        let grace = self.grace();
        if left > grace || grace.is_zero() {
            Zone::Fresh(left.saturating_sub(grace))
        } else if left >= self.usable() && !self.revalidate.is_zero() {
            Zone::Revalidate
        } else {
            Zone::OnError
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_value_is_worth_less_the_less_life_it_has_left() {
        let windows = Windows {
            revalidate: seconds(10),
            on_error: seconds(60),
            ..Windows::default()
        };
        assert_eq!(
            (windows.grace(), windows.usable()),
            (seconds(60), seconds(50))
        );
        for (left, zone) in [
            (seconds(90), Zone::Fresh(seconds(30))),
            (seconds(60), Zone::Revalidate),
            (seconds(50), Zone::Revalidate),
            (seconds(49), Zone::OnError),
            (Duration::ZERO, Zone::OnError),
        ] {
            assert_eq!(windows.zone(left), zone, "{left:?}");
        }
    }

    #[test]
    fn each_window_stands_alone() {
        let one = Windows {
            revalidate: seconds(10),
            ..Windows::default()
        };
        assert_eq!(one.zone(seconds(10)), Zone::Revalidate);
        assert_eq!(one.zone(Duration::ZERO), Zone::Revalidate);
        let other = Windows {
            on_error: seconds(10),
            ..Windows::default()
        };
        assert_eq!(other.zone(seconds(11)), Zone::Fresh(seconds(1)));
        assert_eq!(other.zone(seconds(10)), Zone::OnError);
        assert_eq!(Windows::default().zone(seconds(3)), Zone::Fresh(seconds(3)));
        assert!(!Windows::default().is_used());
    }
}
