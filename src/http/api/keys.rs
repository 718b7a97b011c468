//! Values by their keys: read, saved, deleted.

use super::super::problem::Refusal;
use super::failure::answered;
use super::{Answer, Answered, Call};
use crate::cache::{Found, Invalidate, Read, Remove, Save, State};
use crate::keyspace::RoutedKey;
use actix_web::HttpResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::{AGE, CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::time::Duration;
use xxhash_rust::xxh3::xxh3_128;

/// Keys that one request reads at most: their values lie in memory together until they are sent.
const MAX_KEYS: usize = 1000;
/// Who keeps an answer asks each time whether it still holds: when it ends, only the daemon knows.
const ASK_EACH_TIME: &str = "no-cache";

/// The value's own bytes.
pub(super) async fn read(call: Call) -> Answered {
    let key = call.door.route(&call.parameter()?)?;
    let read = Read {
        keys: [key].into(),
        with_age: true,
    };
    let mut found = call.door.cache().read.ask(read).await?;
    let found = match found.pop() {
        Some(found) => found?,
        None => {
            return Err(Refusal::new(
                StatusCode::BAD_GATEWAY,
                "LOADFAIL",
                "no answer",
            ));
        }
    };
    let cached = told(found.state);
    let Some(value) = found.value else {
        let refusal = Refusal::new(StatusCode::NOT_FOUND, "MISSING", "there is no such row");
        return Err(refusal);
    };
    let tag = tag(&value);
    let asked = call.request.headers().get_all(IF_NONE_MATCH);
    let asked = asked.filter_map(|tags| tags.to_str().ok());
    let is_known = asked.flat_map(|tags| tags.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.trim_start_matches("W/") == tag
    });
    let mut response = match is_known {
        true => HttpResponse::NotModified(),
        false => HttpResponse::Ok(),
    };
    response
        .insert_header((ETAG, tag))
        .insert_header((AGE, found.age.as_secs().to_string()))
        .insert_header(("X-Cache", cached))
        .insert_header((CACHE_CONTROL, ASK_EACH_TIME));
    Ok(Answer::of(match is_known {
        true => response.finish(),
        false => response
            .insert_header((CONTENT_TYPE, "application/json"))
            .body(value),
    }))
}

/// The bytes decide, and nothing else: a value that was loaded anew and is the same is the same.
fn tag(value: &[u8]) -> String {
    format!("\"{:032x}\"", xxh3_128(value))
}

fn told(state: State) -> &'static str {
    match state {
        State::Hit | State::HitL1 => "HIT",
        State::Stale => "STALE",
        State::Miss | State::Missing => "MISS",
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    keys: Vec<String>,
}

#[derive(Serialize)]
struct Value {
    key: String,
    /// Null, if there is no such row, or the value cannot be told.
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<Failed>,
}

#[derive(Serialize)]
struct Failed {
    code: &'static str,
    detail: String,
}

/// An object for each key, in their order. A key that has no answer has an error; the others have theirs.
pub(super) async fn read_many(call: Call) -> Answered {
    let Keys { keys } = call.json()?;
    if keys.len() > MAX_KEYS {
        let detail = format!("{} keys are more than {MAX_KEYS}", keys.len());
        return Err(Refusal::bad_request(detail));
    }
    let routed: Vec<Result<RoutedKey, Refusal>> =
        keys.iter().map(|key| Ok(call.door.route(key)?)).collect();
    let read = Read {
        keys: routed.iter().flatten().cloned().collect(),
        with_age: true,
    };
    let found = call.door.cache().read.ask(read).await?;
    let mut found = found.into_iter();
    let values = keys.into_iter().zip(routed).map(|(key, routed)| {
        let found = routed.and_then(|_routed| match found.next() {
            Some(found) => Ok(found?),
            None => Err(Refusal::new(
                StatusCode::BAD_GATEWAY,
                "LOADFAIL",
                "no answer",
            )),
        });
        value(key, found)
    });
    let values: Vec<Value> = values.collect();
    Ok(Answer::json(&values))
}

fn value(key: String, found: Result<Found, Refusal>) -> Value {
    let failed = |code, detail: String| Value {
        key: key.clone(),
        value: None,
        state: None,
        age_ms: None,
        ttl_ms: None,
        error: Some(Failed { code, detail }),
    };
    let found = match found {
        Ok(found) => found,
        Err(refusal) => return failed(refusal.code, refusal.detail),
    };
    let raw = |bytes: Bytes| serde_json::from_slice::<Box<RawValue>>(&bytes);
    match found.value.map(raw).transpose() {
        Ok(value) => Value {
            value,
            state: Some(match found.state {
                State::Hit => "hit",
                State::HitL1 => "hit-l1",
                State::Stale => "stale",
                State::Miss => "miss",
                State::Missing => "missing",
            }),
            age_ms: Some(millis(found.age)),
            ttl_ms: Some(millis(found.left)),
            error: None,
            key,
        },
        // Somebody else wrote it there, or a program brought it to its namespace.
        Err(error) => failed("ERR", format!("the value is no JSON: {error}")),
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[derive(Serialize)]
struct Saved {
    saved: u64,
}

/// The body is the value.
pub(super) async fn save(call: Call) -> Answered {
    let name = call.parameter()?;
    let key = call.door.route(&name)?;
    if !call.door.saves(&key) {
        let space = call.door.space(&key);
        let detail = format!("`{space}` declares no write.save, so it is not written through here");
        let status = StatusCode::METHOD_NOT_ALLOWED;
        return Err(Refusal::new(status, "READONLY", detail).with_allow("GET, HEAD, DELETE"));
    }
    let values = vec![(key, call.body.clone())];
    answered(call.door.cache().save.ask(Save { values }).await)?;
    Ok(Answer::json(&Saved { saved: 1 }).changed(name, 1))
}

#[derive(Serialize)]
struct Removed {
    removed: u64,
}

/// How many rows were deleted; or, where the cache declares no delete, values removed.
pub(super) async fn delete(call: Call) -> Answered {
    let name = call.parameter()?;
    let key = call.door.route(&name)?;
    let cache = call.door.cache();
    let removed = match call.door.deletes(&key) {
        true => answered(cache.remove.ask(Remove { keys: vec![key] }).await)?,
        false => answered(cache.invalidate.ask(Invalidate::keys(vec![key])).await)?,
    };
    Ok(Answer::json(&Removed { removed }).changed(name, removed))
}
