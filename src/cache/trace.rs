//! What happened to keys of late, as far as this daemon knows: for whoever asks why a value is there, or is wrong.
//!
//! A table of fixed size that forgets: written when a key is leased, filled or invalidated, never by a hit. A key has one
//! of four places, and takes that of the one nothing has happened to for longest. Patterns are kept in a ring, and asked
//! for a key when somebody does.

use super::leases::Token;
use super::messages::Origin;
use crate::keyspace::Pattern;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;
use xxhash_rust::xxh3::xxh3_64;

/// Parts of the table, each with a lock of its own; a part takes memory when its first key comes.
const STRIPES: usize = 64;
/// Keys of a part: of all parts together 32,768, with about 100 bytes each.
const STRIPE_KEYS: usize = 512;
/// Places a key may have.
const WAYS: usize = 4;
/// Patterns remembered.
const MAX_PATTERNS: usize = 256;
/// Keys remembered by name that were invalidated, for whoever looks whether that has helped.
const MAX_RECENT: usize = 1024;
/// Of one batch, so that a large one does not push out all others.
const MAX_RECENT_A_BATCH: usize = 64;

/// What happened to one key, each the last of its kind. `None`: not of late, or by another daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Story {
    pub leased: Option<Leased>,
    pub filled: Option<Instant>,
    /// A fill was refused, for its lease was gone.
    pub refused: Option<Instant>,
    pub invalidated: Option<Invalidated>,
}

/// A load took a key's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leased {
    pub at: Instant,
    /// How its token begins.
    pub token: [u8; 4],
}

/// A key was invalidated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidated {
    pub at: Instant,
    pub origin: Origin,
    /// The pattern that matched it; `None`: by name.
    pub pattern: Option<Pattern>,
    /// The daemon that did it.
    pub by: Uuid,
}

/// What happened of late. Shared by all shards of a daemon; cheap to clone.
#[derive(Clone, Debug)]
pub struct Trace(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    instance: Uuid,
    stripes: [Mutex<Vec<Entry>>; STRIPES],
    patterns: Mutex<VecDeque<Invalidated>>,
    recent: Mutex<VecDeque<Bytes>>,
}

/// One key's place. Without its name, which would make it large.
#[derive(Clone, Debug, Default)]
struct Entry {
    /// 0: nobody's.
    hash: u64,
    touched: Option<Instant>,
    leased: Option<Leased>,
    filled: Option<Instant>,
    refused: Option<Instant>,
    invalidated: Option<(Instant, Origin)>,
}

impl Default for Trace {
    fn default() -> Self {
        Self(Arc::new(Shared {
            instance: Uuid::new_v4(),
            stripes: std::array::from_fn(|_| Mutex::default()),
            patterns: Mutex::default(),
            recent: Mutex::default(),
        }))
    }
}

impl Trace {
    /// Who this daemon is, for others; new with every start.
    pub fn instance(&self) -> Uuid {
        self.0.instance
    }

    /// What is known of a key.
    pub fn of(&self, key: &[u8]) -> Story {
        let (hash, stripe) = self.place(key);
        let entries = stripe.lock();
        let found = ways(hash, &entries).find(|entry| entry.hash == hash);
        let found = found.cloned().unwrap_or_default();
        drop(entries);
        let by_name = found.invalidated.map(|(at, origin)| Invalidated {
            at,
            origin,
            pattern: None,
            by: self.0.instance,
        });
        let by_pattern = self.last_pattern(key);
        Story {
            leased: found.leased,
            filled: found.filled,
            refused: found.refused,
            invalidated: by_name
                .into_iter()
                .chain(by_pattern)
                .max_by_key(|last| last.at),
        }
    }

    /// Keys invalidated by name of late, oldest first, at most `most`; they are handed out once.
    pub fn take_recent(&self, most: usize) -> Vec<Bytes> {
        let mut recent = self.0.recent.lock();
        let count = most.min(recent.len());
        recent.drain(..count).collect()
    }

