//! The audit actor: keeps the sampler going, explains keys. Thin.

use super::Explanation;
use super::check::Checker;
use super::explain::Explainer;
use super::look::Looking;
use super::messages::{AuditHandle, Explain};
use super::origins::Origins;
use super::sampler::Sampler;
use crate::cache::{CacheHandle, L1, Spaces, Trace};
use crate::keyspace::Router;
use crate::store::{Store, StoreError};
use crate::supervisor::{Later, Ping, Shutdown};
use crate::telemetry::Metrics;
use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, ResponseFuture, WrapFuture,
};
use std::sync::Arc;

/// What the audit actor is made of; the same for every restart.
#[derive(Clone)]
pub struct AuditParts {
    /// The way to Redis beside the reads.
    pub store: Store,
    pub spaces: Spaces,
    pub router: Arc<Router>,
    pub origins: Arc<Origins>,
    pub trace: Trace,
    pub l1: L1,
    /// By whom wrong values are invalidated.
    pub caches: Arc<[CacheHandle]>,
    pub metrics: Metrics,
    /// Keys sampled a second; 0: none.
    pub rate: usize,
    /// How values are compared; `None`: there is no database.
    pub checker: Option<Checker>,
}

/// Samples cached values and tells of those that are wrong; explains keys to whoever asks.
pub struct AuditActor {
    parts: AuditParts,
    explainer: Explainer,
}

impl AuditActor {
    /// A fresh actor.
    pub fn new(parts: AuditParts) -> Self {
        let explainer = Explainer {
            store: parts.store.clone(),
            spaces: parts.spaces.clone(),
            origins: Arc::clone(&parts.origins),
            trace: parts.trace.clone(),
            l1: parts.l1.clone(),
            looking: Arc::<Looking>::default(),
        };
        Self { parts, explainer }
    }

    /// Points the handles at a started actor, or away from a dead one.
    pub fn bind(handle: &AuditHandle, address: Option<&Addr<Self>>) {
        handle.bind_each(address);
    }
}

impl Actor for AuditActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(sampler) = Sampler::new(self.parts.clone()) {
            // In the actor's own context: a panic in there is the actor's, and it ends with it.
            ctx.spawn(sampler.run().into_actor(self));
        }
    }
}

impl Handler<Explain> for AuditActor {
    type Result = ResponseFuture<Result<Explanation, StoreError>>;

    fn handle(&mut self, ask: Explain, _ctx: &mut Context<Self>) -> Self::Result {
        let explainer = self.explainer.clone();
        Box::pin(async move { explainer.explain(ask.key, ask.space).await })
    }
}

impl Handler<Ping> for AuditActor {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for AuditActor {
    type Result = Later<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        // A sample is not waited for: nobody asked for it.
        promise.keep(());
        ctx.stop();
        later
    }
}
