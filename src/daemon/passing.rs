//! The plain actors, and what they are made of.

use crate::config::Config;
use crate::plain::{PlainActor, PlainHandle, PlainParts};
use crate::store::Store;
use crate::supervisor::{ChildSpec, RestartPolicy};
use actix_rt::ArbiterHandle;
use std::sync::Arc;

/// A handle a core; none if no key is a plain one.
pub(super) fn handles(config: &Config, cores: usize) -> Arc<[PlainHandle]> {
    let cores = if config.passthroughs.is_empty() {
        0
    } else {
        cores
    };
    (0..cores).map(|_| PlainHandle::unbound()).collect()
}

/// The actor of core `core`: it shares the core's connection with reads of the caches.
pub(super) fn child(
    config: &Config,
    core: usize,
    store: Store,
    handle: PlainHandle,
    arbiter: ArbiterHandle,
) -> ChildSpec {
    let parts = PlainParts::new(&config.passthroughs, store, config.resp.max_request);
    ChildSpec::new(
        format!("plain-{core}"),
        arbiter,
        RestartPolicy::default(),
        move || PlainActor::new(parts.clone()),
        move |address| PlainActor::bind(&handle, address),
    )
}
