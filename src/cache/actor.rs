//! The cache actor: takes messages, lets the look-up and the engine do the work, answers. Thin.

use super::behind::{Asked, Waiting};
use super::collect::ReplyTo;
use super::events::Event;
use super::means::Means;
use super::messages::{
    Answer, CacheHandle, GetOrLoad, Inspect, Invalidate, KeysInvalidated, Load, Put, Read,
    WriteLate,
};
use super::parts::MAX_PART_KEYS;
use super::reader::Reader;
use super::spaces::Spaces;
use super::{CacheError, behind, leases, puts};
use crate::keyspace::RoutedKey;
use crate::supervisor::{Later, Ping, Promise, Shutdown};
use actix::{
    Actor, ActorContext, Addr, AsyncContext, Context, Handler, Message, ResponseFuture,
    StreamHandler,
};
use bytes::Bytes;
use futures_util::stream;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often what waits for time is looked at, while anything does.
const TICK: Duration = Duration::from_millis(5);

/// What a cache actor is made of; the same for every restart.
#[derive(Clone)]
pub struct CacheParts {
    /// What this shard works with; its store's connection lives on the actor's own thread.
    pub means: Means,
    /// This shard's number.
    pub shard: usize,
    /// The handles of all shards, this one included.
    pub shards: Arc<[CacheHandle]>,
}

/// Reads for the connections of its own core, and owns the loads of its part of the caches.
pub struct CacheActor {
    parts: CacheParts,
    reader: Reader,
    /// Writes that are to be accepted.
    writes: Waiting,
    events: mpsc::UnboundedSender<Event>,
    flush_noted: bool,
    ticking: bool,
    inbox: Option<mpsc::UnboundedReceiver<Event>>,
    leaving: Option<(Instant, Promise<()>)>,
}

/// A note to itself: everything that lay in the mailbox has been taken, send the look-up.
#[derive(Message)]
#[rtype(result = "()")]
struct Flush;

impl CacheActor {
    /// A fresh actor.
    pub fn new(parts: CacheParts) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "every event answers a task, and tasks are bounded by the requests in flight"
        )]
        let (events, inbox) = mpsc::unbounded_channel();
        Self {
            reader: Reader::new(parts.clone(), events.clone()),
            writes: Waiting::default(),
            events,
            parts,
            flush_noted: false,
            ticking: false,
            inbox: Some(inbox),
            leaving: None,
        }
    }

    /// Points the handles at a started actor, or away from a dead one.
    pub fn bind(handle: &CacheHandle, address: Option<&Addr<Self>>) {
        handle.bind_each(address);
    }

    /// What a request needs that only asks others: this actor's own handle is one of them.
    pub(super) fn means_and_handle(&self) -> (Means, CacheHandle) {
        let own = self.parts.shards[self.parts.shard].clone();
        (self.parts.means.clone(), own)
    }

    fn look_up(
        &mut self,
        keys: Arc<[RoutedKey]>,
        with_age: bool,
        loader: Option<(super::Loader, Option<Duration>)>,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        self.reader.read(keys, with_age, loader, reply);
        if self.reader.is_gathering() {
            self.note_flush(ctx);
        }
    }

    fn note_flush(&mut self, ctx: &mut Context<Self>) {
        if !std::mem::replace(&mut self.flush_noted, true) {
            // Runs after the mail that is already here: what came together goes together.
            ctx.notify(Flush);
        }
    }

    fn send_writes(&mut self) {
        while let Some(asked) = self.writes.next() {
            let (means, events) = (self.parts.means.clone(), self.events.clone());
            tokio::task::spawn_local(async move {
                behind::accept(&means, asked).await;
                let _gone = events.send(Event::Accepted);
            });
        }
    }

    /// Lets nobody join loads of these keys any more, here and in the other shards.
    fn close_flights(&mut self, keys: &Arc<[RoutedKey]>) {
        let shards = self.parts.shards.len();
        let mut told = vec![false; shards];
        for key in keys.iter() {
            let owner = Spaces::owner(key.space, shards);
            if owner == self.parts.shard {
                self.reader.close(&key.key);
            } else if !std::mem::replace(&mut told[owner], true) {
                let keys = Arc::clone(keys);
                // Only quicker: that nothing outdated is stored is the lease's doing.
                let _hint = self.parts.shards[owner]
                    .keys_invalidated
                    .tell(KeysInvalidated { keys });
            }
        }
    }

    fn tick_while_needed(&mut self, ctx: &mut Context<Self>) {
        if self.ticking {
            return;
        }
        self.ticking = true;
        ctx.run_later(TICK, |actor, ctx| {
            actor.ticking = false;
            let now = Instant::now();
            let is_waiting = actor.reader.tick(now);
            actor.leave_if_done(now, ctx);
            if is_waiting || actor.leaving.is_some() {
                actor.tick_while_needed(ctx);
            }
        });
    }

    fn leave_if_done(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let idle = self.reader.is_idle() && self.writes.is_idle();
        if let Some((deadline, promise)) = self.leaving.take() {
            if idle || now >= deadline {
                promise.keep(());
                ctx.stop();
            } else {
                self.leaving = Some((deadline, promise));
            }
        }
    }
}

impl Actor for CacheActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if let Some(mut inbox) = self.inbox.take() {
            ctx.add_stream(stream::poll_fn(move |cx| inbox.poll_recv(cx)));
        }
    }
}

