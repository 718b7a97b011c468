//! Keeps true that a value in this process' own memory is not older than what was heard from Redis.
//!
//! Invariants
//! 1. An entry is kept only if nothing was heard of its key, and of everything, since before its look-up was *sent*. The race:
//!    1. a look-up is sent, and Redis reads the old value for it;
//!    2. the key is invalidated, and told; nothing is kept under it yet, so nothing is forgotten;
//!    3. the look-up's answer is handled. Kept now, the old value would stay: nobody will tell of it again.
//!
//!    So a look-up notes what was heard last before it is sent ([`L1::heard`]), and its answer is kept only if its key's
//!    part of the memory of what was heard ([`Ear`]) is not newer. Both happen under the shard's lock.
//! 2. What is told is forgotten before any later reply of the same connection is handled: Redis tells it in order.
//! 3. Nothing is read while it is not certain that Redis is heard ([`Listener::certain`]): that ends by itself, however busy
//!    whoever should end it is. When it is lost, everything is forgotten.
//! 4. An entry ends with its value's life in Redis, and after `l1.ttl`.
//! 5. What is invalidated through this daemon is forgotten in all shards before it is acknowledged.
//! 6. What an announced sweep is about to remove, or has just removed, is not read, nor what nobody can prove to be fresh.
//!    Every hit passes [`L1::hits`] or [`L1::hit`].
//! 7. All entries together never take more than `l1.capacity`.
//!
//! ```text
//!  GET ─▶ hit? ──yes─▶ answered, at the door
//!          └─no─▶ note what was heard ─▶ MGET ─▶ heard since? ──no─▶ kept
//!                                          Redis ─▶ "changed" ─▶ forgotten
//! ```
//! One shard a serving thread, heard on that thread's own connection: readers of two threads never wait for one another.

mod ear;
mod kept;

use super::freshness::{Freshness, Standing};
use super::leases::MISSING;
use super::messages::{Found, State};
use super::spaces::{Space, Spaces};
use super::sweeps::Sweeps;
use crate::config;
use crate::keyspace::RoutedKey;
use crate::store::Listener;
use crate::telemetry::{CacheMetrics, Metrics};
use bytes::Bytes;
use ear::Ear;
pub(in crate::cache) use ear::Moment;
use foldhash::fast::RandomState;
pub use kept::Record;
use kept::{Entry, Kept};
use parking_lot::Mutex;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys that are fetched from memory together: about as many as a processor can wait for at a time.
const TOGETHER: usize = 16;

/// The level of all serving threads. Cheap to clone.
#[derive(Clone)]
pub struct L1(Arc<Inner>);

struct Inner {
    /// None, if no cache uses it.
    shards: Vec<Mutex<Shard>>,
    spaces: Spaces,
    sweeps: Sweeps,
    freshness: Freshness,
    hasher: RandomState,
    metrics: Metrics,
    counters: Vec<CacheMetrics>,
}

struct Shard {
    kept: Kept,
    ear: Ear,
    /// Until then all that changes is heard.
    certain_until: Option<Instant>,
    /// Hits, remembered missing rows and stale hits, by space, since they were last added to the metrics: a hit touches nothing
    /// that other threads touch.
    counts: Vec<[u64; 3]>,
}

impl Default for L1 {
    /// One that no cache uses.
    fn default() -> Self {
        let config = config::L1 {
            capacity: 0,
            ttl: Duration::ZERO,
        };
        let (spaces, judges) = (Spaces::of(&[], &[]), <(Sweeps, Freshness)>::default());
        Self::new(&config, 0, &spaces, judges, &Metrics::new())
    }
}

/// An entry that may be read.
pub struct Hit<'a> {
    entry: &'a Entry,
    space: &'a Space,
    /// Whether it is outdated could not be seen of late.
    is_stale: bool,
    now: Instant,
}

impl L1 {
    /// So many shards, all empty, and off until Redis is heard. `judges` say which hits are none.
    pub fn new(
        config: &config::L1,
        shards: usize,
        spaces: &Spaces,
        judges: (Sweeps, Freshness),
        metrics: &Metrics,
    ) -> Self {
        let is_used = config.capacity > 0 && spaces.iter().any(|space| space.l1);
        let shards = if is_used { shards } else { 0 };
        let shard = || {
            Mutex::new(Shard {
                kept: Kept::new(config.capacity / shards, config.ttl),
                ear: Ear::new(),
                certain_until: None,
                counts: vec![[0; 3]; spaces.iter().count()],
            })
        };
        Self(Arc::new(Inner {
            shards: (0..shards).map(|_| shard()).collect(),
            spaces: spaces.clone(),
            sweeps: judges.0,
            freshness: judges.1,
            hasher: RandomState::default(),
            metrics: metrics.clone(),
            counters: spaces
                .iter()
                .map(|space| metrics.cache(&space.name))
                .collect(),
        }))
    }

