//! What proves that caches are fresh, and what makes them so again: the rows that wait, and those that were applied of late.

use std::time::Instant;

use super::{Outbox, RepositoryError};

/// The rows that one look saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// When it was begun: what was committed before is among the rows, unless it was applied.
    pub begun: Instant,
    /// The rows' ids, claimed ones included, up to as many as were asked for.
    pub ids: Vec<i64>,
    /// By Postgres' clock, in microseconds since 1970.
    pub at_us: i64,
}

/// What was invalidated since some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    pub keys: Vec<String>,
    pub patterns: Vec<String>,
    /// By Postgres' clock, in microseconds since 1970.
    pub now_us: i64,
}

impl Outbox {
    /// Looks at what waits to be applied, at most `limit` rows of it, the oldest.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the queue is not installed.
    pub async fn look(&self, limit: usize) -> Result<Look, RepositoryError> {
        let mut seat = self.seat().await?;
        let begun = Instant::now();
        let (ids, at_us) = self.in_time("look at", seat.connection.look(limit)).await?;
        seat.give_back(self);
        Ok(Look { begun, ids, at_us })
    }

    /// What was invalidated since `since_us`, a time by Postgres' clock; at most `limit` keys, and as many patterns.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the queue is not installed.
    pub async fn applied_since(
        &self,
        since_us: i64,
        limit: usize,
    ) -> Result<Applied, RepositoryError> {
        let mut seat = self.seat().await?;
        let applied = seat.connection.applied_since(since_us, limit);
        let applied = self.in_time("read what was applied from", applied).await?;
        seat.give_back(self);
        Ok(applied)
    }

    /// Notes what was invalidated without the queue.
    ///
    /// # Errors
    /// If Postgres did not confirm it.
    pub async fn note(&self, keys: &[String], patterns: &[String]) -> Result<(), RepositoryError> {
        let mut seat = self.seat().await?;
        let noted = seat.connection.note(keys, patterns, self.0.replay_window);
        self.in_time("note invalidations beside", noted).await?;
        seat.give_back(self);
        Ok(())
    }
}
