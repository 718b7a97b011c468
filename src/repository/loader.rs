//! Runs the statements that the lanes allow, each in a task of the repository's runtime.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use diesel::ConnectionError;
use diesel_async::pooled_connection::PoolError as SetupError;
use diesel_async::pooled_connection::deadpool::{Object, Pool, PoolError};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::batch::Batch;
use super::call::{Call, Pending};
use super::connect::Connector;
use super::error::one_line;
use super::lanes::{End, Lanes, SUSPECT_AFTER, Work};
use super::part::Part;
use super::{Admission, LoadError};
use crate::keyspace::RoutedKey;

/// How long a connection may take to show that it still lives.
const PING_TIMEOUT: Duration = Duration::from_secs(1);
/// The pauses between attempts to reach a Postgres that could not be reached: doubled each time,
/// and between half and all of it, so that a fleet does not come back in step.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Loader {
    lanes: Mutex<Lanes>,
    batches: Vec<Batch>,
    pool: Pool<AsyncPgConnection>,
    connector: Arc<Connector>,
    runtime: Handle,
    statement_timeout: Duration,
    pub statements: AtomicU64,
    pub up: AtomicBool,
    probing: AtomicBool,
    closed: AtomicBool,
    ended: Notify,
}

/// Why a part of a batch got no answer from Postgres.
enum Failure {
    Refused(diesel::result::Error),
    Interrupted(End),
}

impl Loader {
    pub fn new(
        lanes: Lanes,
        batches: Vec<Batch>,
        pool: Pool<AsyncPgConnection>,
        connector: Arc<Connector>,
        runtime: Handle,
        statement_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self {
            lanes: Mutex::new(lanes),
            batches,
            pool,
            connector,
            runtime,
            statement_timeout,
            statements: AtomicU64::new(0),
            up: AtomicBool::new(false),
            probing: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            ended: Notify::new(),
        })
    }

    /// Puts the keys of a call in their cache's lane.
    pub fn enqueue(
        self: &Arc<Self>,
        cache: usize,
        keys: Vec<RoutedKey>,
        admission: Admission,
        call: &Arc<Call>,
    ) {
        let keys = keys.into_iter().enumerate();
        let keys = keys.map(|(slot, key)| Pending::new(key, slot, call));
        let keys = keys.collect();
        self.with_lanes(|lanes| lanes.admit(cache, keys, admission, Instant::now()));
    }

    pub fn batch(&self, cache: usize) -> &Batch {
        &self.batches[cache]
    }

    /// How many statements are running, and how many keys wait for one.
    pub fn load_now(&self) -> (usize, usize) {
        let lanes = self.lanes.lock();
        (lanes.running(), lanes.waiting())
    }

    /// Refuses what waits and what comes, and waits until what runs has ended: each of those has a
    /// deadline.
    pub async fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
        let reason = Arc::from("the daemon is stopping");
        self.lanes.lock().refuse_all(&reason);
        loop {
            let ended = self.ended.notified();
            if self.lanes.lock().running() == 0 {
                break;
            }
            ended.await;
        }
        self.pool.close();
    }

    /// Changes the lanes, and starts whatever may start afterwards.
    fn with_lanes(self: &Arc<Self>, change: impl FnOnce(&mut Lanes)) {
        let works = {
            let mut lanes = self.lanes.lock();
            change(&mut lanes);
            lanes.start(Instant::now())
        };
        for work in works {
            let place = Place {
                loader: Arc::clone(self),
                id: work.id,
                end: End::Failed,
                unanswered: Vec::new(),
            };
            self.runtime.spawn(place.serve(work));
        }
    }

    /// Loads the keys of a statement that may start. What it hands back was not tried to the end.
    async fn serve(self: &Arc<Self>, work: Work) -> (End, Vec<Pending>) {
        let Work {
            id,
            cache,
            keys,
            evicted,
        } = work;
        let deadline = keys.iter().filter_map(Pending::deadline).max();
        let deadline = deadline.unwrap_or_else(Instant::now);
        let mut alarm = pin!(self.alarm(id, deadline, evicted));
        let Ok(mut connection) = self.connection().await else {
            return (End::Failed, keys);
        };
        let mut end = End::Failed;
        let mut parts = vec![keys];
        while let Some(keys) = parts.pop() {
            let mut part = Part::new(keys);
            if part.is_empty() {
                continue;
            }
            let began = Instant::now();
            self.statements.fetch_add(1, Ordering::Relaxed);
            let fetched = tokio::select! {
                biased;
                fetched = part.fetch(&mut connection, &self.batches[cache]) => {
                    fetched.map_err(Failure::Refused)
                }
                why = &mut alarm => Err(Failure::Interrupted(why)),
            };
            if part.has_answers() {
                end = End::Answered;
            }
            let error = match fetched {
                Ok(()) => continue,
                Err(Failure::Interrupted(why)) => {
                    self.connector.cancel(connection.cancel_token()).await;
                    drop(Object::take(connection));
                    parts.push(part.unanswered());
                    return (why, parts.into_iter().flatten().collect());
                }
                Err(Failure::Refused(error)) => one_line(&error.to_string()),
            };
            if !is_alive(&mut connection).await {
                let was_fresh = Object::metrics(&connection).recycle_count == 0;
                drop(Object::take(connection));
                if was_fresh {
                    let reason = Arc::from(format!("the connection was lost: {error}"));
                    parts.push(part.unanswered());
                    answer_all(parts, &LoadError::Unavailable { reason });
                    return (end, Vec::new());
                }
                // It may have died while it lay in the pool, which says nothing of Postgres now.
                parts.push(part.unanswered());
                connection = match self.connection().await {
                    Ok(connection) => connection,
                    Err(()) => return (end, parts.into_iter().flatten().collect()),
                };
            } else if began.elapsed() >= self.statement_timeout {
                // Neither halving nor trying again would make it quicker.
                let after_ms = self.statement_timeout.as_millis();
                let after_ms = u64::try_from(after_ms).unwrap_or(u64::MAX);
                parts.push(part.unanswered());
                answer_all(parts, &LoadError::TimedOut { after_ms });
                return (End::TimedOut, Vec::new());
            } else {
                part.blame(&error, &mut parts);
            }
        }
        (end, Vec::new())
    }

    /// Resolves when a statement has to stop: at its deadline, or when it has to make room.
    async fn alarm(
        self: &Arc<Self>,
        id: u64,
        deadline: Instant,
        mut evicted: oneshot::Receiver<()>,
    ) -> End {
        let overdue = Instant::now() + SUSPECT_AFTER;
        if overdue < deadline {
            if timeout_at(overdue, &mut evicted).await.is_ok() {
                return End::Evicted;
            }
            self.with_lanes(|lanes| lanes.overdue(id));
        }
        match timeout_at(deadline, evicted).await {
            Ok(_) => End::Evicted,
            Err(_) => End::TimedOut,
        }
    }

    /// A connection, from the pool or made now. It may take longer than the keys have time: a line
    /// that is slow to open would otherwise never come to be open.
    async fn connection(self: &Arc<Self>) -> Result<Object<AsyncPgConnection>, ()> {
        match self.pool.get().await {
            Ok(connection) => {
                self.up.store(true, Ordering::Relaxed);
                Ok(connection)
            }
            Err(error) => {
                let reason = Arc::from(words(error));
                let live = self.pool.status().size;
                if live == 0 {
                    self.up.store(false, Ordering::Relaxed);
                }
                self.lanes.lock().refused_connection(live, &reason);
                self.probe();
                Err(())
            }
        }
    }

    /// Tries to connect until it works, one attempt at a time whatever the demand.
    fn probe(self: &Arc<Self>) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        let loader = Arc::clone(self);
        self.runtime.spawn(async move {
            let mut pause = FIRST_PAUSE;
            while !loader.closed.load(Ordering::Relaxed) {
                sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                pause = (pause * 2).min(LAST_PAUSE);
                if loader.connector.connect().await.is_ok() {
                    break;
                }
            }
            loader.probing.store(false, Ordering::Release);
            if !loader.closed.load(Ordering::Relaxed) {
                loader.up.store(true, Ordering::Relaxed);
                loader.with_lanes(Lanes::connected);
            }
        });
    }
}

