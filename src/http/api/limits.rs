//! Limits over HTTP: what was decided stands in the headers as well, as the middleware for programs puts it there.

use super::super::fields::Fields;
use super::super::problem::{self, Refusal};
use super::failure::answered;
use super::keys::millis;
use super::{Answer, Answered, Call};
use crate::keyspace::check_label;
use crate::rate_limit::{Ask, Asked, Decision, Refund, Release, Reset};
use actix_web::http::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use std::time::Duration;

/// The most that a request may ask for: that of a declared limit.
const MAX_AMOUNT: u64 = 1_000_000_000;
/// Bytes of the names of limits, with the commas between them.
const MAX_LIMITS_BYTES: usize = 512;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    limits: String,
    subject: String,
    #[serde(default = "one")]
    cost: u64,
    id: Option<String>,
}

fn one() -> u64 {
    1
}

/// What is refused is answered 429.
pub(super) async fn check(call: Call) -> Answered {
    let decision = decide(&call, Ask::Take).await?;
    if decision.allowed {
        return Ok(told(&decision));
    }
    let fields = Fields::of(&decision);
    Ok(Answer::of(problem::quota_exceeded(&decision, &fields)))
}

/// What would be refused is answered all the same: nobody has tried.
pub(super) async fn peek(call: Call) -> Answered {
    Ok(told(&decide(&call, Ask::Peek).await?))
}

async fn decide(call: &Call, ask: Ask) -> Result<Decision, Refusal> {
    let wanted: Wanted = call.json()?;
    if wanted.id.is_some() && ask == Ask::Peek {
        return Err(Refusal::bad_request(
            "a peek takes no `id`: nothing comes in flight",
        ));
    }
    let asked = Asked {
        limits: limits(wanted.limits)?,
        subject: label("subject", wanted.subject)?,
        cost: amount("cost", wanted.cost)?,
        id: wanted.id.map(|id| label("id", id)).transpose()?,
        ask,
    };
    let mut answers = call.door.asked.rate_limit.decide(vec![asked]).await;
    let silence = || Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE", "no answer");
    Ok(answers.pop().ok_or_else(silence)??)
}

fn told(decision: &Decision) -> Answer {
    let retry_after = decision.retry_after.filter(|_| !decision.allowed);
    let id = decision.id.as_ref().map(|id| String::from_utf8_lossy(id));
    let mut answer = Answer::json(&json!({
        "allowed": decision.allowed,
        "limit": decision.policy.limit,
        "remaining": decision.remaining,
        "retry_after_ms": retry_after.map(whole_millis),
        "reset_ms": whole_millis(decision.reset_after),
        "policy": decision.policy.name,
        "id": id,
    }));
    Fields::of(decision).put(answer.response.headers_mut());
    answer
}

/// Up to the next one: who comes back earlier is refused again.
fn whole_millis(time: Duration) -> u64 {
    let begun = !time.subsec_nanos().is_multiple_of(1_000_000);
    millis(time).saturating_add(u64::from(begun))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Forgotten {
    limit: String,
    subject: String,
}

pub(super) async fn reset(call: Call) -> Answered {
    let Forgotten { limit, subject } = call.json()?;
    let what = format!("{limit} {subject}");
    let reset = Reset {
        limit: limits(limit)?,
        subject: label("subject", subject)?,
    };
    let was_there = answered(call.door.asked.rate_limit.reset.ask(reset).await)?;
    let told = json!({ "reset": was_there });
    Ok(Answer::json(&told).changed(what, was_there.into()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unused {
    limit: String,
    subject: String,
    amount: u64,
}

pub(super) async fn refund(call: Call) -> Answered {
    let unused: Unused = call.json()?;
    let what = format!("{} {}", unused.limit, unused.subject);
    let refund = Refund {
        limit: limits(unused.limit)?,
        subject: label("subject", unused.subject)?,
        amount: amount("amount", unused.amount)?,
    };
    let refunded = answered(call.door.asked.rate_limit.refund.ask(refund).await)?;
    Ok(Answer::json(&json!({ "refunded": refunded })).changed(what, refunded))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ended {
    limit: String,
    subject: String,
    id: String,
}

pub(super) async fn release(call: Call) -> Answered {
    let ended: Ended = call.json()?;
    let what = format!("{} {}", ended.limit, ended.subject);
    let release = Release {
        limit: limits(ended.limit)?,
        subject: label("subject", ended.subject)?,
        id: label("id", ended.id)?,
    };
    let was_there = answered(call.door.asked.rate_limit.release.ask(release).await)?;
    let told = json!({ "released": was_there });
    Ok(Answer::json(&told).changed(what, was_there.into()))
}

/// Names of limits. Whether they are declared, the actor knows.
fn limits(names: String) -> Result<Bytes, Refusal> {
    match names.len() {
        length if length > MAX_LIMITS_BYTES => {
            let detail = format!("the names of limits have more than {MAX_LIMITS_BYTES} bytes");
            Err(Refusal::bad_request(detail))
        }
        _ => Ok(names.into()),
    }
}

fn label(what: &str, text: String) -> Result<Bytes, Refusal> {
    match check_label(text.as_bytes()) {
        Ok(()) => Ok(text.into()),
        Err(error) => {
            let detail = format!("the {what} {error}");
            Err(Refusal::new(StatusCode::BAD_REQUEST, "BADKEY", detail))
        }
    }
}

fn amount(what: &str, amount: u64) -> Result<u64, Refusal> {
    match (1..=MAX_AMOUNT).contains(&amount) {
        true => Ok(amount),
        false => Err(Refusal::bad_request(format!(
            "`{what}` is 1 to {MAX_AMOUNT}"
        ))),
    }
}
