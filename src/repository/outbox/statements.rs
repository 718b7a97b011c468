//! The statements of the queue, prepared once a connection.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use futures_util::future::try_join;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};

use super::backlog::BACKLOG;
use super::{Applied, Change};
use crate::repository::error::describe;

/// Keys and patterns that are handed out together, unless the oldest row alone has more.
const MAX_NAMES: i64 = 100_000;
/// Rows put aside that are kept for people to look at, the latest.
const MAX_DEAD: i64 = 10_000;
/// Rows of `applied` that one statement forgets: more than it adds, and never a long one.
const FORGET_AT_ONCE: i64 = 1_000;

/// Whatever the role's default is: under a stricter level, rows that others claim are errors.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// The running total is of locked rows; those beyond it stay locked until the claim ends, no longer.
const CLAIM: &str = "\
WITH locked AS (
    SELECT id, at, source, keys, patterns FROM cachewarden.outbox
    ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
), counted AS (
    SELECT *, sum(cardinality(keys) + cardinality(patterns))
              OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS before
    FROM locked
)
SELECT id, source, keys, patterns,
       greatest(extract(epoch FROM clock_timestamp() - at), 0)::float8 AS age
FROM counted WHERE coalesce(before, 0) < $2 ORDER BY id";

const CLAIM_AGAIN: &str = "\
SELECT id, source, keys, patterns,
       greatest(extract(epoch FROM clock_timestamp() - at), 0)::float8 AS age
FROM cachewarden.outbox WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";

/// Those that another daemon is about to forget are left to it, instead of waited for.
const REMOVE: &str = "\
WITH gone AS (
    DELETE FROM cachewarden.outbox WHERE id = ANY($1) RETURNING keys, patterns
), forgotten AS (
    DELETE FROM cachewarden.applied WHERE id = ANY(ARRAY(
        SELECT id FROM cachewarden.applied WHERE at < clock_timestamp() - $2 * interval '1 millisecond'
        ORDER BY at LIMIT $3 FOR UPDATE SKIP LOCKED))
)
INSERT INTO cachewarden.applied (keys, patterns)
SELECT ARRAY(SELECT DISTINCT name FROM gone, unnest(gone.keys) AS name),
       ARRAY(SELECT DISTINCT name FROM gone, unnest(gone.patterns) AS name)
WHERE EXISTS (SELECT FROM gone)";

/// What a row that is put aside could mean was invalidated, and it leaves the queue as every other does.
const BURY: &str = "\
WITH forgotten AS (
    DELETE FROM cachewarden.dead WHERE id = ANY(ARRAY(
        SELECT id FROM cachewarden.dead ORDER BY id DESC OFFSET $3 LIMIT 1000 FOR UPDATE SKIP LOCKED))
)
INSERT INTO cachewarden.dead (id, at, source, keys, patterns, reason)
SELECT waiting.id, waiting.at, waiting.source, waiting.keys, waiting.patterns, why.reason
FROM cachewarden.outbox AS waiting JOIN unnest($1::bigint[], $2::text[]) AS why (id, reason) USING (id)
ON CONFLICT (id) DO NOTHING";

const LOOK: &str = "\
SELECT ARRAY(SELECT id FROM cachewarden.outbox ORDER BY id LIMIT $1),
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, pg_is_in_recovery()";

const APPLIED_SINCE: &str = "\
WITH since AS (
    SELECT keys, patterns FROM cachewarden.applied
    WHERE at >= 'epoch'::timestamptz + $1::bigint * interval '1 microsecond'
)
SELECT ARRAY(SELECT DISTINCT name FROM since, unnest(keys) AS name WHERE name IS NOT NULL LIMIT $2),
       ARRAY(SELECT DISTINCT name FROM since, unnest(patterns) AS name WHERE name IS NOT NULL LIMIT $2),
       (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

const NOTE: &str = "\
WITH forgotten AS (
    DELETE FROM cachewarden.applied WHERE id = ANY(ARRAY(
        SELECT id FROM cachewarden.applied WHERE at < clock_timestamp() - $3 * interval '1 millisecond'
        ORDER BY at LIMIT $4 FOR UPDATE SKIP LOCKED))
)
INSERT INTO cachewarden.applied (keys, patterns) VALUES ($1, $2)";

const NOTIFY: &str = "SELECT pg_notify($1, $2), pg_notification_queue_usage()";

/// A connection that may write, with what it will be asked.
pub(super) struct Connection {
    pub(super) client: Client,
    claim: Statement,
    remove: Statement,
    pub(super) backlog: Statement,
    look: Statement,
}

