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
use bytes::Bytes;
use std::time::Duration;

/// Keys of one statement, and of one call.
pub const MAX_WARM_KEYS: usize = 1000;
/// Keys of one script. Fewer than a reader's: three batches may stand before a read in Redis, which waits for all of them.
const PART_KEYS: usize = 64;
/// Bytes of values that one call may have in memory, as far as their size can be guessed.
const MAX_WARM_BYTES: usize = 8 << 20;
/// How often a key is tried whose fill is refused.
const TRIES: usize = 2;
/// Of a value's life, the part that it must have left to be left alone: a half.
const FRESH_PART: u32 = 2;

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

    /// Warms keys of one cache, at most [`MAX_WARM_KEYS`], each spelled once; what became of each, in their order. With
    /// `force`, however fresh they are. May be dropped: leases that were taken expire.
    ///
    /// # Errors
    /// If Redis does not answer; some of the keys may have been filled.
    pub async fn warm(
        &self,
        space: SpaceId,
        keys: &[RoutedKey],
        force: bool,
    ) -> Result<Vec<Warmed>, StoreError> {
        let mut warmed = vec![Warmed::Busy; keys.len()];
        let mut rest: Vec<usize> = (0..keys.len()).collect();
        for _ in 0..TRIES {
            let (refused, told) = self.warm_once(space, keys, rest, force).await?;
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
        force: bool,
    ) -> Result<(Vec<usize>, Vec<(usize, Warmed)>), StoreError> {
        let token = Leases::new_token();
        let (leased, mut told) = self.acquire(space, keys, &places, &token, force).await?;
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
        let ours = self.end(space, &endings, &token).await?;
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
        force: bool,
    ) -> Result<(Vec<usize>, Vec<(usize, Warmed)>), StoreError> {
        let declared = self.means.spaces.get(space);
        let life = expiry::lease_life(declared.load_timeout, self.means.store.timeout());
        let enough = |key: &RoutedKey| match force {
            true => Duration::MAX,
            false => declared.life(&key.key, None, 0) / FRESH_PART + declared.windows.grace(),
        };
        let (mut leased, mut told) = (Vec::with_capacity(places.len()), Vec::new());
        for places in places.chunks(PART_KEYS) {
            let names: Vec<Bytes> = places.iter().map(|at| keys[*at].key.clone()).collect();
            let enough: Vec<Duration> = places.iter().map(|at| enough(&keys[*at])).collect();
            let terms = (life, declared.journaled);
            let leases = &self.means.leases;
            let answers = leases.acquire_to_warm(&names, &enough, token, terms);
            for (place, answer) in places.iter().zip(answers.await?) {
                match answer {
                    Wish::Taken => leased.push(*place),
                    Wish::Held => told.push((*place, Warmed::Busy)),
                    Wish::Fresh => told.push((*place, Warmed::Fresh)),
                }
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
    ) -> Result<Vec<bool>, StoreError> {
        let is_stored = |ending: &Ending| matches!(ending.fill, Fill::Store(..));
        let fills = endings.iter().filter(|ending| is_stored(ending));
        let bytes = endings.iter().map(Ending::bytes).sum();
        self.means.sizes.seen(space, fills.count(), bytes);
        let declared = self.means.spaces.get(space);
        let counters = self.means.counters(space);
        let mut all = Vec::with_capacity(endings.len());
        let mut rest = endings;
        while !rest.is_empty() {
            let part = Part::first(rest.iter().take(PART_KEYS).map(Ending::bytes));
            let (now, after) = rest.split_at(part.keys);
            rest = after;
            let ours = self.means.leases.end(now, token, declared).await?;
            for (ending, ours) in now.iter().zip(&ours) {
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
            all.extend(ours);
        }
        Ok(all)
    }
}
