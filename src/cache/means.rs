//! What one shard works with: the declared spaces, Redis, Postgres, and what is counted.

use super::Scripts;
use super::freshness::{Freshness, Standing};
use super::l1::{L1, Moment};
use super::leases::{Leases, MISSING};
use super::loaders::Loaders;
use super::lookup::Held;
use super::messages::{Answer, Found, Origin, State};
use super::notes::Notes;
use super::sizes::Sizes;
use super::spaces::{Source, Spaces};
use super::sweeps::Sweeps;
use super::trace::Trace;
use crate::keyspace::{RoutedKey, SpaceId, expiry};
use crate::repository::Repository;
use crate::store::Store;
use crate::telemetry::{CacheMetrics, Metrics, SourceKind};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What one shard works with.
#[derive(Clone)]
pub struct Means {
    pub(super) spaces: Spaces,
    pub(super) sizes: Sizes,
    pub(super) store: Store,
    pub(super) leases: Leases,
    pub(super) repository: Option<Repository>,
    pub(super) loaders: Loaders,
    pub(super) metrics: Metrics,
    pub(super) counters: Arc<[CacheMetrics]>,
    pub(super) sweeps: Sweeps,
    /// And the number of its shard that is read here.
    pub(super) l1: Option<(L1, usize)>,
    pub(super) trace: Trace,
    pub(super) freshness: Freshness,
    pub(super) notes: Notes,
}

impl Means {
    /// `store` is the shard's own connection to Redis; `runtime` runs the loaders of programs.
    pub fn new(
        spaces: Spaces,
        store: Store,
        scripts: Arc<Scripts>,
        repository: Option<Repository>,
        runtime: tokio::runtime::Handle,
        metrics: Metrics,
    ) -> Self {
        let counters = spaces.iter().map(|space| metrics.cache(&space.name));
        Self {
            counters: counters.collect(),
            leases: Leases::new(store.clone(), scripts),
            loaders: Loaders::new(&spaces, runtime),
            sizes: spaces.sizes().clone(),
            spaces,
            store,
            repository,
            metrics,
            sweeps: Sweeps::default(),
            l1: None,
            trace: Trace::default(),
            freshness: Freshness::default(),
            notes: Notes::default(),
        }
    }

    /// Heeds sweeps that others announce.
    pub fn with_sweeps(self, sweeps: Sweeps) -> Self {
        Self { sweeps, ..self }
    }

    /// Keeps what is found in Redis in this shard of `l1`, too.
    pub fn with_l1(self, l1: L1, shard: usize) -> Self {
        let l1 = Some((l1, shard)).filter(|(l1, _)| l1.is_used());
        Self { l1, ..self }
    }

    /// The moment to note before a look-up is sent, if its answer can be kept.
    pub(super) fn heard(&self) -> Option<Moment> {
        let (l1, shard) = self.l1.as_ref()?;
        l1.heard(*shard)
    }

    /// Whether any of what is found under these keys can be kept.
    pub(super) fn keeps_any(&self, keys: &[RoutedKey]) -> bool {
        self.heard().is_some() && keys.iter().any(|key| self.spaces.get(key.space).l1)
    }

    /// Keeps what a look-up found, which was sent when `heard` was.
    pub(super) fn keep(&self, key: &RoutedKey, held: &Held, asked: Instant, heard: Option<Moment>) {
        if let (Some((l1, shard)), Some(left), Some(heard)) = (&self.l1, held.left, heard)
            && self.spaces.get(key.space).l1
        {
            l1.keep(*shard, key, (&held.value, left), asked, heard);
        }
    }

    /// Forgets what is invalidated.
    pub(super) fn forget(&self, keys: &[Bytes]) {
        if let Some((l1, _)) = &self.l1 {
            l1.forget(keys);
        }
    }

    /// Notes what happens to keys where others can ask for it.
    pub fn with_trace(self, trace: Trace) -> Self {
        Self { trace, ..self }
    }

    /// Marks, or does not take, hits of watched caches that are not proven to be fresh.
    pub fn with_freshness(self, freshness: Freshness) -> Self {
        Self { freshness, ..self }
    }

    /// Notes what is invalidated by name, unless it comes from where it would be noted.
    pub fn with_notes(self, notes: Notes) -> Self {
        Self { notes, ..self }
    }

    pub(super) fn counters(&self, space: SpaceId) -> &CacheMetrics {
        &self.counters[usize::from(space.0)]
    }

    /// Counts `readers` reads that got this answer.
    pub(super) fn count(&self, space: SpaceId, answer: &Answer, readers: u64) {
        let counters = self.counters(space);
        let counter = match answer {
            Ok(found) => match found.state {
                State::Hit => &counters.hit,
                State::HitL1 => &counters.hit_l1,
                State::Stale => &counters.stale,
                State::Miss => &counters.miss,
                State::Missing => &counters.missing,
            },
            Err(_) => &counters.failed,
        };
        counter.inc_by(readers);
    }

    /// Counts keys that were invalidated by name.
    pub(super) fn count_invalidations(&self, keys: usize, origin: Origin) {
        let labels = SourceKind {
            source: origin.label(),
            kind: "exact",
        };
        let counter = self.metrics.invalidations.get_or_create(&labels);
        counter.inc_by(u64::try_from(keys).unwrap_or(u64::MAX));
    }

    /// Whether the space's values come from the program.
    pub(super) fn is_program(&self, space: SpaceId) -> bool {
        self.spaces.get(space).source == Source::Program
    }

    /// The answer for what lies in Redis under `key` at `now`; the age is known where `left` is. `None`: it is not to be
    /// taken, for it may be outdated for longer than its cache allows.
    pub(super) fn held(
        &self,
        key: &RoutedKey,
        value: Bytes,
        left: Option<Duration>,
        now: Instant,
    ) -> Option<Found> {
        let hit = match self.freshness.standing(self.spaces.get(key.space), now) {
            Standing::Fresh => State::Hit,
            Standing::Stale => State::Stale,
            Standing::Unproven => return None,
        };
        let missing = value == MISSING;
        let age = left.map(|left| {
            let space = self.spaces.get(key.space);
            let life = if missing {
                space.missing_ttl
            } else {
                space.life(&key.key, None)
            };
            expiry::age(life, left)
        });
        Some(Found {
            value: (!missing).then_some(value),
            // That nothing is there may be outdated as well.
            state: match (missing, hit) {
                (true, State::Hit) => State::Missing,
                (_, hit) => hit,
            },
            age: age.unwrap_or_default(),
            left: left.unwrap_or_default(),
        })
    }
}

/// Counts the answers of one read: neighbours that are alike are counted together, for the counters are shared by all cores.
pub(super) struct Tally<'a> {
    means: &'a Means,
    hits: (SpaceId, u64),
}

impl<'a> Tally<'a> {
    pub(super) fn new(means: &'a Means) -> Self {
        Self {
            means,
            hits: (SpaceId(0), 0),
        }
    }

    pub(super) fn add(&mut self, space: SpaceId, answer: &Answer) {
        let hit = matches!(answer, Ok(found) if found.state == State::Hit);
        if !hit {
            return self.means.count(space, answer, 1);
        }
        if self.hits.0 != space {
            self.flush();
            self.hits.0 = space;
        }
        self.hits.1 += 1;
    }

    fn flush(&mut self) {
        if self.hits.1 > 0 {
            self.means.counters(self.hits.0).hit.inc_by(self.hits.1);
            self.hits.1 = 0;
        }
    }
}

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.flush();
    }
}
