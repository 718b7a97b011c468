//! Keeps true that what is saved and what it makes outdated are one commit.
//!
//! 1. One command is one transaction: its statements, and the row of the queue that names what they make outdated
//!    (`statements`). Whoever dies in between leaves both, or neither.
//! 2. Statements are prepared once a connection; values are only ever bound.
//! 3. Nothing of it is dropped half-way: the transaction is a task of its own, which goes on when its caller goes away. Until
//!    the commit is sent it ends within the longest `load_timeout` of its caches, and nothing is saved; the commit is then
//!    awaited for a while longer, and what is not confirmed by then is said to be unknown.
//! 4. A transaction that another one was in the way of (a deadlock, a serialization failure) is tried again, a few times.
//! 5. No cache has more than half of the connections: those that wait for a locked table leave the others alone.
//!
//! ```text
//! write ─→ turn of each cache, a slot ─→ BEGIN · statements · queue's row ─→ COMMIT ─→ rows touched
//!              └ too late: busy             └ refused, no row, late: nothing    └ unknown
//! ```
//!
//! The driver's own client and not diesel's, which keeps SQLSTATEs to itself: who saves is told them.
//!
//! Faults it survives, each with a test in `tests/it/writes/`: a table is locked; deadlocks; the connection dies before,
//! during and after the commit; Postgres is away, or frozen.

mod check;
mod statements;
mod transaction;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use super::connect::Connector;
use super::dsn::Dsn;
use super::{QueryProblem, RepositoryError, WriteError};
use crate::config::{self, Names};
use crate::keyspace::{KeyTemplate, RoutedKey};
use statements::Connection;
pub(super) use statements::{Dml, Json, SOURCE};

/// How long a commit that was sent is waited for: longer than a disk takes that is busy.
pub(super) const COMMIT_WITHIN: Duration = Duration::from_secs(2);

/// One row to be saved or deleted.
#[derive(Clone, Debug)]
pub struct Write {
    /// Of a declared cache.
    pub key: RoutedKey,
    /// JSON; `None`: the row is deleted.
    pub value: Option<Bytes>,
}

/// What a transaction has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// How many rows each write has touched, in their order.
    pub rows: Vec<u64>,
    /// The queue's row that names what is outdated; `None` only if a trigger of somebody else's has dropped it.
    pub queued: Option<i64>,
}

/// Saves and deletes rows.
pub(super) struct Saver {
    connector: Arc<Connector>,
    runtime: Handle,
    caches: Vec<Option<Declared>>,
    slots: Arc<Semaphore>,
    connections: u32,
    idle: Mutex<Vec<Connection>>,
    statement_timeout: Duration,
    /// Whether Postgres can be reached, as far as anybody knows.
    up: Arc<AtomicBool>,
    pub committed: AtomicU64,
    pub failed: AtomicU64,
}

/// What a cache declares.
struct Declared {
    name: Arc<str>,
    key: KeyTemplate,
    write: config::Write,
    save: Option<Dml>,
    delete: Option<Dml>,
    limit: Duration,
    turns: Arc<Semaphore>,
}

impl Saver {
    /// Makes one for those of `caches` that declare writes; no connection is made yet. What it finds out of Postgres it
    /// tells `up`.
    pub fn new(
        postgres: &config::Postgres,
        caches: &[config::Cache],
        runtime: Handle,
        up: Arc<AtomicBool>,
    ) -> Result<Arc<Self>, RepositoryError> {
        let dsn = Dsn::parse(postgres.url.expose())?;
        // Half as many as loads have, and of those half for any one cache.
        let connections = postgres.pool_size.div_ceil(2).max(2);
        let declared = |cache: &config::Cache| {
            let write = cache.write.clone()?;
            let params = cache.key.params();
            let save = write.save.as_ref();
            let delete = write.delete.as_ref();
            Some(Declared {
                name: Arc::from(cache.name.as_str()),
                key: cache.key.clone(),
                save: save.map(|declared| Dml::saving(&declared.sql, params)),
                delete: delete.map(|declared| Dml::deleting(&declared.sql, params)),
                write,
                limit: cache.load_timeout,
                turns: Arc::new(Semaphore::new(connections / 2)),
            })
        };
        Ok(Arc::new(Self {
            connector: Arc::new(Connector::saving(dsn, postgres.statement_timeout)),
            runtime,
            caches: caches.iter().map(declared).collect(),
            slots: Arc::new(Semaphore::new(connections)),
            connections: u32::try_from(connections).unwrap_or(u32::MAX),
            idle: Mutex::new(Vec::new()),
            statement_timeout: postgres.statement_timeout,
            up,
            committed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }))
    }

    /// What these writes make outdated: their keys, and what is declared to be.
    pub fn names(&self, writes: &[Write]) -> Names {
        let mut names = Names::default();
        for Write { key, .. } in writes {
            // Routed, and so text.
            let own = String::from_utf8_lossy(&key.key).into_owned();
            names.keys.push(own);
            if let Some(declared) = self.declared(key) {
                declared.write.add_names(&declared.key, key, &mut names);
            }
        }
        for names in [&mut names.keys, &mut names.patterns] {
            names.sort_unstable();
            names.dedup();
        }
        names
    }

