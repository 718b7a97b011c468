//! `DEL`, `UNLINK`, `CACHE.INVALIDATE`, and the refusal of `SET`.

use super::super::codec::reply;
use super::super::door::Door;
use super::super::failure;
use super::reads::route_all;
use crate::cache::{CacheHandle, Invalidate};

/// Characters that make an argument of `CACHE.INVALIDATE` a pattern.
const GLOB: [u8; 4] = *b"*?[\\";

pub(super) fn set(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let [key, _value] = args else {
        let text = "SET takes a key and a value here; leave its options out";
        return reply::error(out, "ERR", text);
    };
    match door.route(key) {
        Err(error) => failure::key(out, &error),
        Ok(key) => {
            let text = match door.space(&key) {
                (cache, true) => format!("cache '{cache}' declares no write"),
                (namespace, false) => {
                    format!("namespace '{namespace}' is filled by its programs, not by SET")
                }
            };
            reply::error(out, "READONLY", text);
        }
    }
}

pub(super) async fn delete(door: &Door, caches: &CacheHandle, keys: &[&[u8]], out: &mut Vec<u8>) {
    let Some(keys) = route_all(door, keys, out) else {
        return;
    };
    match caches.invalidate.ask(Invalidate { keys }).await {
        Ok(Ok(removed)) => reply::integer(out, i64::try_from(removed).unwrap_or(i64::MAX)),
        Ok(Err(error)) => failure::command(out, &error),
        Err(error) => failure::ask(out, error),
    }
}

pub(super) async fn invalidate(
    door: &Door,
    caches: &CacheHandle,
    keys: &[&[u8]],
    out: &mut Vec<u8>,
) {
    let is_pattern = |key: &&&[u8]| key.iter().any(|byte| GLOB.contains(byte));
    if let Some(pattern) = keys.iter().find(is_pattern) {
        let shown = String::from_utf8_lossy(&pattern[..pattern.len().min(64)]);
        let text = format!("'{shown}' is a pattern; this version invalidates keys by name only");
        return reply::error(out, "BADPATTERN", text);
    }
    delete(door, caches, keys, out).await;
}
