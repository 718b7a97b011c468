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
/// Rows that nobody watches: who changes one says so to the queue, in the same transaction.
pub const ASKED: usize = 20;
/// Rows that nobody watches: who has changed one publishes it.
pub const PUBLISHED: usize = 40;
/// Pages of all but items.
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
    Asked(usize),
    Published(usize),
}

impl Row {
    pub fn all() -> impl Iterator<Item = Self> {
        let items = (0..ITEMS).map(Self::Item);
        items
            .chain((0..LISTS).map(Self::List))
            .chain((0..ASKED).map(Self::Asked))
            .chain((0..PUBLISHED).map(Self::Published))
    }

    /// The keys under which it is cached.
    pub fn keys(self) -> Vec<String> {
        match self {
            Self::Item(id) => vec![format!("items:{id}")],
            Self::List(id) | Self::Asked(id) | Self::Published(id) => (0..PAGES)
                .map(|page| format!("{}:{id}:{page}", self.table()))
                .collect(),
        }
    }

    pub fn table(self) -> &'static str {
        match self {
            Self::Item(_) => "items",
            Self::List(_) => "lists",
            Self::Asked(_) => "asked",
            Self::Published(_) => "published",
        }
    }

    /// Whether its table is watched.
    pub fn is_watched(self) -> bool {
        matches!(self, Self::Item(_) | Self::List(_))
    }

    /// What matches all of its pages.
    pub fn pattern(self) -> String {
        format!("{}:{}:*", self.table(), self.id())
    }

    pub fn id(self) -> i64 {
        let (Self::Item(id) | Self::List(id) | Self::Asked(id) | Self::Published(id)) = self;
        i64::try_from(id).unwrap()
    }

    /// What the queue may say when it has changed: its keys, or the pattern of its pages; nothing if that is published.
    pub fn queued_as(self) -> Vec<String> {
        match self {
            Self::Item(_) => self.keys(),
            Self::List(_) => vec![self.pattern()],
            Self::Asked(_) => [self.keys(), vec![self.pattern()]].concat(),
            Self::Published(_) => Vec::new(),
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Item(id) => id,
            Self::List(id) => ITEMS + id,
            Self::Asked(id) => ITEMS + LISTS + id,
            Self::Published(id) => ITEMS + LISTS + ASKED + id,
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

#[test]
fn a_row_that_is_found_after_it_is_gone_is_outdated_and_so_is_no_row_after_it_is_back() {
    let (history, row) = (History::new(), Row::Item(7));
    let gone = GONE_EVERY - 1;
    assert!(!is_gone(gone - 1) && is_gone(gone) && !is_gone(gone + 1));
    // Later than all that was noted before.
    let now = || {
        let before = Instant::now();
        std::iter::repeat_with(Instant::now)
            .find(|now| *now > before)
            .unwrap()
    };
    let is_outdated = |version, sent| !history.outdated(row, version, sent).is_zero();
    history.committed(row, gone - 1);
    // It may be gone already, and its writer has not heard of it.
    assert_eq!(history.last_gone(row), gone);
    assert!(!is_outdated(gone, now()));
    history.committed(row, gone);
    history.acknowledged(row, gone);
    let while_gone = now();
    assert!(is_outdated(gone - 1, while_gone) && !is_outdated(gone, while_gone));
    assert!(history.invalidated(row, gone - 1, while_gone).is_some());
    history.committed(row, gone + 1);
    history.acknowledged(row, gone + 1);
    let back = now();
    assert_eq!(history.last_gone(row), gone);
    assert!(is_outdated(gone, back) && !is_outdated(gone, while_gone));
    assert!(history.invalidated(row, gone, back).is_some());
    assert!(!is_outdated(gone + 1, back));
}
