//! Sweeps a pattern by the index of its keys: what it costs depends on the keys that begin as the pattern does, and on nothing
//! else that Redis holds.
//!
//! The leases are ended and the sweep is announced as for any other ([`sweeper`](super::sweeper)). Then every key that was filled
//! before has its entry in the index, or there is no whole index; and a key that is filled later was loaded after the sweep was
//! asked for. An index that is lost on the way, or is another one by now, leaves the pattern to the next pass.

use super::indexes::{Index, Page};
use super::pace::Pace;
use super::pending::Sweep;
use super::sweeper::{Broken, Ground, Sweeper};
use super::walk::rest;
use crate::keyspace::Pattern;
use bytes::Bytes;
use std::time::Instant;

/// An entry that is removed with its value costs Redis about as much as looking at two keys.
const COST_OF_AN_ENTRY: usize = 2;

/// What came of sweeps by index.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// Whether a pass has to serve any of them.
    pub(super) left: bool,
    /// What came meanwhile: its leases are ended, and it is announced.
    pub(super) revealed: Vec<Sweep>,
}

impl Sweeper {
    /// Sweeps what has a whole index.
    pub(super) async fn sweep_indexed(
        &self,
        ground: &Ground,
        sweeps: Vec<Sweep>,
    ) -> Result<Outcome, Broken> {
        let mut outcome = Outcome::default();
        for sweep in sweeps {
            if !self.with(|pending| pending.holds(sweep.id)) {
                continue;
            }
            let index = self.indexes.index(sweep.pattern.head());
            let is_swept = match index {
                None => false,
                Some(index) => {
                    let swept = self.sweep_by(index, ground, &sweep, &mut outcome.revealed);
                    let is_swept = swept.await?;
                    self.metrics
                        .asked_index(if is_swept { "swept" } else { "incomplete" });
                    is_swept
                }
            };
            if !is_swept {
                outcome.left = true;
                continue;
            }
            ground.check().await?;
            let done = self.with(|pending| pending.end(sweep.id));
            self.conclude(&ground.pinned, done).await;
        }
        Ok(outcome)
    }

    /// Whether it could, to the end, or as far as it was wanted.
    async fn sweep_by(
        &self,
        index: &Index,
        ground: &Ground,
        sweep: &Sweep,
        revealed: &mut Vec<Sweep>,
    ) -> Result<bool, Broken> {
        let mut range = Range::of(&sweep.pattern);
        let mut pace = Pace::new();
        loop {
            let (sent, most) = (Instant::now(), pace.count() / COST_OF_AN_ENTRY);
            let args = range.args(most);
            let scripts = self.indexes.scripts();
            let Some(page) = scripts.sweep(&ground.pinned, index, &args).await? else {
                return Ok(false);
            };
            pace.page_took(sent.elapsed());
            self.metrics.swept_keys.inc_by(page.removed);
            self.with(|pending| pending.removed(sweep.id, page.removed));
            let is_wanted = self.with(|pending| pending.holds(sweep.id));
            if range.is_over(page, most) || !is_wanted {
                return Ok(true);
            }
            revealed.extend(self.reveal(&ground.pinned).await?);
            self.announce_again(ground).await?;
            rest(pace.pause()).await;
        }
    }
}

/// The part of an index that a pattern can match, and how far it was looked at.
struct Range<'a> {
    pattern: &'a Pattern,
    /// Bounds as `ZRANGEBYLEX` takes them.
    from: Bytes,
    to: Bytes,
    /// The mark of the index this began with.
    mark: Bytes,
    /// Keys that match, to be removed.
    doomed: Vec<Bytes>,
    /// Whether only they are left to do.
    is_read: bool,
}

impl<'a> Range<'a> {
    fn of(pattern: &'a Pattern) -> Self {
        Self {
            pattern,
            from: [b"[", pattern.head()].concat().into(),
            to: behind(pattern.head()),
            mark: Bytes::new(),
            doomed: Vec::new(),
            is_read: false,
        }
    }

    /// What the script is to do next.
    fn args(&self, most: usize) -> Vec<Bytes> {
        let most = if self.is_read { 0 } else { most };
        // What it removes by itself need not travel.
        let all: &[u8] = match self.pattern.is_all_under_its_head() {
            true => b"1",
            false => b"0",
        };
        let mut args = vec![
            self.mark.clone(),
            self.from.clone(),
            self.to.clone(),
            Bytes::from(most.to_string()),
            Bytes::from_static(all),
        ];
        args.extend_from_slice(&self.doomed);
        args
    }

    /// Takes what the script has brought; whether that was all. `most` entries were asked for.
    fn is_over(&mut self, page: Page, most: usize) -> bool {
        self.mark = page.mark;
        self.is_read |= page.looked < most;
        if let Some(last) = page.keys.last() {
            self.from = [b"(", last.as_ref()].concat().into();
        }
        self.doomed = page.keys;
        self.doomed.retain(|key| self.pattern.matches(key));
        self.is_read && self.doomed.is_empty()
    }
}

/// The end of all keys that begin with `head`.
fn behind(head: &[u8]) -> Bytes {
    let kept = head.iter().rposition(|byte| *byte < u8::MAX);
    match kept {
        Some(last) => {
            let mut end = [b"(", &head[..=last]].concat();
            end[last + 1] += 1;
            end.into()
        }
        None => Bytes::from_static(b"+"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_ends_behind_the_last_key_with_its_head() {
        assert_eq!(behind(b"courses:"), "(courses;");
        assert_eq!(behind(b"a:\xff\xff"), &b"(a;"[..]);
        assert_eq!(behind(b"\xff"), "+");
    }

    fn page(looked: usize, keys: &[&'static str]) -> Page {
        Page {
            mark: Bytes::from_static(b":whole:1"),
            looked,
            removed: 0,
            keys: keys
                .iter()
                .map(|key| Bytes::from_static(key.as_bytes()))
                .collect(),
        }
    }

    fn args(range: &Range<'_>) -> Vec<String> {
        let args = range.args(2).into_iter();
        args.map(|arg| String::from_utf8_lossy(&arg).into_owned())
            .collect()
    }

    #[test]
    fn what_begins_like_the_pattern_is_looked_at_page_by_page_and_what_matches_goes_with_the_next()
    {
        let pattern = Pattern::parse(b"a:1*9").expect("a pattern");
        let mut range = Range::of(&pattern);
        assert_eq!(args(&range), ["", "[a:1", "(a:2", "2", "0"]);
        assert!(!range.is_over(page(2, &["a:10", "a:19"]), 2));
        assert_eq!(
            args(&range),
            [":whole:1", "(a:19", "(a:2", "2", "0", "a:19"]
        );
        assert!(!range.is_over(page(1, &["a:199"]), 2), "one is left");
        assert_eq!(
            args(&range),
            [":whole:1", "(a:199", "(a:2", "0", "0", "a:199"]
        );
        assert!(range.is_over(page(0, &[]), 0));
    }

    #[test]
    fn all_under_a_head_is_removed_where_it_lies_until_a_page_is_not_full() {
        let pattern = Pattern::parse(b"a:1*").expect("a pattern");
        let mut range = Range::of(&pattern);
        assert_eq!(args(&range), ["", "[a:1", "(a:2", "2", "1"]);
        assert!(!range.is_over(page(2, &[]), 2));
        assert_eq!(args(&range), [":whole:1", "[a:1", "(a:2", "2", "1"]);
        assert!(range.is_over(page(1, &[]), 2));
    }
}
