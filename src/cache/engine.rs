//! Drives the flights of one shard: sends what they ask for, and tells them what came back.
//!
//! All I/O runs in local tasks that end by sending an [`Event`]; the engine itself never waits.

use super::collect::Slot;
use super::events::Event;
use super::fallback::{self, Stranded};
use super::flights::{Acquired, Ended, Flights, Join, Loaded, Next};
use super::leases::{Accept, Ending, Fill, Lease, Leases, Token};
use super::means::Means;
use super::messages::{Answer, Found, State, Want};
use super::parts::{Line, MAX_PART_KEYS, Part};
use super::spaces::{Source, Space};
use super::{CacheError, loaders};
use crate::keyspace::SpaceId;
use crate::repository::{Admission, LoadError};
use crate::store::StoreError;
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::UnboundedSender;

/// Reads one shard lets wait for loads; one more is answered *busy*.
pub(super) const MAX_WAITING: usize = 100_000;

/// Acquire scripts one shard has out, from which on further keys wait and go together: they are still free to be joined.
const MAX_ACQUIRES_OUT: usize = 2;

/// One shard's flights under way.
pub(super) struct Engine {
    means: Means,
    flights: Flights<Want, Slot, Answer>,
    /// What is to be acquired, by space.
    acquires: Line<SpaceId, Want>,
    /// What is to be filled, or given back, by space, under the token of its leases.
    ends: Line<(SpaceId, Token), Ending>,
    events: UnboundedSender<Event>,
}

impl Engine {
    pub(super) fn new(means: Means, events: UnboundedSender<Event>) -> Self {
        Self {
            means,
            flights: Flights::new(MAX_WAITING),
            acquires: Line::new(),
            ends: Line::new(),
            events,
        }
    }

    /// A reader wants what Redis did not have.
    pub(super) fn join(&mut self, want: &Want, slot: Slot) {
        match self.flights.join(&want.key.key, want, slot) {
            Join::Led => {}
            Join::Joined => {
                self.means.metrics.flights_joined.inc();
            }
            Join::Full(slot) => {
                let error = CacheError::TooManyWaiting { limit: MAX_WAITING };
                if !fallback::is_survived(&self.means, &want.key) {
                    return slot.answer(Err(error));
                }
                let (key, slots) = (want.key.clone(), vec![slot]);
                self.rescue(vec![Stranded { key, slots, error }]);
            }
        }
    }

    /// Nobody joins this key's load any more.
    pub(super) fn close(&mut self, key: &[u8]) {
        self.flights.close(key);
    }

    /// Wakes flights that wait for other daemons' leases. Returns whether any is left waiting.
    pub(super) fn wake(&mut self, now: Instant) -> bool {
        self.flights.wake_parked(now);
        self.pump();
        self.flights.any_parked()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.flights.is_empty()
    }

    /// Sends what may go: acquire scripts of one cache each, and fills.
    pub(super) fn pump(&mut self) {
        if self.flights.any_queued() && self.acquires.out() < MAX_ACQUIRES_OUT {
            let queued = self.flights.take_queued().into_iter();
            let wants = queued.map(|(_, want, waited)| Want {
                missed: want.missed && !waited,
                ..want
            });
            for (space, wants) in by_space(wants) {
                self.acquires.push(space, wants);
            }
        }
        let sizes = &self.means.sizes;
        // What is not there has no bytes, and its loads should go together: they are one statement.
        let expected = |want: &Want| match want.missed {
            true => 0,
            false => sizes.expected(want.key.space),
        };
        while let Some((space, wants, part)) = self.acquires.next(expected) {
            self.send_acquire(space, wants, part);
        }
        while let Some((load, endings, part)) = self.ends.next(Ending::bytes) {
            self.send_end(endings, load, part);
        }
    }

    /// Something came back.
    pub(super) fn on_event(&mut self, event: Event) {
        match event {
            Event::Acquired {
                wants,
                part,
                token,
                leases,
                asked,
            } => {
                self.acquires.came_back(part);
                self.on_acquired(wants, token, leases, asked);
            }
            Event::Loaded {
                wants,
                token,
                values,
            } => self.on_loaded(wants, token, values),
            Event::Ended { keys, part, ours } => {
                self.ends.came_back(part);
                self.on_ended(&keys, ours);
            }
            Event::LookedUp { .. } | Event::Refreshed { .. } | Event::Accepted => {}
        }
        self.pump();
    }

