//! Announced sweeps: what a sweep is about to remove is not given out any more.
//!
//! A sweep of a million keys takes a second, and a value may be read until its turn has come. So a sweep is announced once
//! no load from before it can fill any more: from then on a hit that it matches is taken for outdated, wherever it was
//! found, until its key was invalidated by name, once.
//!
//! The race that [`Sweeps::doubts`] closes with a moment:
//! 1. a look-up is sent, and Redis reads the outdated value for it;
//! 2. another read meets the same value, invalidates the key and has it loaded anew: the key is beyond doubt;
//! 3. the look-up's answer arrives. It was sent before the key was renewed, so it is doubted all the same.

use crate::keyspace::Pattern;
use crate::store::PROOF_HOLDS;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_128;

/// Sweeps known at once; of the fleet's daemons each merges its own long before.
const MAX_ANNOUNCED: usize = 4096;
/// Renewed keys remembered a sweep. Beyond, a hit costs a load until the sweep ends.
const MAX_RENEWED: usize = 100_000;
/// Ended sweeps remembered at once. Of those before them Redis has told long ago, in all likelihood.
const MAX_ENDED: usize = 64;

/// The announced sweeps of one daemon, shared by its shards. Cheap to clone.
#[derive(Clone, Default)]
pub struct Sweeps(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Whether there is any: all that a hit asks when there is none.
    any: AtomicBool,
    /// By the first segment of what they match, so that a hit meets only those of its own prefix.
    announced: RwLock<HashMap<Box<[u8]>, Vec<Announced>>>,
    /// Whether any has ended lately: all that a hit in memory asks when none has.
    any_ended: AtomicBool,
    ended: Mutex<VecDeque<Ended>>,
}

/// A sweep that is over, and of which Redis may not have told everything yet.
struct Ended {
    pattern: Pattern,
    at: Instant,
}

struct Announced {
    id: Uuid,
    pattern: Pattern,
    /// When we heard of it: its leases were deleted before.
    heard: Instant,
    until: Instant,
    /// Whether it is to be announced anew: leases that were ended may be back, so that nobody may rely on it.
    is_broken: bool,
    /// Keys invalidated by name since, by hash, and when that was done.
    renewed: Mutex<HashMap<u128, Instant>>,
}

impl Sweeps {
    /// From now on hits that match are doubted, for at most `life`. Announced again, it lives anew.
    pub fn announce(&self, id: Uuid, pattern: &Pattern, life: Duration) {
        let heard = Instant::now();
        let until = heard + life;
        let mut announced = self.0.announced.write();
        let known: usize = announced.values().map(Vec::len).sum();
        let segment = announced
            .entry(Box::from(first_segment(pattern.head())))
            .or_default();
        segment.retain(|sweep| sweep.until > heard);
        if let Some(sweep) = segment.iter_mut().find(|sweep| sweep.id == id) {
            sweep.until = until;
        } else if known < MAX_ANNOUNCED {
            segment.push(Announced {
                id,
                pattern: pattern.clone(),
                heard,
                until,
                is_broken: false,
                renewed: Mutex::default(),
            });
        } else {
            // It is swept all the same; until then its values may be read.
            tracing::warn!(pattern = %pattern.shown(), "more sweeps are announced than are remembered");
        }
        self.0.any.store(true, Ordering::Release);
    }

    /// The sweep broke off, and will be announced anew by another id: for at most `life`, hits that match are doubted on,
    /// those too that were renewed, for what they were renewed with may be lost.
    pub fn break_off(&self, id: Uuid, life: Duration) {
        let now = Instant::now();
        let mut announced = self.0.announced.write();
        let all = announced.values_mut().flatten();
        for sweep in all.filter(|sweep| sweep.id == id) {
            (sweep.heard, sweep.until, sweep.is_broken) = (now, now + life, true);
            sweep.renewed.get_mut().clear();
        }
    }

