//! What is true when: the instant at which each version of each row was committed, and what a read was worth.
//!
//! Both ends of every comparison are taken on this process' one monotonic clock, and both so that a machine that is late
//! never makes a read look staler than it is: a commit counts from when its answer had come, a read from before it was sent.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Rows that are read by key: their change names the key.
pub const ITEMS: usize = 200;
/// Rows that are read on several pages: their change names a pattern.
pub const LISTS: usize = 20;
/// Pages of a list.
pub const PAGES: usize = 2;

/// Of so many versions of a row, the last is that it is gone; the next one brings it back.
const GONE_EVERY: u64 = 8;

/// Whether a row of this version is not there.
pub fn is_gone(version: u64) -> bool {
    version % GONE_EVERY == GONE_EVERY - 1
}

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

    /// What the queue says when it has changed: its key, or the pattern of its pages.
    pub fn queued_as(self) -> String {
        match self {
            Self::Item(id) => format!("items:{id}"),
            Self::List(id) => format!("lists:{id}:*"),
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Item(id) => id,
            Self::List(id) => ITEMS + id,
        }
    }
}

/// Each row's versions count up from 0, those at which it is gone included, and one writer alone changes it.
pub struct History {
    /// When each version of a row was known to be committed.
    committed: Vec<Mutex<Vec<Instant>>>,
    /// Of each row: a version up to which all changes were acknowledged, and when that was known. The newest come last.
    acknowledged: Vec<Mutex<Vec<(u64, Instant)>>>,
}

impl History {
    /// All rows are at version 0.
    pub fn new() -> Self {
        let begin = Instant::now();
        Self {
            committed: Row::all().map(|_| Mutex::new(vec![begin])).collect(),
            acknowledged: Row::all().map(|_| Mutex::default()).collect(),
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

    /// The version that a read has found which found no row: of those it may have been, the newest.
    ///
    /// # Panics
    /// If the row was always there.
    pub fn last_gone(&self, row: Row) -> u64 {
        // One may be committed whose writer has not heard of it.
        let mut versions = (0..=self.newest(row) + 1).rev();
        let gone = versions.find(|version| is_gone(*version));
        gone.unwrap_or_else(|| panic!("{row:?} was never gone"))
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

    /// By now the invalidation of this version's change, and of those before it, has run to its end.
    pub fn acknowledged(&self, row: Row, version: u64) {
        let mut versions = self.acknowledged[row.place()].lock();
        if versions.last().is_none_or(|(newest, _)| *newest < version) {
            versions.push((version, Instant::now()));
        }
    }

    /// For how long it had been acknowledged that the value of this version is invalidated, when a read was sent that found
    /// it; `None`: it was not by then.
    pub fn invalidated(&self, row: Row, version: u64, sent: Instant) -> Option<Duration> {
        let versions = self.acknowledged[row.place()].lock();
        let first = versions.partition_point(|(newest, _)| *newest <= version);
        sent.checked_duration_since(versions.get(first)?.1)
    }
}
