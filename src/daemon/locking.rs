//! The lock actor, and what it is made of.

use crate::config::Config;
use crate::lock::{LockActor, LockHandle, LockParts};
use crate::repository::{Fences, Repository, RepositoryError};
use crate::store::Store;
use crate::supervisor::{ChildSpec, RestartPolicy};
use crate::telemetry::Metrics;
use actix_rt::ArbiterHandle;
use tokio::runtime::Handle;

/// The parts of an actor for locks in `store`.
pub(super) fn parts(
    config: &Config,
    store: Store,
    metrics: Metrics,
    repository: Option<&Repository>,
    runtime: Handle,
) -> Result<LockParts, RepositoryError> {
    let database = repository.zip(config.postgres.as_ref());
    let fences =
        database.map(|(repository, postgres)| Fences::beside(repository, postgres, runtime));
    Ok(LockParts::new(
        config.locks,
        store,
        fences.transpose()?,
        metrics,
    ))
}

/// The actor, on a thread that serves connections.
pub(super) fn child(parts: LockParts, handle: LockHandle, arbiter: ArbiterHandle) -> ChildSpec {
    ChildSpec::new(
        "lock",
        arbiter,
        RestartPolicy::default(),
        move || LockActor::new(parts.clone()),
        move |address| LockActor::bind(&handle, address),
    )
}
