//! Refusals that stand: who is over its limit is refused here until its time is over, so that an attack costs Redis nothing.
//!
//! Why that is right: until its `retry_after` is over a refusal can only be undone by giving something back, and that is told to
//! every daemon. While it cannot be heard, nothing is remembered. A refusal and a reset that meet:
//! 1. We ask Redis, and are refused.
//! 2. Somebody resets the subject; that is heard, and there is nothing to forget yet.
//! 3. The refusal of 1 is about to be remembered. It is not, for something was heard since it was asked for ([`Mark`]).
//!
//! A subscription that has died unnoticed is found out within a second and Redis' timeout; as long a reset on another daemon
//! may go unheard.
//!
//! A table of places, not a map: a refusal has four places where it may stand, and takes the one that is free, or over first.
//! So memory is bounded and nothing has to be tidied; whoever is forgotten asks Redis once more.

use super::messages::Decision;
use super::rule::Rule;
use super::verdict::Verdict;
use crate::telemetry::Metrics;
use parking_lot::Mutex;
use smallvec::SmallVec;
use std::sync::Arc;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// Refusals remembered at most: about 100 bytes each, taken when the first one comes.
const MAX_REFUSALS: usize = 65_536;
/// Parts of the table, each with a lock of its own.
const SHARDS: usize = 16;
/// Places where a refusal may stand.
const WAYS: usize = 4;
const SETS: usize = MAX_REFUSALS / SHARDS / WAYS;
/// How long it is remembered that something costs more than the limit ever has: what is left changes meanwhile.
const NEVER_STANDS: Duration = Duration::from_secs(1);

/// The refusals that are remembered. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Denied(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Random, so that nobody can choose subjects that push each other out.
    seed: u64,
    shards: [Mutex<Shard>; SHARDS],
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Shard {
    /// Whether it is heard what is to be forgotten.
    hears: bool,
    /// How often something was to be forgotten.
    heard: u64,
    places: Vec<Option<Refusal>>,
}

#[derive(Debug)]
struct Refusal {
    subject: u128,
    cost: u64,
    rule: Arc<Rule>,
    remaining: u64,
    is_never: bool,
    until: Instant,
    reset_at: Instant,
}

/// A subject under a limit, and what was heard of it before Redis was asked.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    subject: u128,
    heard: u64,
}

