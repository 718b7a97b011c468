//! What waits, seen as a whole: how much it is, what it names, and how much of it is removed at once.
//!
//! 1. Only rows that were seen are removed, by their ids. A row that is committed later may well have a lower id than one
//!    that was seen.
//! 2. Ids may be given anew when the queue is installed anew; such a row is younger than the look at those that were seen.
//! 3. What somebody else has claimed is left to them, and no statement is a long one: writers, claims and other daemons
//!    go on beside it.

use super::statements::{BEGIN, Connection, seconds};
use super::{Outbox, RepositoryError};
use crate::repository::error::describe;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// Rows that are looked at by one statement (50 ms).
const SEEN_AT_ONCE: usize = 100_000;
/// Rows that are removed by one statement (20 ms).
const REMOVED_AT_ONCE: usize = 10_000;
/// First segments that are told of: more than anybody declares.
const MAX_SEGMENTS: i64 = 1_000;

pub(super) const BACKLOG: &str = "\
SELECT (SELECT count(*) FROM (SELECT FROM cachewarden.outbox LIMIT $1) AS waiting),
       (SELECT greatest(extract(epoch FROM clock_timestamp() - at), 0)::float8
        FROM cachewarden.outbox ORDER BY id LIMIT 1),
       (SELECT count(*) FROM (SELECT FROM cachewarden.dead LIMIT $2) AS dead)";

const SEGMENTS: &str = "\
SELECT split_part(name, ':', 1) || ':'
FROM (SELECT keys, patterns FROM cachewarden.outbox ORDER BY id LIMIT $1) AS oldest,
     unnest(keys || patterns) AS name
GROUP BY 1 HAVING count(*) >= $2 ORDER BY count(*) DESC LIMIT $3";

/// The time is told after the rows were read: none of them is younger.
const NAMING_ONLY: &str = "\
SELECT max(id),
       coalesce(array_agg(id) FILTER (WHERE NOT EXISTS (
           SELECT FROM unnest(keys || patterns) AS name WHERE NOT name ^@ ANY ($3))), '{}'),
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint
FROM (SELECT id, keys, patterns FROM cachewarden.outbox WHERE id > $1 ORDER BY id LIMIT $2) AS page";

const REMOVE_SEEN: &str = "\
DELETE FROM cachewarden.outbox WHERE id = ANY(ARRAY(
    SELECT id FROM cachewarden.outbox
    WHERE id = ANY($1) AND at <= 'epoch'::timestamptz + $2::bigint * interval '1 microsecond'
    FOR UPDATE SKIP LOCKED))
RETURNING greatest(extract(epoch FROM clock_timestamp() - at), 0)::float8";

/// What waits to be applied, at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Rows, claimed ones included; counted up to [`Backlog::COUNTED`].
    pub rows: u64,
    /// How long the oldest of them has been waiting.
    pub oldest: Option<Duration>,
    /// Rows that were put aside.
    pub dead: u64,
}

impl Backlog {
    /// Where counting ends: beyond it, more rows make the count dear (50 ms here) and no news.
    pub const COUNTED: u64 = 1_000_000;
}

/// Rows that one look saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    ids: Vec<i64>,
    /// None of them is younger, by Postgres' clock in microseconds since 1970.
    at_us: i64,
}

impl Seen {
    /// Of the rows, oldest first.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// How many rows.
    pub fn rows(&self) -> usize {
        self.ids.len()
    }
}

impl Outbox {
    /// What waits to be applied.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the queue is not installed.
    pub async fn backlog(&self) -> Result<Backlog, RepositoryError> {
        let mut seat = self.seat().await?;
        let backlog = self.in_time("count", seat.connection.backlog()).await?;
        seat.give_back(self);
        Ok(backlog)
    }

    /// The first segments, colon included, of the keys and patterns that the oldest rows name at least so often.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the queue is not installed.
    pub async fn segments(&self, at_least: u64) -> Result<Vec<String>, RepositoryError> {
        let mut seat = self.seat().await?;
        let segments = seat.connection.segments(at_least);
        let segments = self.in_time("see what waits in", segments).await?;
        seat.give_back(self);
        Ok(segments)
    }

