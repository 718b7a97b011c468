//! What is outdated, why a key is what it is, what is loaded ahead, and what is counted.

use super::super::problem::Refusal;
use super::failure::answered;
use super::keys::millis;
use super::{Answer, Answered, Call};
use crate::audit::{Explain, Explanation, token};
use crate::cache::{CacheError, Invalidate, Origin};
use crate::invalidation::{CountTargets, InvalidateTargets, InvalidationError};
use crate::keyspace::Targets;
use crate::supervisor::AskError;
use crate::warmup::{LookAtRuns, Outcome, Report, Warm, WarmError};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Keys, patterns and caches of one request at most.
const MAX_NAMED: usize = 10_000;
/// Patterns among them: each is compared with every key of a pass.
const MAX_PATTERNS: usize = 1024;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Named {
    keys: Vec<String>,
    patterns: Vec<String>,
    caches: Vec<String>,
    /// Only count what would be removed.
    dry_run: bool,
}

/// Nothing is invalidated, if one of the names is wrong.
pub(super) async fn invalidate(call: Call) -> Answered {
    let named: Named = call.json()?;
    let all = named.keys.len() + named.patterns.len() + named.caches.len();
    if !(1..=MAX_NAMED).contains(&all) {
        let detail = format!("name 1 to {MAX_NAMED} `keys`, `patterns` and `caches`, not {all}");
        return Err(Refusal::bad_request(detail));
    }
    let mut targets = Targets::default();
    let scope = &call.door.scope;
    for key in &named.keys {
        scope.add_key(key.as_bytes(), &mut targets)?;
    }
    for pattern in &named.patterns {
        scope.add_pattern(pattern.as_bytes(), &mut targets)?;
    }
    for cache in &named.caches {
        scope.add_space(cache, &mut targets)?;
    }
    if targets.patterns.len() > MAX_PATTERNS {
        let detail = format!(
            "{} patterns are more than {MAX_PATTERNS}",
            targets.patterns.len()
        );
        return Err(Refusal::bad_request(detail));
    }
    if named.dry_run {
        let answer = call
            .door
            .asked
            .invalidation
            .count
            .ask(CountTargets { targets });
        let would_remove = told(answer.await)?;
        return Ok(Answer::json(&json!({ "would_remove": would_remove })));
    }
    let removed = remove(&call, targets).await?;
    let names = [named.keys, named.patterns, named.caches]
        .concat()
        .join(" ");
    Ok(Answer::json(&json!({ "removed": removed })).changed(names, removed))
}

async fn remove(call: &Call, targets: Targets) -> Result<u64, Refusal> {
    if targets.patterns.is_empty() && targets.others.is_empty() {
        let ask = Invalidate::keys(targets.keys);
        return answered(call.door.cache().invalidate.ask(ask).await);
    }
    let origin = Origin::Command;
    let ask = InvalidateTargets { targets, origin };
    told(call.door.asked.invalidation.invalidate.ask(ask).await)
}

fn told(answer: Result<Result<u64, InvalidationError>, AskError>) -> Result<u64, Refusal> {
    Ok(answer?.map_err(InvalidationError::into_cache)?)
}

pub(super) async fn explain(call: Call) -> Answered {
    let key = call.door.route(&call.parameter()?)?;
    let ask = Explain {
        space: Some(key.space),
        key: key.key,
    };
    let known = call.door.asked.audit.explain.ask(ask).await?;
    let known = known.map_err(CacheError::Store)?;
    Ok(Answer::json(&explained(&known)))
}

/// The names of `CACHE.EXPLAIN`.
fn explained(known: &Explanation) -> Value {
    let story = &known.story;
    let by = known.instance;
    let event = |at: Instant| moment(at, &by.to_string());
    let leased = story.leased.map(|leased| {
        let mut event = event(leased.at);
        event.insert("token".to_owned(), token(leased.token).into());
        event
    });
    let invalidated = story.invalidated.as_ref().map(|last| {
        let mut event = moment(last.at, &last.by.to_string());
        let pattern = last.pattern.as_ref().map(|pattern| pattern.text());
        let named = String::from_utf8_lossy(pattern.unwrap_or(&known.redis_key));
        event.insert("source".to_owned(), last.origin.label().into());
        event.insert("named".to_owned(), named.into());
        event
    });
    let lease = known
        .lease
        .as_ref()
        .map(|lease| json!({ "token": token(lease.token), "ttl_ms": millis(lease.left) }));
    json!({
        "cache": known.cache,
        "redis_key": String::from_utf8_lossy(&known.redis_key),
        "cached": known.cached,
        "age_ms": known.age.map(millis),
        "ttl_ms": known.left.map(millis),
        "lease": lease,
        "l1": known.l1,
        "last_invalidation": invalidated,
        "invalidated_by": known.invalidated_by,
        "last_lease": leased,
        "last_fill": story.filled.map(event),
        "last_refused_fill": story.refused.map(event),
    })
}

