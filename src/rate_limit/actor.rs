//! The rate limit actor: takes messages, lets the limiter think and Redis count, answers. Thin.

use super::LimitError;
use super::declared::Declared;
use super::denied::Denied;
use super::fleet::{Fleet, register};
use super::handle::RateLimitHandle;
use super::limiter::Limiter;
use super::listener::listen;
use super::messages::{Check, Decision, Fixed, Refund, Release, Reload, Reset, Throttle};
use super::queue::Slot;
use super::requests::Verb;
use super::scripts::Scripts;
use crate::store::Store;
use crate::supervisor::{Later, Ping, Promise, Shutdown};
use actix::{
    Actor, ActorContext, ActorFutureExt, Addr, AsyncContext, Context, Handler, Message, WrapFuture,
};
use std::sync::Arc;

/// What the rate limit actor is made of; the same for every restart.
#[derive(Clone)]
pub struct RateLimitParts {
    /// Its connection lives on the actor's own thread.
    pub store: Store,
    pub(super) scripts: Arc<Scripts>,
    /// As declared, or reloaded since.
    pub(super) declared: Declared,
    pub(super) denied: Denied,
    pub(super) fleet: Fleet,
}

impl RateLimitParts {
    /// For the limits behind `handle`, counted in `store`; others look into its memory of refusals as well.
    pub fn new(handle: &RateLimitHandle, store: Store, denied: Denied) -> Self {
        Self {
            store,
            scripts: Arc::default(),
            declared: handle.declared.clone(),
            denied,
            fleet: Fleet::default(),
        }
    }
}

/// Lets through what limits allow.
pub struct RateLimitActor {
    parts: RateLimitParts,
    limiter: Limiter,
    flush_noted: bool,
    listens: bool,
    registers: bool,
    leaving: Option<Promise<()>>,
}

/// A note to itself: everything that lay in the mailbox has been taken, send it.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl RateLimitActor {
    /// A fresh actor.
    pub fn new(parts: RateLimitParts) -> Self {
        Self {
            limiter: Limiter::new(&parts),
            parts,
            flush_noted: false,
            listens: false,
            registers: false,
            leaving: None,
        }
    }

    /// Points the handles at a started actor, or away from a dead one.
    pub fn bind(handle: &RateLimitHandle, address: Option<&Addr<Self>>) {
        match address {
            Some(address) => {
                handle.check.bind(address.clone().recipient());
                handle.fixed.bind(address.clone().recipient());
                handle.throttle.bind(address.clone().recipient());
                handle.reset.bind(address.clone().recipient());
                handle.refund.bind(address.clone().recipient());
                handle.release.bind(address.clone().recipient());
                handle.reload.bind(address.clone().recipient());
            }
            None => {
                handle.check.unbind();
                handle.fixed.unbind();
                handle.throttle.unbind();
                handle.reset.unbind();
                handle.refund.unbind();
                handle.release.unbind();
                handle.reload.unbind();
            }
        }
    }

    /// Has what waits sent once all the mail that is here has been taken: what came together goes together.
    fn flush_soon(&mut self, ctx: &mut Context<Self>) {
        if self.limiter.waits() && !self.flush_noted {
            self.flush_noted = true;
            ctx.notify(Flush);
        }
    }

    fn send(&mut self, ctx: &mut Context<Self>) {
        while let Some(batch) = self.limiter.next() {
            self.listen_once(ctx);
            let (store, scripts) = (self.parts.store.clone(), Arc::clone(&self.parts.scripts));
            let serving = async move {
                let served = batch.serve(&store, &scripts).await;
                (batch, served)
            };
            let came_back = serving.into_actor(self).map(|(batch, served), actor, ctx| {
                actor.limiter.came_back(batch, served);
                actor.send(ctx);
                actor.leave_if_done(ctx);
            });
            ctx.spawn(came_back);
        }
    }

    /// Who never asks for a limit pays for no subscription. In the actor's own context: it ends with the actor.
    fn listen_once(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.listens, true) {
            let listening = listen(self.parts.store.clone(), self.parts.denied.clone());
            ctx.spawn(listening.into_actor(self));
        }
    }

    /// Only what is shared needs to know how many share it.
    fn register_if_shared(&mut self, ctx: &mut Context<Self>) {
        if self.parts.declared.shares() && !std::mem::replace(&mut self.registers, true) {
            let (store, scripts) = (self.parts.store.clone(), Arc::clone(&self.parts.scripts));
            let registering = register(store, scripts, self.parts.fleet.clone());
            ctx.spawn(registering.into_actor(self));
        }
    }

    fn give_back(
        &mut self,
        verb: Verb,
        (limit, subject): (bytes::Bytes, bytes::Bytes),
        (amount, id): (u64, Option<bytes::Bytes>),
        slot: Slot,
        ctx: &mut Context<Self>,
    ) {
        let rules = self.limiter.rules();
        let request = rules.give_back(verb, &limit, subject, amount, id);
        self.limiter.take(request, slot);
        self.flush_soon(ctx);
    }

    fn leave_if_done(&mut self, ctx: &mut Context<Self>) {
        if self.limiter.is_idle()
            && let Some(promise) = self.leaving.take()
        {
            promise.keep(());
            ctx.stop();
        }
    }
}

