//! Fencing tokens: numbers that only rise, whoever asks and whatever happens to Redis.
//!
//! They come from a sequence, because that never hands out a number twice and nobody waits for another's transaction. But
//! Postgres logs a sequence's numbers ahead, 32 at a time, and only who has them logged waits for the disk; who takes one of
//! the others would be answered before it is safe:
//!
//! 1. A takes number 1, and 1 to 33 are being written to the log; 2. B takes 2, and is answered; 3. Postgres crashes before
//!    the log is on disk; 4. C takes number 1, or 2, once more.
//!
//! So every mint logs something of its own, an empty message that nobody reads: its commit then waits until all that was
//! logged before is on disk. (A transaction id alone would not do: who has logged nothing else does not wait.)

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_postgres::{Client, Statement};

use super::RepositoryError;
use super::connect::Connector;
use super::dsn::Dsn;
use super::error::describe;
use crate::config;

/// Mints that run at once: each is a connection.
const CONNECTIONS: usize = 4;
/// Numbers one mint gives at most.
pub const MAX_MINT: usize = 10_000;
/// What our own wait for an answer adds to the server's limit.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

const MINT: &str = "\
SELECT nextval('cachewarden.fence_tokens') FROM pg_logical_emit_message(true, 'cachewarden', '') AS logged, generate_series(1, $1::bigint) ORDER BY 1";

/// Mints fencing tokens, over connections of its own. Cheap to clone.
#[derive(Clone)]
pub struct Fences(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    runtime: Handle,
    patience: Duration,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
}

struct Connection {
    client: Client,
    mint: Statement,
}

impl Fences {
    /// No connection is made yet; their drivers will run on `runtime`.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(postgres: &config::Postgres, runtime: Handle) -> Result<Self, RepositoryError> {
        let dsn = Dsn::parse(postgres.url.expose())?;
        let connector = Connector::minting(dsn, postgres.statement_timeout);
        Ok(Self(Arc::new(Inner {
            connector: Arc::new(connector),
            runtime,
            patience: postgres.statement_timeout + ANSWER_MARGIN,
            slots: Semaphore::new(CONNECTIONS),
            idle: Mutex::new(Vec::new()),
        })))
    }

    /// So many new tokens, at most [`MAX_MINT`], rising; all of them higher than any that was minted before this was called.
    /// They are on disk.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the sequence is not installed. What was minted then is given to nobody.
    pub async fn mint(&self, count: usize) -> Result<Vec<i64>, RepositoryError> {
        let slot = self.0.slots.acquire().await;
        let _slot = slot.map_err(|_closed| RepositoryError::Stopped)?;
        // One that died while it lay idle says nothing of Postgres now.
        let idle = self.0.idle.lock().pop();
        let connection = match idle.filter(|idle| !idle.client.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        let count = i64::try_from(count.min(MAX_MINT)).unwrap_or(1);
        let minted = async {
            let rows = connection.client.query(&connection.mint, &[&count]).await?;
            rows.iter().map(|row| row.try_get(0)).collect()
        };
        let tokens = self.in_time(minted).await?;
        self.0.idle.lock().push(connection);
        Ok(tokens)
    }

    async fn connect(&self) -> Result<Connection, RepositoryError> {
        let connector = Arc::clone(&self.0.connector);
        let runtime = &self.0.runtime;
        let client = runtime.spawn(async move { connector.client().await }).await;
        let client = client.map_err(|_cancelled| RepositoryError::Stopped)?;
        let client = client.map_err(RepositoryError::Connect)?;
        let mint = self.in_time(client.prepare(MINT)).await?;
        Ok(Connection { client, mint })
    }

    async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, RepositoryError> {
        let patience = self.0.patience;
        let answer = timeout(patience, answer).await;
        let answer = answer.map_err(|_elapsed| RepositoryError::Fence {
            message: format!("no answer within {} ms", patience.as_millis()),
        })?;
        answer.map_err(
            |error| match error.is_closed() || error.as_db_error().is_none() {
                true => RepositoryError::Connect(describe(&error)),
                false => RepositoryError::Fence {
                    message: describe(&error),
                },
            },
        )
    }
}
