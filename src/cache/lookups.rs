//! The look-ups of one shard: which of them goes to Redis next.
//!
//! ```text
//!  read ─▶ gathering ─────────────── a turn is free ────────────────▶ Redis ─▶ answered
//!            └─ enough keys, or bytes ───▶ full ── small, or one ──▶   │
//!  read of more than a part ────────────────▶ long ── one ────────────▶   │
//!                                              ▲                          │
//!                                              └── asked for a part of it ┘
//! ```
//! Reads that come while look-ups are out go together in the next one: fewer, larger exchanges when it is busy, and none
//! waits when it is not. A long one asks for a part, and goes to the end of its line: others go in between.

use super::lookup::{Held, LookedUp, Lookup, Pending};
use super::parts::{MAX_PART_BYTES, MAX_PART_KEYS, Pace, Part};
use super::sizes::Sizes;
use crate::store::StoreError;
use crate::telemetry::Stopwatch;
use std::collections::VecDeque;

/// Look-ups one shard has out before reads are gathered.
const MAX_LOOKUPS_OUT: usize = 2;

/// Keys after which a look-up waits for no more reads. Measured with pipelines of 16 and 64: with more, Redis and we wait for
/// one another instead of working side by side; with fewer, each pays for more exchanges.
const ENOUGH_KEYS: usize = 64;

/// All look-ups of one shard that are not answered yet.
pub(super) struct Lookups {
    sizes: Sizes,
    gathering: Lookup,
    gathered_out: usize,
    full: Line,
    long: Line,
}

/// Look-ups that are not gathered any more, in the order in which they go.
#[derive(Default)]
struct Line {
    waiting: VecDeque<Lookup>,
    pace: Pace,
}

/// Where a look-up came from.
#[derive(Clone, Copy)]
enum Lane {
    Gathering,
    Full,
    Long,
}

/// A look-up of which a part is to be asked for, or is on its way.
pub(super) struct Sent {
    pub(super) lookup: Lookup,
    pub(super) part: Part,
    lane: Lane,
}

/// A look-up that is over: its reads, and what was found for them.
pub(super) type Over = (Vec<Pending>, Result<LookedUp, StoreError>);

impl Lookups {
    pub(super) fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            gathering: Lookup::default(),
            gathered_out: 0,
            full: Line::default(),
            long: Line::default(),
        }
    }

    /// Adds a read. A read's own keys stay together.
    pub(super) fn add(&mut self, read: Pending, with_age: bool, stopwatch: Option<&Stopwatch>) {
        let expected = read.keys.iter().map(|key| self.sizes.expected(key.space));
        let bytes = expected.fold(0, usize::saturating_add);
        if bytes > MAX_PART_BYTES && read.keys.len() > 1 {
            // By itself: others would have to wait for all of it.
            let mut lookup = Lookup::default();
            lookup.add(read, with_age, &self.sizes, stopwatch);
            return self.line_up(lookup);
        }
        let fits = self.gathering.bytes().saturating_add(bytes) <= MAX_PART_BYTES;
        if !fits && !self.gathering.has_all(&read.keys) {
            self.close_gathering();
        }
        self.gathering.add(read, with_age, &self.sizes, stopwatch);
        if self.gathering.len() >= ENOUGH_KEYS {
            self.close_gathering();
        }
    }

    /// The next look-up of which a part may be asked for now; `gathered`: also what may not be complete yet.
    pub(super) fn next(&mut self, gathered: bool) -> Option<Sent> {
        if gathered && !self.gathering.is_empty() && self.out() < MAX_LOOKUPS_OUT {
            self.gathered_out += 1;
            let mut lookup = std::mem::take(&mut self.gathering);
            lookup.begin();
            let part = lookup.next_part(&self.sizes);
            let lane = Lane::Gathering;
            return Some(Sent { lookup, part, lane });
        }
        let full = self.full.next(&self.sizes, Lane::Full);
        full.or_else(|| self.long.next(&self.sizes, Lane::Long))
    }

    /// A part came back. Returns the look-up if that was the last one.
    pub(super) fn came_back(
        &mut self,
        sent: Sent,
        found: Result<Vec<Option<Held>>, StoreError>,
    ) -> Option<Over> {
        let Sent {
            mut lookup,
            part,
            lane,
        } = sent;
        match lane {
            Lane::Gathering => self.gathered_out -= 1,
            Lane::Full => self.full.pace.came_back(part),
            Lane::Long => self.long.pace.came_back(part),
        }
        match found {
            Ok(found) => lookup.found(found, &self.sizes),
            Err(error) => {
                if matches!(error, StoreError::TimedOut { .. }) && part.keys > 1 {
                    lookup.timed_out(part.keys, &self.sizes);
                }
                let (reads, _found) = lookup.finish();
                return Some((reads, Err(error)));
            }
        }
        if lookup.is_complete() {
            let (reads, found) = lookup.finish();
            return Some((reads, Ok(found)));
        }
        if lookup.is_awaited() {
            self.line_up(lookup);
        }
        None
    }

    /// Whether reads wait for others to come.
    pub(super) fn is_gathering(&self) -> bool {
        !self.gathering.is_empty()
    }

    /// Whether there is none, neither out nor waiting.
    pub(super) fn is_idle(&self) -> bool {
        self.out() == 0
            && self.gathering.is_empty()
            && self.full.waiting.is_empty()
            && self.long.waiting.is_empty()
    }

    fn out(&self) -> usize {
        self.gathered_out + self.full.pace.out() + self.long.pace.out()
    }

    fn close_gathering(&mut self) {
        let lookup = std::mem::take(&mut self.gathering);
        if !lookup.is_empty() {
            self.line_up(lookup);
        }
    }

    fn line_up(&mut self, lookup: Lookup) {
        let part = lookup.next_part(&self.sizes);
        let cut = part.keys < MAX_PART_KEYS && part.keys < lookup.left();
        let line = if cut { &mut self.long } else { &mut self.full };
        line.waiting.push_back(lookup);
    }
}

impl Line {
    fn next(&mut self, sizes: &Sizes, lane: Lane) -> Option<Sent> {
        let part = self.waiting.front()?.next_part(sizes);
        if !self.pace.admits(part) {
            return None;
        }
        let mut lookup = self.waiting.pop_front()?;
        lookup.begin();
        self.pace.sent(part);
        Some(Sent { lookup, part, lane })
    }
}

#[cfg(test)]
#[path = "lookups_tests.rs"]
mod tests;
