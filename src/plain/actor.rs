//! The plain actor: takes commands, lets them be passed on, answers. Thin.

use super::messages::{Answer, Pass, PlainHandle};
use super::passing::Passing;
use crate::config::Passthrough;
use crate::store::Store;
use crate::supervisor::{Later, Ping, Shutdown};
use actix::{Actor, ActorContext, Addr, Context, Handler, ResponseFuture};
use std::sync::Arc;

/// What a plain actor is made of; the same for every restart.
#[derive(Clone)]
pub struct PlainParts(Arc<Passing>);

impl PlainParts {
    /// `store`'s connection lives on the actor's own thread. `largest` is what a client may send at most, in bytes.
    pub fn new(declared: &[Passthrough], store: Store, largest: usize) -> Self {
        Self(Arc::new(Passing::new(declared, store, largest)))
    }
}

/// Passes commands on plain keys to Redis, for the connections of its own core.
pub struct PlainActor {
    parts: PlainParts,
}

impl PlainActor {
    /// A fresh actor.
    pub fn new(parts: PlainParts) -> Self {
        Self { parts }
    }

    /// Points the handle at a started actor, or away from a dead one.
    pub fn bind(handle: &PlainHandle, address: Option<&Addr<Self>>) {
        handle.bind(address);
    }
}

impl Actor for PlainActor {
    type Context = Context<Self>;
}

impl Handler<Pass> for PlainActor {
    type Result = ResponseFuture<Vec<Answer>>;

    fn handle(&mut self, pass: Pass, _ctx: &mut Context<Self>) -> Self::Result {
        let passing = Arc::clone(&self.parts.0);
        Box::pin(async move { passing.pass(pass.commands).await })
    }
}

impl Handler<Ping> for PlainActor {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for PlainActor {
    type Result = Later<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        // What is under way is answered all the same: it needs Redis, and not this actor.
        promise.keep(());
        ctx.stop();
        later
    }
}