    /// The sweep has ended: what it matched is gone.
    pub fn end(&self, id: Uuid) {
        let mut announced = self.0.announced.write();
        let now = Instant::now();
        announced.retain(|_, segment| {
            for sweep in segment.iter().filter(|sweep| sweep.id == id) {
                self.remember(&sweep.pattern, now);
            }
            segment.retain(|sweep| sweep.id != id && sweep.until > now);
            !segment.is_empty()
        });
        self.0.any.store(!announced.is_empty(), Ordering::Release);
    }

    fn remember(&self, pattern: &Pattern, at: Instant) {
        let mut ended = self.0.ended.lock();
        if ended.len() >= MAX_ENDED {
            ended.pop_front();
        }
        let pattern = pattern.clone();
        ended.push_back(Ended { pattern, at });
        self.0.any_ended.store(true, Ordering::Release);
    }

    /// How many are announced.
    pub fn len(&self) -> usize {
        self.0.announced.read().values().map(Vec::len).sum()
    }

    /// Whether none is announced.
    pub fn is_empty(&self) -> bool {
        !self.0.any.load(Ordering::Acquire)
    }

    /// Whether whatever `pattern` matches is doubted by what was announced after `since`, and still is, and has not broken
    /// off.
    pub fn heed(&self, pattern: &Pattern, since: Instant) -> bool {
        let covers = |sweep: &Pattern| {
            let is_under = || pattern.head().starts_with(sweep.head());
            sweep == pattern || sweep.is_all_under_its_head() && is_under()
        };
        let announced = self.0.announced.read();
        let segment = announced.get(first_segment(pattern.head()));
        let now = Instant::now();
        segment
            .into_iter()
            .flatten()
            .filter(|sweep| sweep.heard > since && sweep.until > now && !sweep.is_broken)
            .any(|sweep| covers(&sweep.pattern))
    }

    /// Whether a value of `key`, asked for at `asked`, may be one that a sweep is about to remove.
    pub fn doubts(&self, key: &[u8], asked: Instant) -> bool {
        if self.is_empty() {
            return false;
        }
        let announced = self.0.announced.read();
        let Some(segment) = announced.get(first_segment(key)) else {
            return false;
        };
        let now = Instant::now();
        segment
            .iter()
            .filter(|sweep| sweep.until > now && sweep.pattern.matches(key))
            .any(|sweep| {
                let renewed = sweep.renewed.lock().get(&xxh3_128(key)).copied();
                renewed.is_none_or(|renewed| asked <= renewed)
            })
    }

    /// The same of a value that lies in this process' memory: it may also be one that a sweep has removed from Redis a moment
    /// ago, and nobody has told here. Whoever is not told for longer than a proof holds is not believed any more.
    pub(super) fn doubts_kept(&self, key: &[u8], asked: Instant) -> bool {
        if self.doubts(key, asked) {
            return true;
        }
        if !self.0.any_ended.load(Ordering::Acquire) {
            return false;
        }
        let mut ended = self.0.ended.lock();
        while ended
            .front()
            .is_some_and(|sweep| sweep.at.elapsed() > PROOF_HOLDS)
        {
            ended.pop_front();
        }
        self.0.any_ended.store(!ended.is_empty(), Ordering::Release);
        let mut ended = ended.iter();
        ended.any(|sweep| asked <= sweep.at && sweep.pattern.matches(key))
    }

    /// `keys` were invalidated by name; that was begun at `begun`, and is done. A sweep heard of later may be newer than
    /// that, and goes on doubting them.
    pub(super) fn renew(&self, keys: &[Bytes], begun: Instant) {
        let announced = self.0.announced.read();
        let now = Instant::now();
        for key in keys {
            let segment = announced.get(first_segment(key));
            for sweep in segment.into_iter().flatten() {
                let mut renewed = sweep.renewed.lock();
                let counts = sweep.heard < begun && sweep.pattern.matches(key);
                if counts && renewed.len() < MAX_RENEWED {
                    renewed.insert(xxh3_128(key), now);
                }
            }
        }
    }
}

