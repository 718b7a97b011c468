//! What one shard of L1 keeps: values by key, bounded in bytes.
//!
//! When it is full, a hand goes round (CLOCK): what was read since the hand last passed is spared once, the rest goes, and
//! so does what has ended. A new entry takes the place that became free behind the hand, so it has a whole round to be read
//! in. A hit only sets a mark: it moves nothing and allocates nothing.

use crate::keyspace::SpaceId;
use bytes::Bytes;
use hashbrown::HashTable;
use std::time::{Duration, Instant};

/// What an entry takes besides its key and value, in bytes: itself, its places in the table and in the round, and what the
/// allocator adds to its three pieces of memory.
pub(super) const OVERHEAD: usize = size_of::<Entry>() + 96;

/// An entry may take this part of a shard: one huge value should not push out everything else.
const LARGEST_PART: usize = 8;

/// Entries that the hand spares in a row. Then it takes the next one, read or not: who inserts does not wait for a whole round.
const MAX_SPARED: usize = 64;

/// A value and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: Box<[u8]>,
    pub(super) hash: u64,
    pub(super) value: Bytes,
    pub(super) space: SpaceId,
    /// When its look-up was sent: the value is as old as that, at most.
    pub(super) asked: Instant,
    /// What it had left of its life in Redis then.
    pub(super) left: Duration,
    /// From then on it is not read any more.
    pub(super) ends: Instant,
    /// Read since the hand last passed.
    pub(super) read: bool,
}

impl Entry {
    fn bytes(&self) -> usize {
        OVERHEAD + self.key.len() + self.value.len()
    }
}

/// Entries, never of more bytes together than the capacity.
#[derive(Debug)]
pub(super) struct Kept {
    places: HashTable<u32>,
    /// The round. Boxed, so that a place that is free costs little.
    round: Vec<Option<Box<Entry>>>,
    free: Vec<u32>,
    hand: usize,
    bytes: usize,
    capacity: usize,
}

impl Kept {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            places: HashTable::new(),
            round: Vec::new(),
            free: Vec::new(),
            hand: 0,
            bytes: 0,
            capacity,
        }
    }

    /// What all entries take together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The entry of a key, unless it has ended.
    pub(super) fn read(&mut self, hash: u64, key: &[u8], now: Instant) -> Option<&Entry> {
        let place = self.place(hash, key)?;
        let entry = self.round.get_mut(place as usize)?.as_mut()?;
        if entry.ends <= now {
            return None;
        }
        entry.read = true;
        Some(entry)
    }

    /// The entry of a key, ended or not, as if nobody had looked.
    pub(super) fn peek(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        let place = self.place(hash, key)?;
        self.round.get(place as usize)?.as_deref()
    }

    /// Keeps an entry in place of the one that its key had. One that is too large is not kept.
    pub(super) fn insert(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        self.remove(entry.hash, &entry.key);
        if bytes > self.capacity / LARGEST_PART {
            return;
        }
        while self.bytes + bytes > self.capacity && self.evict(entry.asked) {}
        let place = self.free.pop().or_else(|| {
            let place = u32::try_from(self.round.len()).ok()?;
            self.round.push(None);
            Some(place)
        });
        // More entries than a u32 counts would take more memory than any machine has.
        let Some(place) = place else { return };
        let hash = entry.hash;
        self.round[place as usize] = Some(Box::new(entry));
        self.bytes += bytes;
        let round = &self.round;
        let hash_of = |place: &u32| round[*place as usize].as_ref().map_or(0, |one| one.hash);
        self.places.insert_unique(hash, place, hash_of);
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) {
        if let Some(place) = self.place(hash, key) {
            self.take(place);
        }
    }

    /// Forgets everything, and gives its memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.capacity);
    }

    fn place(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let is_it = |place: &u32| {
            let entry = self.round.get(*place as usize).and_then(Option::as_ref);
            entry.is_some_and(|entry| *entry.key == *key)
        };
        self.places.find(hash, is_it).copied()
    }

    fn take(&mut self, place: u32) {
        let Some(entry) = self.round.get_mut(place as usize).and_then(Option::take) else {
            return;
        };
        self.bytes -= entry.bytes();
        let found = self.places.find_entry(entry.hash, |other| *other == place);
        if let Ok(found) = found {
            found.remove();
        }
        self.free.push(place);
    }

    /// Makes room by one entry. Whether there was any.
    fn evict(&mut self, now: Instant) -> bool {
        let mut spared = 0;
        for _ in 0..=2 * self.round.len() {
            self.hand = (self.hand + 1) % self.round.len();
            let Some(entry) = &mut self.round[self.hand] else {
                continue;
            };
            let is_read = std::mem::take(&mut entry.read);
            if is_read && entry.ends > now && spared < MAX_SPARED {
                spared += 1;
                continue;
            }
            // A u32 by construction.
            self.take(u32::try_from(self.hand).unwrap_or(u32::MAX));
            return true;
        }
        false
    }
}