impl Denied {
    /// Nothing is remembered before [`hears`](Self::hears) says so.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner {
            seed: fastrand::u64(..),
            shards: std::array::from_fn(|_| Mutex::default()),
            metrics,
        }))
    }

    /// The refusal that stands against a request of this cost to the limit that is told apart by `identity`: a declared
    /// one's name. `takes`: it is told to somebody who does not only look, and counts as a decision.
    pub fn refusal(
        &self,
        identity: &str,
        subject: &[u8],
        cost: u64,
        takes: bool,
    ) -> Option<Decision> {
        let subject = self.subject(identity.as_bytes(), subject);
        let now = Instant::now();
        let mut shard = self.shard(subject).lock();
        let place = shard.find(subject)?;
        let refusal = shard.places[place].as_ref()?;
        if refusal.until <= now {
            shard.places[place] = None;
            self.0.metrics.limits.remembered.dec();
            return None;
        }
        // What costs more or less waits for another time, or for ever.
        (cost == refusal.cost).then(|| {
            self.0.metrics.limits.known.inc();
            refusal.rule.metrics.refused.inc_by(u64::from(takes));
            refusal.decision(now)
        })
    }

    /// To be taken before Redis is asked.
    pub fn mark(&self, rule: &Rule, subject: &[u8]) -> Mark {
        let subject = self.subject(rule.identity.as_bytes(), subject);
        let heard = self.shard(subject).lock().heard;
        Mark { subject, heard }
    }

    /// Remembers what Redis said to a request that was sent at `asked`, unless there was something to forget since.
    pub fn remember(
        &self,
        mark: Mark,
        rule: &Arc<Rule>,
        verdict: &Verdict,
        cost: u64,
        asked: Instant,
    ) {
        if verdict.fits || !rule.is_remembered() {
            return;
        }
        let mut shard = self.shard(mark.subject).lock();
        if !shard.hears || shard.heard != mark.heard {
            return;
        }
        let refusal = Refusal {
            subject: mark.subject,
            cost,
            rule: Arc::clone(rule),
            remaining: verdict.remaining,
            is_never: verdict.retry_after.is_none(),
            // From when it was sent, so never for too long.
            until: asked + verdict.retry_after.unwrap_or(NEVER_STANDS),
            reset_at: asked + verdict.reset_after,
        };
        if refusal.until > Instant::now() && shard.put(refusal) {
            self.0.metrics.limits.remembered.inc();
        }
    }

    /// Something was given back to a subject of the limit that is told apart by `identity`.
    pub fn forget(&self, identity: &[u8], subject: &[u8]) {
        let subject = self.subject(identity, subject);
        let mut shard = self.shard(subject).lock();
        shard.heard += 1;
        if let Some(place) = shard.find(subject) {
            shard.places[place] = None;
            self.0.metrics.limits.remembered.dec();
        }
    }

    /// Forgets everything.
    pub fn clear(&self) {
        for shard in &self.0.shards {
            self.empty(&mut shard.lock());
        }
    }

    /// Says whether it is heard what is to be forgotten. Nothing of before is remembered either way.
    pub fn hears(&self, hears: bool) {
        for shard in &self.0.shards {
            let mut shard = shard.lock();
            shard.hears = hears;
            self.empty(&mut shard);
        }
    }

    fn empty(&self, shard: &mut Shard) {
        shard.heard += 1;
        let there = shard.places.iter_mut().filter_map(Option::take).count();
        let there = i64::try_from(there).unwrap_or(i64::MAX);
        self.0.metrics.limits.remembered.dec_by(there);
    }

    fn subject(&self, identity: &[u8], subject: &[u8]) -> u128 {
        let mut name = SmallVec::<[u8; 256]>::from_slice(identity);
        name.push(0);
        name.extend_from_slice(subject);
        xxh3_128_with_seed(&name, self.0.seed)
    }

    fn shard(&self, subject: u128) -> &Mutex<Shard> {
        &self.0.shards[subject as usize % SHARDS]
    }
}

impl Shard {
    /// Where a subject may stand.
    fn ways(subject: u128) -> std::ops::Range<usize> {
        let set = (subject >> 64) as usize % SETS;
        set * WAYS..(set + 1) * WAYS
    }

    fn find(&self, subject: u128) -> Option<usize> {
        let is_it = |place: &usize| {
            let there = self.places.get(*place).and_then(Option::as_ref);
            there.is_some_and(|refusal| refusal.subject == subject)
        };
        Self::ways(subject).find(is_it)
    }

    /// Whether there is one more than before.
    fn put(&mut self, refusal: Refusal) -> bool {
        if self.places.is_empty() {
            self.places.resize_with(SETS * WAYS, || None);
        }
        let over_first = |place: &usize| self.places[*place].as_ref().map(|there| there.until);
        let known = self.find(refusal.subject);
        // `None` sorts first: a free place.
        let place = known.or_else(|| Self::ways(refusal.subject).min_by_key(over_first));
        let Some(place) = place else { return false };
        self.places[place].replace(refusal).is_none()
    }
}

impl Refusal {
    fn decision(&self, now: Instant) -> Decision {
        Decision {
            allowed: false,
            policy: Arc::clone(&self.rule.policy),
            remaining: self.remaining,
            retry_after: (!self.is_never).then(|| self.until.saturating_duration_since(now)),
            reset_after: self.reset_at.saturating_duration_since(now),
            id: None,
        }
    }
}

#[cfg(test)]
#[path = "denied_tests.rs"]
mod tests;
