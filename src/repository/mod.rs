//! Keeps true that Postgres is asked little, is asked fairly, and that every question is answered in
//! time.
//!
//! 1. Keys of a cache that wait together are loaded by one statement, prepared once a connection
//!    (`batch`, `query`). Values are only ever bound.
//! 2. Every key is answered within its cache's `load_timeout`, whatever Postgres does (`call`).
//!    A statement that comes too late is cancelled on the server, and its connection thrown away.
//! 3. A key that Postgres refuses takes no neighbour with it (`part`, `session`).
//! 4. No cache has more than half of the connections, nor have all caches together that hang; nothing
//!    is sent behind a statement that runs (`lanes`).
//! 5. Connections for loads can only read. What they verify is in `dsn`; no error shows a password.
//! 6. What is saved and what it makes outdated are one commit (`saving`).
//! 7. Postgres away: loads are refused at once, one attempt to connect is made at a time, and when
//!    one works loading goes on by itself (`loader`).
//!
//! ```text
//! load ─→ Call ──keys──→ lanes ──Work──→ task: connection, statement, parts ──answers──→ Call ─→ load
//!          └── deadline ─────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Faults it survives, each with a test in `tests/it/repository/`: a backend is terminated, the
//! server is stopped, killed, restarted, out of connections; a table is locked; a query fails for
//! some keys; a caller goes away.

mod batch;
mod bearing;
mod call;
mod check;
mod connect;
mod dsn;
mod error;
mod fences;
mod hot_keys;
mod install;
mod journal;
mod lanes;
mod line;
mod loader;
mod outbox;
mod part;
mod pending;
mod query;
mod saving;
mod session;
mod tls;
mod warm_keys;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::Handle;

pub use batch::MAX_ANSWER_BYTES;
pub use error::{LoadError, RepositoryError, WriteError};
pub use fences::{Fences, MAX_MINT};
pub use hot_keys::HotKeys;
pub use install::{Installer, Plan, Step, WatchProblem};
pub use journal::{DeadWrite, JournalWriter, LateWrite, Refusal, Remedy, SaveError, Saved};
pub use outbox::{
    Applied, Backlog, Change, Claim, Listening, Look, MAX_CLAIMS, MAX_HELD, Outbox, Seen,
};
pub use pending::PendingChanges;
pub use saving::{Write, Written};
pub use warm_keys::{MAX_KEYS, PAGE, WarmCursor, WarmKeys, WarmRow};

use crate::config;
use crate::keyspace::RoutedKey;
use batch::Batch;
use call::Call;
use connect::Connector;
use dsn::Dsn;
use lanes::Lanes;
use loader::Loader;
use saving::Saver;

/// What checking one query may take beside the server's own limit on each of its steps.
const CHECK_MARGIN: Duration = Duration::from_secs(5);

/// Whether a load may wait for its turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Wait in the cache's queue, which holds 64 times `max_loads` keys.
    Wait,
    /// Be refused at once when the cache has `max_loads` keys to load already, or as many as Postgres bears.
    NoWait,
}

impl Admission {
    /// How many keys of a cache with this `max_loads` may be on their way to be loaded, before one more is refused.
    pub fn most(self, max_loads: usize) -> usize {
        match self {
            Admission::Wait => max_loads.saturating_mul(lanes::QUEUE_FACTOR),
            Admission::NoWait => max_loads,
        }
    }
}

/// What Postgres has against a declared statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryProblem {
    /// The cache's place in the configuration.
    pub cache: usize,
    /// Which of its statements.
    pub declared: config::Declared,
    /// Postgres' message with its SQLSTATE, on one line.
    pub message: String,
    /// The byte of the declared text it is about.
    pub offset: Option<usize>,
    /// What to do about it, if Postgres or we know.
    pub hint: Option<String>,
}

/// What the repository has done so far, and what it is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Statements sent to load keys.
    pub statements: u64,
    /// Keys answered with a value, or with there being none.
    pub keys_loaded: u64,
    /// Keys answered with an error.
    pub failures: u64,
    /// Statements running now.
    pub running: usize,
    /// Keys that wait for a statement now.
    pub waiting: usize,
    /// Transactions of clients' writes that were committed.
    pub writes: u64,
    /// Those that were refused, too late, or of unknown end.
    pub writes_failed: u64,
    /// What the last attempt to get a connection found: for loads, writes, a check, or fencing tokens.
    pub up: bool,
}

/// Reads the declared queries' answers from Postgres. Cheap to clone.
#[derive(Clone)]
pub struct Repository(Arc<Inner>);

struct Inner {
    loader: Arc<Loader>,
    saver: Arc<Saver>,
    connector: Arc<Connector>,
    runtime: Handle,
    caches: Vec<Declared>,
    check_timeout: Duration,
    keys_loaded: AtomicU64,
    failures: AtomicU64,
}

struct Declared {
    shape: config::Shape,
    load_timeout: Duration,
}

