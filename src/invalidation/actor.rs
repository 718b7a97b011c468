//! The invalidation actor: takes messages, keeps the sweeper going, answers. Thin.

use super::hearing::Hearing;
use super::indexes::Indexes;
use super::messages::{
    CancelSweeps, CountTargets, InvalidateTargets, InvalidationHandle, OnSwept, Publish,
};
use super::others::{self, Others};
use super::queue::Queue;
use super::scripts::Scripts;
use super::subscriber::Subscriber;
use super::sweeper::{ANNOUNCE_EVERY, Sweeper};
use super::{InvalidationError, count, invalidate};
use crate::cache::{CacheHandle, Notes, Sweeps, Trace};
use crate::config::Invalidation;
use crate::keyspace::{Pattern, Scope};
use crate::store::Store;
use crate::supervisor::{Later, Ping, Shutdown};
use crate::telemetry::{Metrics, SourceKind};
use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, ResponseFuture, WrapFuture,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use uuid::Uuid;

/// What the invalidation actor is made of; the same for every restart, so that what waits is not lost with an actor.
#[derive(Clone)]
pub struct InvalidationParts {
    pub(super) scope: Arc<Scope>,
    pub(super) store: Store,
    pub(super) caches: Arc<[CacheHandle]>,
    pub(super) sweeps: Sweeps,
    pub(super) metrics: Metrics,
    pub(super) queue: Queue,
    /// What others sweep.
    pub(super) others: Others,
    pub(super) indexes: Indexes,
    pub(super) scripts: Arc<Scripts>,
    pub(super) settings: Arc<Invalidation>,
    /// Who we are, for other daemons; new with every start.
    pub(super) instance: Uuid,
    pub(super) trace: Trace,
    pub(super) notes: Notes,
    pub(super) hearing: Hearing,
    announce_every: Duration,
    listening: watch::Sender<bool>,
    on_swept: OnSwept,
}

impl InvalidationParts {
    /// `store` is the actor's own; `sweeps` is heeded by the caches.
    pub fn new(
        settings: Invalidation,
        scope: Scope,
        store: Store,
        caches: Arc<[CacheHandle]>,
        sweeps: Sweeps,
        metrics: Metrics,
    ) -> Self {
        Self {
            scope: Arc::new(scope),
            settings: Arc::new(settings),
            store,
            caches,
            sweeps,
            metrics,
            queue: Queue::default(),
            others: Others::default(),
            indexes: Indexes::default(),
            scripts: Arc::default(),
            instance: Uuid::new_v4(),
            trace: Trace::default(),
            notes: Notes::default(),
            hearing: Hearing::default(),
            announce_every: ANNOUNCE_EVERY,
            listening: watch::Sender::new(false),
            on_swept: OnSwept::default(),
        }
    }

    /// Sweeps by these indexes where they are whole.
    pub fn with_indexes(self, indexes: Indexes) -> Self {
        Self { indexes, ..self }
    }

    /// Notes where others can ask for it what is swept, and is known by the trace's name.
    pub fn with_trace(self, trace: Trace) -> Self {
        Self {
            instance: trace.instance(),
            trace,
            ..self
        }
    }

    /// Notes patterns that were swept, unless they come from where they would be noted.
    pub fn with_notes(self, notes: Notes) -> Self {
        Self { notes, ..self }
    }

    /// Tells whoever wants to know what was swept.
    pub fn with_on_swept(self, on_swept: OnSwept) -> Self {
        Self { on_swept, ..self }
    }

    /// Announces a sweep that goes on again as often as this: for tests.
    pub fn with_announce_every(self, announce_every: Duration) -> Self {
        Self {
            announce_every,
            ..self
        }
    }

    /// Whether published messages are heard.
    pub fn listening(&self) -> watch::Receiver<bool> {
        self.listening.subscribe()
    }

    /// How many patterns wait to be swept, or are.
    pub fn pending(&self) -> usize {
        self.queue.len()
    }

