//! Which changes wait in the queue of invalidations: for whoever must know that none is left that could concern a key.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::RepositoryError;
use super::connect::Connector;
use super::dsn::Dsn;
use super::error::describe;
use crate::config;

/// What our own wait for an answer adds to the server's limit.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// A name may begin with its prefix in other words if it has a backslash; such a row concerns everybody.
const NAMING: &str = "\
SELECT id FROM cachewarden.outbox
WHERE EXISTS (SELECT FROM unnest(keys || patterns) AS name, unnest($1::text[]) AS prefix
              WHERE starts_with(name, prefix) OR strpos(name, E'\\\\') > 0)
LIMIT $2";

const LEFT: &str = "SELECT id FROM cachewarden.outbox WHERE id = ANY($1)";

/// Looks at the queue over a connection of its own that can only read. Cheap to clone.
#[derive(Clone)]
pub struct PendingChanges(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    runtime: Handle,
    patience: Duration,
    /// The connection, while nobody uses it. Who waits for it waits for one short statement.
    idle: Mutex<Option<Client>>,
}

impl PendingChanges {
    /// No connection is made yet; its driver will run on `runtime`.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(postgres: &config::Postgres, runtime: Handle) -> Result<Self, RepositoryError> {
        let dsn = Dsn::parse(postgres.url.expose())?;
        Ok(Self(Arc::new(Inner {
            connector: Arc::new(Connector::reading(dsn, postgres.statement_timeout)),
            runtime,
            patience: postgres.statement_timeout + ANSWER_MARGIN,
            idle: Mutex::new(None),
        })))
    }

    /// The changes, claimed ones included, that could name a key which begins with one of `prefixes`: at most `limit`.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the queue is not installed.
    pub async fn naming(
        &self,
        prefixes: &[String],
        limit: usize,
    ) -> Result<Vec<i64>, RepositoryError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.ids(NAMING, &[&prefixes, &limit]).await
    }

    /// Which of these changes still wait. One that does not was applied, or put aside after everything it could mean was
    /// invalidated.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the queue is not installed.
    pub async fn left(&self, ids: &[i64]) -> Result<Vec<i64>, RepositoryError> {
        self.ids(LEFT, &[&ids]).await
    }

    async fn ids(
        &self,
        sql: &str,
        binds: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<i64>, RepositoryError> {
        let mut idle = self.0.idle.lock().await;
        let client = match idle.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.connect().await?,
        };
        let failed = |message| RepositoryError::Queue {
            action: "look at",
            message,
        };
        let patience = self.0.patience;
        let asked = timeout(patience, client.query(sql, binds)).await;
        let rows = asked
            .map_err(|_elapsed| failed(format!("no answer within {} ms", patience.as_millis())))?;
        let rows = rows.map_err(|error| failed(describe(&error)))?;
        let ids: Result<Vec<i64>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        *idle = Some(client);
        ids.map_err(|error| failed(describe(&error)))
    }

    async fn connect(&self) -> Result<Client, RepositoryError> {
        let connector = Arc::clone(&self.0.connector);
        let connect = self
            .0
            .runtime
            .spawn(async move { connector.client().await });
        let client = connect
            .await
            .map_err(|_cancelled| RepositoryError::Stopped)?;
        client.map_err(RepositoryError::Connect)
    }
}