/// A statement's place among the running ones, given back also by a task that panics.
struct Place {
    loader: Arc<Loader>,
    id: u64,
    end: End,
    unanswered: Vec<Pending>,
}

impl Place {
    async fn serve(mut self, work: Work) {
        let loader = Arc::clone(&self.loader);
        (self.end, self.unanswered) = loader.serve(work).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let unanswered = std::mem::take(&mut self.unanswered);
        let (id, end, loader) = (self.id, self.end, Arc::clone(&self.loader));
        loader.with_lanes(|lanes| lanes.finish(id, end, unanswered, Instant::now()));
        loader.ended.notify_waiters();
    }
}

/// Whether a connection on which a statement failed can go on. The driver's error does not tell:
/// it has one word for a dead line and for a statement it could not send.
async fn is_alive(connection: &mut AsyncPgConnection) -> bool {
    matches!(
        timeout(PING_TIMEOUT, connection.batch_execute("")).await,
        Ok(Ok(()))
    )
}

fn answer_all(parts: Vec<Vec<Pending>>, error: &LoadError) {
    for key in parts.into_iter().flatten() {
        key.answer(Err(error.clone()));
    }
}

/// Why there is no connection, without the layers around it.
fn words(error: PoolError) -> String {
    match error {
        PoolError::Backend(SetupError::ConnectionError(ConnectionError::BadConnection(why))) => why,
        error => one_line(&error.to_string()),
    }
}
