//! Values that are answered, and loaded anew behind that: which of them now. Pure; the actor does what it says.
//!
//! The lease makes one refresh of the whole fleet's. Here only what costs is kept small: of the hits of one key one asks for
//! its lease, and after a failure, or when another has it, nobody does for a while.

use super::renewal::Renewed;
use crate::keyspace::{RoutedKey, SpaceId};
use bytes::Bytes;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Keys whose refresh waits, is under way, or was tried just now. A hit of one more is answered, and a later one refreshes it.
const MAX_KEYS: usize = 16_384;
/// Refreshes, of any number of keys that came together, that one shard has under way.
const MAX_OUT: usize = 2;
/// Keys of one refresh.
const MAX_TOGETHER: usize = 256;
/// After a failed load.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// While another daemon loads it.
const PAUSE_WHILE_HELD: Duration = Duration::from_millis(100);

/// One shard's refreshes.
#[derive(Default)]
pub(super) struct Refreshes {
    /// Until when nobody refreshes them; `None`: it waits, or is under way.
    known: HashMap<Bytes, Option<Instant>, foldhash::fast::RandomState>,
    waiting: HashMap<SpaceId, Vec<RoutedKey>>,
    out: usize,
}

impl Refreshes {
    /// A hit of `key` found it worth a refresh.
    pub(super) fn want(&mut self, key: &RoutedKey, now: Instant) {
        let paused = match self.known.get(&key.key) {
            Some(None) => true,
            Some(Some(until)) => now < *until,
            None => false,
        };
        if paused || !self.has_room(now) {
            return;
        }
        self.known.insert(key.key.clone(), None);
        self.waiting.entry(key.space).or_default().push(key.clone());
    }

    /// The keys, of one space, to be refreshed now.
    pub(super) fn next(&mut self) -> Option<(SpaceId, Vec<RoutedKey>)> {
        if self.out >= MAX_OUT {
            return None;
        }
        let space = *self.waiting.keys().next()?;
        let mut keys = self.waiting.remove(&space)?;
        if keys.len() > MAX_TOGETHER {
            let rest = keys.split_off(MAX_TOGETHER);
            self.waiting.insert(space, rest);
        }
        self.out += 1;
        Some((space, keys))
    }

    /// What became of them.
    pub(super) fn came_back(&mut self, keys: &[RoutedKey], renewed: &[Renewed], now: Instant) {
        self.out = self.out.saturating_sub(1);
        for (key, renewed) in keys.iter().zip(renewed) {
            let pause = match renewed {
                Renewed::Failed(_) => PAUSE_AFTER_FAILURE,
                Renewed::Held => PAUSE_WHILE_HELD,
                Renewed::Filled | Renewed::Passed | Renewed::Fresh | Renewed::Refused => {
                    self.known.remove(&key.key);
                    continue;
                }
            };
            self.known.insert(key.key.clone(), Some(now + pause));
        }
    }

    /// Whether none waits or is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.out == 0 && self.waiting.is_empty()
    }

    /// Forgets pauses that are over, if there would be no room otherwise.
    fn has_room(&mut self, now: Instant) -> bool {
        if self.known.len() >= MAX_KEYS {
            self.known
                .retain(|_, until| until.is_none_or(|until| now < until));
        }
        self.known.len() < MAX_KEYS
    }
}