impl Connection {
    /// Prepares the statements. Err: why that cannot be, in safe words, as everywhere here.
    pub async fn new(client: Client) -> Result<Self, String> {
        let prepare = async |sql: &str| client.prepare(sql).await.map_err(|error| describe(&error));
        Ok(Self {
            claim: prepare(CLAIM).await?,
            remove: prepare(REMOVE).await?,
            backlog: prepare(BACKLOG).await?,
            look: prepare(LOOK).await?,
            client,
        })
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Begins a transaction and locks rows in it.
    pub async fn claim(&mut self, limit: usize) -> Result<Vec<Change>, String> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        // Both are sent before either is answered: a look at an empty queue is all a daemon does
        // most of the time.
        let begin = self.client.batch_execute(BEGIN);
        let binds: [&(dyn ToSql + Sync); 2] = [&limit, &MAX_NAMES];
        let query = self.client.query(&self.claim, &binds);
        let claimed = try_join(begin, query).await;
        let ((), rows) = claimed.map_err(|error| describe(&error))?;
        changes(&rows).map_err(|error| describe(&error))
    }

    /// Begins a transaction and locks these rows in it, but for those that are locked.
    pub async fn claim_again(&mut self, ids: &[i64]) -> Result<Vec<Change>, String> {
        let claimed = async {
            self.client.batch_execute(BEGIN).await?;
            changes(&self.client.query(CLAIM_AGAIN, &[&ids]).await?)
        };
        claimed.await.map_err(|error| describe(&error))
    }

    /// Removes claimed rows, and notes what they were.
    pub async fn remove(&mut self, ids: &[i64], replay_window: Duration) -> Result<(), String> {
        let window_ms = replay_window.as_secs_f64() * 1000.0;
        let removed = self
            .client
            .execute(&self.remove, &[&ids, &window_ms, &FORGET_AT_ONCE])
            .await;
        removed.map(drop).map_err(|error| describe(&error))
    }

    /// Puts claimed rows aside, each for its reason.
    pub async fn bury(&mut self, dead: &BTreeMap<i64, String>) -> Result<(), String> {
        let (ids, reasons): (Vec<i64>, Vec<&str>) =
            dead.iter().map(|(id, why)| (*id, why.as_str())).unzip();
        let buried = self
            .client
            .execute(BURY, &[&ids, &reasons, &MAX_DEAD])
            .await;
        buried.map(drop).map_err(|error| describe(&error))
    }

    /// The oldest rows, and the time.
    pub async fn look(&mut self, limit: usize) -> Result<(Vec<i64>, i64), String> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let row = self.client.query_one(&self.look, &[&limit]).await;
        let read = row.and_then(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?)));
        match read.map_err(|error| describe(&error))? {
            // An empty queue of its would prove nothing: changes are made elsewhere.
            (_, _, true) => Err("the server only follows another one by now".to_owned()),
            (ids, at, false) => Ok((ids, at)),
        }
    }

    /// What was applied since a time.
    pub async fn applied_since(&mut self, since: i64, limit: usize) -> Result<Applied, String> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let row = self
            .client
            .query_one(APPLIED_SINCE, &[&since, &limit])
            .await;
        let read = row.and_then(|row| {
            Ok(Applied {
                keys: row.try_get(0)?,
                patterns: row.try_get(1)?,
                now_us: row.try_get(2)?,
            })
        });
        read.map_err(|error| describe(&error))
    }

    /// Notes what was applied without having been queued.
    pub async fn note(
        &mut self,
        keys: &[String],
        patterns: &[String],
        replay_window: Duration,
    ) -> Result<(), String> {
        let window_ms = replay_window.as_secs_f64() * 1000.0;
        let binds: [&(dyn ToSql + Sync); 4] = [&keys, &patterns, &window_ms, &FORGET_AT_ONCE];
        let noted = self.client.execute(NOTE, &binds).await;
        noted.map(drop).map_err(|error| describe(&error))
    }

    /// Notifies whoever listens on a channel; how full the server's queue of notifications is, up to 1.
    pub async fn notify(&mut self, channel: &str, payload: &str) -> Result<f64, String> {
        let row = self.client.query_one(NOTIFY, &[&channel, &payload]).await;
        let usage = row.and_then(|row| row.try_get(1));
        usage.map_err(|error| describe(&error))
    }

    pub async fn commit(&mut self) -> Result<(), String> {
        let committed = self.client.batch_execute("COMMIT").await;
        committed.map_err(|error| describe(&error))
    }
}

fn changes(rows: &[Row]) -> Result<Vec<Change>, tokio_postgres::Error> {
    let now = Instant::now();
    rows.iter().map(|row| change(row, now)).collect()
}

fn change(row: &Row, now: Instant) -> Result<Change, tokio_postgres::Error> {
    // Somebody may have put a NULL there by hand; it names nothing.
    let names = |at: usize| {
        let names: Vec<Option<String>> = row.try_get(at)?;
        Ok(names.into_iter().flatten().collect())
    };
    let age = seconds(row.try_get(4)?);
    Ok(Change {
        id: row.try_get(0)?,
        source: row.try_get(1)?,
        keys: names(2)?,
        patterns: names(3)?,
        since: now.checked_sub(age).unwrap_or(now),
    })
}

pub(super) fn seconds(age: f64) -> Duration {
    Duration::try_from_secs_f64(age).unwrap_or_default()
}
