//! What one shard works with: the declared spaces, Redis, Postgres, and what is counted.

use super::Scripts;
use super::early;
use super::freshness::{Freshness, Standing};
use super::l1::{L1, Moment};
use super::leases::{Accept, Fill, Leases, MISSING, Terms};
use super::loaders::Loaders;
use super::lookup;
use super::messages::{Answer, Found, Origin, State};
use super::notes::Notes;
use super::sizes::Sizes;
use super::spaces::{Source, Spaces};
use super::sweeps::Sweeps;
use super::trace::Trace;
use super::windows::Zone;
use super::writing::Told;
use crate::config;
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
    /// Writes that the journal may hold.
    pub(super) max_journal: usize,
    pub(super) told: Told,
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
            max_journal: config::DEFAULT_MAX_JOURNAL,
            told: Told::default(),
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

    /// Keeps what a look-up found, which was sent when `heard` was.
    pub(super) fn keep(
        &self,
        key: &RoutedKey,
        held: &lookup::Held,
        asked: Instant,
        heard: Option<Moment>,
    ) {
        let space = self.spaces.get(key.space);
        if let (Some((l1, shard)), Some(left), Some(heard)) = (&self.l1, held.left, heard)
            && space.l1
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

    /// Lets the journal hold so many writes that are not in Postgres yet.
    pub fn with_journal(self, max_journal: usize) -> Self {
        Self {
            max_journal,
            ..self
        }
    }

    /// Says which rows of the database's queue need no second invalidation.
    pub fn with_told(self, told: Told) -> Self {
        Self { told, ..self }
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

    /// On what terms leases of a space are taken.
    pub(super) fn terms(&self, space: SpaceId, accept: Accept) -> Terms {
        let space = self.spaces.get(space);
        Terms {
            life: expiry::lease_life(space.load_timeout, self.store.timeout()),
            accept,
            is_journaled: space.journaled,
        }
    }

    /// The answer of a write that Postgres does not have yet: nothing is newer.
    pub(super) fn pending(value: Option<Bytes>) -> Found {
        Found {
            state: match value {
                Some(_) => State::Hit,
                None => State::Missing,
            },
            value,
            age: Duration::ZERO,
            left: Duration::ZERO,
        }
    }

    /// What was loaded and not filled may be older than a write that is pending, where there may be one.
    pub(super) fn doubt_unfilled(&self, space: SpaceId, answer: &mut Answer) {
        if let (true, Ok(found)) = (self.spaces.get(space).journaled, answer) {
            found.state = State::Stale;
        }
    }

    /// Whether remaining lives have to be known of what is found under these keys: because of what they are worth, or because
    /// they may be kept.
    pub(super) fn wants_life(&self, keys: &[RoutedKey]) -> bool {
        let keeps = self.heard().is_some();
        keys.iter().any(|key| {
            let space = self.spaces.get(key.space);
            space.windows.is_used() || (keeps && space.l1)
        })
    }

    /// What lies in Redis under `key` at `now`; its worth and its age are known where `left` is. `None`: it is not to be taken,
    /// for it is too old, or may be outdated for longer than its cache allows.
    pub(super) fn held(
        &self,
        key: &RoutedKey,
        value: Bytes,
        left: Option<Duration>,
        now: Instant,
    ) -> Option<Held> {
        let space = self.spaces.get(key.space);
        let missing = value == MISSING;
        let zone = match left {
            Some(left) if !missing => space.windows.zone(left),
            _ => Zone::Fresh(Duration::ZERO),
        };
        let hit = match (self.freshness.standing(space, now), zone) {
            (Standing::Unproven, _) | (_, Zone::OnError) => return None,
            (Standing::Fresh, Zone::Fresh(_)) => State::Hit,
            (Standing::Stale, _) | (_, Zone::Revalidate) => State::Stale,
        };
        let wants_refresh = match zone {
            Zone::Fresh(_) if missing || left.is_none() => false,
            Zone::Fresh(fresh) => fresh < space.windows.early && self.is_due_early(key, fresh),
            Zone::Revalidate => true,
            Zone::OnError => false,
        };
        let found = Found {
            age: left.map_or(Duration::ZERO, |left| space.age(&key.key, &value, left)),
            value: (!missing).then_some(value),
            // That nothing is there may be outdated as well.
            state: match (missing, hit) {
                (true, State::Hit) => State::Missing,
                (_, hit) => hit,
            },
            left: left.unwrap_or_default(),
        };
        Some(Held {
            found,
            wants_refresh,
        })
    }

    fn is_due_early(&self, key: &RoutedKey, fresh: Duration) -> bool {
        let load = self.spaces.load_times().of(key.space);
        early::is_due(fresh, load, fastrand::f64())
    }

    /// What is to be stored of a value that was loaded (`None`: there is no such row); `own`: a life that a program gives it.
    pub(super) fn to_store(
        &self,
        key: &RoutedKey,
        own: Option<Duration>,
        value: Option<&Bytes>,
    ) -> Fill {
        let space = self.spaces.get(key.space);
        let requests = self.spaces.requests_of(key.space, &key.key);
        if space.admit_after > 1 && requests < space.admit_after {
            return Fill::Remove;
        }
        self.to_store_after(requests, key, own, value)
    }

    /// The same of a key that is admitted, and was asked for so often.
    pub(super) fn to_store_after(
        &self,
        requests: u32,
        key: &RoutedKey,
        own: Option<Duration>,
        value: Option<&Bytes>,
    ) -> Fill {
        let space = self.spaces.get(key.space);
        let (value, life) = match value {
            Some(value) => {
                let life = space.life(&key.key, own, requests);
                (value.clone(), life + space.windows.grace())
            }
            None => (Bytes::from_static(MISSING), space.missing_ttl),
        };
        if value.len() > space.max_value || life.is_zero() {
            return Fill::Remove;
        }
        Fill::Store(value, life)
    }
}

/// What may be given of what lies in Redis.
pub(super) struct Held {
    pub(super) found: Found,
    /// Whether it is to be loaded anew behind that.
    pub(super) wants_refresh: bool,
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