    fn on_acquired(
        &mut self,
        wants: Vec<Want>,
        token: Token,
        leases: Result<Vec<Lease>, StoreError>,
        asked: Option<Instant>,
    ) {
        let now = Instant::now();
        let doubts = |key: &Bytes| asked.is_some_and(|asked| self.means.sweeps.doubts(key, asked));
        let leases = match leases {
            Ok(leases) => leases.into_iter().map(Some).collect(),
            Err(error) => {
                tracing::debug!(%error, "loading without leases");
                self.doubt(&wants, &error);
                // The script may have run all the same, or was refused in its middle. With Redis out of reach, what it
                // took expires by itself; otherwise others would wait for it.
                if let (false, Some(first)) = (error.is_outage(), wants.first()) {
                    let keys = wants.iter().map(|want| want.key.key.clone());
                    let bare: Vec<_> = keys.map(Ending::bare).collect();
                    self.give_back(&bare, (first.key.space, token));
                }
                vec![None; wants.len()]
            }
        };
        let outage = !self.means.store.is_up();
        let (mut leased, mut bare, mut doubted) = (Vec::new(), Vec::new(), Vec::new());
        for (want, lease) in wants.into_iter().zip(leases) {
            let acquired = match lease {
                Some(Lease::There { .. }) if doubts(&want.key.key) => {
                    doubted.push(want);
                    continue;
                }
                Some(Lease::Taken) => Acquired::Leased,
                Some(Lease::Held) => Acquired::Held,
                None => Acquired::NoLease,
                Some(Lease::Pending(value)) => Acquired::There(Ok(Means::pending(value))),
                Some(Lease::There { value, left }) => {
                    self.means.sizes.seen(want.key.space, 1, value.len());
                    match self.means.held(&want.key, value, Some(left), now) {
                        Some(held) => Acquired::There(Ok(held.found)),
                        // It stays: once it is proven again, it may be right. Until then every read is Postgres' own.
                        None => Acquired::NoLease,
                    }
                }
            };
            let patience = self.space(&want).load_timeout / 2;
            match self
                .flights
                .acquired(&want.key.key, acquired, now, patience)
            {
                Next::Load { leased: true } => leased.push(want),
                Next::Load { leased: false } => bare.push(want),
                next => self.answer(want.key.space, next),
            }
        }
        // With Redis away the database carries every read: what is too much for it is refused at once.
        let bare_admission = if outage {
            Admission::NoWait
        } else {
            Admission::Wait
        };
        let taken = leased.iter().map(|want| &want.key.key);
        self.means.trace.leased(taken, &token);
        self.send_load(leased, Some(token), Admission::Wait);
        self.send_load(bare, None, bare_admission);
        self.renew(doubted);
    }

    /// Values that an announced sweep is about to remove: invalidated by name, and asked for once more.
    fn renew(&mut self, wants: Vec<Want>) {
        let Some(first) = wants.first() else { return };
        // A part of one acquire: of one space, and no more than may go at once. Its values will be gone.
        let space = first.key.space;
        let part = Part {
            keys: wants.len(),
            bytes: 0,
        };
        self.acquires.sent(part);
        let doubted = u64::try_from(wants.len()).unwrap_or(u64::MAX);
        self.means.metrics.doubted_hits.inc_by(doubted);
        let means = self.means.clone();
        self.acquire(space, wants, part, async move |keys: &[Bytes]| {
            let begun = Instant::now();
            means.leases.invalidate(keys).await?;
            means.sweeps.renew(keys, begun);
            Ok(None)
        });
    }

    fn on_loaded(
        &mut self,
        wants: Vec<Want>,
        token: Option<Token>,
        values: Vec<Result<Option<Bytes>, CacheError>>,
    ) {
        let Some(space) = wants.first().map(|want| want.key.space) else {
            return;
        };
        let (mut endings, mut failed, mut stranded) = (Vec::new(), Vec::new(), Vec::new());
        for (want, value) in wants.into_iter().zip(values) {
            let key = want.key.key.clone();
            let (mut loaded, fill) = self.outcome(&want, value);
            if let (Loaded::Fill(answer) | Loaded::Pass(answer), None) = (&mut loaded, token) {
                self.means.doubt_unfilled(space, answer);
            }
            match self.flights.loaded(&key, loaded) {
                Next::End { .. } => endings.push(Ending { key, fill }),
                Next::Answer(slots, Err(error))
                    if fallback::is_survived(&self.means, &want.key) =>
                {
                    failed.push(Ending::bare(key));
                    let key = want.key;
                    stranded.push(Stranded { key, slots, error });
                }
                next => {
                    failed.push(Ending::bare(key));
                    self.answer(want.key.space, next);
                }
            }
        }
        self.rescue(stranded);
        if let Some(token) = token {
            let fills = endings
                .iter()
                .filter(|ending| matches!(ending.fill, Fill::Store(..)));
            let bytes = endings.iter().map(Ending::bytes).sum();
            self.means.sizes.seen(space, fills.count(), bytes);
            self.ends.push((space, token), endings);
            self.give_back(&failed, (space, token));
        }
    }

