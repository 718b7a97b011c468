//! What is answered where a value cannot be loaded: the old one, marked, if its cache allows that.
//!
//! It is fetched when it is given, and never kept by whoever waits for a load: what was invalidated meanwhile is gone. Only a
//! cache that asks for that has a copy which outlives invalidations, and gives it only while Postgres is down.

use super::CacheError;
use super::collect::{Collector, Slot};
use super::freshness::Standing;
use super::leases::MISSING;
use super::means::Means;
use super::messages::{Answer, Found, State};
use super::parts::MAX_PART_KEYS;
use crate::keyspace::RoutedKey;
use crate::keyspace::names::copy_of;
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Who waits for a key that could not be loaded, and what he is told if there is no old value.
pub(super) struct Stranded {
    pub(super) key: RoutedKey,
    pub(super) slots: Vec<Slot>,
    pub(super) error: CacheError,
}

/// A read whose load takes longer than its cache's `soft_timeout`. It goes on waiting if there is no old value.
pub(super) struct Late {
    pub(super) key: RoutedKey,
    pub(super) collector: Arc<Collector>,
    pub(super) place: usize,
}

/// Answers them.
pub(super) async fn rescue(means: &Means, stranded: Vec<Stranded>) {
    let keys: Vec<RoutedKey> = stranded.iter().map(|one| one.key.clone()).collect();
    let old = fetch(means, &keys).await;
    for (one, old) in stranded.into_iter().zip(old) {
        let answer: Answer = old.ok_or(one.error);
        let readers = u64::try_from(one.slots.len()).unwrap_or(u64::MAX);
        means.count(one.key.space, &answer, readers);
        for slot in one.slots {
            slot.answer(answer.clone());
        }
    }
}

/// Answers those for whom there is an old value.
pub(super) async fn relieve(means: &Means, late: Vec<Late>) {
    let keys: Vec<RoutedKey> = late.iter().map(|one| one.key.clone()).collect();
    let old = fetch(means, &keys).await;
    for (one, old) in late.into_iter().zip(old) {
        let Some(old) = old else { continue };
        let mut counted = false;
        one.collector.answer(one.place, || {
            counted = true;
            Ok(old.clone())
        });
        if counted {
            means.count(one.key.space, &Ok(old), 1);
        }
    }
}

/// Whether an old value is better than to be told why a key could not be loaded.
pub(super) fn is_survived(means: &Means, key: &RoutedKey) -> bool {
    !means.spaces.get(key.space).windows.on_error.is_zero()
}

async fn fetch(means: &Means, keys: &[RoutedKey]) -> Vec<Option<Found>> {
    let mut found = Vec::with_capacity(keys.len());
    for keys in keys.chunks(MAX_PART_KEYS) {
        found.extend(fetch_part(means, keys).await);
    }
    found
}

async fn fetch_part(means: &Means, keys: &[RoutedKey]) -> Vec<Option<Found>> {
    let asked = Instant::now();
    let names: Vec<Bytes> = keys.iter().map(|key| key.key.clone()).collect();
    let mut found = read(means, keys, &names).await;
    for (key, found) in keys.iter().zip(&mut found) {
        let space = means.spaces.get(key.space);
        let is_proven = means.freshness.standing(space, asked) != Standing::Unproven;
        let may_be_given = is_proven && !means.sweeps.doubts(&key.key, asked);
        *found = found.take().filter(|_| may_be_given);
    }
    // Only a Postgres that is down excuses an answer from before an invalidation.
    let repository = means.repository.as_ref();
    let is_down = repository.is_some_and(|repository| !repository.is_up());
    let copied = |(place, key): (usize, &RoutedKey)| {
        let keeps = means.spaces.get(key.space).windows.keeps_invalidated;
        (is_down && keeps && found[place].is_none()).then_some(place)
    };
    let places: Vec<usize> = keys.iter().enumerate().filter_map(copied).collect();
    if !places.is_empty() {
        let keys: Vec<RoutedKey> = places.iter().map(|place| keys[*place].clone()).collect();
        let names: Vec<Bytes> = keys.iter().map(|key| copy_of(&key.key).into()).collect();
        for (place, copy) in places.into_iter().zip(read(means, &keys, &names).await) {
            found[place] = copy;
        }
    }
    found
}

/// What lies under `names`, as the old values of `keys`. Nothing where Redis is away.
async fn read(means: &Means, keys: &[RoutedKey], names: &[Bytes]) -> Vec<Option<Found>> {
    let with_life = vec![true; names.len()];
    let held = means.store.mget_with_pttl(names, &with_life).await;
    let Ok(held) = held else {
        return vec![None; keys.len()];
    };
    let old = |(key, (left, value)): (&RoutedKey, (i64, Option<Bytes>))| {
        let value = value?;
        let left = Duration::from_millis(u64::try_from(left).unwrap_or_default());
        Some(Found {
            age: means.spaces.get(key.space).age(&key.key, &value, left),
            value: Some(value).filter(|value| value != MISSING),
            state: State::Stale,
            left,
        })
    };
    keys.iter().zip(held).map(old).collect()
}
