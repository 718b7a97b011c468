//! How long ago the watched values were known to be fresh, and what a hit is worth then.
//!
//! The database's queue of changes is looked at several times a second. A look that finds nothing left to be applied proves
//! that all which is cached is as fresh as the look; without such looks, changes may go on that nobody hears of.

use super::spaces::Space;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// From this age of the proof on, hits of watched caches are marked stale.
pub const MARKED_AFTER: Duration = Duration::from_secs(1);

/// What is known of all watched values at once. Cheap to clone, cheap to ask: an atomic load.
#[derive(Clone, Debug)]
pub struct Freshness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    epoch: Instant,
    /// When they were last proven, in milliseconds after `epoch`; [`NEVER_IN_DOUBT`] where nothing is watched.
    proven_ms: AtomicU64,
    /// Whether changes may be made that nothing tells of: no look at the queue proves anything then.
    is_untold: AtomicBool,
}

const NEVER_IN_DOUBT: u64 = u64::MAX;

/// What a hit is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Known to be fresh, or of a cache that nobody watches.
    Fresh,
    /// It may be outdated; it is given, and says so.
    Stale,
    /// It may be outdated for longer than its cache allows: it is as good as not there.
    Unproven,
}

impl Default for Freshness {
    /// For daemons that watch nothing.
    fn default() -> Self {
        Self(Arc::new(Inner {
            epoch: Instant::now(),
            proven_ms: AtomicU64::new(NEVER_IN_DOUBT),
            is_untold: AtomicBool::new(false),
        }))
    }
}

impl Freshness {
    /// For daemons that watch tables. Nothing is proven yet but that it was just begun; nor is known whether changes are told.
    pub fn watched() -> Self {
        let freshness = Self::default();
        freshness.proven(freshness.0.epoch);
        freshness.untold(true);
        freshness
    }

    /// Whether the watched tables may change and nothing tells of it. While they may, the last proof is the last.
    pub fn untold(&self, is_untold: bool) {
        self.0.is_untold.store(is_untold, Ordering::Release);
    }

    /// All watched values were fresh at `at`. May go back: what was found then may still have to be applied.
    pub fn proven(&self, at: Instant) {
        if self.0.is_untold.load(Ordering::Acquire) {
            return;
        }
        let since = at.saturating_duration_since(self.0.epoch);
        let ms = u64::try_from(since.as_millis()).unwrap_or(0);
        self.0.proven_ms.store(ms, Ordering::Release);
    }

    /// How old the proof is.
    pub fn age(&self, now: Instant) -> Duration {
        match self.0.proven_ms.load(Ordering::Acquire) {
            NEVER_IN_DOUBT => Duration::ZERO,
            ms => now.saturating_duration_since(self.0.epoch + Duration::from_millis(ms)),
        }
    }

    /// What a hit of `space` is worth at `now`. Every hit asks, wherever it was found.
    pub fn standing(&self, space: &Space, now: Instant) -> Standing {
        if !space.watched {
            return Standing::Fresh;
        }
        let age = self.age(now);
        if !space.max_unproven.is_zero() && age > space.max_unproven {
            Standing::Unproven
        } else if age > MARKED_AFTER {
            Standing::Stale
        } else {
            Standing::Fresh
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::windows::Windows;
    use super::super::{Index, Source};
    use super::*;
    use bytes::Bytes;

    fn space(watched: bool, max_unproven: Duration) -> Space {
        Space {
            name: "a".to_owned(),
            source: Source::Query(0),
            ttl: Duration::from_secs(60),
            ttl_jitter: 0.0,
            missing_ttl: Duration::ZERO,
            windows: Windows::default(),
            admit_after: 1,
            ttl_by_hits: Vec::new(),
            hot: 0,
            load_timeout: Duration::from_secs(1),
            max_loads: 1,
            max_value: 1,
            l1: false,
            index: Index {
                name: Bytes::new(),
                is_kept: false,
            },
            watched,
            journaled: false,
            update_after_save: false,
            max_unproven,
        }
    }

    #[test]
    fn a_hit_is_worth_less_the_older_the_proof_is() {
        let freshness = Freshness::watched();
        let proven = Instant::now();
        freshness.untold(false);
        freshness.proven(proven);
        let standing = |space: &Space, seconds| {
            freshness.standing(space, proven + Duration::from_secs(seconds))
        };
        let (marking, refusing) = (
            space(true, Duration::ZERO),
            space(true, Duration::from_secs(5)),
        );
        assert_eq!(standing(&marking, 0), Standing::Fresh);
        assert_eq!(standing(&marking, 2), Standing::Stale);
        assert_eq!(standing(&marking, 1000), Standing::Stale);
        assert_eq!(standing(&refusing, 2), Standing::Stale);
        assert_eq!(standing(&refusing, 6), Standing::Unproven);
        let unwatched = space(false, Duration::from_secs(5));
        assert_eq!(standing(&unwatched, 1000), Standing::Fresh);
    }

    #[test]
    fn while_changes_may_go_untold_nothing_is_proven() {
        let freshness = Freshness::watched();
        let space = space(true, Duration::ZERO);
        let later = Instant::now() + Duration::from_secs(10);
        freshness.proven(later);
        assert_eq!(freshness.standing(&space, later), Standing::Stale);
        freshness.untold(false);
        freshness.proven(later);
        assert_eq!(freshness.standing(&space, later), Standing::Fresh);
    }

    #[test]
    fn where_nothing_is_watched_nothing_is_in_doubt() {
        let later = Instant::now() + Duration::from_secs(1000);
        let space = space(true, Duration::from_secs(5));
        let standing = Freshness::default().standing(&space, later);
        assert_eq!(standing, Standing::Fresh);
    }
}