impl Actor for RateLimitActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.register_if_shared(ctx);
    }
}

impl Handler<Check> for RateLimitActor {
    type Result = Later<Vec<Result<Decision, LimitError>>>;

    fn handle(&mut self, check: Check, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        self.limiter.check(check, promise);
        self.flush_soon(ctx);
        later
    }
}

impl Handler<Fixed> for RateLimitActor {
    type Result = Later<Result<Decision, LimitError>>;

    fn handle(&mut self, fixed: Fixed, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        let request = self.parts.declared.fixed(fixed);
        self.limiter.take(request, Slot::Decision(promise));
        self.flush_soon(ctx);
        later
    }
}

impl Handler<Throttle> for RateLimitActor {
    type Result = Later<Result<Decision, LimitError>>;

    fn handle(&mut self, throttle: Throttle, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        let request = self.parts.declared.throttle(throttle);
        self.limiter.take(request, Slot::Decision(promise));
        self.flush_soon(ctx);
        later
    }
}

impl Handler<Reset> for RateLimitActor {
    type Result = Later<Result<bool, LimitError>>;

    fn handle(&mut self, reset: Reset, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        let whose = (reset.limit, reset.subject);
        self.give_back(Verb::Reset, whose, (1, None), Slot::Whether(promise), ctx);
        later
    }
}

impl Handler<Refund> for RateLimitActor {
    type Result = Later<Result<u64, LimitError>>;

    fn handle(&mut self, refund: Refund, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        let (whose, what) = ((refund.limit, refund.subject), (refund.amount, None));
        self.give_back(Verb::Refund, whose, what, Slot::Given(promise), ctx);
        later
    }
}

impl Handler<Release> for RateLimitActor {
    type Result = Later<Result<bool, LimitError>>;

    fn handle(&mut self, release: Release, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        let (whose, what) = ((release.limit, release.subject), (1, Some(release.id)));
        self.give_back(Verb::Release, whose, what, Slot::Whether(promise), ctx);
        later
    }
}

impl Handler<Reload> for RateLimitActor {
    type Result = ();

    fn handle(&mut self, reload: Reload, ctx: &mut Context<Self>) {
        self.limiter.reload(&reload);
        self.register_if_shared(ctx);
    }
}

impl Handler<Flush> for RateLimitActor {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Self>) {
        self.flush_noted = false;
        self.send(ctx);
    }
}

impl Handler<Ping> for RateLimitActor {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for RateLimitActor {
    type Result = Later<()>;

    fn handle(&mut self, _: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        self.leaving = Some(promise);
        // What waits is answered within Redis' timeout, and drops then.
        self.leave_if_done(ctx);
        later
    }
}