    /// Saves and deletes all of these in one transaction, or none of them.
    pub async fn write(self: &Arc<Self>, writes: Vec<Write>) -> Result<Written, WriteError> {
        let written = self.written(writes).await;
        match &written {
            Ok(_) => self.committed.fetch_add(1, Ordering::Relaxed),
            Err(_) => self.failed.fetch_add(1, Ordering::Relaxed),
        };
        written
    }

    async fn written(self: &Arc<Self>, writes: Vec<Write>) -> Result<Written, WriteError> {
        let mut limit = Duration::ZERO;
        for write in &writes {
            limit = limit.max(self.dml(write)?.0.limit);
        }
        let deadline = Instant::now() + limit;
        // In one order, so that two transactions over the same rows wait for one another instead of meeting in a deadlock.
        let mut order: Vec<usize> = (0..writes.len()).collect();
        order.sort_by(|a, b| writes[*a].key.key.cmp(&writes[*b].key.key));
        let sorted: Vec<Write> = order.iter().map(|at| writes[*at].clone()).collect();
        let turns = self.turns(&sorted, deadline).await?;
        let this = Arc::clone(self);
        let transaction = self.runtime.spawn(async move {
            let rows = this.transact(&sorted, (deadline, limit)).await;
            drop(turns);
            rows
        });
        let stopped = |_cancelled| WriteError::Unknown {
            reason: Arc::from("the runtime of the connections has stopped"),
        };
        let sorted = transaction.await.map_err(stopped)??;
        let mut rows = vec![0; sorted.rows.len()];
        for (at, touched) in order.into_iter().zip(sorted.rows) {
            rows[at] = touched;
        }
        Ok(Written { rows, ..sorted })
    }

    fn declared(&self, key: &RoutedKey) -> Option<&Declared> {
        self.caches.get(usize::from(key.space.0))?.as_ref()
    }

    fn dml(&self, write: &Write) -> Result<(&Declared, &Dml), WriteError> {
        let statement = if write.value.is_some() {
            "save"
        } else {
            "delete"
        };
        let declared = self.declared(&write.key);
        let dml = declared.and_then(|declared| {
            let dml = match write.value {
                Some(_) => &declared.save,
                None => &declared.delete,
            };
            Some((declared, dml.as_ref()?))
        });
        dml.ok_or_else(|| WriteError::Undeclared {
            cache: declared.map_or_else(|| Arc::from(""), |declared| Arc::clone(&declared.name)),
            statement,
        })
    }

    /// A turn of each cache, and a connection's slot.
    async fn turns(
        &self,
        writes: &[Write],
        deadline: Instant,
    ) -> Result<Vec<OwnedSemaphorePermit>, WriteError> {
        // In one order, so that nobody waits for who waits for him.
        let mut spaces: Vec<u16> = writes.iter().map(|write| write.key.space.0).collect();
        spaces.sort_unstable();
        spaces.dedup();
        let caches = spaces
            .iter()
            .filter_map(|space| self.caches.get(usize::from(*space)));
        let caches: Vec<&Declared> = caches.flatten().collect();
        let cache = caches.first().map(|cache| Arc::clone(&cache.name));
        let cache = cache.unwrap_or_else(|| Arc::from(""));
        let semaphores = caches.iter().map(|cache| &cache.turns);
        let mut turns = Vec::with_capacity(caches.len() + 1);
        for semaphore in semaphores.chain([&self.slots]) {
            let turn = timeout_at(deadline, Arc::clone(semaphore).acquire_owned()).await;
            match turn {
                Ok(Ok(turn)) => turns.push(turn),
                Ok(Err(_closed)) => {
                    let reason = Arc::from("the daemon is stopping");
                    return Err(WriteError::Unavailable { reason });
                }
                Err(_late) => return Err(WriteError::Busy { cache }),
            }
        }
        Ok(turns)
    }

    /// What Postgres has against declared statements.
    pub async fn check(&self) -> Result<Vec<QueryProblem>, RepositoryError> {
        let declared = self.caches.iter().enumerate();
        let statements: Vec<_> = declared
            .filter_map(|(cache, declared)| Some((cache, declared.as_ref()?)))
            .flat_map(|(cache, declared)| {
                let save = declared
                    .save
                    .as_ref()
                    .map(|dml| (cache, config::Declared::Save, dml));
                let delete = declared.delete.as_ref();
                let delete = delete.map(|dml| (cache, config::Declared::Delete, dml));
                save.into_iter().chain(delete)
            })
            .collect();
        if statements.is_empty() {
            return Ok(Vec::new());
        }
        let client = self.connector.client().await;
        let client = client.map_err(RepositoryError::Connect)?;
        let mut problems = Vec::new();
        for (cache, declared, dml) in statements {
            let within = Instant::now() + self.statement_timeout * check::STEPS + COMMIT_WITHIN;
            let checked = timeout_at(within, check::check(&client, (cache, declared), dml)).await;
            let silent = |_elapsed| RepositoryError::Connect("it no longer answers".to_owned());
            problems.extend(checked.map_err(silent)?.map_err(RepositoryError::Connect)?);
        }
        Ok(problems)
    }

    /// Takes nothing more, and returns once no transaction runs; each has a deadline.
    pub async fn close(&self) {
        let all = self.slots.acquire_many(self.connections).await;
        self.slots.close();
        drop(all);
        self.idle.lock().clear();
    }
}
