//! Limits: that no more is let through than was declared, whatever happens.

mod answers;
mod exact;
mod fleet;
mod memory;
mod outage;
mod refusing;

use bytes::Bytes;
use cachewarden::Warden;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::rate_limit::{Ask, Asked, Check, Decision, LimitError, Refund, Release, Reset};

use super::support::daemon::{InProcess, config_without_postgres};

/// A daemon with these limits on this Redis. Their text may begin with dotted keys.
async fn daemon(redis: &Redis, limits: &str) -> InProcess {
    InProcess::start(&config_without_postgres(&redis.redis_url(), limits)).await
}

/// Asks for so much.
async fn check(warden: &Warden, limits: &str, subject: &str, cost: u64) -> Decision {
    let decision = warden.check_limit(limits, subject, cost).await;
    decision.unwrap_or_else(|error| panic!("{limits}: {error}"))
}

/// How many of `count` requests are let through.
async fn allowed(warden: &Warden, limits: &str, subject: &str, count: usize) -> usize {
    let mut allowed = 0;
    for _ in 0..count {
        allowed += usize::from(check(warden, limits, subject, 1).await.allowed);
    }
    allowed
}

/// What somebody asks for; of `id`, as one in flight.
fn asked(limits: &str, subject: &str, cost: u64, id: Option<&str>, ask: Ask) -> Asked {
    Asked {
        limits: bytes(limits),
        subject: bytes(subject),
        cost,
        id: id.map(bytes),
        ask,
    }
}

async fn ask(warden: &Warden, asked: Asked) -> Result<Decision, LimitError> {
    let asked = vec![asked];
    warden
        .rate_limit()
        .check
        .ask(Check { asked })
        .await
        .unwrap()
        .remove(0)
}

/// Whether it would be let through.
async fn peek(warden: &Warden, limits: &str, subject: &str) -> Decision {
    ask(warden, asked(limits, subject, 1, None, Ask::Peek))
        .await
        .unwrap()
}

async fn reset(warden: &Warden, limit: &str, subject: &str) -> Result<bool, LimitError> {
    let (limit, subject) = (bytes(limit), bytes(subject));
    warden
        .rate_limit()
        .reset
        .ask(Reset { limit, subject })
        .await
        .unwrap()
}

async fn refund(
    warden: &Warden,
    limit: &str,
    subject: &str,
    amount: u64,
) -> Result<u64, LimitError> {
    let refund = Refund {
        limit: bytes(limit),
        subject: bytes(subject),
        amount,
    };
    warden.rate_limit().refund.ask(refund).await.unwrap()
}

async fn release(
    warden: &Warden,
    limit: &str,
    subject: &str,
    id: &Bytes,
) -> Result<bool, LimitError> {
    let release = Release {
        limit: bytes(limit),
        subject: bytes(subject),
        id: id.clone(),
    };
    warden.rate_limit().release.ask(release).await.unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}
