//! What one shard of L1 keeps: values by key, bounded in bytes.
//!
//! When it is full, a hand goes round (CLOCK): what was read since the hand last passed is spared once, the rest goes, and
//! so does what has ended. A hit only sets a mark: it moves nothing and allocates nothing.
//!
//! A hit's time is spent waiting for memory. So entries lie in the table itself, a key lies beside its value, and keys that are
//! asked for together are fetched together ([`Kept::fetch`]).

use super::TOGETHER;
use crate::keyspace::SpaceId;
use hashbrown::HashTable;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What an entry takes besides its key and value, in bytes: its part of a table that is a third full, and what allocator and
/// counters add to its record.
pub(super) const OVERHEAD: usize = 3 * (size_of::<Entry>() + 1) + 32;

/// An entry may take this part of a shard: one huge value should not push out everything else.
const LARGEST_PART: usize = 8;

/// Entries that the hand spares in a row. Then it takes the next one, read or not: who inserts does not wait for a whole round.
const MAX_SPARED: usize = 64;

/// What a processor fetches of memory at a time, in bytes.
const LINE: usize = 64;
/// Lines of a record that are fetched ahead. Of what is longer, the processor fetches the rest by itself while it is copied.
const LINES_AHEAD: usize = 6;

/// A value and what is known of it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The key, and the value behind it: who has found the one reads the other.
    record: Arc<[u8]>,
    hash: u64,
    /// When its look-up was sent: the value is as old as that, at most.
    pub(super) asked: Instant,
    /// What it had left of its life in Redis then, in milliseconds.
    left_ms: u64,
    key_len: u32,
    pub(super) space: SpaceId,
    /// Read since the hand last passed.
    read: bool,
}

/// A kept value, for who writes it later. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Record {
    record: Arc<[u8]>,
    key_len: u32,
}

impl Entry {
    /// `None` for a key longer than any door takes.
    pub(super) fn new(
        (key, hash): (&[u8], u64),
        value: &[u8],
        space: SpaceId,
        asked: Instant,
        left: Duration,
    ) -> Option<Self> {
        let mut record = Vec::with_capacity(key.len() + value.len());
        record.extend_from_slice(key);
        record.extend_from_slice(value);
        Some(Self {
            record: record.into(),
            hash,
            asked,
            left_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            key_len: u32::try_from(key.len()).ok()?,
            space,
            read: false,
        })
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.record[..self.key_len as usize]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.record[self.key_len as usize..]
    }

    pub(super) fn record(&self) -> Record {
        Record {
            record: Arc::clone(&self.record),
            key_len: self.key_len,
        }
    }

    /// What is left of its life in Redis.
    pub(super) fn left(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.asked);
        Duration::from_millis(self.left_ms).saturating_sub(age)
    }

    /// Its life in Redis is over, or it lies here for longer than `ttl`.
    fn has_ended(&self, now: Instant, ttl: Duration) -> bool {
        let age = now.saturating_duration_since(self.asked);
        age >= ttl.min(Duration::from_millis(self.left_ms))
    }

    fn bytes(&self) -> usize {
        OVERHEAD + self.record.len()
    }

    fn is(&self, hash: u64, key: &[u8]) -> bool {
        self.hash == hash && self.key() == key
    }
}

impl Record {
    /// The value.
    pub fn value(&self) -> &[u8] {
        &self.record[self.key_len as usize..]
    }
}

/// Entries, never of more bytes together than the capacity.
#[derive(Debug)]
pub(super) struct Kept {
    table: HashTable<Entry>,
    /// The bucket that it passed last.
    hand: usize,
    bytes: usize,
    capacity: usize,
    ttl: Duration,
}

impl Kept {
    /// Of so many bytes, each entry for `ttl` at most.
    pub(super) fn new(capacity: usize, ttl: Duration) -> Self {
        Self {
            table: HashTable::new(),
            hand: 0,
            bytes: 0,
            capacity,
            ttl,
        }
    }

    /// What all entries take together.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Touches what lies under these hashes, [`TOGETHER`] of them at most. The processor fetches all of it at the same time,
    /// where a `read` after the other waits for each.
    pub(super) fn fetch(&self, hashes: &[u64]) {
        let mut records: [&[u8]; TOGETHER] = [&[]; TOGETHER];
        for (record, hash) in records.iter_mut().zip(hashes) {
            if let Some(entry) = self.table.find(*hash, |entry| entry.hash == *hash) {
                *record = &entry.record;
            }
        }
        let lines = records
            .iter()
            .flat_map(|record| record.chunks(LINE).take(LINES_AHEAD));
        let seen = lines.fold(0, |seen, line| seen ^ line[0]);
        std::hint::black_box(seen);
    }

    /// The entry of a key, unless it has ended.
    pub(super) fn read(&mut self, hash: u64, key: &[u8], now: Instant) -> Option<&Entry> {
        let entry = self.table.find_mut(hash, |entry| entry.is(hash, key))?;
        if entry.has_ended(now, self.ttl) {
            return None;
        }
        entry.read = true;
        Some(entry)
    }

    /// The entry of a key, ended or not, as if nobody had looked.
    pub(super) fn peek(&self, hash: u64, key: &[u8]) -> Option<&Entry> {
        self.table.find(hash, |entry| entry.is(hash, key))
    }

    /// Whether nobody reads it any more.
    pub(super) fn has_ended(&self, entry: &Entry, now: Instant) -> bool {
        entry.has_ended(now, self.ttl)
    }

    /// Keeps an entry in place of the one that its key had. One that is too large is not kept.
    pub(super) fn insert(&mut self, entry: Entry) {
        let bytes = entry.bytes();
        self.remove(entry.hash, entry.key());
        if bytes > self.capacity / LARGEST_PART {
            return;
        }
        while self.bytes + bytes > self.capacity && self.evict(entry.asked) {}
        self.bytes += bytes;
        let hash = |entry: &Entry| entry.hash;
        self.table.insert_unique(entry.hash, entry, hash);
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, hash: u64, key: &[u8]) {
        if let Ok(found) = self.table.find_entry(hash, |entry| entry.is(hash, key)) {
            self.bytes -= found.remove().0.bytes();
        }
    }

    /// Forgets everything, and gives its memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.capacity, self.ttl);
    }

    /// Makes room by one entry. Whether there was any.
    fn evict(&mut self, now: Instant) -> bool {
        let buckets = self.table.num_buckets();
        let mut spared = 0;
        for _ in 0..=2 * buckets {
            self.hand = (self.hand + 1) % buckets;
            let Some(entry) = self.table.get_bucket_mut(self.hand) else {
                continue;
            };
            let is_read = std::mem::take(&mut entry.read);
            if is_read && !entry.has_ended(now, self.ttl) && spared < MAX_SPARED {
                spared += 1;
            } else if let Ok(found) = self.table.get_bucket_entry(self.hand) {
                self.bytes -= found.remove().0.bytes();
                return true;
            }
        }
        false
    }
}
