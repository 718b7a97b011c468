//! Limits: that no more is let through than was declared, whatever happens.

mod answers;
mod exact;

use cachewarden::Warden;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::rate_limit::Decision;

use super::support::daemon::{InProcess, config_without_postgres};

/// A daemon with these limits on this Redis.
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