impl Repository {
    /// Makes a repository for `caches`. No connection is made yet. Statements and the connections'
    /// drivers run on `runtime`, never on a caller's thread.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(
        postgres: &config::Postgres,
        caches: &[config::Cache],
        runtime: Handle,
    ) -> Result<Self, RepositoryError> {
        let dsn = Dsn::parse(postgres.url.expose())?;
        let connector = Arc::new(Connector::reading(dsn, postgres.statement_timeout));
        let pool = connector.pool(postgres.pool_size);
        let pool = pool.map_err(|error| RepositoryError::Connect(error.to_string()))?;
        let mut lanes = Lanes::new(postgres.pool_size);
        for cache in caches {
            lanes.add(&cache.name, cache.max_loads, cache.load_timeout);
        }
        let declared = |cache: &config::Cache| Declared {
            shape: cache.shape,
            load_timeout: cache.load_timeout,
        };
        let loader = Loader::new(
            lanes,
            caches.iter().map(Batch::new).collect(),
            pool,
            Arc::clone(&connector),
            runtime.clone(),
            postgres.statement_timeout,
        );
        Ok(Self(Arc::new(Inner {
            saver: Saver::new(postgres, caches, runtime.clone(), Arc::clone(&loader.up))?,
            loader,
            connector,
            runtime,
            caches: caches.iter().map(declared).collect(),
            check_timeout: postgres.statement_timeout * check::STEPS + CHECK_MARGIN,
            keys_loaded: AtomicU64::new(0),
            failures: AtomicU64::new(0),
        })))
    }

    /// Loads keys of one cache, as few statements as may be. Answers come in the order of `keys`,
    /// each within the cache's `load_timeout`: the value's JSON text, or `None` for no row and NULL.
    ///
    /// May be dropped: keys that were not sent yet are not asked for.
    ///
    /// # Panics
    /// If there is no such cache, or outside a tokio runtime with a clock.
    pub async fn load(
        &self,
        cache: usize,
        keys: Vec<RoutedKey>,
        admission: Admission,
    ) -> Vec<Result<Option<Bytes>, LoadError>> {
        let inner = &*self.0;
        let call = Call::new(keys.len(), inner.caches[cache].load_timeout);
        inner.loader.enqueue(cache, keys, admission, &call);
        let answers = call.answers().await;
        let failures = answers.iter().filter(|answer| answer.is_err()).count();
        let loaded = answers.len() - failures;
        inner.failures.fetch_add(failures as u64, Ordering::Relaxed);
        inner
            .keys_loaded
            .fetch_add(loaded as u64, Ordering::Relaxed);
        answers
    }

    /// Saves and deletes rows, all of them in one transaction or none. What they make outdated is queued by the same commit.
    ///
    /// Ends at most [`COMMIT_WITHIN`](saving::COMMIT_WITHIN) after the longest `load_timeout` of the caches. May be dropped:
    /// the transaction goes on.
    ///
    /// # Errors
    /// See [`WriteError`]. A save that touches no row is one; a delete is not.
    pub async fn write(&self, writes: Vec<Write>) -> Result<Written, WriteError> {
        self.0.saver.write(writes).await
    }

    /// What these writes make outdated: what [`write`](Repository::write) queues.
    pub fn outdated_by(&self, writes: &[Write]) -> config::Names {
        self.0.saver.names(writes)
    }

    /// Connects, prepares every declared query and runs each with no keys where nothing can be
    /// written, and the statements that write are planned. The problems come in the order of the caches; a statement has at
    /// most one.
    ///
    /// # Errors
    /// If Postgres cannot be reached, or is lost on the way.
    pub async fn check(&self) -> Result<Vec<QueryProblem>, RepositoryError> {
        let this = self.clone();
        let checked = self.0.runtime.spawn(async move { this.check_all().await });
        checked
            .await
            .map_err(|_cancelled| RepositoryError::Stopped)?
    }

    async fn check_all(&self) -> Result<Vec<QueryProblem>, RepositoryError> {
        let client = self.0.connector.client().await;
        self.0.loader.up.store(client.is_ok(), Ordering::Relaxed);
        let client = client.map_err(RepositoryError::Connect)?;
        let mut problems = Vec::new();
        for (cache, declared) in self.0.caches.iter().enumerate() {
            let subject = check::Subject {
                cache,
                shape: declared.shape,
                batch: self.0.loader.batch(cache),
            };
            let checked = check::check(&client, subject);
            let checked = tokio::time::timeout(self.0.check_timeout, checked).await;
            let silent = || Err("it no longer answers".to_owned());
            let problem = checked.unwrap_or_else(|_| silent());
            problems.extend(problem.map_err(RepositoryError::Connect)?);
        }
        problems.extend(self.0.saver.check().await?);
        Ok(problems)
    }

    /// What the last attempt to get a connection found.
    pub fn is_up(&self) -> bool {
        self.0.loader.up.load(Ordering::Relaxed)
    }

    /// Refuses new loads and those that wait, and returns once no statement runs: at the latest when
    /// the longest `load_timeout` has passed and its statement is cancelled.
    pub async fn close(&self) {
        self.0.saver.close().await;
        self.0.loader.close().await;
    }

    /// How many keys of each cache may be on their way while Redis is away: `max_loads`, or fewer if Postgres did not bear them.
    pub fn bearable(&self) -> Vec<(String, usize)> {
        self.0.loader.bearable()
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        let inner = &*self.0;
        let (running, waiting) = inner.loader.load_now();
        Stats {
            statements: inner.loader.statements.load(Ordering::Relaxed),
            keys_loaded: inner.keys_loaded.load(Ordering::Relaxed),
            failures: inner.failures.load(Ordering::Relaxed),
            running,
            waiting,
            writes: inner.saver.committed.load(Ordering::Relaxed),
            writes_failed: inner.saver.failed.load(Ordering::Relaxed),
            up: self.is_up(),
        }
    }
}
