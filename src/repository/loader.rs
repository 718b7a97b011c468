//! Runs the statements that the lanes allow, each in a task of the repository's runtime.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use diesel::ConnectionError;
use diesel_async::AsyncPgConnection;
use diesel_async::pooled_connection::PoolError as SetupError;
use diesel_async::pooled_connection::deadpool::{Object, Pool, PoolError};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::Admission;
use super::batch::Batch;
use super::call::{Call, Pending};
use super::connect::Connector;
use super::error::one_line;
use super::lanes::{End, LATE_AFTER, Lanes, SUSPECT_AFTER, Work};
use super::session::Session;
use crate::keyspace::RoutedKey;

/// The pauses between attempts to reach a Postgres that could not be reached: doubled each time,
/// and between half and all of it, so that a fleet does not come back in step.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(1);

/// What the lanes are told of a statement that has run so long.
type Stage = (Duration, fn(&mut Lanes, u64));

pub(super) struct Loader {
    lanes: Mutex<Lanes>,
    batches: Vec<Batch>,
    pool: Pool<AsyncPgConnection>,
    runtime: Handle,
    pub statement_timeout: Duration,
    pub connector: Arc<Connector>,
    pub statements: AtomicU64,
    /// What the last attempt to reach Postgres found: one for loads, a check, or fencing tokens.
    pub up: Arc<AtomicBool>,
    probing: AtomicBool,
    closed: AtomicBool,
    ended: Notify,
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
            up: Arc::default(),
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

    /// How many keys of each cache Postgres has shown to bear while Redis is away.
    pub fn bearable(&self) -> Vec<(String, usize)> {
        let lanes = self.lanes.lock();
        let bearable = lanes.bearable();
        bearable
            .map(|(name, keys)| (name.to_owned(), keys))
            .collect()
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
                served: false,
            };
            self.runtime.spawn(place.serve(work));
        }
    }

    /// Loads the keys of a statement that may start. What it hands back was not tried to the end.
    async fn serve(self: &Arc<Self>, work: Work) -> (End, Vec<Pending>) {
        let deadline = work.keys.iter().filter_map(Pending::deadline).max();
        let deadline = deadline.unwrap_or_else(Instant::now);
        let mut alarm = pin!(self.alarm(work.id, deadline, work.evicted));
        let Ok(connection) = self.connection().await else {
            return (End::Failed, work.keys);
        };
        let mut session = Session::new(self, &self.batches[work.cache], connection, work.keys);
        while let Some(mut part) = session.next() {
            let fetched = tokio::select! {
                biased;
                fetched = session.fetch(&mut part) => fetched,
                why = &mut alarm => return session.interrupted(part, why).await,
            };
            if let Err(error) = fetched {
                session = match session.failed(part, &error).await {
                    Ok(session) => session,
                    Err(left) => return left,
                };
            }
        }
        (session.end, Vec::new())
    }

    /// Resolves when a statement has to stop: at its deadline, or when it has to make room.
    async fn alarm(
        self: &Arc<Self>,
        id: u64,
        deadline: Instant,
        mut evicted: oneshot::Receiver<()>,
    ) -> End {
        let started = Instant::now();
        let stages: [Stage; 2] = [(LATE_AFTER, Lanes::late), (SUSPECT_AFTER, Lanes::overdue)];
        for (after, told) in stages {
            if started + after < deadline {
                if timeout_at(started + after, &mut evicted).await.is_ok() {
                    return End::Evicted;
                }
                self.with_lanes(|lanes| told(lanes, id));
            }
        }
        match timeout_at(deadline, evicted).await {
            Ok(_) => End::Evicted,
            Err(_) => End::TimedOut,
        }
    }

    /// A connection, from the pool or made now. It may take longer than the keys have time: a line
    /// that is slow to open would otherwise never come to be open.
    pub async fn connection(self: &Arc<Self>) -> Result<Object<AsyncPgConnection>, ()> {
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
                self.probe(live, &reason);
                Err(())
            }
        }
    }

    /// Tries to connect until it works, one attempt at a time whatever the demand.
    fn probe(self: &Arc<Self>, live: usize, reason: &str) {
        if self.probing.swap(true, Ordering::AcqRel) {
            return;
        }
        tracing::warn!(
            reason,
            live,
            "postgres gives no new connection; trying again until it does"
        );
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
            loader.with_lanes(|lanes| {
                // Closing refuses under the same lock, and for good.
                if !loader.closed.load(Ordering::Relaxed) {
                    loader.up.store(true, Ordering::Relaxed);
                    lanes.connected();
                    tracing::info!("postgres gives connections again");
                }
            });
        });
    }
}

/// A statement's place among the running ones, given back also by a task that panics.
struct Place {
    loader: Arc<Loader>,
    id: u64,
    end: End,
    unanswered: Vec<Pending>,
    served: bool,
}

impl Place {
    async fn serve(mut self, work: Work) {
        let loader = Arc::clone(&self.loader);
        (self.end, self.unanswered) = loader.serve(work).await;
        self.served = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let unanswered = std::mem::take(&mut self.unanswered);
        // A task that was dropped in the middle: its runtime is gone, and would drop the next, too.
        let stopped = !self.served && !std::thread::panicking();
        self.loader.with_lanes(|lanes| {
            lanes.finish(self.id, self.end, unanswered, Instant::now());
            if stopped {
                lanes.refuse_all(&Arc::from("the runtime of the connections has stopped"));
            }
        });
        self.loader.ended.notify_waiters();
    }
}

/// Why there is no connection, without the layers around it.
fn words(error: PoolError) -> String {
    match error {
        PoolError::Backend(SetupError::ConnectionError(ConnectionError::BadConnection(why))) => why,
        error => one_line(&error.to_string()),
    }
}
