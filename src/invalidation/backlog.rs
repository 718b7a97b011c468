//! Looks at what waits in the database's queue, and takes a large backlog as a whole.
//!
//! Row by row a backlog costs what it is long. From some length on it is cheaper to invalidate everything under the
//! prefixes that its rows name, in one pass, and to remove the rows unread:
//!
//! 1. The rows are seen first; only those are removed in the end, and only such as name nothing beside those prefixes.
//!    What is committed meanwhile, or names anything else, is applied as ever.
//! 2. Then everything under the prefixes is swept: leases first, announced, one pass for all.
//! 3. That is noted as what was applied, and the rows are removed, but for those that somebody has claimed.
//!
//! Whoever dies in between leaves all rows, or those not removed yet. Several daemons may do it at once: each sweeps, and
//! each removes what is left. A row that could not have been applied is not put aside: its prefix is swept all the same.

use super::InvalidationError;
use super::drain::{Drain, Shared, jittered, tell};
use super::messages::InvalidateTargets;
use crate::cache::Origin;
use crate::keyspace::{Pattern, Scope, Targets, names::segment_of};
use crate::repository::{RepositoryError, Seen};
use crate::store::StoreError;
use crate::supervisor::AskError;
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// How often the backlog is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Rows that are taken as a whole at once.
const MAX_TAKEN: usize = 1_000_000;
/// Of the names that the oldest rows hold, those under one first segment that make it worth to be swept: fewer are
/// invalidated by name in a tenth of a second.
const NAMED_OFTEN: u64 = 10_000;
/// Keys that a pass looks at in the time that one row takes by itself.
const KEYS_A_ROW: u64 = 8;
/// After a look at a large backlog that cannot be taken as a whole: the look costs as much as some hundred rows.
const FRUITLESS_PAUSE: Duration = Duration::from_secs(5);

impl Drain {
    /// From so many rows on: row by row they take three seconds.
    pub const LARGE: u64 = 250_000;

    /// Looks at the backlog for ever.
    pub(super) async fn watch_backlog(&self, shared: &Shared) {
        loop {
            match self.outbox.backlog().await {
                Ok(backlog) => {
                    let metrics = &self.metrics;
                    let clamped = |rows| i64::try_from(rows).unwrap_or(i64::MAX);
                    metrics.outbox_rows.set(clamped(backlog.rows));
                    metrics.dead_rows.set(clamped(backlog.dead));
                    let lag = backlog.oldest.unwrap_or_default();
                    metrics.outbox_lag.set(lag.as_secs_f64());
                    shared.backlog.send_replace(backlog.rows);
                }
                Err(error) => tracing::debug!(%error, "the queue could not be looked at"),
            }
            sleep(jittered(LOOK_EVERY)).await;
        }
    }

    /// Takes large backlogs as a whole, for ever.
    pub(super) async fn take_large(&self, shared: &Shared) {
        let mut backlog = shared.backlog.subscribe();
        let mut next = Instant::now();
        loop {
            // A look of before says nothing of what is left.
            backlog.mark_unchanged();
            // We hold the other end.
            let _changed = backlog.changed().await;
            if *backlog.borrow_and_update() < self.large || Instant::now() < next {
                continue;
            }
            self.store.up().wait_for(|up| *up).await.ok();
            match self.take_whole(shared).await {
                Ok(0) => next = Instant::now() + FRUITLESS_PAUSE,
                Ok(rows) => {
                    self.metrics.outbox_whole_rows.inc_by(rows);
                    tracing::warn!(rows, "queued changes were taken as whole caches");
                }
                Err(error) => {
                    tell(1, &error);
                    sleep_until(Instant::now() + jittered(LOOK_EVERY)).await;
                }
            }
        }
    }

    /// Takes what waits as a whole, if that costs less than row by row: how many rows were removed.
    async fn take_whole(&self, shared: &Shared) -> Result<u64, Untaken> {
        let segments = self.outbox.segments(NAMED_OFTEN.min(self.large)).await?;
        let prefixes = prefixes_under(&self.scope, &segments);
        if prefixes.is_empty() {
            return Ok(0);
        }
        let seen = self.outbox.naming_only(&prefixes, MAX_TAKEN).await?;
        let rows = u64::try_from(seen.rows()).unwrap_or(u64::MAX);
        let keys = self.store.pin().await?.count().await?;
        // Some of them were applied since they were counted, and others name other things.
        if rows < self.large / 2 || rows.saturating_mul(KEYS_A_ROW) < keys {
            return Ok(0);
        }
        tracing::warn!(
            rows,
            ?prefixes,
            "so many changes wait that everything under their prefixes is invalidated"
        );
        shared.is_taking.set(true);
        let removed = self.sweep_and_remove(&prefixes, &seen).await;
        shared.is_taking.set(false);
        removed
    }

    async fn sweep_and_remove(&self, prefixes: &[String], seen: &Seen) -> Result<u64, Untaken> {
        let patterns: Vec<Pattern> = prefixes.iter().map(|p| Pattern::all_under(p)).collect();
        let texts: Vec<String> = patterns.iter().map(Pattern::shown).collect();
        let targets = Targets {
            patterns,
            ..Targets::default()
        };
        let origin = Origin::Watch;
        let ask = InvalidateTargets { targets, origin };
        self.invalidation.invalidate.ask(ask).await??;
        // Before the first row is gone: somebody may have to invalidate it once more.
        self.outbox.note(&[], &texts).await?;
        let timings = &self.metrics.timings;
        let waited = |age: Duration| timings.invalidated("outbox", age.as_secs_f64());
        Ok(self.outbox.remove_seen(seen, waited).await?)
    }
}

/// Why a backlog was not taken as a whole, or not all of it.
#[derive(Debug, thiserror::Error)]
enum Untaken {
    #[error(transparent)]
    Queue(#[from] RepositoryError),
    #[error(transparent)]
    Redis(#[from] StoreError),
    #[error(transparent)]
    Sweep(#[from] InvalidationError),
    #[error(transparent)]
    Actor(#[from] AskError),
}

/// The declared prefixes that keys of these first segments may have.
fn prefixes_under(scope: &Scope, segments: &[String]) -> Vec<String> {
    let prefixes = scope.reach().prefixes().iter();
    let is_under = |prefix: &&String| {
        let segment = segment_of(prefix.as_bytes());
        segments.iter().any(|named| named.as_bytes() == segment)
    };
    prefixes.filter(is_under).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Reach;

    #[test]
    fn only_declared_prefixes_are_swept_and_all_of_a_segment_that_is_named() {
        let prefixes = ["users:", "legacy:a:", "legacy:b:", "calc:"].map(str::to_owned);
        let scope = Scope::new(&[], &[], Reach::new(prefixes));
        let segments = ["legacy:", "nobody:", "users:", "users"].map(str::to_owned);
        let swept = prefixes_under(&scope, &segments);
        assert_eq!(swept, ["legacy:a:", "legacy:b:", "users:"]);
        assert!(prefixes_under(&scope, &[]).is_empty());
    }
}
