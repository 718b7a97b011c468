//! Loads keys that nobody has asked for yet: the short way, without flights.
//!
//! 1. One script takes the leases of those that need it (`scripts/acquire_to_warm.lua`): what has more than half of its life
//!    left, or is being loaded, is left alone.
//! 2. One statement loads them.
//! 3. The script of every load's end fills them, each under its lease: what was invalidated meanwhile is refused, and tried
//!    once more.
//!
//! Nobody waits for these loads, and no flight knows of them: a read that comes meanwhile finds the lease held, and waits for
//! it as for that of another daemon.

use super::leases::{Ending, Fill, Leases, Token, Wish};
use super::means::Means;
use super::parts::Part;
use super::spaces::Source;
use crate::keyspace::{RoutedKey, SpaceId, expiry};
use crate::repository::{Admission, LoadError, Repository};
use crate::store::StoreError;
use crate::telemetry::CacheMetrics;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use std::time::Duration;

/// Keys of one statement, and of one call.
pub const MAX_WARM_KEYS: usize = 1000;
/// Bytes of values that one call may have in memory, as far as their size can be guessed.
const MAX_WARM_BYTES: usize = 8 << 20;
/// How often a key is tried whose fill is refused.
const TRIES: usize = 2;
/// Of a value's life, the part that it must have left to be left alone: a half.
const FRESH_PART: u32 = 2;

/// How much of Redis a call takes at once: a read that comes meanwhile waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// Nobody reads.
    Brisk,
    /// Somebody does.
    Courteous,
}

impl Manner {
    /// Keys of one script: 64 take half a millisecond of Redis, 4 less than what a read takes on its way.
    fn part_keys(self) -> usize {
        match self {
            Manner::Brisk => 64,
            Manner::Courteous => 4,
        }
    }

    /// Scripts under way: one after the other, Redis stands still for a way there and back each.
    fn parts_at_once(self) -> usize {
        match self {
            Manner::Brisk => 8,
            Manner::Courteous => 1,
        }
    }
}

/// What became of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Warmed {
    /// Loaded and cached, or remembered as missing.
    Loaded,
    /// Its value has more than half of its life left.
    Fresh,
    /// Another load has its lease, or it was invalidated again and again meanwhile: whoever reads it loads it.
    Busy,
    /// Postgres did not load it.
    NotLoaded(LoadError),
    /// Its value, of so many bytes, is not cached.
    TooLarge(usize),
}

/// Warms keys, with connections of its own, so that no read waits behind it. Cheap to clone.
#[derive(Clone)]
pub struct Warming {
    means: Means,
    repository: Repository,
}

impl Warming {
    /// What `means` works with is its own, and so is `repository`.
    pub fn new(means: Means, repository: Repository) -> Self {
        Self { means, repository }
    }

    /// The keys of a space that reads asked for most of late, the hottest first, with how often that was.
    pub fn hottest(&self, space: SpaceId) -> Vec<(u32, Bytes)> {
        self.means.spaces.hottest(space)
    }

    /// How many keys of a space one call may have: at most [`MAX_WARM_KEYS`], fewer if its values are large.
    pub fn most_keys(&self, space: SpaceId) -> usize {
        let bytes = self.means.sizes.expected(space).max(1);
        (MAX_WARM_BYTES / bytes).clamp(1, MAX_WARM_KEYS)
    }

    /// How many keys have been read here so far, of all caches.
    pub fn reads(&self) -> u64 {
        self.means.counters.iter().map(CacheMetrics::reads).sum()
    }

    /// Warms keys of one cache, at most [`MAX_WARM_KEYS`], each spelled once; what became of each, in their order. With
    /// `force`, however fresh they are. May be dropped: leases that were taken expire.
    ///
    /// # Errors
    /// If Redis does not answer; some of the keys may have been filled.
    pub async fn warm(
        &self,
        space: SpaceId,
        keys: &[RoutedKey],
        (manner, force): (Manner, bool),
    ) -> Result<Vec<Warmed>, StoreError> {
        let mut warmed = vec![Warmed::Busy; keys.len()];
        let mut rest: Vec<usize> = (0..keys.len()).collect();
        for _ in 0..TRIES {
            let (refused, told) = self.warm_once(space, keys, rest, (manner, force)).await?;
            for (place, told) in told {
                warmed[place] = told;
            }
            rest = refused;
            if rest.is_empty() {
                break;
            }
        }
        Ok(warmed)
    }

    /// Warms the keys at these places; which of them were refused, and what became of the others.
    async fn warm_once(
        &self,
        space: SpaceId,
        keys: &[RoutedKey],
        places: Vec<usize>,
        (manner, force): (Manner, bool),
    ) -> Result<(Vec<usize>, Vec<(usize, Warmed)>), StoreError> {
        let token = Leases::new_token();
        let wished = self.acquire(space, keys, &places, &token, (manner, force));
        let (leased, mut told) = wished.await?;
        let Source::Query(cache) = self.means.spaces.get(space).source else {
            return Ok((Vec::new(), told)); // never: programs fill their spaces themselves
        };
        if leased.is_empty() {
            return Ok((Vec::new(), told));
        }
        let wanted = leased.iter().map(|place| keys[*place].clone()).collect();
        let timer = self.means.metrics.timings.load(leased.len());
        let values = self.repository.load(cache, wanted, Admission::Wait).await;
        drop(timer);
        let mut endings = Vec::with_capacity(leased.len());
        for (place, value) in leased.iter().zip(values) {
            let (ending, outcome) = self.outcome(space, &keys[*place], value);
            endings.push(ending);
            told.push((*place, outcome));
        }
        let ours = self.end(space, &endings, &token, manner).await?;
        let refused = leased.iter().zip(ours);
        let refused = refused.filter(|(_, ours)| !ours).map(|(place, _)| *place);
        let refused: Vec<usize> = refused.collect();
        told.retain(|(place, outcome)| *outcome != Warmed::Loaded || !refused.contains(place));
        Ok((refused, told))
    }

