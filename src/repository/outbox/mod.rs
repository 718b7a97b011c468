//! Keeps true that what a committed change invalidates is handed out until somebody has applied it.
//!
//! 1. A row is handed out under a lock of its own, and removed in the same transaction, by who has
//!    applied it. Whoever dies, hangs or goes away in between lets go of the lock, and the row is
//!    handed out again: at least once, to any number of daemons, in no particular order.
//! 2. Nothing is remembered between two looks. Ids become visible in another order than they are
//!    given in, so a look for those above the last one seen would pass rows by:
//!    1. writer A is given id 1;  2. writer B is given 2, and commits;  3. a reader sees 2, and
//!       remembers it;  4. A commits;  5. the reader looks above 2, and never sees 1.
//! 3. A row that nobody can apply is put aside, and keeps no other from being applied.
//! 4. A large backlog may be applied as a whole, and is removed as it was seen before ([`backlog`]).
//! 5. What was applied is kept for a while, in case Redis comes back without it.
//!
//! ```text
//! outbox ─claim→ rows, locked ─→ (the caller applies them) ─done→ applied
//!    ↑                └ dropped, lost, held too long ┐      └bury→ dead
//!    └───────────────────────────────────────────────┘
//! ```
//!
//! Whoever queues something may ring for those who empty the queue (`doorbell`); nothing depends on that it is heard.
//!
//! Faults it survives, each with a test in `tests/it/outbox.rs`: a claimer is dropped, killed,
//! frozen; its connection is cut; Postgres has no such tables.

mod backlog;
mod doorbell;
mod proof;
mod statements;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::RepositoryError;
use super::connect::Connector;
use super::dsn::Dsn;
use super::saving::SOURCE;
use crate::config;
pub use backlog::{Backlog, Seen};
pub(super) use doorbell::CHANNEL;
pub use doorbell::Listening;
pub use proof::{Applied, Look};
use statements::Connection;

/// Claims that can be held at once: each is a transaction, and so a connection.
pub const MAX_CLAIMS: usize = 16;
/// Beside those, one each to look for what waits, to count it, to take much of it as a whole, to remove what was applied
/// late, to note or read what was applied, and to try the doorbell.
const CONNECTIONS: usize = MAX_CLAIMS + 6;
/// The most rows that are handed out together.
const MAX_ROWS: usize = 10_000;
/// How long a claim may be held: then Postgres ends its session, and hands the rows to others. Who
/// applies them must give up before.
pub const MAX_HELD: Duration = Duration::from_secs(10);
/// What our own wait for an answer adds to the server's limit.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// What `cachewarden.invalidate` names as the source; no table is named so, for those have their schema in front.
const CALLED: &str = "invalidate";

/// The queue of what is to be invalidated. Cheap to clone.
#[derive(Clone)]
pub struct Outbox(Arc<Inner>);

struct Inner {
    connector: Arc<Connector>,
    runtime: Handle,
    /// The longest wait for one answer.
    patience: Duration,
    replay_window: Duration,
    slots: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
}

/// What one statement, or one call of `cachewarden.invalidate`, has queued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub id: i64,
    /// The table, or `invalidate`, or `write`.
    pub source: String,
    pub keys: Vec<String>,
    pub patterns: Vec<String>,
    /// When the change was made: Postgres tells how long ago that was, so that it and we need not
    /// agree on the time.
    pub since: Instant,
}

impl Change {
    /// Whether the transaction of a client's write, through a daemon, has queued it.
    pub fn is_written(&self) -> bool {
        self.source == SOURCE
    }

    /// Whether a program has queued it by a call of `cachewarden.invalidate`; else a trigger of a watched table.
    pub fn is_called(&self) -> bool {
        self.source == CALLED
    }
}