    fn on_ended(&mut self, keys: &[Bytes], ours: Result<Vec<bool>, StoreError>) {
        let ended: Vec<Ended> = match ours {
            Ok(ours) => ours
                .into_iter()
                .map(|ours| if ours { Ended::Ours } else { Ended::Refused })
                .collect(),
            Err(error) => {
                tracing::debug!(%error, "not known whether loads were filled");
                vec![Ended::Unknown; keys.len()]
            }
        };
        for (key, ended) in keys.iter().zip(ended) {
            let Some(space) = self.flights.item(key).map(|want| want.key.space) else {
                continue;
            };
            let (counters, trace) = (self.means.counters(space), &self.means.trace);
            match ended {
                Ended::Ours => {
                    counters.filled.inc();
                    trace.filled([key].into_iter());
                }
                Ended::Refused => {
                    counters.refused.inc();
                    trace.refused(key);
                }
                Ended::Unknown => {}
            }
            let mut next = self.flights.ended(key, ended);
            if let (Next::Answer(_, answer), true) = (&mut next, ended != Ended::Ours) {
                self.means.doubt_unfilled(space, answer);
            }
            self.answer(space, next);
        }
    }

    /// What a loaded value means to its flight, and what would be filled.
    fn outcome(
        &self,
        want: &Want,
        value: Result<Option<Bytes>, CacheError>,
    ) -> (Loaded<Answer>, Fill) {
        let counters = self.means.counters(want.key.space);
        let value = match value {
            Ok(value) => value,
            Err(error) => {
                counters.load_failed.inc();
                return (Loaded::Failed(Err(error)), Fill::Leave);
            }
        };
        counters.loaded.inc();
        let state = match &value {
            Some(_) => State::Miss,
            None => State::Missing,
        };
        let fill = self.means.to_store(&want.key, want.life, value.as_ref());
        let left = match &fill {
            Fill::Store(_, life) => *life,
            Fill::Remove | Fill::Leave => Duration::ZERO,
        };
        let found = Ok(Found {
            value,
            state,
            age: Duration::ZERO,
            left,
        });
        match fill {
            Fill::Store(..) => (Loaded::Fill(found), fill),
            Fill::Remove | Fill::Leave => (Loaded::Pass(found), fill),
        }
    }

    /// Has those told whose load failed: an old value, if there is one.
    fn rescue(&self, stranded: Vec<Stranded>) {
        if !stranded.is_empty() {
            let means = self.means.clone();
            tokio::task::spawn_local(async move { fallback::rescue(&means, stranded).await });
        }
    }

    fn answer(&self, space: SpaceId, next: Next<Slot, Answer>) {
        if let Next::Answer(slots, answer) = next {
            let readers = u64::try_from(slots.len()).unwrap_or(u64::MAX);
            self.means.count(space, &answer, readers);
            for slot in slots {
                slot.answer(answer.clone());
            }
        }
    }

    fn space(&self, want: &Want) -> &Space {
        self.means.spaces.get(want.key.space)
    }

    /// Not answered in time: perhaps because values were there, and larger than expected.
    fn doubt(&self, wants: &[Want], error: &StoreError) {
        if let ([want, _, ..], StoreError::TimedOut { .. }) = (wants, error) {
            self.means.sizes.doubt(want.key.space);
        }
    }

    fn send_acquire(&self, space: SpaceId, wants: Vec<Want>, part: Part) {
        self.acquire(space, wants, part, async |_keys: &[Bytes]| {
            Ok(Some(Instant::now()))
        });
    }

