//! How each declared space lives: what `[caches.*]` and `[namespaces.*]` say, as the engine needs it.

use super::sizes::Sizes;
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
    /// How long a read may wait for a load.
    pub load_timeout: Duration,
    /// Loads that may be under way at once while Redis is away.
    pub max_loads: usize,
    /// Larger values, in bytes, are answered but not cached.
    pub max_value: usize,
    /// Whether its values are kept in L1, too.
    pub l1: bool,
    pub index: Index,
    /// Whether changes in the database are told of its keys.
    pub watched: bool,
    /// How long its hits are given while changes may go on that nobody hears of; zero: for ever, marked.
    pub max_unproven: Duration,
}

impl Space {
    /// The life a value of `key` is given; `own` replaces the declared one and is not jittered.
    pub fn life(&self, key: &[u8], own: Option<Duration>) -> Duration {
        own.map_or_else(
            || expiry::jittered(self.ttl, self.ttl_jitter, key),
            |own| own.min(LONGEST_LIFE),
        )
    }
}

/// All declared spaces, by their id. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Spaces {
    spaces: Arc<[Space]>,
    sizes: Sizes,
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
            load_timeout: cache.load_timeout,
            max_loads: cache.max_loads,
            max_value: cache.max_value,
            l1: cache.l1,
            index: index(cache.key.prefix()),
            watched: cache.watched,
            max_unproven: cache.max_unproven,
        });
        let namespaces = namespaces.iter().map(|namespace| Space {
            name: namespace.name.clone(),
            source: Source::Program,
            ttl: namespace.ttl,
            ttl_jitter: 0.0,
            missing_ttl: Duration::ZERO,
            load_timeout: namespace.load_timeout,
            max_loads: namespace.max_loads,
            max_value: namespace.max_value,
            l1: false,
            index: index(&namespace.prefix),
            watched: namespace.watched,
            max_unproven: Duration::ZERO,
        });
        let spaces: Arc<[Space]> = caches.chain(namespaces).collect();
        let sizes = Sizes::new(spaces.iter().map(|space| space.max_value));
        Self { spaces, sizes }
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

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Space> {
        self.spaces.iter()
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
