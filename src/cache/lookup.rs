//! One look-up for all reads that wait: the keys of every connection that asked since the last one was sent.
//!
//! Joining is right here because nothing has been sent yet; what comes later gets the next look-up.

use super::collect::ReplyTo;
use super::distinct::Distinct;
use super::l1::Moment;
use super::messages::Loader;
use super::parts::Part;
use super::sizes::Sizes;
use crate::keyspace::{RoutedKey, SpaceId};
use crate::store::{Store, StoreError};
use crate::telemetry::{Stopwatch, Timer};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A read and where its keys stand in the look-up.
pub(super) struct Pending {
    pub(super) keys: Arc<[RoutedKey]>,
    /// Told by [`Lookup::add`].
    pub(super) places: Vec<u32>,
    /// How a program makes what is not there, and how long that lives.
    pub(super) loader: Option<(Loader, Option<Duration>)>,
    pub(super) reply: ReplyTo,
    /// Of reads that go together, one is timed.
    pub(super) timer: Option<Timer>,
}

/// What Redis holds for one key.
#[derive(Clone)]
pub(super) struct Held {
    pub(super) value: Bytes,
    /// Remaining life, where a read asked for it.
    pub(super) left: Option<Duration>,
}

/// A key that is asked for once, however many reads want it.
struct Wanted {
    space: SpaceId,
    by: u32,
    with_age: bool,
}

/// A look-up: first it is gathered, then it is asked part by part.
#[derive(Default)]
pub(super) struct Lookup {
    reads: Vec<Pending>,
    wanted: Vec<Wanted>,
    /// The keys, in the order of `wanted`.
    keys: Distinct,
    /// What was expected for all of them when they were added, in bytes.
    bytes: usize,
    /// What was found so far, for the first of `wanted`.
    held: Vec<Option<Held>>,
    /// When its first part was asked for.
    asked: Option<Instant>,
    /// What L1 had heard before that.
    heard: Option<Moment>,
}

/// What a look-up found, handed out read by read.
pub(super) struct LookedUp {
    /// No part of it was asked for before.
    pub(super) asked: Instant,
    /// What L1 had heard before any part of it was asked for.
    pub(super) heard: Option<Moment>,
    held: Vec<Option<Held>>,
    wanted: Vec<Wanted>,
}

impl LookedUp {
    /// What is held at `place`. The last read that wants it gets it without a copy.
    pub(super) fn take(&mut self, place: u32) -> Option<Held> {
        let place = place as usize;
        let left = &mut self.wanted.get_mut(place)?.by;
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.held.get_mut(place)?.take()
        } else {
            self.held.get(place)?.clone()
        }
    }
}

impl Lookup {
    /// How many keys it asks for.
    pub(super) fn len(&self) -> usize {
        self.wanted.len()
    }

    /// What was expected for its keys, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it asks for all of `keys` already.
    pub(super) fn has_all(&self, keys: &[RoutedKey]) -> bool {
        keys.iter().all(|key| self.keys.contains(&key.key))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// Adds a read; a key that another read wants too is asked for once. The first read is timed.
    pub(super) fn add(
        &mut self,
        mut read: Pending,
        with_age: bool,
        sizes: &Sizes,
        stopwatch: Option<&Stopwatch>,
    ) {
        self.keys.reserve(read.keys.len());
        let keys = read.keys.iter();
        read.places = keys
            .map(|wanted| self.place(wanted, with_age, sizes))
            .collect();
        if self.reads.is_empty() {
            read.timer = stopwatch.map(Stopwatch::start);
        }
        self.reads.push(read);
    }

    fn place(&mut self, wanted: &RoutedKey, with_age: bool, sizes: &Sizes) -> u32 {
        let (place, new) = self.keys.insert(&wanted.key);
        if new {
            let bytes = sizes.expected(wanted.space);
            self.bytes = self.bytes.saturating_add(bytes);
            let space = wanted.space;
            self.wanted.push(Wanted {
                space,
                by: 1,
                with_age,
            });
        } else {
            let wanted = &mut self.wanted[place as usize];
            wanted.by += 1;
            wanted.with_age |= with_age;
        }
        place
    }

    /// What is left to be asked for.
    fn rest(&self) -> &[Wanted] {
        self.wanted.get(self.held.len()..).unwrap_or_default()
    }

    /// How many keys are left to be asked for.
    pub(super) fn left(&self) -> usize {
        self.rest().len()
    }

    /// The part to ask for next.
    pub(super) fn next_part(&self, sizes: &Sizes) -> Part {
        Part::first(
            self.rest()
                .iter()
                .map(|wanted| sizes.expected(wanted.space)),
        )
    }

    /// A part of it is about to be asked for.
    pub(super) fn begin(&mut self) {
        self.asked.get_or_insert_with(Instant::now);
    }

    /// What L1 has heard by now; the first time counts.
    pub(super) fn note_heard(&mut self, heard: Option<Moment>) {
        if self.held.is_empty() {
            self.heard = heard;
        }
    }

    /// Asks for the next so many keys.
    pub(super) async fn ask(
        &self,
        keys: usize,
        store: &Store,
    ) -> Result<Vec<Option<Held>>, StoreError> {
        let asked = self.held.len();
        let keys: Vec<&[u8]> = (asked..self.wanted.len().min(asked + keys))
            .map(|place| self.keys.get(place))
            .collect();
        if keys.is_empty() {
            // Redis takes `MGET` without a key for a mistake.
            return Ok(Vec::new());
        }
        let wanted = self.rest().iter().take(keys.len());
        let aged: Vec<bool> = wanted.map(|wanted| wanted.with_age).collect();
        if aged.contains(&true) {
            let found = store.mget_with_pttl(&keys, &aged).await?.into_iter();
            let held = found.map(|(left, value)| {
                let left = u64::try_from(left).ok().map(Duration::from_millis);
                value.map(|value| Held { value, left })
            });
            Ok(held.collect())
        } else {
            let found = store.mget(&keys).await?.into_iter();
            let held = found.map(|value| value.map(|value| Held { value, left: None }));
            Ok(held.collect())
        }
    }

    /// Keeps what was found of the next keys, and learns from it.
    pub(super) fn found(&mut self, mut found: Vec<Option<Held>>, sizes: &Sizes) {
        let asked = self.rest().get(..found.len()).unwrap_or_default();
        let mut held = found.iter();
        for run in asked.chunk_by(|one, next| one.space == next.space) {
            let values = held.by_ref().take(run.len()).flatten();
            let lengths = values.map(|held| held.value.len());
            let (values, bytes) = lengths.fold((0, 0), |(n, sum), length| (n + 1, sum + length));
            sizes.seen(run[0].space, values, bytes);
        }
        if self.held.is_empty() {
            self.held = found;
        } else {
            self.held.append(&mut found);
        }
    }

    /// The next so many keys were not answered in time.
    pub(super) fn timed_out(&self, keys: usize, sizes: &Sizes) {
        for wanted in self.rest().iter().take(keys) {
            sizes.doubt(wanted.space);
        }
    }

    /// Whether everything was asked for.
    pub(super) fn is_complete(&self) -> bool {
        self.rest().is_empty()
    }

    /// Whether anybody still waits for it.
    pub(super) fn is_awaited(&self) -> bool {
        self.reads.iter().any(|read| read.reply.is_awaited())
    }

    /// The reads, and what was found for them.
    pub(super) fn finish(self) -> (Vec<Pending>, LookedUp) {
        let found = LookedUp {
            asked: self.asked.unwrap_or_else(Instant::now),
            heard: self.heard,
            held: self.held,
            wanted: self.wanted,
        };
        (self.reads, found)
    }
}
