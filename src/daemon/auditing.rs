//! The audit actor, and what it is made of.

use crate::audit::{AuditActor, AuditHandle, AuditParts, Checker, Origins};
use crate::cache::{CacheHandle, L1, Spaces, Sweeps, Trace};
use crate::config::Config;
use crate::repository::RepositoryError;
use crate::store::Store;
use crate::supervisor::{ChildSpec, RestartPolicy};
use crate::telemetry::Metrics;
use actix_rt::ArbiterHandle;
use std::sync::Arc;
use tokio::runtime::Handle;

/// What the actors that it audits share with it.
pub(super) struct Shared<'a> {
    pub(super) spaces: &'a Spaces,
    pub(super) sweeps: &'a Sweeps,
    pub(super) trace: &'a Trace,
    pub(super) l1: &'a L1,
    pub(super) caches: &'a Arc<[CacheHandle]>,
    pub(super) metrics: &'a Metrics,
}

/// The parts of an auditor over `store`.
pub(super) fn parts(
    config: &Config,
    store: Store,
    shared: &Shared<'_>,
    runtime: Handle,
) -> Result<AuditParts, RepositoryError> {
    let checker = Checker::new(config, store.clone(), shared.sweeps.clone(), runtime)?;
    Ok(AuditParts {
        store,
        spaces: shared.spaces.clone(),
        router: Arc::new(config.router()),
        origins: Arc::new(Origins::of(config)),
        trace: shared.trace.clone(),
        l1: shared.l1.clone(),
        caches: Arc::clone(shared.caches),
        metrics: shared.metrics.clone(),
        rate: config.audit.rate,
        checker,
    })
}

/// The actor, on the thread of whatever goes on beside the reads.
pub(super) fn child(parts: AuditParts, handle: AuditHandle, arbiter: ArbiterHandle) -> ChildSpec {
    ChildSpec::new(
        "audit",
        arbiter,
        RestartPolicy::default(),
        move || AuditActor::new(parts.clone()),
        move |address| AuditActor::bind(&handle, address),
    )
}