    /// Takes leases; which were had, and what became of the other keys.
    async fn acquire(
        &self,
        space: SpaceId,
        keys: &[RoutedKey],
        places: &[usize],
        token: &Token,
        (manner, force): (Manner, bool),
    ) -> Result<(Vec<usize>, Vec<(usize, Warmed)>), StoreError> {
        let declared = self.means.spaces.get(space);
        let life = expiry::lease_life(declared.load_timeout, self.means.store.timeout());
        let terms = (life, declared.journaled);
        let enough = |key: &RoutedKey| match force {
            true => Duration::MAX,
            false => declared.life(&key.key, None, 0) / FRESH_PART + declared.windows.grace(),
        };
        let part = async |places: &[usize]| {
            let names: Vec<Bytes> = places.iter().map(|at| keys[*at].key.clone()).collect();
            let enough: Vec<Duration> = places.iter().map(|at| enough(&keys[*at])).collect();
            let leases = &self.means.leases;
            leases.acquire_to_warm(&names, &enough, token, terms).await
        };
        let parts = stream::iter(places.chunks(manner.part_keys()).map(part));
        let parts = parts.buffered(manner.parts_at_once());
        let wishes: Vec<Vec<Wish>> = parts.try_collect().await?;
        let (mut leased, mut told) = (Vec::with_capacity(places.len()), Vec::new());
        for (place, wish) in places.iter().zip(wishes.into_iter().flatten()) {
            match wish {
                Wish::Taken => leased.push(*place),
                Wish::Held => told.push((*place, Warmed::Busy)),
                Wish::Fresh => told.push((*place, Warmed::Fresh)),
            }
        }
        let taken = leased.iter().map(|place| &keys[*place].key);
        self.means.trace.leased(taken, token);
        Ok((leased, told))
    }

    /// How the load of a key ends, and what that is called unless it is refused. It is cached whether it was asked for before or
    /// not, as it was declared.
    fn outcome(
        &self,
        space: SpaceId,
        key: &RoutedKey,
        value: Result<Option<Bytes>, LoadError>,
    ) -> (Ending, Warmed) {
        let counters = self.means.counters(space);
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                counters.load_failed.inc();
                return (Ending::bare(key.key.clone()), Warmed::NotLoaded(error));
            }
        };
        counters.loaded.inc();
        let fill = self.means.to_store_after(0, key, None, value.as_ref());
        let warmed = match (&fill, value) {
            (Fill::Store(..), _) | (_, None) => Warmed::Loaded,
            (_, Some(value)) => Warmed::TooLarge(value.len()),
        };
        let key = key.key.clone();
        (Ending { key, fill }, warmed)
    }

    /// Fills, and gives leases back; whether each lease was still ours.
    async fn end(
        &self,
        space: SpaceId,
        endings: &[Ending],
        token: &Token,
        manner: Manner,
    ) -> Result<Vec<bool>, StoreError> {
        let is_stored = |ending: &Ending| matches!(ending.fill, Fill::Store(..));
        let fills = endings.iter().filter(|ending| is_stored(ending));
        let bytes = endings.iter().map(Ending::bytes).sum();
        self.means.sizes.seen(space, fills.count(), bytes);
        let declared = self.means.spaces.get(space);
        let counters = self.means.counters(space);
        let part = async |part: &[Ending]| self.means.leases.end(part, token, declared).await;
        let parts = stream::iter(parts(endings, manner).map(part));
        let parts = parts.buffered(manner.parts_at_once());
        let ours: Vec<Vec<bool>> = parts.try_collect().await?;
        let ours: Vec<bool> = ours.into_iter().flatten().collect();
        for (ending, ours) in endings.iter().zip(&ours) {
            match (ours, is_stored(ending)) {
                (true, true) => {
                    counters.filled.inc();
                    self.means.trace.filled([&ending.key].into_iter());
                }
                (true, false) => {}
                (false, _) => {
                    counters.refused.inc();
                    self.means.trace.refused(&ending.key);
                }
            }
        }
        Ok(ours)
    }
}

/// What goes in one script each.
fn parts(endings: &[Ending], manner: Manner) -> impl Iterator<Item = &[Ending]> {
    let mut rest = endings;
    std::iter::from_fn(move || {
        let part = Part::first(rest.iter().take(manner.part_keys()).map(Ending::bytes));
        let (now, after) = rest.split_at_checked(part.keys)?;
        rest = after;
        Some(now).filter(|now| !now.is_empty())
    })
}