    /// Of the oldest rows, about `limit`, those that name nothing but keys and patterns that begin with one of `prefixes`.
    /// Prefixes hold no wildcards.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the queue is not installed.
    pub async fn naming_only(
        &self,
        prefixes: &[String],
        limit: usize,
    ) -> Result<Seen, RepositoryError> {
        let mut seat = self.seat().await?;
        let (mut seen, mut after) = (Seen::default(), i64::MIN);
        for _ in 0..limit.div_ceil(SEEN_AT_ONCE) {
            let page = seat.connection.naming_only(prefixes, after);
            let (last, ids, at_us) = self.in_time("see what waits in", page).await?;
            seen.ids.extend(ids);
            seen.at_us = at_us;
            match last {
                Some(last) => after = last,
                None => break,
            }
        }
        seat.give_back(self);
        Ok(seen)
    }

    /// Removes rows that were seen and have been applied as a whole since, but for those that somebody has claimed; how
    /// many. `waited` is told of each how long ago it was queued. What they named is noted nowhere: the caller
    /// [notes](Outbox::note) what was invalidated in their stead.
    ///
    /// # Errors
    /// If Postgres did not confirm it. Those that are left are handed out.
    pub async fn remove_seen(
        &self,
        seen: &Seen,
        mut waited: impl FnMut(Duration),
    ) -> Result<u64, RepositoryError> {
        let mut seat = self.seat().await?;
        let mut removed = 0;
        for ids in seen.ids.chunks(REMOVED_AT_ONCE) {
            let removing = seat.connection.remove_seen(ids, seen.at_us);
            for age in self.in_time("remove rows of", removing).await? {
                waited(seconds(age));
                removed += 1;
            }
        }
        seat.give_back(self);
        Ok(removed)
    }
}

impl Connection {
    async fn backlog(&mut self) -> Result<Backlog, String> {
        let counted = i64::try_from(Backlog::COUNTED).unwrap_or(i64::MAX);
        let binds: [&(dyn ToSql + Sync); 2] = [&counted, &counted];
        let row = self.client.query_one(&self.backlog, &binds).await;
        let read = row.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        let (rows, oldest, dead): (i64, Option<f64>, i64) =
            read.map_err(|error| describe(&error))?;
        Ok(Backlog {
            rows: u64::try_from(rows).unwrap_or_default(),
            oldest: oldest.map(seconds),
            dead: u64::try_from(dead).unwrap_or_default(),
        })
    }

    async fn segments(&mut self, at_least: u64) -> Result<Vec<String>, String> {
        let at_least = i64::try_from(at_least).unwrap_or(i64::MAX);
        let oldest = i64::try_from(SEEN_AT_ONCE).unwrap_or(i64::MAX);
        let binds: [&(dyn ToSql + Sync); 3] = [&oldest, &at_least, &MAX_SEGMENTS];
        let rows = self.client.query(SEGMENTS, &binds).await;
        let read = rows.and_then(|rows| rows.iter().map(|row| row.try_get(0)).collect());
        read.map_err(|error| describe(&error))
    }

    /// One page of rows beyond an id: its last id, the ids asked for, and the time.
    async fn naming_only(
        &mut self,
        prefixes: &[String],
        after: i64,
    ) -> Result<(Option<i64>, Vec<i64>, i64), String> {
        let at_once = i64::try_from(SEEN_AT_ONCE).unwrap_or(i64::MAX);
        let binds: [&(dyn ToSql + Sync); 3] = [&after, &at_once, &prefixes];
        let row = self.client.query_one(NAMING_ONLY, &binds).await;
        let read = row.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        read.map_err(|error| describe(&error))
    }

    /// How old those were that are gone.
    async fn remove_seen(&mut self, ids: &[i64], at_us: i64) -> Result<Vec<f64>, String> {
        let removed = async {
            self.client.batch_execute(BEGIN).await?;
            let binds: [&(dyn ToSql + Sync); 2] = [&ids, &at_us];
            let removed = self.client.query(REMOVE_SEEN, &binds).await?;
            self.client.batch_execute("COMMIT").await?;
            let ages = removed.iter().map(|row| row.try_get(0));
            ages.collect::<Result<_, _>>()
        };
        removed
            .await
            .map_err(|error: tokio_postgres::Error| describe(&error))
    }
}