/// How long ago, when by the clock (milliseconds since 1970), and in which daemon.
fn moment(at: Instant, by: &str) -> Map<String, Value> {
    let ago = at.elapsed();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok();
    let at = now.map(|now| millis(now.saturating_sub(ago)));
    [
        ("ago_ms".to_owned(), millis(ago).into()),
        ("at_ms".to_owned(), at.into()),
        ("by".to_owned(), by.into()),
    ]
    .into_iter()
    .collect()
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    caches: Vec<String>,
    /// Load what is fresh, too.
    force: bool,
}

pub(super) async fn warm(call: Call) -> Answered {
    let Asked { caches, force } = call.json()?;
    let names = caches.join(" ");
    let Some(warmup) = &call.door.asked.warmup else {
        return match caches.into_iter().next() {
            Some(name) => Err(WarmError::Unknown { name }.into()),
            None => Ok(Answer::json(&json!({}))),
        };
    };
    let outcomes = answered(warmup.warm.ask(Warm { caches, force }).await)?;
    let loaded = outcomes.iter().map(|(_, outcome)| outcome.loaded).sum();
    let told = outcomes.iter();
    let told: Map<String, Value> = told
        .map(|(cache, outcome)| (cache.clone(), Value::Object(came_of(outcome))))
        .collect();
    Ok(Answer::json(&told).changed(names, loaded))
}

pub(super) async fn warming(call: Call) -> Answered {
    let Some(warmup) = &call.door.asked.warmup else {
        return Ok(Answer::json(&json!({})));
    };
    let reports = warmup.look.ask(LookAtRuns).await?;
    let reports = reports.iter();
    let told: Map<String, Value> = reports
        .map(|report| (report.cache.clone(), Value::Object(stands(report))))
        .collect();
    Ok(Answer::json(&told))
}

/// Of the run that goes on, so far; else of the last.
fn stands(report: &Report) -> Map<String, Value> {
    let running = report.running.as_ref();
    let last = report.last.as_ref();
    let outcome = running.map(|(outcome, _)| outcome);
    let outcome = outcome.or(last.map(|(outcome, ..)| outcome));
    let mut told = outcome.map(came_of).unwrap_or_default();
    told.insert("running".to_owned(), running.is_some().into());
    told.insert("keys".to_owned(), running.map(|(_, of)| *of).into());
    let (cause, at) = last.map(|(_, cause, at)| (*cause, at)).unzip();
    told.insert("last_cause".to_owned(), cause.into());
    let ago = at.map(|at| millis(at.elapsed()));
    told.insert("last_ago_ms".to_owned(), ago.into());
    told
}

fn came_of(outcome: &Outcome) -> Map<String, Value> {
    [
        ("loaded".to_owned(), outcome.loaded.into()),
        ("failed".to_owned(), outcome.failed.into()),
        ("skipped".to_owned(), outcome.skipped.into()),
        ("took_ms".to_owned(), millis(outcome.took).into()),
        ("error".to_owned(), outcome.error.clone().into()),
    ]
    .into_iter()
    .collect()
}

/// What `INFO` tells under `# Cachewarden`.
pub(super) fn stats(call: Call) -> std::future::Ready<Answered> {
    let lines = (call.door.told.lines)().into_iter();
    let told = lines.map(|(name, value)| {
        let number = serde_json::from_str::<serde_json::Number>(&value);
        let value = number.map_or_else(|_text| Value::String(value), Value::Number);
        (name, value)
    });
    let told: Map<String, Value> = told.collect();
    std::future::ready(Ok(Answer::json(&told)))
}
