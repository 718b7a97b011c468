//! `EXISTS`, `TTL`, `PTTL`: what Redis holds, without loading. (`GET`, `MGET` and `CACHE.GET` are batched.)

use super::super::batch::millis;
use super::super::codec::reply;
use super::super::door::Door;
use super::super::failure;
use super::plain;
use crate::cache::{CacheHandle, Inspect};
use crate::keyspace::RoutedKey;
use crate::plain as passed;
use std::time::Duration;

#[derive(Clone, Copy)]
pub(super) enum Unit {
    Seconds,
    Milliseconds,
}

pub(super) async fn exists(door: &Door, core: usize, keys: &[&[u8]], out: &mut Vec<u8>) {
    let (plain, others) = plain::split(door, keys);
    let verb = passed::Verb::Exists;
    let Some(plain) = plain::count(door, core, verb, &plain, out).await else {
        return;
    };
    if let Some(left) = inspect(door, &door.caches[core], &others, out).await {
        let there = u64::try_from(left.iter().flatten().count()).unwrap_or(u64::MAX);
        let sum = there.saturating_add(plain);
        reply::integer(out, i64::try_from(sum).unwrap_or(i64::MAX));
    }
}

pub(super) async fn ttl(
    door: &Door,
    caches: &CacheHandle,
    key: &[u8],
    unit: Unit,
    out: &mut Vec<u8>,
) {
    let Some(left) = inspect(door, caches, &[key], out).await else {
        return;
    };
    reply::integer(
        out,
        match (left.first().copied().flatten(), unit) {
            (None, _) => -2,
            (Some(left), Unit::Milliseconds) => millis(left),
            // Rounded as Redis rounds it.
            (Some(left), Unit::Seconds) => millis(left).saturating_add(500) / 1000,
        },
    );
}

/// Remaining lives; or `None` when the refusal is written.
async fn inspect(
    door: &Door,
    caches: &CacheHandle,
    keys: &[&[u8]],
    out: &mut Vec<u8>,
) -> Option<Vec<Option<Duration>>> {
    let keys = route_all(door, keys, out)?;
    match caches.inspect.ask(Inspect { keys }).await {
        Ok(Ok(left)) => return Some(left),
        Ok(Err(error)) => failure::command(out, &error),
        Err(error) => failure::ask(out, error),
    }
    None
}

/// All keys, or `None` when the first bad one's refusal is written.
fn route_all(door: &Door, keys: &[&[u8]], out: &mut Vec<u8>) -> Option<Vec<RoutedKey>> {
    let routed: Result<Vec<_>, _> = keys.iter().map(|key| door.route(key)).collect();
    routed.map_err(|error| failure::key(out, &error)).ok()
}
