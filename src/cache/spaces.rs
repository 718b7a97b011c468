//! How each declared space lives: what `[caches.*]` and `[namespaces.*]` say, as the engine needs it.

use super::early::LoadTimes;
use super::hottest::Hottest;
use super::leases::MISSING;
use super::requests::Requests;
use super::sizes::Sizes;
use super::windows::{Windows, Zone};
use crate::config;
use crate::keyspace::{SpaceId, expiry, names};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// The longest life a program may give a value, as in the configuration.
const LONGEST_LIFE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// Where a space's values come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The declared query of the cache with this place in the configuration.
    Query(usize),
    /// The program: its loaders, and what it puts.
    Program,
}

/// The index of a space's keys, and of all others with their first segment.
#[derive(Clone, Debug)]
pub struct Index {
    /// Its key in Redis.
    pub name: Bytes,
    /// Whether we keep it. If not, what we store is in none, and no daemon may take it for whole.
    pub is_kept: bool,
}

impl Index {
    /// As the scripts are told.
    pub(super) fn flag(&self) -> Bytes {
        Bytes::from_static(if self.is_kept { b"1" } else { b"0" })
    }
}

/// One declared space.
#[derive(Clone, Debug)]
pub struct Space {
    pub name: String,
    pub source: Source,
    /// How long a value lives, before jitter shortens it.
    pub ttl: Duration,
    /// By how much jitter may shorten it, 0.0 to 1.0.
    pub ttl_jitter: f64,
    /// How long a missing row is remembered; zero = not at all.
    pub missing_ttl: Duration,
    /// For how long after its life a value is answered, and when.
    pub windows: Windows,
    /// A key is cached from its so many-th request on.
    pub admit_after: u32,
    /// Lives of keys that were asked for so often, ascending.
    pub ttl_by_hits: Vec<(u32, Duration)>,
    /// So many keys that are asked for most are known.
    pub hot: usize,
    /// How long a read may wait for a load.
    pub load_timeout: Duration,
    /// Loads that may be under way at once while Redis is away.
    pub max_loads: usize,
    /// Larger values, in bytes, are answered but not cached.
    pub max_value: usize,
    /// Whether its values are kept in L1, too.
    pub l1: bool,
    pub index: Index,
    /// Whether what is saved is read again before that is answered.
    pub update_after_save: bool,
    /// Whether changes in the database are told of its keys.
    pub watched: bool,
    /// Whether writes of its keys may be pending that are not in Postgres yet.
    pub journaled: bool,
    /// How long its hits are given while changes may go on that nobody hears of; zero: for ever, marked.
    pub max_unproven: Duration,
}

impl Space {
    /// How long a value of `key` is fresh; `own` replaces the declared life and is not jittered. `hits`: how often the key was
    /// asked for.
    pub fn life(&self, key: &[u8], own: Option<Duration>, hits: u32) -> Duration {
        let steps = self.ttl_by_hits.iter().rev();
        let ttl = steps.clone().find(|(least, _)| hits >= *least);
        let ttl = ttl.map_or(self.ttl, |(_, ttl)| *ttl);
        own.map_or_else(
            || expiry::jittered(ttl, self.ttl_jitter, key),
            |own| own.min(LONGEST_LIFE),
        )
    }

    /// How long a value with so much life `left` in Redis has been there; at least so long where lives differ by how often a
    /// key was asked for.
    pub fn age(&self, key: &[u8], value: &[u8], left: Duration) -> Duration {
        if value == MISSING {
            return expiry::age(self.missing_ttl, left);
        }
        let steps = self.ttl_by_hits.iter().map(|(hits, _)| *hits);
        let whole = |hits| self.life(key, None, hits) + self.windows.grace();
        let lives = std::iter::once(0).chain(steps).map(whole);
        let least = lives.filter(|life| *life >= left).min();
        least.map_or(Duration::ZERO, |life| expiry::age(life, left))
    }

    /// Whether it has to be counted how often its keys are asked for.
    pub fn counts_requests(&self) -> bool {
        self.admit_after > 1 || !self.ttl_by_hits.is_empty() || self.hot > 0
    }
}

/// All declared spaces, by their id. Cheap to clone.
#[derive(Clone)]
pub struct Spaces {
    spaces: Arc<[Space]>,
    sizes: Sizes,
    requests: Requests,
    hottest: Arc<[Option<Hottest>]>,
    load_times: LoadTimes,
}

