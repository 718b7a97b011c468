//! Locks over HTTP. None is bound to a connection: who holds one extends it, or it ends.

use super::super::problem::Refusal;
use super::failure::answered;
use super::keys::millis;
use super::{Answer, Answered, Call};
use crate::keyspace::check_label;
use crate::lock::{Acquire, Extend, Force, Info, Kind, List, LockInfo, MAX_PERMITS, Release};
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

/// The longest that a request waits for a lock; who waits longer asks again with the same token.
const MAX_WAIT: Duration = Duration::from_secs(60);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    ttl_ms: u64,
    #[serde(default)]
    wait_ms: u64,
    #[serde(default)]
    shared: bool,
    permits: Option<u32>,
    token: Option<String>,
}

pub(super) async fn acquire(call: Call) -> Answered {
    let name = name(&call)?;
    let wanted: Wanted = call.json()?;
    let kind = match (wanted.shared, wanted.permits) {
        (false, None) => Kind::Exclusive,
        (true, None) => Kind::Shared,
        (false, Some(permits)) if (1..=MAX_PERMITS).contains(&permits) => Kind::Permits(permits),
        (false, Some(_)) => {
            return Err(Refusal::bad_request(format!(
                "`permits` is 1 to {MAX_PERMITS}"
            )));
        }
        (true, Some(_)) => {
            let detail = "a lock is `shared` or has `permits`, not both";
            return Err(Refusal::bad_request(detail));
        }
    };
    let wait = Duration::from_millis(wanted.wait_ms);
    if wait > MAX_WAIT {
        let detail = format!("`wait_ms` is at most {}", millis(MAX_WAIT));
        return Err(Refusal::bad_request(detail));
    }
    let acquire = Acquire {
        name: name.clone(),
        kind,
        ttl: positive(wanted.ttl_ms)?,
        wait,
        token: match wanted.token {
            Some(text) => token(&text)?,
            None => Uuid::new_v4(),
        },
        session: None,
        attempt: Uuid::new_v4(),
    };
    // Dropped when the client leaves: the actor gives up what nobody waits for.
    let granted = answered(call.door.asked.locks.acquire.ask(acquire).await)?;
    let Some(grant) = granted else {
        let detail = "others hold the lock";
        return Err(Refusal::new(StatusCode::CONFLICT, "HELD", detail));
    };
    let told = json!({ "token": grant.token.to_string(), "fence": grant.fence });
    Ok(Answer::json(&told).changed(text(&name), 1))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Longer {
    token: String,
    ttl_ms: u64,
}

pub(super) async fn extend(call: Call) -> Answered {
    let name = name(&call)?;
    let longer: Longer = call.json()?;
    let extend = Extend {
        name: name.clone(),
        token: token(&longer.token)?,
        ttl: positive(longer.ttl_ms)?,
    };
    let extended = answered(call.door.asked.locks.extend.ask(extend).await)?;
    let told = json!({ "extended": extended });
    Ok(Answer::json(&told).changed(text(&name), extended.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Held {
    token: String,
}

pub(super) async fn release(call: Call) -> Answered {
    let name = name(&call)?;
    let held: Held = call.json()?;
    let release = Release {
        name: name.clone(),
        token: token(&held.token)?,
    };
    let released = answered(call.door.asked.locks.release.ask(release).await)?;
    let told = json!({ "released": released });
    Ok(Answer::json(&told).changed(text(&name), released.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Nothing {}

pub(super) async fn force(call: Call) -> Answered {
    let name = name(&call)?;
    let Nothing {} = call.json()?;
    let peer = call.request.peer_addr();
    let force = Force {
        name: name.clone(),
        by: peer.map_or("a unix socket (http)".to_owned(), |peer| {
            format!("{} (http)", peer.ip())
        }),
    };
    let forced = answered(call.door.asked.locks.force.ask(force).await)?;
    let told = json!({ "forced": forced });
    Ok(Answer::json(&told).changed(text(&name), forced.into()))
}

pub(super) async fn info(call: Call) -> Answered {
    let info = Info {
        name: name(&call)?,
        session: None,
    };
    let known = answered(call.door.asked.locks.info.ask(info).await)?;
    Ok(Answer::json(&told(&known)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    #[serde(default)]
    prefix: String,
}

pub(super) async fn list(call: Call) -> Answered {
    let Listed { prefix } = call.query()?;
    let prefix = match prefix.is_empty() {
        true => Bytes::new(),
        false => checked(prefix)?,
    };
    let locks = answered(call.door.asked.locks.list.ask(List { prefix }).await)?;
    let locks: Vec<Value> = locks.iter().map(told).collect();
    Ok(Answer::json(&locks))
}

fn told(known: &LockInfo) -> Value {
    json!({
        "name": text(&known.name),
        "held": known.held,
        "fence": known.fence,
        "ttl_ms": millis(known.left),
        "waiters": known.waiters,
    })
}

fn name(call: &Call) -> Result<Bytes, Refusal> {
    checked(call.parameter()?)
}

fn checked(name: String) -> Result<Bytes, Refusal> {
    match check_label(name.as_bytes()) {
        Ok(()) => Ok(name.into()),
        Err(error) => {
            let detail = format!("the lock's name {error}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "BADKEY", detail))
        }
    }
}

/// One way to write it: others, with braces or without hyphens, are most often something else.
fn token(text: &str) -> Result<Uuid, Refusal> {
    const HYPHENATED: usize = 36;
    let hyphenated = Some(text).filter(|text| text.len() == HYPHENATED);
    let parsed = hyphenated.and_then(|text| Uuid::try_parse(text).ok());
    let detail = "`token` is no UUID; pass the one that acquiring the lock has answered";
    parsed.ok_or_else(|| Refusal::bad_request(detail))
}

fn positive(ttl_ms: u64) -> Result<Duration, Refusal> {
    match ttl_ms {
        0 => Err(Refusal::bad_request("`ttl_ms` is 1 at least")),
        ttl_ms => Ok(Duration::from_millis(ttl_ms)),
    }
}

fn text(name: &Bytes) -> String {
    String::from_utf8_lossy(name).into_owned()
}