impl Outbox {
    /// Makes a queue. No connection is made yet; their drivers will run on `runtime`.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(
        postgres: &config::Postgres,
        invalidation: &config::Invalidation,
        runtime: Handle,
    ) -> Result<Self, RepositoryError> {
        Self::holding_at_most(MAX_HELD, postgres, invalidation, runtime)
    }

    /// For tests that cannot wait as long as [`MAX_HELD`].
    ///
    /// # Errors
    /// If the URL cannot be used.
    #[doc(hidden)]
    pub fn holding_at_most(
        max_held: Duration,
        postgres: &config::Postgres,
        invalidation: &config::Invalidation,
        runtime: Handle,
    ) -> Result<Self, RepositoryError> {
        let dsn = Dsn::parse(postgres.url.expose())?;
        let connector = Connector::queueing(dsn, postgres.statement_timeout, max_held);
        Ok(Self(Arc::new(Inner {
            connector: Arc::new(connector),
            runtime,
            patience: postgres.statement_timeout + ANSWER_MARGIN,
            replay_window: invalidation.replay_window,
            slots: Arc::new(Semaphore::new(CONNECTIONS)),
            idle: Mutex::new(Vec::new()),
        })))
    }

    /// Claims the oldest rows that nobody else has claimed: at most `limit`, and fewer if they are
    /// large. `None`: there are none now. One beyond [`MAX_CLAIMS`] waits for one of them. May be
    /// dropped at any time.
    ///
    /// # Errors
    /// If Postgres is away or silent, or the queue is not installed. Nothing is claimed then.
    pub async fn claim(&self, limit: usize) -> Result<Option<Claim>, RepositoryError> {
        let mut seat = self.seat().await?;
        let limit = limit.clamp(1, MAX_ROWS);
        let rows = self.in_time("claim", seat.connection.claim(limit)).await?;
        self.claimed(seat, rows).await
    }

    /// Claims these rows again, which were claimed before: those that nobody else has claimed, and of them those that are
    /// wanted.
    ///
    /// # Errors
    /// As of [`claim`](Outbox::claim).
    pub async fn claim_again(
        &self,
        ids: &[i64],
        is_wanted: impl Fn(&Change) -> bool,
    ) -> Result<Option<Claim>, RepositoryError> {
        let mut seat = self.seat().await?;
        let rows = self.in_time("claim", seat.connection.claim_again(ids));
        let mut rows = rows.await?;
        rows.retain(is_wanted);
        self.claimed(seat, rows).await
    }

    async fn claimed(
        &self,
        mut seat: Seat,
        rows: Vec<Change>,
    ) -> Result<Option<Claim>, RepositoryError> {
        if rows.is_empty() {
            self.in_time("leave", seat.connection.commit()).await?;
            seat.give_back(self);
            return Ok(None);
        }
        Ok(Some(Claim {
            outbox: self.clone(),
            seat,
            rows,
            dead: BTreeMap::new(),
        }))
    }

    /// A connection of ours, for whoever owns it: dropped with whatever transaction is open on it.
    async fn seat(&self) -> Result<Seat, RepositoryError> {
        let inner = &*self.0;
        let permit = Arc::clone(&inner.slots).acquire_owned().await;
        let permit = permit.map_err(|_closed| RepositoryError::Stopped)?;
        // A connection that died while it lay idle says nothing of Postgres now.
        let idle = inner.idle.lock().pop().filter(|idle| !idle.is_closed());
        let connection = match idle {
            Some(connection) => connection,
            None => {
                let connector = Arc::clone(&inner.connector);
                let connect = inner.runtime.spawn(async move { connector.client().await });
                let client = connect
                    .await
                    .map_err(|_cancelled| RepositoryError::Stopped)?;
                let client = client.map_err(RepositoryError::Connect)?;
                self.in_time("open", Connection::new(client)).await?
            }
        };
        Ok(Seat { connection, permit })
    }

    async fn in_time<T>(
        &self,
        action: &'static str,
        answer: impl Future<Output = Result<T, String>>,
    ) -> Result<T, RepositoryError> {
        let patience = self.0.patience;
        let silent = |_elapsed| Err(format!("no answer within {} ms", patience.as_millis()));
        let answer = timeout(patience, answer).await.unwrap_or_else(silent);
        answer.map_err(|message| RepositoryError::Queue { action, message })
    }
}

/// One of our connections, taken.
struct Seat {
    connection: Connection,
    permit: OwnedSemaphorePermit,
}

impl Seat {
    /// For the next one, when no transaction is open on it.
    fn give_back(self, outbox: &Outbox) {
        outbox.0.idle.lock().push(self.connection);
        drop(self.permit);
    }
}

/// Rows that are handed to nobody else. Dropped without [`done`](Claim::done), they are handed out
/// again.
#[must_use = "rows that are not done are handed out again"]
pub struct Claim {
    outbox: Outbox,
    seat: Seat,
    rows: Vec<Change>,
    /// Rows to put aside, and why.
    dead: BTreeMap<i64, String>,
}

impl Claim {
    /// Oldest first, by their ids; at least one.
    pub fn rows(&self) -> &[Change] {
        &self.rows
    }

    /// Puts a row of the claim aside that cannot be applied, when the claim is done. What it would have
    /// invalidated is then the caller's to invalidate in another way.
    pub fn bury(&mut self, id: i64, reason: impl Into<String>) {
        self.dead.insert(id, reason.into());
    }

    /// Removes the rows, which have been applied.
    ///
    /// # Errors
    /// If Postgres did not confirm it. The rows are handed out again then, unless it was the
    /// confirmation that was lost.
    pub async fn done(mut self) -> Result<(), RepositoryError> {
        let ids: Vec<i64> = self.rows.iter().map(|row| row.id).collect();
        // Others are none of ours.
        self.dead.retain(|id, _| ids.binary_search(id).is_ok());
        let outbox = &self.outbox;
        let connection = &mut self.seat.connection;
        if !self.dead.is_empty() {
            let buried = connection.bury(&self.dead);
            outbox.in_time("bury rows of", buried).await?;
        }
        // Those that are put aside, too: what they could mean was invalidated, and may have to be once more.
        let removed = connection.remove(&ids, outbox.0.replay_window);
        outbox.in_time("remove rows of", removed).await?;
        outbox.in_time("leave", connection.commit()).await?;
        self.seat.give_back(&self.outbox);
        Ok(())
    }
}
