//! The lock actor: takes messages, lets the engine do the work, answers. Thin.

use super::LockError;
use super::bounds;
use super::calls::Calls;
use super::engine::Engine;
use super::events::{Event, Extending};
use super::held::Held;
use super::listener::{MAX_HEARD, listen};
use super::messages::{
    Acquire, EndSession, Extend, Force, Grant, Info, Leave, List, LockHandle, LockInfo, Release,
};
use super::scripts::{Locks, Scripts};
use crate::config;
use crate::repository::Fences;
use crate::store::Store;
use crate::supervisor::{Later, Ping, Promise, Shutdown};
use crate::telemetry::Metrics;
use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, SpawnHandle, StreamHandler,
    WrapFuture,
};
use bytes::Bytes;
use futures_util::stream;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use uuid::Uuid;

/// The timer is not set more finely: what is due together is done together.
const GRAIN: Duration = Duration::from_millis(1);
/// How often a stop looks whether all is done.
const STOP_LOOK: Duration = Duration::from_millis(5);

/// What the lock actor is made of; the same for every restart, so that what sessions hold is not lost with an actor.
#[derive(Clone)]
pub struct LockParts {
    locks: Locks,
    fences: Option<Fences>,
    max_ttl: Duration,
    metrics: Metrics,
    held: Arc<Mutex<Held>>,
}

impl LockParts {
    /// Locks in `store`, with fencing tokens from `fences`; without, none can be acquired.
    pub fn new(
        config: config::Locks,
        store: Store,
        fences: Option<Fences>,
        metrics: Metrics,
    ) -> Self {
        Self {
            locks: Locks::new(store, Arc::new(Scripts::default()), Uuid::new_v4()),
            fences,
            max_ttl: config.max_ttl,
            metrics,
            held: Arc::default(),
        }
    }
}

/// Acquires locks for whoever asks, and holds them for sessions.
pub struct LockActor {
    parts: LockParts,
    engine: Engine,
    inbox: Option<mpsc::UnboundedReceiver<Event>>,
    flush_noted: bool,
    timer: Option<(Instant, SpawnHandle)>,
    leaving: Option<(Instant, Promise<()>)>,
}

/// A note to itself: everything that lay in the mailbox has been taken, send what came of it.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

/// A lock of which it was told that it is worth another try.
struct Heard(Bytes);

impl LockActor {
    /// A fresh actor.
    pub fn new(parts: LockParts) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "every event answers a task, and tasks are bounded by the requests in flight"
        )]
        let (events, inbox) = mpsc::unbounded_channel();
        let calls = Calls::new(parts.locks.clone(), parts.fences.clone(), events);
        Self {
            engine: Engine::new(calls, Arc::clone(&parts.held), parts.metrics.clone()),
            parts,
            inbox: Some(inbox),
            flush_noted: false,
            timer: None,
            leaving: None,
        }
    }

    /// Points the handles at a started actor, or away from a dead one.
    pub fn bind(handle: &LockHandle, address: Option<&Addr<Self>>) {
        handle.bind_each(address);
    }

    /// What came together goes together.
    fn flush_soon(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.flush_noted, true) {
            ctx.notify(Flush);
        }
    }

    /// Answers at once what cannot be asked for; else has the engine begin.
    fn begin<T>(
        &mut self,
        checked: Result<(), LockError>,
        ctx: &mut Context<Self>,
        begin: impl FnOnce(&mut Engine, Promise<Result<T, LockError>>),
    ) -> Later<Result<T, LockError>> {
        let (later, promise) = Later::new();
        match checked {
            Ok(()) => {
                begin(&mut self.engine, promise);
                self.flush_soon(ctx);
            }
            Err(error) => promise.keep(Err(error)),
        }
        later
    }

    fn set_timer(&mut self, ctx: &mut Context<Self>) {
        let due = self.engine.next_due();
        let due = match &self.leaving {
            Some(_) => Some(Instant::now() + STOP_LOOK),
            None => due,
        };
        let Some(at) = due else { return };
        match self.timer {
            // One that comes too soon looks, and is set anew.
            Some((set, _)) if set <= at + GRAIN => return,
            Some((_, timer)) => {
                ctx.cancel_future(timer);
            }
            None => {}
        }
        let pause = at.saturating_duration_since(Instant::now()).max(GRAIN);
        let timer = ctx.run_later(pause, |actor, ctx| {
            actor.timer = None;
            actor.engine.tick(Instant::now());
            actor.flush_soon(ctx);
        });
        self.timer = Some((at, timer));
    }

    fn leave_if_done(&mut self, ctx: &mut Context<Self>) {
        if let Some((deadline, promise)) = self.leaving.take() {
            if self.engine.is_idle() || Instant::now() >= deadline {
                promise.keep(());
                ctx.stop();
            } else {
                self.leaving = Some((deadline, promise));
            }
        }
    }
}

