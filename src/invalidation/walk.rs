//! A walk through all keys of Redis, page by page, at a pace that its neighbours do not mind.

use super::pace::Pace;
use crate::keyspace::{Pattern, Scope, names};
use crate::store::{Pinned, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What a page held.
pub(super) struct Page {
    /// Keys that match.
    pub(super) doomed: Vec<Bytes>,
    /// Other keys of the segments that were asked for.
    pub(super) kept: Vec<Bytes>,
}

/// One walk through all keys of Redis, and what of them matches.
pub(super) struct Walk {
    patterns: Vec<Pattern>,
    /// Says what no pattern reaches.
    scope: Arc<Scope>,
    cursor: u64,
    /// Pages read so far.
    pub(super) pages: usize,
    pace: Pace,
}

impl Walk {
    pub(super) fn new(patterns: Vec<Pattern>, scope: Arc<Scope>) -> Self {
        Self {
            patterns,
            scope,
            cursor: 0,
            pages: 0,
            pace: Pace::new(),
        }
    }

    /// Goes on for these only. What of `doomed` is none of theirs is kept, and given back: a page is counted but once.
    pub(super) fn only(&mut self, patterns: Vec<Pattern>, doomed: &mut Vec<Bytes>) -> Vec<Bytes> {
        self.patterns = patterns;
        doomed.extract_if(.., |key| !self.matches(key)).collect()
    }

    fn matches(&self, key: &[u8]) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(key))
    }

    /// Whether every key was looked at.
    pub(super) fn is_over(&self) -> bool {
        self.pages > 0 && self.cursor == 0
    }

    /// Unlinks `doomed`, and reads the next page: whether each was there, and what of the page matches, or lies in one of
    /// `segments`.
    pub(super) async fn page(
        &mut self,
        pinned: &Pinned,
        doomed: &[Bytes],
        segments: &[String],
    ) -> Result<(Vec<bool>, Page), StoreError> {
        let filter = self.filter(segments);
        let sent = Instant::now();
        let count = self.pace.count();
        let (removed, page) = pinned
            .unlink_and_scan(doomed, self.cursor, filter.as_deref(), count)
            .await?;
        self.pace.page_took(sent.elapsed());
        (self.pages, self.cursor) = (self.pages + 1, page.cursor);
        let keys = page.keys.into_iter();
        let (doomed, mut kept): (Vec<_>, Vec<_>) = keys
            .filter(|key| !names::is_reserved(key) && !self.scope.is_plain(key))
            .partition(|key| self.matches(key));
        kept.retain(|key| {
            segments
                .iter()
                .any(|segment| key.starts_with(segment.as_bytes()))
        });
        Ok((removed, Page { doomed, kept }))
    }

    /// What Redis sends only. One pattern is matched by Redis; more of them here, in one pass.
    fn filter(&self, segments: &[String]) -> Option<Bytes> {
        match (self.patterns.as_slice(), segments) {
            ([only], []) => Some(only.text().clone()),
            (all, [segment]) => {
                let has_it = |pattern: &Pattern| pattern.head().starts_with(segment.as_bytes());
                let under = || Pattern::all_under(segment).text().clone();
                all.iter().all(has_it).then(under)
            }
            _ => None,
        }
    }

    /// Leaves Redis to others for a while.
    pub(super) async fn pause(&self) {
        rest(self.pace.pause()).await;
    }
}

/// Leaves Redis to others for so long.
pub(super) async fn rest(pause: Duration) {
    // The runtime's timer counts whole milliseconds, five times what a pause should be. A thread that waits for
    // blocking work costs nobody anything.
    let waiting = tokio::task::spawn_blocking(move || std::thread::park_timeout(pause));
    // Without the thread there is no pause.
    let _waited = waiting.await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Reach;

    #[test]
    fn what_only_a_cancelled_pattern_matches_is_kept() {
        let pattern = |text: &str| Pattern::parse(text.as_bytes()).expect("a pattern");
        let scope = Arc::new(Scope::new(&[], &[], Reach::default()));
        let mut walk = Walk::new(["a:1*", "a:*2"].map(pattern).into(), scope);
        let mut doomed: Vec<Bytes> = ["a:11", "a:12", "a:2"].map(Bytes::from).into();
        let kept = walk.only(vec![pattern("a:*2")], &mut doomed);
        assert_eq!(kept, ["a:11"]);
        assert_eq!(doomed, ["a:12", "a:2"]);
        assert!(!walk.matches(b"a:11"));
    }
}