    /// Whether any cache uses it.
    pub fn is_used(&self) -> bool {
        !self.0.shards.is_empty()
    }

    /// Tells `each` of these keys, in their order, whether there is an entry that may be read at `now`.
    pub fn hits(
        &self,
        shard: usize,
        keys: &[&[u8]],
        now: Instant,
        mut each: impl FnMut(&[u8], Option<Hit<'_>>),
    ) {
        let inner = &*self.0;
        let shard = inner.shards.get(shard).map(|shard| shard.lock());
        let Some(mut shard) = shard.filter(|shard| shard.is_certain(now)) else {
            return keys.iter().for_each(|key| each(key, None));
        };
        for keys in keys.chunks(TOGETHER) {
            let mut hashes = [0; TOGETHER];
            for (hash, key) in hashes.iter_mut().zip(keys) {
                *hash = inner.hasher.hash_one(*key);
            }
            shard.kept.fetch(&hashes[..keys.len()]);
            for (hash, key) in hashes.into_iter().zip(keys) {
                each(key, inner.hit(&mut shard, hash, key, now));
            }
        }
    }

    /// What `answer` makes of the entry of a key, if there is one that may be read at `now`.
    pub fn hit<T>(
        &self,
        shard: usize,
        key: &[u8],
        now: Instant,
        answer: impl FnOnce(&Hit<'_>) -> T,
    ) -> Option<T> {
        let inner = &*self.0;
        let mut shard = inner.shards.get(shard)?.lock();
        let hash = inner.hasher.hash_one(key);
        let is_certain = shard.is_certain(now);
        let hit = is_certain.then(|| inner.hit(&mut shard, hash, key, now));
        hit.flatten().map(|hit| answer(&hit))
    }

    /// The moment to note before a look-up is sent, if its answer can be kept at all.
    pub(super) fn heard(&self, shard: usize) -> Option<Moment> {
        let shard = self.0.shards.get(shard)?.lock();
        shard.certain_until.map(|_| shard.ear.last())
    }

    /// Keeps what a look-up found, if nothing was heard since before it was sent. `left` is its remaining life in Redis.
    pub(super) fn keep(
        &self,
        shard: usize,
        key: &RoutedKey,
        found: (&Bytes, Duration),
        asked: Instant,
        heard: Moment,
    ) {
        let (value, left) = found;
        let hash = self.0.hasher.hash_one(&*key.key);
        let (Some(shard), Some(entry)) = (
            self.0.shards.get(shard),
            Entry::new((&key.key, hash), value, key.space, asked, left),
        ) else {
            return;
        };
        let mut shard = shard.lock();
        if shard.certain_until.is_some() && !shard.ear.has_heard_since(hash, heard) {
            shard.kept.insert(entry);
        }
    }

    /// These keys are invalidated through this daemon.
    pub(super) fn forget(&self, keys: &[Bytes]) {
        for shard in &self.0.shards {
            let mut shard = shard.lock();
            for key in keys {
                shard.changed(self.0.hasher.hash_one(&**key), key);
            }
        }
    }

    /// Whether a hit of this key would be found now. Nobody counts it as one.
    pub fn holds(&self, key: &[u8]) -> bool {
        let (inner, now) = (&*self.0, Instant::now());
        let holds = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            let entry = shard.kept.peek(inner.hasher.hash_one(key), key);
            shard.is_certain(now)
                && entry.is_some_and(|entry| {
                    !shard.kept.has_ended(entry, now) && inner.may_be_read(entry, key, now)
                })
        };
        inner.shards.iter().any(holds)
    }

    /// Whether all shards hear what changes.
    pub fn is_certain(&self) -> bool {
        let now = Instant::now();
        let certain = |shard: &Mutex<Shard>| shard.lock().is_certain(now);
        self.is_used() && self.0.shards.iter().all(certain)
    }

    /// Brings the metrics up to date.
    pub fn observe(&self) {
        let mut bytes = 0;
        for shard in &self.0.shards {
            let mut shard = shard.lock();
            bytes += shard.kept.bytes();
            for (counts, counters) in shard.counts.iter_mut().zip(&self.0.counters) {
                let [hits, missing, stale] = std::mem::take(counts);
                counters.hit_l1.inc_by(hits);
                counters.missing.inc_by(missing);
                counters.stale.inc_by(stale);
            }
        }
        self.0.metrics.observe_l1(bytes, self.is_certain());
    }

    /// Who is told of what changes, on the connection of a shard.
    pub fn listener(&self, shard: usize) -> Arc<dyn Listener> {
        Arc::new(Listening {
            l1: self.clone(),
            shard,
        })
    }
}

impl Inner {
    /// Whether nobody doubts an entry, and it need not be read from Redis to be refreshed.
    fn may_be_read(&self, entry: &Entry, key: &[u8], now: Instant) -> bool {
        !self.sweeps.doubts_kept(key, entry.asked)
            && self
                .spaces
                .may_be_kept(entry.space, entry.value(), entry.left(now))
    }

