//! The actor of the limits, and what it is made of.

use crate::rate_limit::{RateLimitActor, RateLimitParts};
use crate::resp::RateLimits;
use crate::store::Store;
use crate::supervisor::{ChildSpec, RestartPolicy};
use actix_rt::ArbiterHandle;

/// The connection to Redis, which comes first, and the rate limit actor that counts there.
pub(super) fn children(
    store: Store,
    limits: RateLimits,
    arbiter: &ArbiterHandle,
) -> [ChildSpec; 2] {
    let kept = store.clone();
    let connection = ChildSpec::task(
        "redis-guard",
        arbiter.clone(),
        RestartPolicy::default(),
        move || kept.clone().keep(),
    );
    let parts = RateLimitParts::new(&limits.actor, store, limits.denied);
    let actor = ChildSpec::new(
        "rate-limit",
        arbiter.clone(),
        RestartPolicy::default(),
        move || RateLimitActor::new(parts.clone()),
        move |address| RateLimitActor::bind(&limits.actor, address),
    );
    [connection, actor]
}
