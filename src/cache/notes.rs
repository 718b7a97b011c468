//! What was invalidated without the database's queue, until it is noted there: a Redis that comes back with data of earlier is
//! told it again.
//!
//! Noted once it is done: whoever asks what was invalidated since some state of Redis asks by the time of the note, and so finds
//! all that is not in that state. What waits is bounded: beyond, it is everything.

use crate::keyspace::Pattern;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// Keys and patterns that wait. Beyond, everything is noted as invalidated.
const MAX_NOTES: usize = 100_000;

/// What waits to be noted. Cheap to clone; by default nothing is.
#[derive(Clone, Debug, Default)]
pub struct Notes(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    waiting: Mutex<Waiting>,
    came: Notify,
    /// So many calls are written down.
    written: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Waiting {
    calls: u64,
    noted: Noted,
}

/// What is to be written.
#[derive(Clone, Debug, Default)]
pub struct Noted {
    pub keys: HashSet<Bytes>,
    /// As Redis spells them.
    pub patterns: HashSet<Bytes>,
    /// More than could be kept.
    pub everything: bool,
}

impl Noted {
    fn add(&mut self, keys: impl IntoIterator<Item = Bytes>, patterns: HashSet<Bytes>) {
        if self.everything {
            return;
        }
        self.keys.extend(keys);
        self.patterns.extend(patterns);
        if self.keys.len() + self.patterns.len() > MAX_NOTES {
            *self = Self {
                everything: true,
                ..Self::default()
            };
        }
    }
}

impl Notes {
    /// Notes that somebody writes down.
    pub fn kept() -> Self {
        Self(Some(Arc::new(Inner {
            waiting: Mutex::default(),
            came: Notify::new(),
            written: watch::Sender::new(0),
        })))
    }

    /// These keys were invalidated.
    pub fn keys(&self, keys: &[Bytes]) {
        self.add(|noted| noted.add(keys.iter().cloned(), HashSet::new()));
    }

    /// Everything that matches was invalidated.
    pub fn patterns(&self, patterns: &[Pattern]) {
        let patterns = || patterns.iter().map(|pattern| pattern.text().clone());
        self.add(|noted| noted.add([], patterns().collect()));
    }

    fn add(&self, add: impl FnOnce(&mut Noted)) {
        let Some(inner) = &self.0 else { return };
        let mut waiting = inner.waiting.lock();
        waiting.calls += 1;
        add(&mut waiting.noted);
        inner.came.notify_one();
    }

    /// How many keys and patterns wait.
    pub fn len(&self) -> usize {
        let Some(inner) = &self.0 else { return 0 };
        let waiting = inner.waiting.lock();
        waiting.noted.keys.len() + waiting.noted.patterns.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until there is something.
    pub async fn came(&self) {
        match &self.0 {
            Some(inner) => inner.came.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Takes what waits, to write it down, and the number to give to [`written`](Self::written).
    pub fn take(&self) -> (Noted, u64) {
        let Some(inner) = &self.0 else {
            return Default::default();
        };
        let mut waiting = inner.waiting.lock();
        (std::mem::take(&mut waiting.noted), waiting.calls)
    }

    /// It could not be written.
    pub fn put_back(&self, noted: Noted) {
        let Some(inner) = &self.0 else { return };
        let mut waiting = inner.waiting.lock();
        waiting.noted.everything |= noted.everything;
        waiting.noted.add(noted.keys, noted.patterns);
        inner.came.notify_one();
    }

    /// It is written.
    pub fn written(&self, calls: u64) {
        if let Some(inner) = &self.0 {
            inner.written.send_replace(calls);
        }
    }

    /// Waits until all is written that was noted before.
    pub async fn all_written(&self) {
        let Some(inner) = &self.0 else { return };
        let calls = inner.waiting.lock().calls;
        let mut written = inner.written.subscribe();
        // We hold the other end.
        let _open = written.wait_for(|written| *written >= calls).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn keys(range: std::ops::Range<usize>) -> Vec<Bytes> {
        range.map(|n| Bytes::from(format!("a:{n}"))).collect()
    }

    #[test]
    fn more_than_can_be_kept_is_everything_also_when_it_is_put_back() {
        let notes = Notes::kept();
        notes.keys(&keys(0..MAX_NOTES));
        let (noted, _) = notes.take();
        assert!(!noted.everything && noted.keys.len() == MAX_NOTES);
        assert!(notes.is_empty());
        notes.keys(&keys(MAX_NOTES..MAX_NOTES + 1));
        notes.put_back(noted);
        let (noted, _) = notes.take();
        assert!(noted.everything && noted.keys.is_empty());
        notes.put_back(noted);
        notes.keys(&keys(0..1));
        assert!(notes.take().0.everything);
    }

    #[tokio::test]
    async fn who_waits_for_what_was_noted_before_does_not_wait_for_what_comes_later() {
        let notes = Notes::kept();
        notes.keys(&keys(0..1));
        let (_, calls) = notes.take();
        let all_written = notes.all_written();
        notes.keys(&keys(1..2));
        notes.written(calls);
        // Polled for the first time now: it asks for both.
        let mut all_written = std::pin::pin!(all_written);
        assert!(all_written.as_mut().now_or_never().is_none());
        let (_, calls) = notes.take();
        notes.keys(&keys(2..3));
        notes.written(calls);
        all_written.await;
    }
}