    /// Runs the acquire script after `prepare`, which says when the answer was asked for if it may be doubted.
    fn acquire(
        &self,
        space: SpaceId,
        wants: Vec<Want>,
        part: Part,
        prepare: impl AsyncFnOnce(&[Bytes]) -> Result<Option<Instant>, StoreError> + 'static,
    ) {
        let (leases, events) = (self.means.leases.clone(), self.events.clone());
        let usable = self.means.spaces.get(space).windows.usable();
        let terms = self.means.terms(space, Accept::Left(usable));
        tokio::task::spawn_local(async move {
            let keys: Vec<_> = wants.iter().map(|want| want.key.key.clone()).collect();
            let token = Leases::new_token();
            let (asked, leases) = match prepare(&keys).await {
                Ok(asked) => (asked, leases.acquire(&keys, &token, terms).await),
                Err(error) => (None, Err(error)),
            };
            // An engine that is gone has told its readers already.
            let _gone = events.send(Event::Acquired {
                wants,
                part,
                token,
                leases,
                asked,
            });
        });
    }

    /// One query for all keys of a cache; a task of its own for each key that a program loads.
    fn send_load(&self, wants: Vec<Want>, token: Option<Token>, admission: Admission) {
        let Some(first) = wants.first() else { return };
        let space = self.space(first);
        match (space.source, &self.means.repository) {
            (Source::Query(cache), Some(repository)) => {
                let (repository, events) = (repository.clone(), self.events.clone());
                let timer = self.means.metrics.timings.load(wants.len());
                let (load_times, space) = (self.means.spaces.load_times().clone(), first.key.space);
                tokio::task::spawn_local(async move {
                    let begun = Instant::now();
                    let keys = wants.iter().map(|want| want.key.clone()).collect();
                    let values = repository.load(cache, keys, admission).await;
                    load_times.measured(space, begun.elapsed());
                    drop(timer);
                    let values = values
                        .into_iter()
                        .map(|value| value.map_err(CacheError::Load))
                        .collect();
                    let _gone = events.send(Event::Loaded {
                        wants,
                        token,
                        values,
                    });
                });
            }
            (Source::Query(_), None) => {
                let reason = Arc::from("no [postgres] is configured");
                let error = CacheError::Load(LoadError::Unavailable { reason });
                let values = vec![Err(error); wants.len()];
                let _gone = self.events.send(Event::Loaded {
                    wants,
                    token,
                    values,
                });
            }
            (Source::Program, _) => {
                for want in wants {
                    self.run_loader(want, token, admission);
                }
            }
        }
    }

    fn run_loader(&self, want: Want, token: Option<Token>, admission: Admission) {
        let (space, events) = (self.space(&want), self.events.clone());
        let timeout = space.load_timeout;
        let started = self.means.loaders.start(&want, space, admission);
        let timer = self.means.metrics.timings.load(1);
        tokio::task::spawn_local(async move {
            let value = loaders::finish(started, timeout).await;
            drop(timer);
            let _gone = events.send(Event::Loaded {
                wants: vec![want],
                token,
                values: vec![value],
            });
        });
    }

    /// A load that failed, or that begins without them, gives leases back at once: the next one need not wait for them to
    /// expire.
    fn give_back(&self, endings: &[Ending], (space, token): (SpaceId, Token)) {
        for endings in endings.chunks(MAX_PART_KEYS) {
            let (leases, endings) = (self.means.leases.clone(), endings.to_vec());
            let spaces = self.means.spaces.clone();
            tokio::task::spawn_local(async move {
                // If this fails too, the lease expires by itself.
                let _expires = leases.end(&endings, &token, spaces.get(space)).await;
            });
        }
    }

    fn send_end(&self, endings: Vec<Ending>, (space, token): (SpaceId, Token), part: Part) {
        let (leases, events) = (self.means.leases.clone(), self.events.clone());
        let spaces = self.means.spaces.clone();
        tokio::task::spawn_local(async move {
            let ours = leases.end(&endings, &token, spaces.get(space)).await;
            let keys = endings.into_iter().map(|ending| ending.key).collect();
            let _gone = events.send(Event::Ended { keys, part, ours });
        });
    }
}

/// Groups wants by space, each group in order of arrival.
fn by_space(wants: impl Iterator<Item = Want>) -> HashMap<SpaceId, Vec<Want>> {
    let mut groups: HashMap<SpaceId, Vec<Want>> = HashMap::new();
    for want in wants {
        groups.entry(want.key.space).or_default().push(want);
    }
    groups
}