impl Spaces {
    /// Caches first, then namespaces, as [`SpaceId`] counts them.
    pub fn of(caches: &[config::Cache], namespaces: &[config::Namespace]) -> Self {
        let segments = config::segments(caches, namespaces);
        let indexed = segments.into_iter().filter(|segment| segment.indexed);
        let indexed: HashSet<String> = indexed.map(|segment| segment.name).collect();
        let index = |prefix: &str| Index {
            name: names::index_of(prefix.as_bytes()).into(),
            is_kept: indexed.contains(config::segment(prefix)),
        };
        let caches = caches.iter().enumerate().map(|(place, cache)| Space {
            name: cache.name.clone(),
            source: Source::Query(place),
            ttl: cache.ttl,
            ttl_jitter: cache.ttl_jitter,
            missing_ttl: cache.missing_ttl,
            windows: windows(cache),
            admit_after: cache.aging.admit_after,
            ttl_by_hits: cache.aging.ttl_by_hits.clone(),
            hot: cache.warm.as_ref().map_or(0, |warm| warm.hot),
            load_timeout: cache.load_timeout,
            max_loads: cache.max_loads,
            max_value: cache.max_value,
            l1: cache.l1,
            index: index(cache.key.prefix()),
            update_after_save: updates(cache),
            watched: cache.watched,
            journaled: cache.is_journaled(),
            max_unproven: cache.max_unproven,
        });
        let namespaces = namespaces.iter().map(|namespace| Space {
            name: namespace.name.clone(),
            source: Source::Program,
            ttl: namespace.ttl,
            ttl_jitter: 0.0,
            missing_ttl: Duration::ZERO,
            windows: Windows::default(),
            admit_after: 1,
            ttl_by_hits: Vec::new(),
            hot: 0,
            load_timeout: namespace.load_timeout,
            max_loads: namespace.max_loads,
            max_value: namespace.max_value,
            l1: false,
            index: index(&namespace.prefix),
            update_after_save: false,
            watched: namespace.watched,
            journaled: false,
            max_unproven: Duration::ZERO,
        });
        let spaces: Arc<[Space]> = caches.chain(namespaces).collect();
        let sizes = Sizes::new(spaces.iter().map(|space| space.max_value));
        Self {
            sizes,
            requests: Requests::of(&spaces),
            hottest: spaces.iter().map(hottest).collect(),
            load_times: LoadTimes::new(spaces.len()),
            spaces,
        }
    }

    /// The space with this id.
    ///
    /// # Panics
    /// Never for an id that the router made: both are built from the same configuration.
    pub fn get(&self, id: SpaceId) -> &Space {
        &self.spaces[usize::from(id.0)]
    }

    /// How large their values are, as far as is known.
    pub(super) fn sizes(&self) -> &Sizes {
        &self.sizes
    }

    /// Counts that `key` was asked for, where its space wants to know.
    pub(super) fn count_request(&self, id: SpaceId, key: &[u8]) {
        if !self.get(id).counts_requests() {
            return;
        }
        let count = self.requests.count(key);
        if let Some(Some(hottest)) = self.hottest.get(usize::from(id.0)) {
            hottest.note(&self.requests, key, count);
        }
    }

    /// How often `key` was asked for of late, as far as its space wants to know.
    pub(super) fn requests_of(&self, id: SpaceId, key: &[u8]) -> u32 {
        match self.get(id).counts_requests() {
            true => self.requests.of_key(key),
            false => 0,
        }
    }

    /// The keys of a space that were asked for most of late, the hottest first, with how often that was.
    pub(super) fn hottest(&self, id: SpaceId) -> Vec<(u32, Bytes)> {
        let hottest = self.hottest.get(usize::from(id.0));
        let hottest = hottest.and_then(Option::as_ref);
        hottest.map_or_else(Vec::new, |hottest| hottest.choose_now(&self.requests))
    }

    /// What a load of them takes.
    pub(super) fn load_times(&self) -> &LoadTimes {
        &self.load_times
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Space> {
        self.spaces.iter()
    }

    /// Whether a value with so much life `left` in Redis may be read without asking it: it is fresh, and not so close to its end
    /// that a hit may refresh it.
    pub(super) fn may_be_kept(&self, id: SpaceId, value: &[u8], left: Duration) -> bool {
        let windows = &self.get(id).windows;
        if !windows.is_used() || value == MISSING {
            return true;
        }
        // Earlier than ten loads before the end hardly any hit refreshes it: 1 in 20,000.
        let close = (self.load_times.of(id) * 10).min(windows.early);
        matches!(windows.zone(left), Zone::Fresh(fresh) if fresh > close)
    }

    /// The shard, below `shards`, that owns a space. By space and not by key: all misses of a cache meet in one place, so
    /// that those which wait together go to Postgres in one statement.
    pub fn owner(id: SpaceId, shards: usize) -> usize {
        usize::from(id.0) % shards.max(1)
    }

    /// The longest any read may wait.
    pub fn longest_load(&self) -> Duration {
        self.iter()
            .map(|space| space.load_timeout)
            .max()
            .unwrap_or_default()
    }
}

fn hottest(space: &Space) -> Option<Hottest> {
    (space.hot > 0).then(|| Hottest::new(space.hot))
}

fn updates(cache: &config::Cache) -> bool {
    let write = cache.write.as_ref();
    write.is_some_and(|write| write.after_save == config::AfterSave::Update)
}

fn windows(cache: &config::Cache) -> Windows {
    let aging = &cache.aging;
    Windows {
        revalidate: aging.stale_while_revalidate,
        on_error: aging.stale_if_error,
        soft_timeout: aging.soft_timeout,
        keeps_invalidated: aging.stale_if_error_after_invalidation,
        early: match aging.early_refresh {
            true => Windows::early_of(cache.ttl),
            false => Duration::ZERO,
        },
    }
}
