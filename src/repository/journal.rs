//! Saves writes that were acknowledged before: many in one transaction, each once, and none by a daemon that was replaced.
//!
//! 1. The first statement shows the fence of the term: who led before, and was paused, cannot commit any more. The row that it
//!    locks has the transactions of two terms come one after the other.
//! 2. The ids of the writes are entered in the same transaction. One whose id is there already is not saved again: its daemon was
//!    killed before it could tell the journal, or Redis came back with a journal of earlier.
//! 3. What the writes make outdated is queued in the same transaction.
//! 4. Nothing is committed of a transaction in which one write fails; whose fault it is, is told where Postgres says so.
//!
//! A transaction is three exchanges, however many writes there are.

mod refusal;
mod statements;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use uuid::Uuid;

use super::RepositoryError;
use super::connect::Connector;
use super::dsn::Dsn;
use crate::config;
use crate::keyspace::RoutedKey;
pub use refusal::{Refusal, Remedy, SaveError};
use statements::{Connection, Texts};

/// What our own wait for an answer adds to the server's limit.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);
/// How long a transaction may lie idle between two exchanges.
const MAX_IDLE: Duration = Duration::from_secs(10);

/// The newest write of a key.
#[derive(Clone, Debug)]
pub struct LateWrite {
    pub id: Uuid,
    pub key: RoutedKey,
    /// JSON; `None`: the row is deleted.
    pub value: Option<Bytes>,
    /// Earlier writes of the same key that it makes needless.
    pub instead_of: Vec<Uuid>,
}

/// A write that cannot be saved, for people to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadWrite {
    pub id: Uuid,
    pub cache: String,
    pub key: String,
    pub op: String,
    pub value: Option<String>,
    pub error: String,
    pub sqlstate: Option<String>,
    pub attempts: u32,
}

/// What became of the writes of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saved {
    /// Statements that were run.
    pub saved: usize,
    /// Writes that a newer one made needless.
    pub superseded: usize,
    /// Writes that were saved before.
    pub repeated: usize,
}

/// Saves writes from a journal, over a connection of its own, one transaction after the other. Cheap to clone.
#[derive(Clone)]
pub struct JournalWriter(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    runtime: Handle,
    /// The longest wait for one answer.
    patience: Duration,
    /// By the caches' places.
    texts: Vec<Texts>,
    idle: Mutex<Option<Connection>>,
}

type Running<'a, T> = BoxFuture<'a, Result<T, SaveError>>;

impl JournalWriter {
    /// No connection is made yet; its driver, and the transactions, will run on `runtime`.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(
        postgres: &config::Postgres,
        caches: &[config::Cache],
        runtime: Handle,
    ) -> Result<Self, RepositoryError> {
        let dsn = Dsn::parse(postgres.url.expose())?;
        let connector = Connector::journaling(dsn, postgres.statement_timeout, MAX_IDLE);
        Ok(Self(Arc::new(Inner {
            connector: Arc::new(connector),
            runtime,
            patience: postgres.statement_timeout + ANSWER_MARGIN,
            texts: caches.iter().map(Texts::new).collect(),
            idle: Mutex::new(None),
        })))
    }

    /// Whether writes of this kind are declared for the space of a key.
    pub fn knows(&self, key: &RoutedKey, is_save: bool) -> bool {
        let texts = self.0.texts.get(usize::from(key.space.0));
        texts.is_some_and(|texts| texts.declares(is_save))
    }

    /// Whether a key is to be read after its save.
    pub fn renews(&self, key: &RoutedKey) -> bool {
        let texts = self.0.texts.get(usize::from(key.space.0));
        texts.is_some_and(Texts::renews)
    }

    /// Saves all of these writes, in their order, or none; no two are of one key. A statement waits for locks at most for
    /// `lock_wait`.
    ///
    /// # Errors
    /// See [`SaveError`]. After [`SaveError::Away`] nobody knows whether they are saved: then the next try tells.
    pub async fn save(
        &self,
        fence: i64,
        writes: Vec<LateWrite>,
        lock_wait: Duration,
    ) -> Result<Saved, SaveError> {
        self.run(move |connection, inner| {
            let saving = async move {
                let opened = connection
                    .open(fence, &writes, lock_wait, inner.patience)
                    .await?;
                let saved = connection.write(&writes, &opened, inner).await?;
                connection.commit(inner.patience).await?;
                Ok(saved)
            };
            saving.boxed()
        })
        .await
    }

    /// Puts a write aside that cannot be saved; its id is entered as if it were saved.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub async fn bury(&self, fence: i64, dead: DeadWrite) -> Result<(), SaveError> {
        self.run(move |connection, inner| {
            async move { connection.bury(fence, &dead, inner.patience).await }.boxed()
        })
        .await
    }

    /// How many writes were put aside, up to `limit`.
    ///
    /// # Errors
    /// See [`SaveError`].
    pub async fn count_dead(&self, limit: usize) -> Result<u64, SaveError> {
        self.run(move |connection, inner| connection.count_dead(limit, inner.patience).boxed())
            .await
    }

    /// Runs a transaction to its end, also when the caller goes away: a connection that is left in the middle of one would be
    /// of no use to the next. One on which more has failed than a write is thrown away.
    async fn run<T: Send + 'static>(
        &self,
        transaction: impl for<'a> FnOnce(&'a mut Connection, &'a Inner) -> Running<'a, T>
        + Send
        + 'static,
    ) -> Result<T, SaveError> {
        let inner = Arc::clone(&self.0);
        let done = self.0.runtime.spawn(async move {
            let mut idle = inner.idle.lock().await;
            let mut connection = match idle.take().filter(|idle| !idle.is_closed()) {
                Some(connection) => connection,
                None => inner.connect().await?,
            };
            let done = transaction(&mut connection, &inner).await;
            let is_whole = match &done {
                Ok(_) => true,
                Err(SaveError::Refused(_)) => connection.roll_back(inner.patience).await,
                Err(_) => false,
            };
            *idle = is_whole.then_some(connection);
            done
        });
        done.await
            .unwrap_or_else(|_cancelled| Err(SaveError::stopped()))
    }
}

impl Inner {
    async fn connect(&self) -> Result<Connection, SaveError> {
        let client = self.connector.client().await;
        Ok(Connection::new(client.map_err(SaveError::Away)?))
    }
}
