//! The actor of the limits, and what it is made of.

use crate::config::Config;
use crate::rate_limit::{RateLimitActor, RateLimitHandle, RateLimitParts};
use crate::store::Store;
use crate::supervisor::{ChildSpec, RestartPolicy};
use crate::telemetry::Metrics;
use actix_rt::ArbiterHandle;

/// The rate limit actor, counting in `store`.
pub(super) fn child(
    config: &Config,
    store: Store,
    metrics: Metrics,
    handle: RateLimitHandle,
    arbiter: ArbiterHandle,
) -> ChildSpec {
    let parts = RateLimitParts::new(config, store, metrics);
    ChildSpec::new(
        "rate-limit",
        arbiter,
        RestartPolicy::default(),
        move || RateLimitActor::new(parts.clone()),
        move |address| RateLimitActor::bind(&handle, address),
    )
}
