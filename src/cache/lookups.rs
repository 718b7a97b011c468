//! One look-up for all reads that wait: the keys of every connection that asked since the last one was sent.
//!
//! Joining is right here because nothing has been sent yet; what comes later gets the next look-up.

use super::collect::ReplyTo;
use super::messages::Loader;
use crate::keyspace::RoutedKey;
use crate::store::{Store, StoreError};
use crate::telemetry::Timer;
use bytes::Bytes;
use std::collections::HashMap;
use std::time::Duration;

/// Keys one look-up asks for, beyond which the next read begins another one. A read's own keys stay together. Measured: with
/// more, Redis and we wait for one another instead of working side by side; with fewer, each pays for more exchanges.
const MAX_LOOKUP_KEYS: usize = 256;

/// A read and where its keys stand in the look-up.
pub(super) struct Pending {
    pub(super) keys: Vec<RoutedKey>,
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

/// A look-up before it is sent.
#[derive(Default)]
pub(super) struct Lookup {
    pub(super) reads: Vec<Pending>,
    keys: Vec<Bytes>,
    /// How many reads want each of `keys`.
    wanted_by: Vec<u32>,
    with_age: bool,
    places: HashMap<Bytes, u32, foldhash::fast::RandomState>,
}

/// What a look-up found, handed out read by read.
pub(super) struct LookedUp {
    held: Vec<Option<Held>>,
    wanted_by: Vec<u32>,
}

impl LookedUp {
    /// What is held at `place`. The last read that wants it gets it without a copy.
    pub(super) fn take(&mut self, place: u32) -> Option<Held> {
        let place = place as usize;
        let left = self.wanted_by.get_mut(place)?;
        *left = left.saturating_sub(1);
        if *left == 0 {
            self.held.get_mut(place)?.take()
        } else {
            self.held.get(place)?.clone()
        }
    }
}

impl Lookup {
    /// Whether another read should begin another look-up.
    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= MAX_LOOKUP_KEYS
    }

    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty()
    }

    /// Adds a read; a key that another read wants too is asked for once.
    pub(super) fn add(&mut self, mut read: Pending, with_age: bool) {
        self.with_age |= with_age;
        self.places.reserve(read.keys.len());
        let keys = read.keys.iter();
        read.places = keys.map(|wanted| self.place(&wanted.key)).collect();
        self.reads.push(read);
    }

    fn place(&mut self, key: &Bytes) -> u32 {
        let next = u32::try_from(self.keys.len()).unwrap_or(u32::MAX);
        let place = *self.places.entry(key.clone()).or_insert(next);
        if place == next {
            self.keys.push(key.clone());
            self.wanted_by.push(1);
        } else {
            self.wanted_by[place as usize] += 1;
        }
        place
    }

    /// Sends it.
    pub(super) async fn send(&mut self, store: &Store) -> Result<LookedUp, StoreError> {
        let mut held = Vec::with_capacity(self.keys.len());
        // A read of more keys than a look-up should have is asked for in parts.
        for keys in self.keys.chunks(MAX_LOOKUP_KEYS) {
            if self.with_age {
                let found = store.mget_with_pttl(keys).await?.into_iter();
                held.extend(found.map(|(left, value)| {
                    let left = u64::try_from(left).ok().map(Duration::from_millis);
                    value.map(|value| Held { value, left })
                }));
            } else {
                let found = store.mget(keys).await?.into_iter();
                held.extend(found.map(|value| value.map(|value| Held { value, left: None })));
            }
        }
        let wanted_by = std::mem::take(&mut self.wanted_by);
        Ok(LookedUp { held, wanted_by })
    }
}
