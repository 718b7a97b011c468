//! The journal actor: keeps the saving going, and ends it when it is done. Thin.

use super::terms::{Stop, Terms};
use crate::cache::CacheHandle;
use crate::keyspace::Router;
use crate::lock::LockHandle;
use crate::repository::JournalWriter;
use crate::store::Store;
use crate::supervisor::{Later, Ping, Promise, Shutdown};
use crate::telemetry::Metrics;
use actix::{Actor, ActorContext, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// The part of a stop that is spent on writes; the rest is for the actors that stop later.
const STOP_PART: u32 = 2;

/// What the journal actor is made of; the same for every restart.
#[derive(Clone)]
pub struct JournalParts {
    /// The way to Redis beside the reads.
    pub store: Store,
    /// By whom the leader is elected.
    pub locks: LockHandle,
    /// How long it takes until another daemon leads when the leader has died.
    pub term: Duration,
    pub writer: JournalWriter,
    pub router: Arc<Router>,
    /// Who reads what caches want read after a save.
    pub caches: Arc<[CacheHandle]>,
    pub metrics: Metrics,
    /// The pause after a look that found nothing: for so long writes are gathered.
    pub rest: Duration,
    /// Whether Redis may lose the journal; else it is told if it would.
    pub allow_volatile: bool,
}

/// Saves the writes of the journal.
pub struct JournalActor {
    parts: JournalParts,
    stop: watch::Sender<Option<Stop>>,
    leaving: Option<Promise<()>>,
}

impl JournalActor {
    /// A fresh actor.
    pub fn new(parts: JournalParts) -> Self {
        Self {
            parts,
            stop: watch::Sender::new(None),
            leaving: None,
        }
    }
}

impl Actor for JournalActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        let terms = Terms::new(self.parts.clone(), self.stop.subscribe());
        // In the actor's own context: a panic in there is the actor's, and it ends with it.
        let ended = terms.run().into_actor(self).map(|(), actor, ctx| {
            if let Some(promise) = actor.leaving.take() {
                promise.keep(());
            }
            ctx.stop();
        });
        ctx.spawn(ended);
    }
}

impl Handler<Ping> for JournalActor {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for JournalActor {
    type Result = Later<()>;

    fn handle(&mut self, shutdown: Shutdown, _ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        self.leaving = Some(promise);
        let until = Instant::now() + shutdown.deadline / STOP_PART;
        self.stop.send_replace(Some(Stop::by(until)));
        later
    }
}
