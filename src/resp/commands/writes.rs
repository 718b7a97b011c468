//! `CACHE.INVALIDATE`, `CACHE.COUNT`, `CACHE.CANCEL`, `PUBLISH`: what is outdated, whoever changed it.

use super::super::codec::reply;
use super::super::door::Door;
use super::super::failure;
use crate::cache::{CacheHandle, Invalidate, Origin};
use crate::invalidation::{
    CancelSweeps, CountTargets, InvalidateTargets, InvalidationError, Publish,
};
use crate::keyspace::{Pattern, TargetError, Targets};
use crate::supervisor::AskError;
use bytes::Bytes;

/// Patterns of one command at most: each is compared with every key of a pass.
const MAX_PATTERNS: usize = 1024;

pub(super) async fn invalidate_keys(caches: &CacheHandle, ask: Invalidate, out: &mut Vec<u8>) {
    match caches.invalidate.ask(ask).await {
        Ok(Ok(removed)) => count(removed, out),
        Ok(Err(error)) => failure::command(out, &error),
        Err(error) => failure::ask(out, error),
    }
}

pub(super) async fn invalidate(
    door: &Door,
    caches: &CacheHandle,
    args: &[&[u8]],
    out: &mut Vec<u8>,
) {
    let Some(targets) = targets(door, args, out) else {
        return;
    };
    if targets.patterns.is_empty() && targets.others.is_empty() {
        return invalidate_keys(caches, Invalidate::keys(targets.keys), out).await;
    }
    let origin = Origin::Command;
    let ask = InvalidateTargets { targets, origin };
    let answer = door.invalidation.invalidate.ask(ask).await;
    write_answer(answer, out);
}

/// What `CACHE.INVALIDATE` would remove now.
pub(super) async fn count_matches(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    if let Some(targets) = targets(door, args, out) {
        let answer = door.invalidation.count.ask(CountTargets { targets }).await;
        write_answer(answer, out);
    }
}

/// Gives up sweeps, without touching a key: so any pattern may be named, `*` for all of them.
pub(super) async fn cancel(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let patterns: Result<Vec<Pattern>, _> = args.iter().map(|arg| Pattern::parse(arg)).collect();
    match patterns {
        Ok(patterns) => {
            let answer = door
                .invalidation
                .cancel
                .ask(CancelSweeps { patterns })
                .await;
            write_answer(answer, out);
        }
        Err(error) => failure::target(out, &TargetError::Pattern(error)),
    }
}

/// On Redis itself, for those who only know this address.
pub(super) async fn publish(door: &Door, channel: &[u8], payload: &[u8], out: &mut Vec<u8>) {
    let is_ours = |known: &&String| known.as_bytes() == channel;
    let Some(channel) = door.channels.iter().find(is_ours) else {
        let known = door.channels.join(", ");
        let text = format!("this door publishes on channels for invalidations only ({known})");
        return reply::error(out, "ERR", text);
    };
    let ask = Publish {
        channel: channel.clone(),
        payload: Bytes::copy_from_slice(payload),
    };
    write_answer(door.invalidation.publish.ask(ask).await, out);
}

/// All that is named, or `None` when the first refusal is written.
fn targets(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) -> Option<Targets> {
    let mut targets = Targets::default();
    for arg in args {
        if let Err(error) = door.scope.add(arg, &mut targets) {
            failure::target(out, &error);
            return None;
        }
    }
    let patterns = targets.patterns.len();
    if patterns > MAX_PATTERNS {
        let text = format_args!("{patterns} patterns in one command, more than {MAX_PATTERNS}");
        reply::error(out, "ERR", text);
        return None;
    }
    Some(targets)
}

fn write_answer(answer: Result<Result<u64, InvalidationError>, AskError>, out: &mut Vec<u8>) {
    match answer {
        Ok(Ok(number)) => count(number, out),
        Ok(Err(error)) => failure::invalidation(out, error),
        Err(error) => failure::ask(out, error),
    }
}

pub(super) fn count(number: u64, out: &mut Vec<u8>) {
    reply::integer(out, i64::try_from(number).unwrap_or(i64::MAX));
}