    /// The entry of a key, if it may be read at `now`. Every hit passes here, and is counted.
    fn hit<'a>(
        &'a self,
        shard: &'a mut Shard,
        hash: u64,
        key: &[u8],
        now: Instant,
    ) -> Option<Hit<'a>> {
        let entry = shard.kept.read(hash, key, now)?;
        if !self.may_be_read(entry, key, now) {
            return None;
        }
        let space = self.spaces.get(entry.space);
        self.spaces.count_request(entry.space, key);
        let standing = self.freshness.standing(space, now);
        if standing == Standing::Unproven {
            return None;
        }
        let hit = Hit {
            entry,
            is_stale: standing == Standing::Stale,
            space,
            now,
        };
        if let Some(counts) = shard.counts.get_mut(usize::from(entry.space.0)) {
            let state = match hit.value() {
                None => 1,
                Some(_) if hit.is_stale => 2,
                Some(_) => 0,
            };
            counts[state] += 1;
        }
        Some(hit)
    }
}

impl Shard {
    /// Whether all that changes is heard.
    fn is_certain(&self, now: Instant) -> bool {
        self.certain_until.is_some_and(|until| now < until)
    }

    fn changed(&mut self, hash: u64, key: &[u8]) {
        self.ear.hear(hash);
        self.kept.remove(hash, key);
    }

    fn all_changed(&mut self) {
        self.ear.hear_of_all();
        self.kept.clear();
    }
}

impl Hit<'_> {
    /// The value; `None` for a remembered missing row.
    pub fn value(&self) -> Option<&[u8]> {
        Some(self.entry.value()).filter(|value| *value != MISSING)
    }

    /// The value, to be written later; `None` for a remembered missing row.
    pub fn record(&self) -> Option<Record> {
        self.value().map(|_| self.entry.record())
    }

    /// The whole answer.
    pub fn found(&self) -> Found {
        let hit = match self.is_stale {
            true => State::Stale,
            false => State::HitL1,
        };
        let state = match self.value() {
            Some(_) => hit,
            // That nothing is there may be outdated as well.
            None if self.is_stale => State::Stale,
            None => State::Missing,
        };
        let left = self.entry.left(self.now);
        let value = self.entry.value();
        Found {
            value: self.value().map(Bytes::copy_from_slice),
            state,
            age: self.space.age(self.entry.key(), value, left),
            left,
        }
    }
}

/// A shard, told of what changes in Redis.
struct Listening {
    l1: L1,
    shard: usize,
}

impl Listening {
    fn tell(&self, told: impl FnOnce(&mut Shard)) {
        if let Some(shard) = self.l1.0.shards.get(self.shard) {
            told(&mut shard.lock());
        }
    }
}

impl Listener for Listening {
    fn changed(&self, key: &[u8]) {
        let hash = self.l1.0.hasher.hash_one(key);
        self.tell(|shard| shard.changed(hash, key));
    }

    fn all_changed(&self) {
        self.tell(Shard::all_changed);
    }

    fn lost(&self) {
        self.tell(|shard| {
            shard.certain_until = None;
            shard.all_changed();
        });
    }

    fn certain(&self, until: Instant) {
        self.tell(|shard| {
            // What was kept before the doubt, and what was asked for during it, stays forgotten.
            if shard
                .certain_until
                .is_none_or(|until| until <= Instant::now())
            {
                shard.all_changed();
            }
            shard.certain_until = Some(until);
        });
    }
}

#[cfg(test)]
mod tests;