/// A key up to its first colon. A pattern's head has one: it begins with a declared prefix.
fn first_segment(text: &[u8]) -> &[u8] {
    let end = memchr::memchr(b':', text).unwrap_or(text.len());
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(60);

    fn announced(text: &str) -> (Sweeps, Uuid) {
        let (sweeps, id) = (Sweeps::default(), Uuid::new_v4());
        let pattern = Pattern::parse(text.as_bytes()).expect("a pattern");
        sweeps.announce(id, &pattern, LIFE);
        (sweeps, id)
    }

    #[test]
    fn a_hit_is_doubted_from_the_announcement_to_the_end() {
        let (sweeps, id) = announced("a:*");
        assert!(sweeps.doubts(b"a:1", Instant::now()));
        assert!(!sweeps.doubts(b"b:1", Instant::now()));
        sweeps.end(id);
        assert!(!sweeps.doubts(b"a:1", Instant::now()));
        assert!(sweeps.is_empty());
    }

    #[test]
    fn what_is_kept_in_memory_is_doubted_after_the_end_too_unless_it_is_newer() {
        let (sweeps, id) = announced("a:*");
        let asked = Instant::now();
        assert!(sweeps.doubts_kept(b"a:1", asked));
        sweeps.end(id);
        assert!(!sweeps.doubts(b"a:1", asked));
        assert!(sweeps.doubts_kept(b"a:1", asked));
        assert!(!sweeps.doubts_kept(b"b:1", asked));
        assert!(!sweeps.doubts_kept(b"a:1", Instant::now()));
    }

    #[test]
    fn a_renewed_key_is_beyond_doubt_but_for_what_was_asked_before() {
        let (sweeps, _) = announced("a:*");
        let (asked, begun) = (Instant::now(), Instant::now());
        sweeps.renew(&[Bytes::from_static(b"a:1")], begun);
        assert!(sweeps.doubts(b"a:1", asked), "its answer may be older");
        assert!(!sweeps.doubts(b"a:1", Instant::now()));
        assert!(sweeps.doubts(b"a:2", Instant::now()));
    }

    #[test]
    fn a_renewal_that_began_before_the_announcement_proves_nothing() {
        let begun = Instant::now();
        let (sweeps, _) = announced("a:*");
        sweeps.renew(&[Bytes::from_static(b"a:1")], begun);
        assert!(sweeps.doubts(b"a:1", Instant::now()));
    }

    #[test]
    fn what_a_broken_sweep_matches_is_doubted_as_if_it_had_just_begun_and_nobody_relies_on_it() {
        let begun = Instant::now();
        let (sweeps, id) = announced("a:*");
        let pattern = Pattern::parse(b"a:*").expect("a pattern");
        sweeps.renew(&[Bytes::from_static(b"a:1")], Instant::now());
        assert!(sweeps.heed(&pattern, begun));
        sweeps.break_off(id, LIFE);
        assert!(sweeps.doubts(b"a:1", Instant::now()), "it may be back");
        assert!(!sweeps.heed(&pattern, begun));
        // A renewal that was on its way proves nothing.
        sweeps.renew(&[Bytes::from_static(b"a:1")], begun);
        assert!(sweeps.doubts(b"a:1", Instant::now()));
        sweeps.break_off(id, Duration::ZERO);
        assert!(!sweeps.doubts(b"a:1", Instant::now()));
    }

    #[test]
    fn a_sweep_whose_end_nobody_told_is_forgotten_in_time() {
        let (sweeps, id) = (Sweeps::default(), Uuid::new_v4());
        let pattern = Pattern::parse(b"a:*").expect("a pattern");
        sweeps.announce(id, &pattern, Duration::ZERO);
        assert!(!sweeps.doubts(b"a:1", Instant::now()));
    }
}
