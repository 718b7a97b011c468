//! Changes that this daemon has claimed, and which of them can do no harm any more.
//!
//! A claim may take long. Its keys are gone within milliseconds, or not, if Redis refuses; its patterns are swept for as
//! long as Redis has keys. Who proves that hits are fresh has to know when nobody is given any more what a claim names:
//!
//! 1. its keys are gone, and
//! 2. each of its patterns was announced after it was claimed, and still is: what matches is loaded anew. An earlier sweep
//!    of the same pattern does not count: it may have renewed a key before the change. Nor does one that broke off, until
//!    it is announced anew: leases that it had ended may be back, and fill what is older than the change.
//!
//! That it was claimed says nothing: while Redis answers reads and refuses to remove anything, claim follows claim, and
//! whoever took them for applied would call outdated values fresh for as long as that goes on.

use super::InvalidationError;
use super::messages::{InvalidateTargets, InvalidationHandle};
use crate::cache::{Origin, Sweeps};
use crate::keyspace::{Pattern, Targets};
use futures_util::future::try_join_all;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// What rows of the queue name, by who has queued them.
pub(super) type Named = Vec<(Origin, Targets)>;

/// The claims that this daemon is applying. Cheap to clone.
#[derive(Clone, Default)]
pub struct Applying {
    claims: Arc<Mutex<Vec<Arc<Claimed>>>>,
    sweeps: Sweeps,
}

struct Claimed {
    ids: Vec<i64>,
    at: Instant,
    patterns: Vec<Pattern>,
    are_keys_gone: AtomicBool,
    is_applied: AtomicBool,
}

/// While it lives, its rows are being applied.
pub(super) struct InHand {
    applying: Applying,
    claimed: Arc<Claimed>,
}

impl Applying {
    /// Whose patterns readers find announced in `sweeps`.
    pub fn beside(sweeps: Sweeps) -> Self {
        Self {
            claims: Arc::default(),
            sweeps,
        }
    }

    /// These rows were claimed just now, and name all these targets.
    pub(super) fn begin(&self, ids: Vec<i64>, named: &[(Origin, Targets)]) -> InHand {
        let patterns = named.iter().flat_map(|(_, targets)| &targets.patterns);
        let claimed = Arc::new(Claimed {
            ids,
            at: Instant::now(),
            patterns: patterns.cloned().collect(),
            are_keys_gone: AtomicBool::new(false),
            is_applied: AtomicBool::new(false),
        });
        self.claims.lock().push(Arc::clone(&claimed));
        InHand {
            applying: self.clone(),
            claimed,
        }
    }

    /// The rows of which nobody is given any more what they name.
    pub(super) fn harmless(&self) -> HashSet<i64> {
        let claims = self.claims.lock();
        let harmless = claims
            .iter()
            .filter(|claimed| claimed.is_harmless(&self.sweeps));
        harmless
            .flat_map(|claimed| claimed.ids.iter().copied())
            .collect()
    }
}

impl Claimed {
    fn is_harmless(&self, sweeps: &Sweeps) -> bool {
        let mut patterns = self.patterns.iter();
        self.is_applied.load(Ordering::Acquire)
            || self.are_keys_gone.load(Ordering::Acquire)
                && patterns.all(|pattern| sweeps.heed(pattern, self.at))
    }
}

impl InHand {
    /// Invalidates what the rows name, to the end.
    pub(super) async fn apply(
        &self,
        invalidation: &InvalidationHandle,
        named: Named,
    ) -> Result<(), InvalidationError> {
        let (mut keys, mut patterns) = (Vec::new(), Vec::new());
        for (origin, targets) in named {
            let swept = Targets {
                patterns: targets.patterns,
                ..Targets::default()
            };
            let exact = Targets {
                patterns: Vec::new(),
                ..targets
            };
            keys.push(ask(invalidation, exact, origin));
            patterns.push(ask(invalidation, swept, origin));
        }
        let by_name = async {
            let answer = try_join_all(keys).await;
            let is_done = answer.is_ok();
            self.claimed.are_keys_gone.store(is_done, Ordering::Release);
            answer
        };
        // Both at once: the leases of the patterns should not wait for the keys. And whichever fails first ends the wait for
        // the other: a sweep is tried for seconds, and as long keys that Redis was too slow for would lie there, claimed.
        tokio::try_join!(by_name, try_join_all(patterns))?;
        self.claimed.is_applied.store(true, Ordering::Release);
        Ok(())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let mut claims = self.applying.claims.lock();
        claims.retain(|claimed| !Arc::ptr_eq(claimed, &self.claimed));
    }
}

async fn ask(
    invalidation: &InvalidationHandle,
    targets: Targets,
    origin: Origin,
) -> Result<(), InvalidationError> {
    if targets.is_empty() {
        return Ok(());
    }
    let ask = InvalidateTargets { targets, origin };
    let answer = invalidation.invalidate.ask(ask).await;
    answer.map_err(InvalidationError::Actor)?.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use uuid::Uuid;

    fn targets(pattern: &str) -> Targets {
        let patterns = vec![Pattern::parse(pattern.as_bytes()).expect("a pattern")];
        Targets {
            patterns,
            ..Targets::default()
        }
    }

    fn announce(sweeps: &Sweeps, pattern: &str) -> Uuid {
        let (id, patterns) = (Uuid::new_v4(), targets(pattern).patterns);
        sweeps.announce(id, &patterns[0], Duration::from_secs(60));
        id
    }

    #[test]
    fn a_claim_is_harmless_once_its_keys_are_gone_and_its_patterns_announced() {
        let sweeps = Sweeps::default();
        let applying = Applying::beside(sweeps.clone());
        let earlier = announce(&sweeps, "a:1:*");
        let in_hand = applying.begin(vec![7, 8], &[(Origin::Watch, targets("a:1:*"))]);
        in_hand.claimed.are_keys_gone.store(true, Ordering::Release);
        assert!(applying.harmless().is_empty());
        let own = announce(&sweeps, "a:1:*");
        assert_eq!(applying.harmless(), HashSet::from([7, 8]));
        sweeps.end(earlier);
        assert_eq!(applying.harmless().len(), 2);
        // Its sweep broke off: the announcement stands, and counts once the leases have been ended again.
        sweeps.break_off(own, Duration::from_secs(60));
        assert!(sweeps.doubts(b"a:1:1", Instant::now()));
        assert!(applying.harmless().is_empty());
        let anew = announce(&sweeps, "a:1:*");
        assert_eq!(applying.harmless().len(), 2);
        sweeps.end(own);
        assert_eq!(applying.harmless().len(), 2);
        sweeps.end(anew);
        assert!(applying.harmless().is_empty());
        let _wider = announce(&sweeps, "a:*");
        assert_eq!(applying.harmless().len(), 2);
        in_hand
            .claimed
            .are_keys_gone
            .store(false, Ordering::Release);
        assert!(applying.harmless().is_empty());
        in_hand.claimed.is_applied.store(true, Ordering::Release);
        assert_eq!(applying.harmless().len(), 2);
        drop(in_hand);
        assert!(applying.harmless().is_empty());
    }
}