    pub(super) fn leased<'k>(&self, keys: impl Iterator<Item = &'k Bytes>, token: &Token) {
        let at = Instant::now();
        let token = [token[0], token[1], token[2], token[3]];
        for key in keys {
            self.note(key, at, |entry| entry.leased = Some(Leased { at, token }));
        }
    }

    pub(super) fn filled<'k>(&self, keys: impl Iterator<Item = &'k Bytes>) {
        let at = Instant::now();
        for key in keys {
            self.note(key, at, |entry| entry.filled = Some(at));
        }
    }

    pub(super) fn refused(&self, key: &Bytes) {
        let at = Instant::now();
        self.note(key, at, |entry| entry.refused = Some(at));
    }

    pub(super) fn invalidated(&self, keys: &[Bytes], origin: Origin) {
        let at = Instant::now();
        for key in keys {
            self.note(key, at, |entry| entry.invalidated = Some((at, origin)));
        }
        let mut recent = self.0.recent.lock();
        recent.extend(keys.iter().take(MAX_RECENT_A_BATCH).cloned());
        let beyond = recent.len().saturating_sub(MAX_RECENT);
        recent.drain(..beyond);
    }

    /// Whatever matches `pattern` is being invalidated, by this daemon (`by`: `None`) or another.
    pub fn swept(&self, pattern: &Pattern, origin: Origin, by: Option<Uuid>) {
        let mut patterns = self.0.patterns.lock();
        patterns.truncate(MAX_PATTERNS - 1);
        patterns.push_front(Invalidated {
            at: Instant::now(),
            origin,
            pattern: Some(pattern.clone()),
            by: by.unwrap_or(self.0.instance),
        });
    }

    fn last_pattern(&self, key: &[u8]) -> Option<Invalidated> {
        let matches = |swept: &&Invalidated| {
            let pattern = swept.pattern.as_ref();
            pattern.is_some_and(|pattern| pattern.matches(key))
        };
        self.0.patterns.lock().iter().find(matches).cloned()
    }

    fn note(&self, key: &[u8], at: Instant, change: impl FnOnce(&mut Entry)) {
        let (hash, stripe) = self.place(key);
        let mut entries = stripe.lock();
        if entries.is_empty() {
            entries.resize(STRIPE_KEYS, Entry::default());
        }
        let places = ways_mut(hash, &mut entries);
        let known = places.iter().position(|entry| entry.hash == hash);
        let oldest = || (0..places.len()).min_by_key(|place| places[*place].touched);
        let Some(entry) = known
            .or_else(oldest)
            .and_then(|place| places.get_mut(place))
        else {
            return;
        };
        if entry.hash != hash {
            *entry = Entry::default();
        }
        (entry.hash, entry.touched) = (hash, Some(at));
        change(entry);
    }

    fn place(&self, key: &[u8]) -> (u64, &Mutex<Vec<Entry>>) {
        // 0 means nobody; whose hash that is shares its place with who has 1.
        let hash = xxh3_64(key).max(1);
        (hash, &self.0.stripes[hash as usize % STRIPES])
    }
}

/// Where the places of a hash begin; its lowest bits have chosen the part.
fn first_way(hash: u64) -> usize {
    (hash >> 32) as usize % (STRIPE_KEYS / WAYS) * WAYS
}

fn ways(hash: u64, entries: &[Entry]) -> impl Iterator<Item = &Entry> {
    entries.iter().skip(first_way(hash)).take(WAYS)
}

fn ways_mut(hash: u64, entries: &mut [Entry]) -> &mut [Entry] {
    let first = first_way(hash);
    entries.get_mut(first..first + WAYS).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(n: usize) -> Bytes {
        Bytes::from(format!("a:{n}"))
    }

    #[test]
    fn the_last_of_each_kind_is_remembered() {
        let trace = Trace::default();
        assert_eq!(trace.of(b"a:1"), Story::default());
        trace.leased([&key(1)].into_iter(), &[7; 16]);
        trace.filled([&key(1)].into_iter());
        trace.invalidated(&[key(1)], Origin::Command);
        trace.refused(&key(1));
        trace.invalidated(&[key(1)], Origin::Watch);
        let story = trace.of(b"a:1");
        assert_eq!(story.leased.map(|leased| leased.token), Some([7; 4]));
        assert!(story.filled <= story.refused && story.filled.is_some());
        let last = story.invalidated.expect("invalidated");
        assert_eq!((last.origin, last.by), (Origin::Watch, trace.instance()));
        assert_eq!(trace.of(b"a:2"), Story::default());
    }

    #[test]
    fn a_pattern_counts_for_whatever_it_matches_if_it_was_the_last() {
        let trace = Trace::default();
        let pattern = Pattern::parse(b"a:*").expect("a pattern");
        let other = Uuid::new_v4();
        trace.invalidated(&[key(1)], Origin::Command);
        trace.swept(&pattern, Origin::Event, Some(other));
        trace.invalidated(&[key(2)], Origin::Command);
        let last = |key: &[u8]| trace.of(key).invalidated;
        let swept = last(b"a:1").expect("swept");
        assert_eq!((swept.pattern.as_ref(), swept.by), (Some(&pattern), other));
        assert_eq!(last(b"a:3"), Some(swept));
        assert_eq!(last(b"a:2").and_then(|by_name| by_name.pattern), None);
        assert_eq!(last(b"b:1"), None);
    }

    #[test]
    fn a_full_table_forgets_what_is_oldest_and_grows_no_more() {
        let trace = Trace::default();
        let all = 4 * STRIPES * STRIPE_KEYS;
        for n in 0..all {
            trace.filled([&key(n)].into_iter());
        }
        let known = |range: std::ops::Range<usize>| {
            range
                .filter(|n| trace.of(&key(*n)).filled.is_some())
                .count()
        };
        assert!(known(all - 1000..all) > 950);
        assert!(known(0..1000) < 50);
        let pattern = Pattern::parse(b"b:*").expect("a pattern");
        for _ in 0..2 * MAX_PATTERNS {
            trace.swept(&pattern, Origin::Command, None);
        }
        assert_eq!(trace.0.patterns.lock().len(), MAX_PATTERNS);
    }

    #[test]
    fn keys_that_were_invalidated_are_handed_out_once() {
        let trace = Trace::default();
        for batch in 0..100 {
            let keys: Vec<Bytes> = (0..100).map(|n| key(batch * 100 + n)).collect();
            trace.invalidated(&keys, Origin::Watch);
        }
        let taken = trace.take_recent(usize::MAX);
        assert_eq!(taken.len(), MAX_RECENT);
        assert_eq!(taken.last(), Some(&key(9900 + MAX_RECENT_A_BATCH - 1)));
        assert!(trace.take_recent(1).is_empty());
    }
}
