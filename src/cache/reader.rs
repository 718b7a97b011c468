//! Answers the reads of one shard: from a look-up where it can, else from loads, and at the latest when their time is up.
//!
//! It sends what the actor tells it to; what comes back comes as an [`Event`].

use super::collect::{Collector, ReplyTo};
use super::deadlines::Deadlines;
use super::engine::Engine;
use super::events::Event;
use super::lookup::{LookedUp, Pending};
use super::lookups::Lookups;
use super::means::Tally;
use super::messages::{Answer, Found, Load, Loader, Want};
use super::refreshes::Refreshes;
use super::renewal::Renewed;
use super::spaces::Spaces;
use super::warmth::Warmth;
use super::{CacheError, CacheParts, fallback, leases, renewal};
use crate::keyspace::RoutedKey;
use crate::store::StoreError;
use crate::telemetry::Stopwatch;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Reads under way, and the loads of this shard's part of the caches.
pub(super) struct Reader {
    parts: CacheParts,
    engine: Engine,
    lookups: Lookups,
    warmth: Warmth,
    /// Reads that do without a look-up.
    direct: Vec<Pending>,
    refreshes: Refreshes,
    deadlines: Deadlines,
    events: UnboundedSender<Event>,
}

impl Reader {
    pub(super) fn new(parts: CacheParts, events: UnboundedSender<Event>) -> Self {
        Self {
            engine: Engine::new(parts.means.clone(), events.clone()),
            warmth: Warmth::new(parts.means.spaces.iter().count()),
            lookups: Lookups::new(parts.means.sizes.clone()),
            parts,
            direct: Vec::new(),
            refreshes: Refreshes::default(),
            deadlines: Deadlines::default(),
            events,
        }
    }

    /// Takes a read. What other mail may still add to is kept until [`Self::send`].
    pub(super) fn read(
        &mut self,
        keys: Arc<[RoutedKey]>,
        with_age: bool,
        loader: Option<(Loader, Option<Duration>)>,
        reply: ReplyTo,
    ) {
        // Where a value's worth is told from its remaining life, or it is kept, that must be known.
        let with_age = with_age || self.parts.means.wants_life(&keys);
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
            self.lookups.add(read, with_age, stopwatch);
            self.send_lookups(false);
        }
    }

    /// Whether something waits to be sent that other mail may still add to.
    pub(super) fn is_gathering(&self) -> bool {
        self.lookups.is_gathering() || !self.direct.is_empty()
    }

    /// Sends all that waits.
    pub(super) fn send(&mut self) {
        self.send_lookups(true);
        if !self.direct.is_empty() {
            self.send_direct();
        }
    }

    /// Other shards' readers want what Redis did not have.
    pub(super) fn load(&mut self, load: Load) {
        for (want, slot) in load.wants {
            self.engine.join(&want, slot);
        }
        self.engine.pump();
    }

    /// Nobody joins this key's load any more.
    pub(super) fn close(&mut self, key: &[u8]) {
        self.engine.close(key);
    }

    /// Something came back.
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::LookedUp { sent, found } => {
                if let Some((reads, found)) = self.lookups.came_back(sent, found) {
                    self.on_looked_up(reads, found);
                }
                self.send_lookups(true);
            }
            Event::Refreshed { keys, renewed } => {
                let failed = renewed.iter().find_map(Renewed::error);
                if let Some(error) = failed {
                    tracing::debug!(%error, "values were not refreshed; they are answered while they may be");
                }
                self.refreshes.came_back(&keys, &renewed, Instant::now());
                self.send_refreshes();
            }
            event => self.engine.on_event(event),
        }
    }

    /// Does what it is time for. Returns whether anything waits for time to pass.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        let late = self.deadlines.expire(now);
        if !late.is_empty() {
            let means = self.parts.means.clone();
            tokio::task::spawn_local(async move { fallback::relieve(&means, late).await });
        }
        let parked_left = self.engine.wake(now);
        parked_left || !self.deadlines.is_empty()
    }

    /// Whether anything waits for time to pass, or will.
    pub(super) fn needs_ticks(&self) -> bool {
        !self.engine.is_idle() || !self.deadlines.is_empty()
    }

    /// Whether nothing is under way that anybody waits for, or that holds a lease.
    pub(super) fn is_idle(&self) -> bool {
        self.engine.is_idle()
            && self.lookups.is_idle()
            && self.direct.is_empty()
            && self.refreshes.is_idle()
    }

    /// `gathered`: also what other mail may still add to.
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
        self.send_refreshes();
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
        for key in reads.iter().flat_map(|read| read.keys.iter()) {
            let spaces = &self.parts.means.spaces;
            spaces.count_request(key.space, &key.key);
        }
        let unanswered = reads.into_iter().map(|read| {
            let answers = vec![None; read.keys.len()];
            (read, answers)
        });
        self.settle(unanswered.collect(), false);
    }

    fn send_refreshes(&mut self) {
        while let Some((space, keys)) = self.refreshes.next() {
            let (means, events) = (self.parts.means.clone(), self.events.clone());
            tokio::task::spawn_local(async move {
                let settled = means.spaces.get(space).windows.settled();
                let accept = leases::Accept::Left(settled);
                let renewed = renewal::renew(&means, space, &keys, accept).await;
                let _gone = events.send(Event::Refreshed { keys, renewed });
            });
        }
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
                let space = self.parts.means.spaces.get(key.space);
                self.deadlines.enter(key, space, &collector, place);
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
    /// remove, what nobody can prove, or what is too old, is as good as gone.
    fn answers(
        &mut self,
        read: &Pending,
        found: &mut Result<LookedUp, StoreError>,
        now: Instant,
    ) -> Vec<Option<Answer>> {
        let (means, refreshes) = (&self.parts.means, &mut self.refreshes);
        let mut tally = Tally::new(means);
        let answer = |(key, place): (&RoutedKey, &u32)| {
            means.spaces.count_request(key.space, &key.key);
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
                Ok(Some(held)) => {
                    if held.wants_refresh {
                        refreshes.want(key, now);
                    }
                    Ok(held.found)
                }
                _ if read.loader.is_some() || !means.is_program(key.space) => return None,
                Ok(None) => Ok(Found::absent()),
                Err(error) => Err(CacheError::Store(error.clone())),
            };
            tally.add(key.space, &answer);
            Some(answer)
        };
        read.keys.iter().zip(&read.places).map(answer).collect()
    }
}
