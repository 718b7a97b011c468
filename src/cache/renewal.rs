//! Loads keys anew for nobody who waits, though their values may still be there: under leases like every other fill, and in one
//! pass. What another load holds, or an invalidation takes away meanwhile, is left to others.

use super::CacheError;
use super::leases::{Accept, Ending, Fill, Lease, Leases, Token};
use super::means::Means;
use super::parts::{MAX_PART_KEYS, Part};
use super::spaces::{Source, Space};
use crate::keyspace::{RoutedKey, SpaceId};
use crate::repository::{Admission, LoadError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

/// What became of one key.
#[derive(Clone, Debug)]
pub enum Renewed {
    /// It was loaded and stored.
    Filled,
    /// It was loaded, and is not to be stored: too large, or missing and not remembered. What was there is removed.
    Passed,
    /// What is there was taken.
    Fresh,
    /// Another load holds its lease.
    Held,
    /// It was invalidated while it was loaded: whoever wants it loads it again.
    Refused,
    /// It could not be loaded, or Redis is away. What was there stays.
    Failed(CacheError),
}

impl Renewed {
    /// Why it could not be loaded, if it could not.
    pub fn error(&self) -> Option<&CacheError> {
        match self {
            Renewed::Failed(error) => Some(error),
            _ => None,
        }
    }
}

/// Loads what `accept` does not take, of keys of one space whose values are loaded by a query.
pub(super) async fn renew(
    means: &Means,
    space: SpaceId,
    keys: &[RoutedKey],
    accept: Accept,
) -> Vec<Renewed> {
    let mut renewed = Vec::with_capacity(keys.len());
    for keys in keys.chunks(MAX_PART_KEYS) {
        renewed.extend(renew_part(means, space, keys, accept).await);
    }
    renewed
}

async fn renew_part(
    means: &Means,
    id: SpaceId,
    keys: &[RoutedKey],
    accept: Accept,
) -> Vec<Renewed> {
    let space = means.spaces.get(id);
    let names: Vec<Bytes> = keys.iter().map(|key| key.key.clone()).collect();
    let token = Leases::new_token();
    let terms = means.terms(id, accept);
    let leases = match means.leases.acquire(&names, &token, terms).await {
        Ok(leases) => leases,
        Err(error) => {
            if !error.is_outage() {
                give_back(means, space, names, &token).await;
            }
            return vec![Renewed::Failed(CacheError::Store(error)); keys.len()];
        }
    };
    let taken: Vec<RoutedKey> = keys
        .iter()
        .zip(&leases)
        .filter(|(_, lease)| **lease == Lease::Taken)
        .map(|(key, _)| key.clone())
        .collect();
    let mut loaded = load(means, id, taken, &token).await.into_iter();
    let told = |lease| match lease {
        Lease::There { .. } | Lease::Pending(_) => Renewed::Fresh,
        Lease::Held => Renewed::Held,
        // There is a result for each that was taken.
        Lease::Taken => loaded
            .next()
            .unwrap_or(Renewed::Failed(CacheError::Restarted)),
    };
    leases.into_iter().map(told).collect()
}

/// Loads keys whose leases are ours, and ends these.
async fn load(means: &Means, id: SpaceId, keys: Vec<RoutedKey>, token: &Token) -> Vec<Renewed> {
    let space = means.spaces.get(id);
    if keys.is_empty() {
        return Vec::new();
    }
    means.trace.leased(keys.iter().map(|key| &key.key), token);
    let begun = Instant::now();
    let values = match (space.source, &means.repository) {
        (Source::Query(cache), Some(repository)) => {
            repository.load(cache, keys.clone(), Admission::Wait).await
        }
        (Source::Query(_) | Source::Program, _) => {
            let reason = Arc::from("nothing loads these keys but the program");
            vec![Err(LoadError::Unavailable { reason }); keys.len()]
        }
    };
    means.spaces.load_times().measured(id, begun.elapsed());
    let (mut endings, mut renewed) = (Vec::new(), Vec::new());
    for (key, value) in keys.iter().zip(values) {
        let (fill, outcome) = match value {
            Ok(value) => match means.to_store(key, None, value.as_ref()) {
                fill @ Fill::Store(..) => (fill, Renewed::Filled),
                fill => (fill, Renewed::Passed),
            },
            Err(error) => (Fill::Leave, Renewed::Failed(CacheError::Load(error))),
        };
        let counters = means.counters(id);
        match outcome {
            Renewed::Failed(_) => counters.load_failed.inc(),
            _ => counters.loaded.inc(),
        };
        let key = key.key.clone();
        endings.push(Ending { key, fill });
        renewed.push(outcome);
    }
    end(means, space, id, &endings, token, &mut renewed).await;
    renewed
}

/// Ends leases, part by part; what they filled, or why not, is put into `renewed`.
async fn end(
    means: &Means,
    space: &Space,
    id: SpaceId,
    endings: &[Ending],
    token: &Token,
    renewed: &mut [Renewed],
) {
    let counters = means.counters(id);
    let (mut rest, mut renewed) = (endings, renewed.iter_mut());
    while !rest.is_empty() {
        let part = Part::first(rest.iter().map(Ending::bytes));
        let (endings, after) = rest.split_at(part.keys);
        rest = after;
        let ours = means.leases.end(endings, token, space).await;
        for (place, (ending, renewed)) in endings.iter().zip(renewed.by_ref()).enumerate() {
            match (&ours, &*renewed) {
                (Ok(_), Renewed::Failed(_)) => {}
                (Ok(ours), Renewed::Filled) if ours.get(place) == Some(&true) => {
                    counters.filled.inc();
                    means.trace.filled([&ending.key].into_iter());
                }
                (Ok(ours), _) if ours.get(place) == Some(&true) => {}
                (Ok(_), _) => {
                    counters.refused.inc();
                    means.trace.refused(&ending.key);
                    *renewed = Renewed::Refused;
                }
                (Err(error), _) => *renewed = Renewed::Failed(CacheError::Store(error.clone())),
            }
        }
    }
}

/// The script may have run in part. If this fails too, the leases expire by themselves.
async fn give_back(means: &Means, space: &Space, names: Vec<Bytes>, token: &Token) {
    let bare: Vec<_> = names.into_iter().map(Ending::bare).collect();
    let _expires = means.leases.end(&bare, token, space).await;
}