    /// Counts patterns that were asked for.
    pub(super) fn count_patterns(&self, patterns: usize, source: &'static str) {
        let kind = "pattern";
        let counter = self
            .metrics
            .invalidations
            .get_or_create(&SourceKind { source, kind });
        counter.inc_by(u64::try_from(patterns).unwrap_or(u64::MAX));
    }
}

/// Invalidates by pattern, for whoever asks.
pub struct InvalidationActor {
    parts: InvalidationParts,
}

impl InvalidationActor {
    /// A fresh actor.
    pub fn new(parts: InvalidationParts) -> Self {
        Self { parts }
    }

    /// Points the handles at a started actor, or away from a dead one.
    pub fn bind(handle: &InvalidationHandle, address: Option<&Addr<Self>>) {
        handle.bind_each(address);
    }
}

impl Actor for InvalidationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let parts = &self.parts;
        let sweeper = Sweeper {
            scope: Arc::clone(&parts.scope),
            store: parts.store.clone(),
            scripts: Arc::clone(&parts.scripts),
            queue: parts.queue.clone(),
            sweeps: parts.sweeps.clone(),
            indexes: parts.indexes.clone(),
            metrics: parts.metrics.clone(),
            instance: parts.instance,
            announce_every: parts.announce_every,
            on_swept: parts.on_swept.clone(),
        };
        // In the actor's own context: a panic in there is the actor's, and it ends with it.
        ctx.spawn(sweeper.run().into_actor(self));
        let (indexes, store) = (parts.indexes.clone(), parts.store.clone());
        ctx.spawn(async move { indexes.remove_unkept(&store).await }.into_actor(self));
        ctx.spawn(others::take_over(parts.clone()).into_actor(self));
        let subscriber = Subscriber::new(parts.clone());
        let listening = parts.listening.clone();
        ctx.spawn(subscriber.run(listening).into_actor(self));
    }
}

impl Handler<InvalidateTargets> for InvalidationActor {
    type Result = ResponseFuture<Result<u64, InvalidationError>>;

    fn handle(&mut self, ask: InvalidateTargets, _ctx: &mut Context<Self>) -> Self::Result {
        let parts = self.parts.clone();
        Box::pin(async move { invalidate::invalidate(&parts, ask.targets, ask.origin).await })
    }
}

impl Handler<CountTargets> for InvalidationActor {
    type Result = ResponseFuture<Result<u64, InvalidationError>>;

    fn handle(&mut self, ask: CountTargets, _ctx: &mut Context<Self>) -> Self::Result {
        let (store, scope) = (self.parts.store.clone(), Arc::clone(&self.parts.scope));
        Box::pin(async move {
            let counted = count::count(&store, &scope, &ask.targets).await;
            counted.map_err(InvalidationError::Store)
        })
    }
}

impl Handler<CancelSweeps> for InvalidationActor {
    type Result = Result<u64, InvalidationError>;

    fn handle(&mut self, cancel: CancelSweeps, _ctx: &mut Context<Self>) -> Self::Result {
        let is_meant = |sweep: &Pattern| {
            let mut patterns = cancel.patterns.iter();
            patterns.any(|pattern| pattern.matches(sweep.text()))
        };
        Ok(self.parts.queue.cancel(is_meant))
    }
}

impl Handler<Publish> for InvalidationActor {
    type Result = ResponseFuture<Result<u64, InvalidationError>>;

    fn handle(&mut self, ask: Publish, _ctx: &mut Context<Self>) -> Self::Result {
        let store = self.parts.store.clone();
        Box::pin(async move {
            let heard = store.publish(&ask.channel, &ask.payload).await;
            heard.map_err(InvalidationError::Store)
        })
    }
}

impl Handler<Ping> for InvalidationActor {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for InvalidationActor {
    type Result = Later<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        // A sweep is not waited for: who asked is told, and may ask another daemon; a row of the queue is handed to one. What
        // was announced stays so, and the others do not give out what is left, until one of them has begun the sweep again.
        self.parts.queue.let_go();
        promise.keep(());
        ctx.stop();
        later
    }
}
