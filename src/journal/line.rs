//! In which order writes are saved. Pure; the flusher does what it says.
//!
//! ```text
//!  journal ─▶ taken ─┬─ nobody waits for this key ─▶ groups: a key each, its newest write ─▶ saved together
//!                    │                                          │ refused
//!                    └─ its key was put aside ─▶ aside ◀────────┘
//!                                                 └─ when due: its oldest write, alone ─▶ saved, later again, or dead
//! ```
//! A key that is put aside holds up nobody else, and none of its own writes overtakes another: they go one by one, each as it
//! was written, for what makes the newest of them fail may not be wrong with an earlier one.
//!
//! As long as a key is aside, what was read before is known by its place. Otherwise the journal is read from its beginning: a
//! Redis that came back with less may give a place again that lies before the last one read.

use super::entry::{Entry, Place};
use crate::keyspace::RoutedKey;
use crate::repository::{LateWrite, Refusal, Remedy};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Writes of keys that are aside, and their bytes: beyond, nothing more is read until some are saved.
const MAX_ASIDE: usize = 10_000;
const MAX_ASIDE_BYTES: usize = 16 << 20;
/// Times that a write is tried that nothing can be expected to help, before it is given up.
const MAX_ATTEMPTS: u32 = 5;
/// How long a deploy may take that mends a statement or declares a cache: then a write is given up that needs it.
pub(super) const MEND_WITHIN: Duration = Duration::from_secs(600);
/// The pause before a key is tried again: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A write, and where it leads here.
#[derive(Clone, Debug)]
pub(super) struct Write {
    pub(super) entry: Entry,
    pub(super) id: Uuid,
    pub(super) key: RoutedKey,
    pub(super) value: Option<Bytes>,
}

/// Writes of one key, oldest first; at least one.
#[derive(Clone, Debug)]
pub(super) struct Group(pub(super) Vec<Write>);

impl Group {
    /// As it is saved: the newest, instead of all of them.
    pub(super) fn newest(&self) -> Option<LateWrite> {
        let (newest, earlier) = self.0.split_last()?;
        Some(LateWrite {
            id: newest.id,
            key: newest.key.clone(),
            value: newest.value.clone(),
            instead_of: earlier.iter().map(|write| write.id).collect(),
        })
    }
}

/// Groups writes by key, in the order in which the keys come.
pub(super) fn groups(writes: Vec<Write>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut places: HashMap<Bytes, usize> = HashMap::new();
    for write in writes {
        let place = *places.entry(write.key.key.clone()).or_insert(groups.len());
        match groups.get_mut(place) {
            Some(group) => group.0.push(write),
            None => groups.push(Group(vec![write])),
        }
    }
    groups
}

/// A key that is put aside.
struct Aside {
    /// Oldest first.
    writes: VecDeque<Write>,
    /// Of the oldest.
    attempts: u32,
    due: Instant,
}

/// What becomes of a write that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Later,
    /// After so many attempts.
    Dead(u32),
}

/// The keys that are put aside, and how far the journal is read.
#[derive(Default)]
pub(super) struct Line {
    keys: HashMap<Bytes, Aside>,
    writes: usize,
    bytes: usize,
    read: Option<Place>,
    /// Writes that were read and lead nowhere here.
    foreign: usize,
}

impl Line {
    /// Behind which write to read on; `None`: from the beginning.
    pub(super) fn after(&self) -> Option<Place> {
        self.read
    }

    /// Whether more may be read.
    pub(super) fn has_room(&self) -> bool {
        self.writes < MAX_ASIDE && self.bytes < MAX_ASIDE_BYTES
    }

    /// So far the journal is read.
    pub(super) fn read_up_to(&mut self, place: Place) {
        self.read = Some(place);
    }

    /// A write leads nowhere here, and is left.
    pub(super) fn leave(&mut self) {
        self.foreign += 1;
    }

    /// How many were left.
    pub(super) fn left(&self) -> usize {
        self.foreign
    }

    /// How many keys are aside.
    pub(super) fn aside(&self) -> usize {
        self.keys.len()
    }

    /// From writes that were read, those that may go now; the others join what is aside of their keys.
    pub(super) fn sort(&mut self, writes: Vec<Write>) -> Vec<Write> {
        let mut ready = Vec::with_capacity(writes.len());
        for write in writes {
            match self.keys.get_mut(&write.key.key) {
                Some(aside) => {
                    self.writes += 1;
                    self.bytes += write.entry.bytes();
                    aside.writes.push_back(write);
                }
                None => ready.push(write),
            }
        }
        ready
    }

    /// A group was refused: its writes go one by one.
    pub(super) fn put_aside(&mut self, group: Group, now: Instant) {
        let Some(first) = group.0.first() else { return };
        self.writes += group.0.len();
        let bytes: usize = group.0.iter().map(|write| write.entry.bytes()).sum();
        self.bytes += bytes;
        let aside = Aside {
            // What was refused is the newest, and perhaps not the oldest.
            attempts: u32::from(group.0.len() == 1),
            due: now + pause(1),
            writes: Vec::new().into(),
        };
        let aside = self.keys.entry(first.key.key.clone()).or_insert(aside);
        aside.writes.extend(group.0);
    }

    /// A write whose key is due.
    pub(super) fn due(&self, now: Instant) -> Option<Write> {
        let mut due = self.keys.values().filter(|aside| aside.due <= now);
        due.next()?.writes.front().cloned()
    }

    /// When the next key is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.keys.values().map(|aside| aside.due).min()
    }

    /// The oldest write of a key is saved, or dead.
    pub(super) fn settled(&mut self, key: &[u8], now: Instant) {
        let Some(aside) = self.keys.get_mut(key) else {
            return;
        };
        if let Some(write) = aside.writes.pop_front() {
            self.writes -= 1;
            self.bytes -= write.entry.bytes();
        }
        aside.attempts = 0;
        aside.due = now;
        if aside.writes.is_empty() {
            self.keys.remove(key);
        }
        self.forget_place();
    }

    /// The oldest write of a key was refused once more, at so much of its age.
    pub(super) fn refused(
        &mut self,
        key: &[u8],
        refusal: &Refusal,
        age: Duration,
        now: Instant,
    ) -> Fate {
        let Some(aside) = self.keys.get_mut(key) else {
            return Fate::Later;
        };
        aside.attempts += 1;
        aside.due = now + pause(aside.attempts);
        let is_over = match refusal.remedy {
            Remedy::Wait => false,
            Remedy::Mend => age >= MEND_WITHIN,
            Remedy::None => aside.attempts >= MAX_ATTEMPTS,
        };
        match is_over {
            true => Fate::Dead(aside.attempts),
            false => Fate::Later,
        }
    }

    /// The end of the journal was met. With nothing aside it is read from its beginning next.
    pub(super) fn forget_place(&mut self) {
        if self.keys.is_empty() && self.foreign == 0 {
            self.read = None;
        }
    }
}

fn pause(attempts: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << attempts.saturating_sub(1).min(16));
    doubled
        .min(LONGEST_PAUSE)
        .mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
