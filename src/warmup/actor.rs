//! The warmup actor: keeps a keeper going for each cache, and passes on what it is asked. Thin.

use super::WarmError;
use super::board::{Board, Outcome, Report};
use super::courtesy::Courtesy;
use super::fleet::{self, Keepers};
use super::hot::{keep_remembering, remember_at_last};
use super::keeper::Means;
use super::messages::{LookAtRuns, Swept, Warm, WarmupHandle};
use super::plan::Plan;
use super::run::Tools;
use crate::cache::Warming;
use crate::config::Config;
use crate::lock::LockHandle;
use crate::repository::{HotKeys, Repository, WarmKeys};
use crate::store::Store;
use crate::supervisor::{Later, Ping, Shutdown};
use crate::telemetry::Metrics;
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, ResponseFuture,
    WrapFuture,
};
use std::sync::Arc;

/// What the warmup actor is made of; the same for every restart.
#[derive(Clone)]
pub struct WarmupParts {
    plans: Arc<[Plan]>,
    means: Means,
}

impl WarmupParts {
    /// `store` and what `warming` works with are its own; `reads` is what the reads load with, to which it gives way.
    pub fn new(
        config: &Config,
        store: Store,
        locks: LockHandle,
        warming: Warming,
        (source, hot): (WarmKeys, HotKeys),
        reads: Repository,
        metrics: Metrics,
    ) -> Self {
        let plans: Arc<[Plan]> = Plan::all(config).into();
        let means = Means {
            store: store.clone(),
            locks,
            board: fleet::board(&plans),
            metrics,
            tools: Tools {
                courtesy: Courtesy::new(warming.clone(), store, reads),
                warming,
                source,
                hot,
                router: Arc::new(config.router()),
            },
        };
        Self { plans, means }
    }

    fn of_hot(&self) -> (Arc<[Plan]>, Tools) {
        (Arc::clone(&self.plans), self.means.tools.clone())
    }

    /// Where all runs stand.
    pub fn board(&self) -> Board {
        self.means.board.clone()
    }
}

/// Warms caches: on start, on schedule, after sweeps, on command.
pub struct WarmupActor {
    parts: WarmupParts,
    /// `None` before it is started.
    keepers: Option<Keepers>,
}

impl WarmupActor {
    /// A fresh actor.
    pub fn new(parts: WarmupParts) -> Self {
        Self {
            parts,
            keepers: None,
        }
    }

    /// Points the handles at a started actor, or away from a dead one.
    pub fn bind(handle: &WarmupHandle, address: Option<&Addr<Self>>) {
        handle.bind_each(address);
    }
}

impl Actor for WarmupActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.parts.means.board.clear();
        let (keepers, running) = Keepers::new(&self.parts.plans, &self.parts.means);
        self.keepers = Some(keepers);
        for keeper in running {
            // In the actor's own context: a panic in there is the actor's, and it ends with it.
            ctx.spawn(keeper.into_actor(self));
        }
        let (plans, tools) = self.parts.of_hot();
        let courtesy = tools.courtesy.clone();
        ctx.spawn(courtesy.keep_telling().into_actor(self));
        ctx.spawn(keep_remembering(plans, tools).into_actor(self));
    }
}

impl Handler<Warm> for WarmupActor {
    type Result = ResponseFuture<Result<Vec<(String, Outcome)>, WarmError>>;

    fn handle(&mut self, ask: Warm, _ctx: &mut Context<Self>) -> Self::Result {
        let keepers = self.keepers.as_ref();
        let asked = keepers.map(|keepers| keepers.warm(&ask.caches, ask.force));
        Box::pin(async move {
            match asked {
                Some(asked) => Ok(asked?.await),
                None => Ok(Vec::new()), // never: it is started before it has an address
            }
        })
    }
}

impl Handler<LookAtRuns> for WarmupActor {
    type Result = Vec<Report>;

    fn handle(&mut self, _: LookAtRuns, _ctx: &mut Context<Self>) -> Self::Result {
        self.parts.means.board.reports()
    }
}

impl Handler<Swept> for WarmupActor {
    type Result = ();

    fn handle(&mut self, swept: Swept, _ctx: &mut Context<Self>) {
        if let Some(keepers) = &self.keepers {
            keepers.swept(&swept.pattern);
        }
    }
}

impl Handler<Ping> for WarmupActor {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for WarmupActor {
    type Result = Later<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        // A run is not waited for: its lock is let go, and another daemon makes it anew, or the next start.
        let (plans, tools) = self.parts.of_hot();
        let last = remember_at_last(plans, tools).into_actor(self);
        ctx.spawn(last.map(|(), _, ctx| {
            promise.keep(());
            ctx.stop();
        }));
        later
    }
}
