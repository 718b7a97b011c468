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
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use super::connect::Connector;
use super::dsn::Dsn;
use super::line::Line;
use super::{Repository, RepositoryError};
use crate::config;

/// Mints that run at once: each is a connection.
const CONNECTIONS: usize = 4;
/// Numbers one mint gives at most.
pub const MAX_MINT: usize = 10_000;

/// What Postgres says while the sequence is not installed.
const NOT_THERE: [SqlState; 2] = [SqlState::INVALID_SCHEMA_NAME, SqlState::UNDEFINED_TABLE];

const MINT: &str = "\
SELECT nextval('cachewarden.fence_tokens') FROM pg_logical_emit_message(true, 'cachewarden', '') AS logged, generate_series(1, $1::bigint) ORDER BY 1";

/// Mints fencing tokens, over connections of its own. Cheap to clone.
#[derive(Clone)]
pub struct Fences(Arc<Inner>);

struct Inner {
    line: Line,
    slots: Semaphore,
    idle: Mutex<Vec<Connection>>,
    /// Whether Postgres can be reached, as far as anybody knows.
    up: Arc<AtomicBool>,
    /// Whether it was told that there are no tokens.
    is_told: AtomicBool,
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
        Self::telling(Arc::default(), postgres, runtime)
    }

    /// The same; what they find out about Postgres, [`Repository::is_up`] tells as well.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn beside(
        repository: &Repository,
        postgres: &config::Postgres,
        runtime: Handle,
    ) -> Result<Self, RepositoryError> {
        Self::telling(Arc::clone(&repository.0.loader.up), postgres, runtime)
    }

    fn telling(
        up: Arc<AtomicBool>,
        postgres: &config::Postgres,
        runtime: Handle,
    ) -> Result<Self, RepositoryError> {
        let dsn = Dsn::parse(postgres.url.expose())?;
        let connector = Connector::minting(dsn, postgres.statement_timeout);
        Ok(Self(Arc::new(Inner {
            line: Line::new(connector, postgres.statement_timeout, runtime),
            slots: Semaphore::new(CONNECTIONS),
            idle: Mutex::new(Vec::new()),
            up,
            is_told: AtomicBool::new(false),
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
        let minted = self.minted(count).await;
        self.tell(minted.as_ref().err());
        minted
    }

    /// Says it once when there are no tokens, and once when there are again.
    fn tell(&self, error: Option<&RepositoryError>) {
        if matches!(error, Some(RepositoryError::Stopped)) {
            return; // the daemon's own end says nothing of Postgres
        }
        let is_away = matches!(error, Some(RepositoryError::Connect(_)));
        self.0.up.store(!is_away, Ordering::Relaxed);
        let was_told = self.0.is_told.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_told => {
                tracing::warn!(%error, "no lock can be acquired without a fencing token");
            }
            None if was_told => tracing::info!("locks have fencing tokens again"),
            _ => {}
        }
    }

    async fn minted(&self, count: usize) -> Result<Vec<i64>, RepositoryError> {
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
        let tokens = self.answered(minted).await?;
        self.0.idle.lock().push(connection);
        Ok(tokens)
    }

    async fn connect(&self) -> Result<Connection, RepositoryError> {
        let client = self.0.line.client().await?;
        let mint = self.answered(client.prepare(MINT)).await?;
        Ok(Connection { client, mint })
    }

    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, RepositoryError> {
        let refused = |error: &tokio_postgres::Error, message| RepositoryError::Fence {
            message,
            is_installed: !error.code().is_some_and(|code| NOT_THERE.contains(code)),
        };
        self.0.line.answered(answer, refused).await
    }
}
