//! The cache actor: takes messages, lets the look-up and the engine do the work, answers. Thin.

use super::collect::{Collector, ReplyTo};
use super::deadlines::Deadlines;
use super::engine::Engine;
use super::events::Event;
use super::lookup::{LookedUp, Pending};
use super::lookups::Lookups;
use super::means::{Means, Tally};
use super::messages::{
    Answer, CacheHandle, Found, GetOrLoad, Inspect, Invalidate, KeysInvalidated, Load, Put, Read,
    Want,
};
use super::spaces::Spaces;
use super::warmth::Warmth;
use super::{CacheError, leases, puts};
use crate::keyspace::RoutedKey;
use crate::store::StoreError;
use crate::supervisor::{Later, Ping, Promise, Shutdown};
use crate::telemetry::Stopwatch;
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
    engine: Engine,
    lookups: Lookups,
    warmth: Warmth,
    /// Reads that do without a look-up.
    direct: Vec<Pending>,
    flush_noted: bool,
    ticking: bool,
    deadlines: Deadlines,
    events: mpsc::UnboundedSender<Event>,
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
            engine: Engine::new(parts.means.clone(), events.clone()),
            warmth: Warmth::new(parts.means.spaces.iter().count()),
            lookups: Lookups::new(parts.means.sizes.clone()),
            parts,
            direct: Vec::new(),
            flush_noted: false,
            ticking: false,
            deadlines: Deadlines::default(),
            events,
            inbox: Some(inbox),
            leaving: None,
        }
    }

    /// Points the handles at a started actor, or away from a dead one.
    pub fn bind(handle: &CacheHandle, address: Option<&Addr<Self>>) {
        handle.bind_each(address);
    }

    fn look_up(
        &mut self,
        keys: Arc<[RoutedKey]>,
        with_age: bool,
        loader: Option<(super::Loader, Option<Duration>)>,
        reply: ReplyTo,
        ctx: &mut Context<Self>,
    ) {
        let direct = !with_age && self.skips_lookup(&keys);
        let first = keys.first().map(|key| key.space);
        let stopwatch = first.map(|space| &self.parts.means.counters(space).read_time);
        let mut read = Pending {
            keys,
            places: Vec::new(),
            loader,
            reply,
            timer: None,
        };
        if direct {
            let timed = stopwatch.filter(|_| self.direct.is_empty());
            read.timer = timed.map(Stopwatch::start);
            self.direct.push(read);
        } else {
            // Who keeps a value must know how long.
            let kept = self.parts.means.keeps_any(&read.keys);
            self.lookups.add(read, with_age || kept, stopwatch);
            self.send_lookups(false);
        }
        let more_to_send = self.lookups.is_gathering() || !self.direct.is_empty();
        if more_to_send && !self.flush_noted {
            self.flush_noted = true;
            // Runs after the mail that is already here: reads that came together go together.
            ctx.notify(Flush);
        }
    }

    /// Sends what may go; `gathered`: also what other mail may still add to.
    fn send_lookups(&mut self, gathered: bool) {
        while let Some(mut sent) = self.lookups.next(gathered) {
            sent.lookup.note_heard(self.parts.means.heard());
            let (store, events) = (self.parts.means.store.clone(), self.events.clone());
            tokio::task::spawn_local(async move {
                let found = sent.lookup.ask(sent.part.keys, &store).await;
                // An actor that is gone has told its askers already.
                let _gone = events.send(Event::LookedUp { sent, found });
            });
        }
    }

    /// Whether a read goes to the acquire script at once. Asked once a read: the keys of most are of one space.
    fn skips_lookup(&mut self, keys: &[RoutedKey]) -> bool {
        let Some(space) = keys.first().map(|key| key.space) else {
            return false;
        };
        keys.iter().all(|key| key.space == space)
            && !self.parts.means.is_program(space)
            && self.warmth.skips(space)
    }

    fn on_looked_up(&mut self, reads: Vec<Pending>, mut found: Result<LookedUp, StoreError>) {
        let now = Instant::now();
        let answered: Vec<_> = reads
            .into_iter()
            .map(|read| {
                let answers = self.answers(&read, &mut found, now);
                if found.is_ok() {
                    self.learn(&read, &answers);
                }
                (read, answers)
            })
            .collect();
        self.settle(answered, found.is_ok());
    }

    /// Counts what a look-up was good for; a read's keys are nearly always of one space.
    fn learn(&mut self, read: &Pending, answers: &[Option<Answer>]) {
        if let Some(first) = read.keys.first() {
            let hits = answers.iter().flatten().count();
            self.warmth
                .looked_up(first.space, hits, answers.len() - hits);
        }
    }

    fn send_direct(&mut self) {
        let reads = std::mem::take(&mut self.direct);
        let unanswered = reads.into_iter().map(|read| {
            let answers = vec![None; read.keys.len()];
            (read, answers)
        });
        self.settle(unanswered.collect(), false);
    }

    /// Answers the reads that are complete, and has the rest of the others loaded where their spaces belong; `missed`: a
    /// look-up did not find it.
    fn settle(&mut self, reads: Vec<(Pending, Vec<Option<Answer>>)>, missed: bool) {
        let mut elsewhere = Vec::new();
        elsewhere.resize_with(self.parts.shards.len(), Vec::new);
        for (read, answers) in reads {
            if answers.iter().all(Option::is_some) {
                // No slot, no collector: the way of a hit.
                drop(read.timer);
                Collector::reply(answers, read.reply);
                continue;
            }
            let open: Vec<usize> = (0..answers.len())
                .filter(|place| answers[*place].is_none())
                .collect();
            let collector = Collector::new(answers, read.reply, read.timer);
            for place in open {
                let key = &read.keys[place];
                let after = self.parts.means.spaces.get(key.space).load_timeout;
                self.deadlines.enter(key.space, after, &collector, place);
                let want = Want {
                    key: key.clone(),
                    life: read.loader.as_ref().and_then(|(_, life)| *life),
                    loader: read.loader.as_ref().map(|(loader, _)| loader.clone()),
                    missed,
                };
                let owner = Spaces::owner(key.space, self.parts.shards.len());
                let slot = collector.slot(place);
                if owner == self.parts.shard {
                    self.engine.join(&want, slot);
                } else {
                    elsewhere[owner].push((want, slot));
                }
            }
        }
        for (shard, wants) in elsewhere.into_iter().enumerate() {
            if !wants.is_empty() {
                // A shard that cannot take them drops their slots, which tells the readers.
                let _told = self.parts.shards[shard].load.tell(Load { wants });
            }
        }
        self.engine.pump();
    }

    /// The answers that the look-up alone can give; `None` for what has to be loaded. What an announced sweep is about to
    /// remove, or what nobody can prove, is as good as gone.
    fn answers(
        &self,
        read: &Pending,
        found: &mut Result<LookedUp, StoreError>,
        now: Instant,
    ) -> Vec<Option<Answer>> {
        let means = &self.parts.means;
        let mut tally = Tally::new(means);
        let answer = |(key, place): (&RoutedKey, &u32)| {
            let held = match found {
                Ok(found) => Ok((found.asked, found.heard, found.take(*place))),
                Err(error) => Err(&*error),
            };
            let taken = held.map(|(asked, heard, held)| {
                let held = held.filter(|_| !means.sweeps.doubts(&key.key, asked))?;
                means.keep(key, &held, asked, heard);
                means.held(key, held.value, held.left, now)
            });
            let answer = match taken {
                Ok(Some(found)) => Ok(found),
                _ if read.loader.is_some() || !means.is_program(key.space) => return None,
                Ok(None) => Ok(Found::absent()),
                Err(error) => Err(CacheError::Store(error.clone())),
            };
            tally.add(key.space, &answer);
            Some(answer)
        };
        read.keys.iter().zip(&read.places).map(answer).collect()
    }

    /// Lets nobody join loads of these keys any more, here and in the other shards.
    fn close_flights(&mut self, keys: &Arc<[RoutedKey]>) {
        let shards = self.parts.shards.len();
        let mut told = vec![false; shards];
        for key in keys.iter() {
            let owner = Spaces::owner(key.space, shards);
            if owner == self.parts.shard {
                self.engine.close(&key.key);
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
            let deadlines_left = actor.deadlines.expire(now);
            let parked_left = actor.engine.wake(now);
            actor.leave_if_done(now, ctx);
            if deadlines_left || parked_left || actor.leaving.is_some() {
                actor.tick_while_needed(ctx);
            }
        });
    }

    fn leave_if_done(&mut self, now: Instant, ctx: &mut Context<Self>) {
        let idle = self.engine.is_idle() && self.lookups.is_idle() && self.direct.is_empty();
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
            Event::LookedUp { sent, found } => {
                if let Some((reads, found)) = self.lookups.came_back(sent, found) {
                    self.on_looked_up(reads, found);
                }
                self.send_lookups(true);
            }
            event => self.engine.on_event(event),
        }
        if !self.engine.is_idle() || !self.deadlines.is_empty() {
            self.tick_while_needed(ctx);
        }
    }

    fn finished(&mut self, _ctx: &mut Context<Self>) {
        // The actor keeps a sender itself, so this stream has no end. (The default would stop the actor.)
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
        self.send_lookups(true);
        if !self.direct.is_empty() {
            self.send_direct();
            self.tick_while_needed(ctx);
        }
    }
}

impl Handler<Load> for CacheActor {
    type Result = ();

    fn handle(&mut self, load: Load, ctx: &mut Context<Self>) {
        for (want, slot) in load.wants {
            self.engine.join(&want, slot);
        }
        self.engine.pump();
        self.tick_while_needed(ctx);
    }
}

impl Handler<KeysInvalidated> for CacheActor {
    type Result = ();

    fn handle(&mut self, fact: KeysInvalidated, _ctx: &mut Context<Self>) {
        for key in fact.keys.iter() {
            self.engine.close(&key.key);
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
            // One byte more than a remembered missing row has, to tell it from what only begins like it.
            let seen = store.peek(&keys, leases::MISSING.len() + 1).await;
            let seen = seen.map_err(CacheError::Store)?;
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
