//! What came of the reads, held against what is promised to who reads so.
//!
//! | reader | in calm weather | while something is amiss |
//! | --- | --- | --- |
//! | through a daemon | nothing outdated beyond the bound | nothing outdated beyond the bound, unless it says so |
//! | straight from Redis | a row by its key: nothing outdated beyond the bound | |
//! | either | nothing whose invalidation was acknowledged | the same |
//! | from a daemon's own memory | nothing outdated beyond the bound | the same and [`UNHEARD`] |
//!
//! The bounds are of rows that are watched: of the others only who changes them can tell, and they are held against the line of
//! what was acknowledged.
//!
//! That line has no bound and knows no excuse, with one exception: a Redis that comes back with data of earlier shows
//! them to who asks it past the daemons, until they have found out.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::history::Row;

/// A read that began this long after a commit sees it.
pub const BOUND: Duration = Duration::from_secs(1);
/// So long a daemon that hears nothing from Redis, and no end of its connection either, may go on believing what it has in
/// memory.
const UNHEARD: Duration = Duration::from_secs(2);
/// Violations that a reader tells in full.
const TOLD: usize = 5;

/// What a value said of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// From Redis.
    Hit,
    /// From the daemon's own memory.
    Memory,
    Miss,
    /// There is no such row, says the cache or the database.
    Missing,
    Stale,
    /// Straight from Redis it says nothing.
    Straight,
}

/// A value that was read.
#[derive(Clone, Debug)]
pub struct Found {
    pub row: Row,
    pub version: u64,
    pub state: State,
    /// For how long it had been outdated when the read was sent.
    pub outdated: Duration,
    /// For how long its invalidation had been acknowledged then; `None`: it was not.
    pub invalidated: Option<Duration>,
    /// Daemons keep values in memory: what is marked or missing may come from there.
    pub is_l1: bool,
    /// What was amiss; `None` in calm weather.
    pub amiss: Option<Amiss>,
}

/// What goes wrong while a value is read.
#[derive(Clone, Debug)]
pub struct Amiss {
    pub faults: String,
    /// Redis shows data of earlier to who asks it past the daemons.
    pub is_earlier: bool,
}

impl Found {
    /// How old it may be; `None`: that is not promised.
    fn bound(&self) -> Option<Duration> {
        if !self.row.is_watched() {
            return None;
        }
        match (self.state, &self.amiss) {
            (State::Memory, Some(_)) => Some(BOUND + UNHEARD),
            (State::Missing, Some(_)) if self.is_l1 => Some(BOUND + UNHEARD),
            (State::Hit | State::Memory | State::Miss | State::Missing, _)
            | (State::Stale, None) => Some(BOUND),
            (State::Stale, Some(_)) => None,
            // Who reads past the daemons hears of no sweep: it ends in its own time.
            (State::Straight, None) if matches!(self.row, Row::Item(_)) => Some(BOUND),
            (State::Straight, _) => None,
        }
    }

    /// Outdated for longer than may be, and silent.
    fn is_late(&self) -> bool {
        self.bound().is_some_and(|bound| self.outdated > bound)
    }

    /// Given out again after its invalidation was acknowledged.
    fn is_revived(&self) -> bool {
        let is_earlier = self.amiss.as_ref().is_some_and(|amiss| amiss.is_earlier);
        let may_be = match self.state {
            State::Straight => is_earlier,
            // Until it has heard of it, which has a bound of its own.
            State::Memory => true,
            State::Stale | State::Missing => self.is_l1,
            State::Hit | State::Miss => false,
        };
        self.invalidated.is_some() && !may_be
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} at version {}, {:?}, outdated for {:.0?}, ",
            self.row, self.version, self.state, self.outdated
        )?;
        if let Some(since) = self.invalidated {
            write!(f, "acknowledged since {since:.0?}, ")?;
        }
        match &self.amiss {
            Some(amiss) => write!(f, "during {}", amiss.faults),
            None => write!(f, "in calm weather"),
        }
    }
}

/// What came of the reads.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answered reads in calm weather, through daemons and straight from Redis.
    pub reads: u64,
    /// Of those through daemons: found in the cache, and not.
    pub hits: u64,
    /// Of the hits: in the daemon's own memory.
    pub memory: u64,
    pub misses: u64,
    /// Refused in calm weather, by how the answer began.
    pub errors: BTreeMap<String, u64>,
    /// Outdated for longer than the bound, though that was promised.
    pub late: u64,
    /// Found after their invalidation was acknowledged.
    pub revived: u64,
    /// The longest that a value read in calm weather was outdated.
    pub worst: Duration,
    /// The same of what was read through daemons while something was amiss, and was not marked.
    pub rough_worst: Duration,
    /// Answered reads while something was amiss.
    pub rough_reads: u64,
    /// Marked as stale.
    pub marked: u64,
    /// Of those, while something was amiss: outdated beyond the bound. Unmarked they would have broken a promise.
    pub said: u64,
    /// Refused or lost while something was amiss.
    pub rough_errors: u64,
    /// The first of what should not have been found.
    pub told: Vec<String>,
}

impl Tally {
    pub fn plus(mut self, other: Self) -> Self {
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        self.told.extend(other.told);
        Self {
            reads: self.reads + other.reads,
            hits: self.hits + other.hits,
            memory: self.memory + other.memory,
            misses: self.misses + other.misses,
            errors: self.errors,
            late: self.late + other.late,
            revived: self.revived + other.revived,
            worst: self.worst.max(other.worst),
            rough_worst: self.rough_worst.max(other.rough_worst),
            rough_reads: self.rough_reads + other.rough_reads,
            marked: self.marked + other.marked,
            said: self.said + other.said,
            rough_errors: self.rough_errors + other.rough_errors,
            told: self.told,
        }
    }

    /// Reads that broke a promise.
    pub fn stale(&self) -> u64 {
        self.late + self.revived
    }

    /// Of what was read through daemons in calm weather.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }

    /// Whether it breaks a promise.
    pub fn count(&mut self, found: Found) -> bool {
        let (is_late, is_revived) = (found.is_late(), found.is_revived());
        self.late += u64::from(is_late);
        self.revived += u64::from(is_revived);
        self.marked += u64::from(found.state == State::Stale);
        if found.amiss.is_none() {
            self.reads += 1;
            self.hits += u64::from(matches!(found.state, State::Hit | State::Memory));
            self.memory += u64::from(found.state == State::Memory);
            self.misses += u64::from(found.state == State::Miss);
            if found.bound().is_some() {
                self.worst = self.worst.max(found.outdated);
            }
        } else {
            self.rough_reads += 1;
            let is_said = found.state == State::Stale && found.outdated > BOUND;
            self.said += u64::from(is_said);
            if found.bound().is_some() {
                self.rough_worst = self.rough_worst.max(found.outdated);
            }
        }
        let is_broken = is_late || is_revived;
        if is_broken && self.told.len() < TOLD {
            self.told.push(found.to_string());
        }
        is_broken
    }

    /// Counts a read that was refused with this answer, or lost.
    pub fn count_refused(&mut self, why: String, is_calm: bool) {
        if is_calm {
            *self.errors.entry(why).or_default() += 1;
        } else {
            self.rough_errors += 1;
        }
    }
}