impl StreamHandler<Event> for CacheActor {
    fn handle(&mut self, event: Event, ctx: &mut Context<Self>) {
        match event {
            Event::Accepted => {
                self.writes.came_back();
                self.send_writes();
            }
            event => self.reader.on_event(event),
        }
        if self.reader.needs_ticks() {
            self.tick_while_needed(ctx);
        }
    }

    fn finished(&mut self, _ctx: &mut Context<Self>) {
        // The reader keeps a sender, so this stream has no end. (The default would stop the actor.)
    }
}

impl Handler<Read> for CacheActor {
    type Result = Later<Vec<Answer>>;

    fn handle(&mut self, read: Read, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        self.look_up(read.keys, read.with_age, None, ReplyTo::Many(promise), ctx);
        later
    }
}

impl Handler<GetOrLoad> for CacheActor {
    type Result = Later<Answer>;

    fn handle(&mut self, get: GetOrLoad, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        let loader = Some((get.loader, get.life));
        self.look_up(
            Arc::from([get.key]),
            false,
            loader,
            ReplyTo::One(promise),
            ctx,
        );
        later
    }
}

impl Handler<Flush> for CacheActor {
    type Result = ();

    fn handle(&mut self, _: Flush, ctx: &mut Context<Self>) {
        self.flush_noted = false;
        self.reader.send();
        self.send_writes();
        if self.reader.needs_ticks() {
            self.tick_while_needed(ctx);
        }
    }
}

impl Handler<Load> for CacheActor {
    type Result = ();

    fn handle(&mut self, load: Load, ctx: &mut Context<Self>) {
        self.reader.load(load);
        self.tick_while_needed(ctx);
    }
}

impl Handler<KeysInvalidated> for CacheActor {
    type Result = ();

    fn handle(&mut self, fact: KeysInvalidated, _ctx: &mut Context<Self>) {
        for key in fact.keys.iter() {
            self.reader.close(&key.key);
        }
    }
}

impl Handler<Inspect> for CacheActor {
    type Result = ResponseFuture<Result<Vec<Option<Duration>>, CacheError>>;

    fn handle(&mut self, inspect: Inspect, _ctx: &mut Context<Self>) -> Self::Result {
        let (store, sweeps) = (
            self.parts.means.store.clone(),
            self.parts.means.sweeps.clone(),
        );
        Box::pin(async move {
            let asked = Instant::now();
            let keys: Vec<_> = inspect.keys.iter().map(|key| &key.key).collect();
            let mut seen = Vec::with_capacity(keys.len());
            for keys in keys.chunks(MAX_PART_KEYS) {
                // One byte more than a remembered missing row has, to tell it from what only begins like it.
                let part = store.peek(keys, leases::MISSING.len() + 1).await;
                seen.extend(part.map_err(CacheError::Store)?);
            }
            let left = seen.into_iter().zip(keys).map(|((left, head), key)| {
                let there =
                    !head.is_empty() && head != leases::MISSING && !sweeps.doubts(key, asked);
                let left = u64::try_from(left).ok().map(Duration::from_millis);
                left.filter(|_| there)
            });
            Ok(left.collect())
        })
    }
}

impl Handler<Invalidate> for CacheActor {
    type Result = ResponseFuture<Result<u64, CacheError>>;

    fn handle(&mut self, invalidate: Invalidate, _ctx: &mut Context<Self>) -> Self::Result {
        let keys: Arc<[RoutedKey]> = invalidate.keys.into();
        self.close_flights(&keys);
        let mut names: Vec<Bytes> = keys.iter().map(|key| key.key.clone()).collect();
        names.extend(invalidate.others);
        let means = self.parts.means.clone();
        means.count_invalidations(names.len(), invalidate.origin);
        means.forget(&names);
        Box::pin(async move {
            let removed = means.leases.invalidate(&names).await;
            // Whatever came of it, and before it is acknowledged.
            means.forget(&names);
            let removed = removed.map_err(CacheError::Store);
            if invalidate.origin.is_noted() {
                means.notes.keys(&names);
            }
            let removed = removed?;
            means.trace.invalidated(&names, invalidate.origin);
            Ok(removed)
        })
    }
}

impl Handler<WriteLate> for CacheActor {
    type Result = Later<Result<(), CacheError>>;

    fn handle(&mut self, ask: WriteLate, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        let writes = ask.writes;
        self.close_flights(&writes.iter().map(|write| write.key.clone()).collect());
        self.writes.push(Asked { writes, promise });
        self.note_flush(ctx);
        later
    }
}

impl Handler<Put> for CacheActor {
    type Result = ResponseFuture<Result<(), CacheError>>;

    fn handle(&mut self, put: Put, _ctx: &mut Context<Self>) -> Self::Result {
        let means = self.parts.means.clone();
        let keys: Arc<[RoutedKey]> = put.values.iter().map(|(key, ..)| key.clone()).collect();
        self.close_flights(&keys);
        Box::pin(async move { puts::put(&means, put).await })
    }
}

impl Handler<Ping> for CacheActor {
    type Result = ();

    fn handle(&mut self, _: Ping, _ctx: &mut Context<Self>) {}
}

impl Handler<Shutdown> for CacheActor {
    type Result = Later<()>;

    fn handle(&mut self, shutdown: Shutdown, ctx: &mut Context<Self>) -> Self::Result {
        let (later, promise) = Later::new();
        self.leaving = Some((Instant::now() + shutdown.deadline, promise));
        self.tick_while_needed(ctx);
        later
    }
}