impl Actor for LockActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(mut inbox) = self.inbox.take() {
            ctx.add_stream(stream::poll_fn(move |cx| inbox.poll_recv(cx)));
        }
        let (heard, mut names) = mpsc::channel(MAX_HEARD);
        ctx.add_stream(stream::poll_fn(move |cx| {
            names.poll_recv(cx).map(|name| name.map(Heard))
        }));
        let store = self.parts.locks.store().clone();
        // In the actor's own context: it ends with it.
        ctx.spawn(listen(store, heard).into_actor(self));
        self.flush_soon(ctx);
    }
}

impl StreamHandler<Event> for LockActor {
    fn handle(&mut self, event: Event, ctx: &mut Context<Self>) {
        self.engine.on_event(event);
        self.flush_soon(ctx);
    }

    fn finished(&mut self, _ctx: &mut Context<Self>) {
        // The actor keeps a sender itself, so this stream has no end. (The default would stop the actor.)
    }
}

impl StreamHandler<Heard> for LockActor {
    fn handle(&mut self, Heard(name): Heard, ctx: &mut Context<Self>) {
        self.engine.wake(&name);
        self.flush_soon(ctx);
    }

    fn finished(&mut self, _ctx: &mut Context<Self>) {
        // Who listens runs as long as the actor.
    }
}

impl Handler<Flush> for LockActor {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Self>) {
        self.flush_noted = false;
        self.engine.flush();
        self.leave_if_done(ctx);
        self.set_timer(ctx);
    }
}

impl Handler<Acquire> for LockActor {
    type Result = Later<Result<Option<Grant>, LockError>>;

    fn handle(&mut self, acquire: Acquire, ctx: &mut Context<Self>) -> Self::Result {
        let checked = bounds::check(&acquire, self.parts.max_ttl);
        self.begin(checked, ctx, |engine, promise| {
            engine.acquire(acquire, promise)
        })
    }
}

impl Handler<Leave> for LockActor {
    type Result = ();

    fn handle(&mut self, leave: Leave, ctx: &mut Context<Self>) {
        self.engine.leave(&leave.attempt);
        self.flush_soon(ctx);
    }
}

impl Handler<Extend> for LockActor {
    type Result = Later<Result<bool, LockError>>;

    fn handle(&mut self, extend: Extend, ctx: &mut Context<Self>) -> Self::Result {
        let Extend { name, token, ttl } = extend;
        let checked = bounds::check_name(&name);
        let checked = checked.and_then(|()| bounds::check_ttl(ttl, self.parts.max_ttl));
        self.begin(checked, ctx, |engine, promise| {
            let holder = (name, token);
            engine.extend(Extending::Asked {
                holder,
                ttl,
                promise,
            });
        })
    }
}

impl Handler<Release> for LockActor {
    type Result = Later<Result<bool, LockError>>;

    fn handle(&mut self, release: Release, ctx: &mut Context<Self>) -> Self::Result {
        let Release { name, token } = release;
        let checked = bounds::check_name(&name);
        self.begin(checked, ctx, |engine, promise| {
            engine.release(name, token, promise)
        })
    }
}

impl Handler<Force> for LockActor {
    type Result = Later<Result<bool, LockError>>;

    fn handle(&mut self, force: Force, ctx: &mut Context<Self>) -> Self::Result {
        let checked = bounds::check_name(&force.name);
        self.begin(checked, ctx, |engine, promise| engine.force(force, promise))
    }
}

impl Handler<Info> for LockActor {
    type Result = Later<Result<LockInfo, LockError>>;

    fn handle(&mut self, ask: Info, ctx: &mut Context<Self>) -> Self::Result {
        let checked = bounds::check_name(&ask.name);
        self.begin(checked, ctx, |engine, promise| engine.tell(ask, promise))
    }
}

impl Handler<List> for LockActor {
    type Result = Later<Result<Vec<LockInfo>, LockError>>;

    fn handle(&mut self, list: List, ctx: &mut Context<Self>) -> Self::Result {
        let checked = bounds::check_prefix(&list.prefix);
        self.begin(checked, ctx, |engine, promise| {
            engine.list(list.prefix, promise)
        })
    }
}

impl Handler<EndSession> for LockActor {
    type Result = ();

    fn handle(&mut self, end: EndSession, ctx: &mut Context<Self>) {
        self.engine.end(end.session);
        self.flush_soon(ctx);
    }
}

impl Handler<Ping> for LockActor {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for LockActor {
    type Result = Later<()>;

    fn handle(&mut self, shutdown: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        self.engine.stop();
        self.leaving = Some((Instant::now() + shutdown.deadline, promise));
        self.flush_soon(ctx);
        later
    }
}
