//! The keys that were asked for most, remembered in Postgres: Redis may forget everything, and a daemon does when it ends.
//!
//! Each daemon writes its own row for each cache, which costs others nothing; who reads them adds up what the daemons counted.
//! What was counted an hour ago counts half, and so on: a daemon that is gone is not asked for ever.

use tokio::runtime::Handle;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::RepositoryError;
use super::connect::Connector;
use super::dsn::Dsn;
use super::line::Line;
use crate::config;

/// Daemons of a cache whose rows are kept beside our own.
const MAX_OTHERS: i64 = 63;

const REMEMBER: &str = "\
WITH others AS (
    SELECT daemon FROM cachewarden.hot_keys WHERE cache = $1 AND daemon <> $2::text::uuid ORDER BY at DESC
), forgotten AS (
    DELETE FROM cachewarden.hot_keys WHERE cache = $1 AND daemon IN (SELECT daemon FROM others OFFSET $5)
)
INSERT INTO cachewarden.hot_keys AS row (cache, daemon, keys, requests) VALUES ($1, $2::text::uuid, $3, $4)
ON CONFLICT (cache, daemon) DO UPDATE
SET keys = excluded.keys, requests = excluded.requests, at = clock_timestamp()";

const RECALL: &str = "\
SELECT key
FROM cachewarden.hot_keys, unnest(keys, requests) AS counted (key, count)
WHERE cache = $1 AND key IS NOT NULL
GROUP BY key
ORDER BY sum(count * 0.5 ^ greatest(0, least(1000, extract(epoch FROM clock_timestamp() - at) / 3600))) DESC NULLS LAST, key
LIMIT $2";

/// Remembers the keys that were asked for most. Cheap to clone.
#[derive(Clone)]
pub struct HotKeys {
    line: Line,
    /// This daemon, until it ends.
    daemon: Uuid,
}

impl HotKeys {
    /// No connection is made yet; their drivers will run on `runtime`.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(postgres: &config::Postgres, runtime: Handle) -> Result<Self, RepositoryError> {
        let limit = postgres.statement_timeout;
        let connector = Connector::saving(Dsn::parse(postgres.url.expose())?, limit);
        Ok(Self {
            line: Line::new(connector, limit, runtime),
            daemon: Uuid::new_v4(),
        })
    }

    /// These keys of `cache` were asked for so often in this daemon, of late.
    ///
    /// # Errors
    /// If Postgres cannot be reached, refuses, or takes too long.
    pub async fn remember(
        &self,
        cache: &str,
        keys: Vec<String>,
        requests: Vec<i64>,
    ) -> Result<(), RepositoryError> {
        let client = self.line.client().await?;
        let daemon = self.daemon.to_string();
        let values: [&(dyn ToSql + Sync); 5] = [&cache, &daemon, &keys, &requests, &MAX_OTHERS];
        self.answered(client.execute(REMEMBER, &values)).await?;
        Ok(())
    }

    /// The keys of `cache` that were asked for most in all daemons, the hottest first; at most `most`.
    ///
    /// # Errors
    /// If Postgres cannot be reached, refuses, or takes too long.
    pub async fn recall(&self, cache: &str, most: usize) -> Result<Vec<String>, RepositoryError> {
        let client = self.line.client().await?;
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let rows = self
            .answered(client.query(RECALL, &[&cache, &most]))
            .await?;
        Ok(rows.iter().filter_map(|row| row.try_get(0).ok()).collect())
    }

    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, RepositoryError> {
        let refused = |_: &_, message| RepositoryError::HotKeys { message };
        self.line.answered(answer, refused).await
    }
}
