//! `SET`, `MSET`, `DEL` and `UNLINK`: what changes rows, or only what is cached of them.

use super::super::codec::reply;
use super::super::door::{Door, Named};
use super::super::failure;
use super::writes::count;
use super::{WrongArity, plain};
use crate::cache::{CacheError, CacheHandle, Invalidate, Remove, Save};
use crate::keyspace::RoutedKey;
use crate::plain as passed;
use crate::supervisor::AskError;
use bytes::Bytes;
use std::collections::HashSet;

pub(super) async fn set(door: &Door, caches: &CacheHandle, args: &[&[u8]], out: &mut Vec<u8>) {
    match args {
        [key, value] => save(door, caches, &[(key, value)], out).await,
        _ => {
            let text = "SET takes a key and a value here; leave its options out";
            reply::error(out, "ERR", text);
        }
    }
}

/// All of them in one transaction, or none: as in Redis, where nobody sees some of them.
pub(super) async fn mset(door: &Door, caches: &CacheHandle, args: &[&[u8]], out: &mut Vec<u8>) {
    let (pairs, rest) = args.as_chunks::<2>();
    if !rest.is_empty() {
        return reply::error(out, "ERR", WrongArity("mset"));
    }
    let pairs: Vec<(&[u8], &[u8])> = pairs.iter().map(|[key, value]| (*key, *value)).collect();
    save(door, caches, &pairs, out).await;
}

async fn save(door: &Door, caches: &CacheHandle, pairs: &[(&[u8], &[u8])], out: &mut Vec<u8>) {
    let mut values = Vec::with_capacity(pairs.len());
    let is_plain = |(key, _): &&(&[u8], &[u8])| door.is_plain(key);
    for (key, value) in pairs.iter().filter(|pair| !is_plain(pair)) {
        let key = match door.route(key) {
            Ok(key) => key,
            Err(error) => return failure::key(out, &error),
        };
        if !door.saves(&key) {
            return refuse(door, &key, out);
        }
        values.push((key, Bytes::copy_from_slice(value)));
    }
    if pairs.iter().any(|pair| is_plain(&pair)) {
        let text = "MSET takes plain keys, or keys of caches: both together are not set at once";
        return reply::error(out, "ERR", text);
    }
    let one = match values.as_slice() {
        [(key, _)] => Some(key.clone()),
        _ => None,
    };
    match answer(caches.save.ask(Save { values }).await) {
        Ok(()) => reply::simple(out, "OK"),
        Err(error) => failure::write(out, one.as_ref(), &error),
    }
}

fn refuse(door: &Door, key: &RoutedKey, out: &mut Vec<u8>) {
    let text = match door.space(key) {
        (cache, true) if door.deletes(key) => format!("cache '{cache}' declares no write.save"),
        (cache, true) => format!("cache '{cache}' declares no write"),
        (namespace, false) => {
            format!("namespace '{namespace}' is filled by its programs, not by SET")
        }
    };
    reply::error(out, "READONLY", text);
}

/// Of caches that declare it the rows are deleted, all of them in one transaction; of the others what is cached is removed, and
/// plain keys are deleted. Nothing is, if one of them leads nowhere.
pub(super) async fn delete(
    door: &Door,
    core: usize,
    verb: passed::Verb,
    keys: &[&[u8]],
    out: &mut Vec<u8>,
) {
    let caches = &door.caches[core];
    let (plain, others) = plain::split(door, keys);
    let (mut rows, mut known) = (Vec::new(), HashSet::new());
    let mut values = Invalidate::keys(Vec::new());
    for key in others {
        match door.named(key) {
            // Named twice, it is there once.
            Ok(Named::Ours(key)) if door.deletes(&key) => {
                if known.insert(key.key.clone()) {
                    rows.push(key);
                }
            }
            Ok(Named::Ours(key)) => values.keys.push(key),
            Ok(Named::Foreign(key)) => values.others.push(key),
            Err(error) => return failure::key(out, &error),
        }
    }
    let Some(mut counted) = plain::count(door, core, verb, &plain, out).await else {
        return;
    };
    let one = match rows.as_slice() {
        [key] => Some(key.clone()),
        _ => None,
    };
    if !rows.is_empty() {
        match answer(caches.remove.ask(Remove { keys: rows }).await) {
            Ok(deleted) => counted += deleted,
            Err(error) => return failure::write(out, one.as_ref(), &error),
        }
    }
    if !values.keys.is_empty() || !values.others.is_empty() {
        match answer(caches.invalidate.ask(values).await) {
            Ok(removed) => counted += removed,
            Err(error) => return failure::command(out, &error),
        }
    }
    count(counted, out);
}

fn answer<T>(answer: Result<Result<T, CacheError>, AskError>) -> Result<T, CacheError> {
    answer.unwrap_or_else(|error| Err(CacheError::Actor(error)))
}
