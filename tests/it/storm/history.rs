//! What is true when: the instant at which each version of each row was committed, and what a read was worth.
//!
//! Both ends of every comparison are taken on this process' one monotonic clock, and both so that a machine that is late
//! never makes a read look staler than it is: a commit counts from when its answer had come, a read from before it was sent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Rows that are read by key: their change names the key.
pub const ITEMS: usize = 200;
/// Rows that are read on several pages: their change names a pattern.
pub const LISTS: usize = 20;
/// Pages of a list.
pub const PAGES: usize = 2;

/// A row that writers change and readers read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Row {
    Item(usize),
    List(usize),
}

impl Row {
    pub fn all() -> impl Iterator<Item = Self> {
        let items = (0..ITEMS).map(Self::Item);
        items.chain((0..LISTS).map(Self::List))
    }

    /// The keys under which it is cached.
    pub fn keys(self) -> Vec<String> {
        match self {
            Self::Item(id) => vec![format!("items:{id}")],
            Self::List(id) => (0..PAGES)
                .map(|page| format!("lists:{id}:{page}"))
                .collect(),
        }
    }

    pub fn table(self) -> &'static str {
        match self {
            Self::Item(_) => "items",
            Self::List(_) => "lists",
        }
    }

    pub fn id(self) -> i64 {
        let (Self::Item(id) | Self::List(id)) = self;
        i64::try_from(id).unwrap()
    }

    fn place(self) -> usize {
        match self {
            Self::Item(id) => id,
            Self::List(id) => ITEMS + id,
        }
    }
}

/// Each row's versions count up from 0, and one writer alone changes it.
pub struct History {
    /// When each version of a row was known to be committed.
    committed: Vec<Mutex<Vec<Instant>>>,
}

impl History {
    /// All rows are at version 0.
    pub fn new() -> Self {
        let begin = Instant::now();
        let rows = Row::all().map(|_| Mutex::new(vec![begin]));
        Self {
            committed: rows.collect(),
        }
    }

    /// This version, and those before it, are committed by now.
    pub fn committed(&self, row: Row, version: u64) {
        let length = usize::try_from(version).unwrap() + 1;
        let mut versions = self.committed[row.place()].lock();
        let length = length.max(versions.len());
        versions.resize(length, Instant::now());
    }

    /// The newest version that is known.
    pub fn newest(&self, row: Row) -> u64 {
        self.committed[row.place()].lock().len() as u64 - 1
    }

    /// For how long this version had been outdated when a read was sent that found it.
    ///
    /// # Panics
    /// If nobody can have written it yet.
    pub fn outdated(&self, row: Row, version: u64, sent: Instant) -> Duration {
        let next = usize::try_from(version).unwrap() + 1;
        let versions = self.committed[row.place()].lock();
        // One may be committed whose writer has not heard of it.
        assert!(
            next <= versions.len() + 1,
            "{row:?} is not at {version} yet"
        );
        let next = versions.get(next);
        next.map_or(Duration::ZERO, |next| sent.saturating_duration_since(*next))
    }
}

/// What came of the reads.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Answered reads in calm weather, through daemons and straight from Redis.
    pub reads: u64,
    /// Of those through daemons: found in the cache, and not.
    pub hits: u64,
    pub misses: u64,
    /// Refused in calm weather, by how the answer began.
    pub errors: BTreeMap<String, u64>,
    /// In calm weather, outdated for longer than the bound; or silently so where that is not forgiven either.
    pub stale: u64,
    /// The longest that a value read in calm weather was outdated.
    pub worst: Duration,
    /// Answered reads while something was amiss.
    pub rough_reads: u64,
    /// Of those through daemons: outdated for longer than the bound, and not marked so.
    pub silent: u64,
    /// Marked as stale.
    pub marked: u64,
    /// Refused or lost while something was amiss.
    pub rough_errors: u64,
}

impl Tally {
    pub fn plus(mut self, other: Self) -> Self {
        for (error, count) in other.errors {
            *self.errors.entry(error).or_default() += count;
        }
        Self {
            reads: self.reads + other.reads,
            hits: self.hits + other.hits,
            misses: self.misses + other.misses,
            errors: self.errors,
            stale: self.stale + other.stale,
            worst: self.worst.max(other.worst),
            rough_reads: self.rough_reads + other.rough_reads,
            silent: self.silent + other.silent,
            marked: self.marked + other.marked,
            rough_errors: self.rough_errors + other.rough_errors,
        }
    }

    /// Of what was read through daemons in calm weather.
    pub fn hit_rate(&self) -> f64 {
        self.hits as f64 / (self.hits + self.misses).max(1) as f64
    }
}
