//! Makes the parts, hands each what it needs, starts them bottom-up and stops them top-down.

use super::error::StartError;
use super::freshness::Keeping;
use super::reload::Reloading;
use super::stopping::with_reports;
use super::threads::{IoThreads, Left, half_of_the_cores, have_ended};
use super::web::Addresses;
use super::{auditing, database, guarding, info, journaling, locking, memory, passing, warming};
use crate::audit::{AuditHandle, Checker};
use crate::cache::{CacheActor, CacheHandle, CacheParts, L1, Means, Scripts, Spaces, Trace};
use crate::config::Config;
use crate::http;
use crate::invalidation::{Indexes, InvalidationActor, InvalidationHandle, InvalidationParts};
use crate::lock::LockHandle;
use crate::plain::PlainHandle;
use crate::repository::Repository;
use crate::resp::{self, Door, Listening, Passed, Server};
use crate::store::Store;
use crate::supervisor::{ChildSpec, Health, RestartPolicy, Supervisor};
use crate::telemetry::Metrics;
use crate::warmup::WarmupHandle;
use actix_rt::{Arbiter, ArbiterHandle};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// What a request may take beyond its load: look-up, lease and fill.
const BEYOND_LOAD: Duration = Duration::from_secs(5);
/// How long a stop may take, unless said otherwise.
pub(super) const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// What a start waits for its subscription on a Redis that is there.
const LONGEST_TO_SUBSCRIBE: Duration = Duration::from_secs(1);
/// What is said of such a thread.
const BLOCKED: &str = "a blocked thread";
/// Of the time a stop may take, the part kept for the actors after the doors have closed.
const KEPT_FOR_ACTORS: u32 = 4;

/// Everything that runs.
pub(super) struct Running {
    pub(super) io_threads: IoThreads,
    pub(super) repository: Option<Repository>,
    arbiters: Vec<Arbiter>,
    pub(super) supervisor: Supervisor,
    /// The connections to Redis that reads use.
    pub(super) stores: Vec<Store>,
    pub(super) server: Option<Server>,
    pub(super) web: Option<http::Server>,
    /// The arbiters that serve connections.
    cores: Vec<ArbiterHandle>,
    pub(super) caches: Arc<[CacheHandle]>,
    pub(super) invalidation: InvalidationHandle,
    pub(super) l1: L1,
    pub(super) audit: AuditHandle,
    pub(super) plain: Arc<[PlainHandle]>,
    pub(super) reloading: Arc<Reloading>,
    pub(super) locks: LockHandle,
    /// `None`: no cache is warmed.
    pub(super) warmup: Option<WarmupHandle>,
    /// Whether the first runs that are waited for are over.
    pub(super) ready: watch::Receiver<bool>,
    /// What loads for the warmup.
    pub(super) loads_ahead: Option<Repository>,
    /// The auditor's connections to Postgres.
    checkers: Vec<Checker>,
    pub(super) addresses: Addresses,
    pub(super) metrics: Metrics,
}

impl Running {
    /// Starts everything; runs on the actor system's main thread.
    pub(super) async fn start(
        config: &Config,
        scripts: Arc<Scripts>,
        passed: Passed,
    ) -> Result<Running, StartError> {
        let listening = resp::open(&config.resp, passed)?;
        let web = config.http.as_ref().map(http::open).transpose()?;
        let io_threads = IoThreads::start()?;
        let repository = database::repository(config, &io_threads.handle()).await?;
        database::check_watches(config, &io_threads.handle()).await?;
        warming::check_keys(config, &io_threads.handle()).await?;
        journaling::check(config).await?;
        let metrics = Metrics::new();
        let spaces = Spaces::of(&config.caches, &config.namespaces);

        let threads = config.resp.threads.unwrap_or_else(half_of_the_cores);
        let deadline = spaces.longest_load() + BEYOND_LOAD;
        let caches: Arc<[CacheHandle]> = (0..threads)
            .map(|_| CacheHandle::unbound(deadline))
            .collect();
        let mut running = Running {
            io_threads,
            repository,
            arbiters: Vec::new(),
            supervisor: Supervisor::new(),
            stores: Vec::new(),
            server: None,
            web: None,
            cores: Vec::new(),
            caches,
            invalidation: InvalidationHandle::unbound(),
            l1: L1::default(),
            audit: AuditHandle::unbound(),
            plain: passing::handles(config, threads),
            reloading: Arc::new(Reloading::new(config, &metrics)),
            locks: LockHandle::unbound(),
            warmup: warming::is_declared(config).then(WarmupHandle::unbound),
            ready: watch::Sender::new(true).subscribe(),
            loads_ahead: None,
            checkers: Vec::new(),
            addresses: Addresses::default(),
            metrics,
        };
        let brought_up = running.bring_up(config, &spaces, &scripts).await;
        let opened =
            brought_up.and_then(|stores| running.open_doors(config, listening, web, stores));
        if let Err(error) = opened {
            // The program that tried lives on, and so would every thread that nobody stops.
            running.stop(STOP_DEADLINE, std::future::pending()).await;
            return Err(error);
        }
        Ok(running)
    }

    async fn bring_up(
        &mut self,
        config: &Config,
        spaces: &Spaces,
        scripts: &Arc<Scripts>,
    ) -> Result<Vec<Store>, StartError> {
        let warms = usize::from(self.warmup.is_some());
        let mut stores = Store::siblings(&config.redis, self.caches.len() + 2 + warms)?;
        let all = stores.clone();
        let ahead = self.warmup.as_ref().and_then(|_| stores.pop());
        let (Some(upkeep), Some(guard)) = (stores.pop(), stores.pop()) else {
            return Ok(stores); // never: there are two more than actors
        };
        let trace = Trace::default();
        // Before any store is kept: none is to be used that was not decided on.
        let keeping = self.keeping(config, &upkeep)?;
        self.l1 = memory::open(config, spaces, &stores, &keeping, &self.metrics);
        self.start_caches(config, spaces, &stores, scripts, &keeping, &trace)?;
        self.start_plain(config, &stores);
        self.start_guards(config, guard)?;
        let arbiter = Arbiter::try_new().map_err(StartError::Thread)?;
        let hearing = self.start_upkeep(config, &arbiter, upkeep.clone(), &keeping, &trace)?;
        self.start_audit(config, spaces, &arbiter, upkeep.clone(), &keeping, &trace)?;
        if let Some(store) = &ahead {
            self.keep_ahead(&arbiter, store);
        }
        // The last to start is the first to stop: what is to be saved still needs all others.
        let shared = journaling::Shared {
            caches: &self.caches,
            locks: &self.locks,
            metrics: &self.metrics,
            runtime: self.io_threads.handle(),
        };
        if let Some(child) = journaling::child(config, upkeep, &shared, arbiter.handle())? {
            self.supervisor.start(child);
        }
        let upkeep = arbiter.handle();
        self.arbiters.push(arbiter);
        let is_up = self.wait_until_up(&all, hearing).await?;
        if let Some(store) = ahead {
            self.start_warmup(config, (spaces, scripts, &trace), upkeep, store)?;
            self.supervisor.all_up().await.map_err(StartError::Actor)?;
        }
        if is_up {
            keeping.caught_up().await;
        }
        Ok(stores)
    }

    fn keeping(&self, config: &Config, upkeep: &Store) -> Result<Keeping, StartError> {
        let runtime = self.io_threads.handle();
        let invalidation = self.invalidation.clone();
        Keeping::new(config, upkeep, runtime, invalidation, self.metrics.clone())
    }

    pub(super) fn health(&self) -> Health {
        self.supervisor.health()
    }

    pub(super) fn gave_up(&self) -> tokio::sync::watch::Receiver<Option<String>> {
        self.supervisor.gave_up()
    }

    /// The cache actors, one a core.
    fn start_caches(
        &mut self,
        config: &Config,
        spaces: &Spaces,
        stores: &[Store],
        scripts: &Arc<Scripts>,
        keeping: &Keeping,
        trace: &Trace,
    ) -> Result<(), StartError> {
        for (shard, (handle, store)) in self.caches.iter().cloned().zip(stores).enumerate() {
            let arbiter = Arbiter::try_new().map_err(StartError::Thread)?;
            let kept = store.clone();
            // Its driver lives where it is used: a hop to another thread would cost more than the command. Started before
            // the actor, for the last started stops first.
            self.supervisor.start(ChildSpec::task(
                format!("redis-{shard}"),
                arbiter.handle(),
                RestartPolicy::default(),
                move || kept.clone().keep(),
            ));
            let parts = CacheParts {
                means: Means::new(
                    spaces.clone(),
                    store.clone(),
                    Arc::clone(scripts),
                    self.repository.clone(),
                    self.io_threads.handle(),
                    self.metrics.clone(),
                )
                .with_sweeps(keeping.sweeps.clone())
                .with_freshness(keeping.freshness.clone())
                .with_notes(keeping.notes())
                .with_journal(config.redis.max_journal)
                .with_told(keeping.told.clone())
                .with_trace(trace.clone())
                .with_l1(self.l1.clone(), shard),
                shard,
                shards: Arc::clone(&self.caches),
            };
            self.supervisor.start(ChildSpec::new(
                actor_name(shard),
                arbiter.handle(),
                RestartPolicy::default(),
                move || CacheActor::new(parts.clone()),
                move |address| CacheActor::bind(&handle, address),
            ));
            self.cores.push(arbiter.handle());
            self.arbiters.push(arbiter);
        }
        Ok(())
    }

    /// The plain actors, one a core, if there are plain keys.
    fn start_plain(&mut self, config: &Config, stores: &[Store]) {
        let cores = self.plain.iter().zip(stores).zip(&self.cores).enumerate();
        for (core, ((handle, store), arbiter)) in cores {
            let (handle, store) = (handle.clone(), store.clone());
            let child = passing::child(config, core, store, handle, arbiter.clone());
            self.supervisor.start(child);
        }
    }

    /// Locks and limits share a thread with reads, and not their connection: a look-up of large values does not delay them.
    fn start_guards(&mut self, config: &Config, store: Store) -> Result<(), StartError> {
        let Some(arbiter) = self.cores.first() else {
            return Ok(()); // never: there is one core at least
        };
        let runtime = self.io_threads.handle();
        let (metrics, repository) = (self.metrics.clone(), self.repository.as_ref());
        let locks = locking::parts(config, store.clone(), metrics, repository, runtime)?;
        let locks = locking::child(locks, self.locks.clone(), arbiter.clone());
        let limits = self.reloading.rate_limits();
        let guards = guarding::children(store, limits, arbiter);
        for child in guards.into_iter().chain([locks]) {
            self.supervisor.start(child);
        }
        Ok(())
    }

    /// What goes on beside the reads has a thread and a connection of its own: a sweep never delays a read.
    fn start_upkeep(
        &mut self,
        config: &Config,
        arbiter: &Arbiter,
        store: Store,
        keeping: &Keeping,
        trace: &Trace,
    ) -> Result<watch::Receiver<bool>, StartError> {
        let kept = store.clone();
        self.supervisor.start(ChildSpec::task(
            "redis-upkeep",
            arbiter.handle(),
            RestartPolicy::default(),
            move || kept.clone().keep(),
        ));
        let handle = self.invalidation.clone();
        let parts = InvalidationParts::new(
            config.invalidation.clone(),
            config.scope(),
            store.clone(),
            Arc::clone(&self.caches),
            keeping.sweeps.clone(),
            self.metrics.clone(),
        )
        .with_indexes(Indexes::of(&config.caches, &config.namespaces))
        .with_on_swept(
            self.warmup
                .clone()
                .map(warming::on_swept)
                .unwrap_or_default(),
        )
        .with_trace(trace.clone())
        .with_notes(keeping.notes());
        let listening = parts.listening();
        self.supervisor.start(ChildSpec::new(
            "invalidation",
            arbiter.handle(),
            RestartPolicy::default(),
            move || InvalidationActor::new(parts.clone()),
            move |address| InvalidationActor::bind(&handle, address),
        ));
        let gatekeeper = keeping.gatekeeper.clone();
        self.supervisor.start(ChildSpec::task(
            "gatekeeper",
            arbiter.handle(),
            RestartPolicy::default(),
            move || gatekeeper.clone().run(),
        ));
        if let Some((drain, prover, noter)) = keeping.queue(store) {
            self.supervisor.start(ChildSpec::task(
                "outbox",
                arbiter.handle(),
                RestartPolicy::default(),
                move || drain.clone().run(),
            ));
            self.supervisor.start(ChildSpec::task(
                "prover",
                arbiter.handle(),
                RestartPolicy::default(),
                move || prover.clone().run(),
            ));
            self.supervisor.start(ChildSpec::task(
                "noter",
                arbiter.handle(),
                RestartPolicy::default(),
                move || noter.clone().run(),
            ));
        }
        if let Some(inspector) = keeping.inspector(config)? {
            self.supervisor.start(ChildSpec::task(
                "inspector",
                arbiter.handle(),
                RestartPolicy::default(),
                move || inspector.clone().run(),
            ));
        }
        if let Some(doorbell) = keeping.doorbell() {
            self.supervisor.start(ChildSpec::task(
                "doorbell",
                arbiter.handle(),
                RestartPolicy::default(),
                move || doorbell.clone().run(),
            ));
        }
        Ok(listening)
    }

    /// The auditor shares the thread and the connection of what goes on beside the reads.
    fn start_audit(
        &mut self,
        config: &Config,
        spaces: &Spaces,
        arbiter: &Arbiter,
        store: Store,
        keeping: &Keeping,
        trace: &Trace,
    ) -> Result<(), StartError> {
        let shared = auditing::Shared {
            spaces,
            sweeps: &keeping.sweeps,
            trace,
            l1: &self.l1,
            caches: &self.caches,
            metrics: &self.metrics,
        };
        let runtime = self.io_threads.handle();
        let parts = auditing::parts(config, store, &shared, runtime)?;
        self.checkers.extend(parts.checker.clone());
        let child = auditing::child(parts, self.audit.clone(), arbiter.handle());
        self.supervisor.start(child);
        Ok(())
    }

    /// Waits for the actors, and for Redis as long as a command may take: without it the daemon starts all the same. Whether
    /// it is there.
    async fn wait_until_up(
        &self,
        stores: &[Store],
        mut hearing: watch::Receiver<bool>,
    ) -> Result<bool, StartError> {
        self.supervisor.all_up().await.map_err(StartError::Actor)?;
        for store in stores {
            let mut up = store.up();
            let there = tokio::time::timeout(store.timeout(), up.wait_for(|up| *up)).await;
            if there.is_err() {
                tracing::warn!("redis is away; reads are answered from postgres until it is back");
                return Ok(false);
            }
        }
        // Who is told that we are ready may publish at once.
        let hears = hearing.wait_for(|hears| *hears);
        let _late = tokio::time::timeout(LONGEST_TO_SUBSCRIBE, hears).await;
        Ok(true)
    }

    fn open_doors(
        &mut self,
        config: &Config,
        listening: Listening,
        web: Option<http::Listening>,
        stores: Vec<Store>,
    ) -> Result<(), StartError> {
        let seen = self.seen(stores.clone());
        self.open_web(config, web, &seen)?;
        let asked = resp::Asked {
            caches: Arc::clone(&self.caches),
            invalidation: self.invalidation.clone(),
            l1: self.l1.clone(),
            audit: self.audit.clone(),
            plain: Arc::clone(&self.plain),
            rate_limits: self.reloading.rate_limits(),
            locks: self.locks.clone(),
            warmup: self.warmup.clone(),
        };
        let info = info::source(seen);
        let door = Door::new(config, asked, self.metrics.clone(), info);
        let cores: Arc<[ArbiterHandle]> = self.cores.clone().into();
        self.addresses.resp = listening.tcp_addresses();
        self.stores = stores;
        self.server = Some(Server::start(listening, Arc::new(door), cores));
        Ok(())
    }

    /// Stops everything within `deadline`; `hurry` ends when patience does.
    pub(super) async fn stop(
        mut self,
        deadline: Duration,
        hurry: impl Future<Output = ()>,
    ) -> Left {
        let end = Instant::now() + deadline;
        let stopping = async {
            let mut names = self
                .close_doors(deadline - deadline / KEPT_FOR_ACTORS)
                .await;
            let left = end.saturating_duration_since(Instant::now());
            names.extend(self.supervisor.stop(left).await);
            for repository in self.repository.iter().chain(&self.loads_ahead) {
                let left = end.saturating_duration_since(Instant::now());
                let closed = tokio::time::timeout(left, repository.close()).await;
                if closed.is_err() {
                    names.push("connections to postgres".to_owned());
                }
            }
            for checker in &self.checkers {
                // At most one statement, which has a deadline of its own and is nobody's to wait for.
                let left = end.saturating_duration_since(Instant::now());
                let _closed = tokio::time::timeout(left, checker.close()).await;
            }
            names
        };
        let mut names = tokio::select! {
            names = with_reports(stopping) => names,
            () = hurry => vec!["everything that was still running (hurried)".to_owned()],
        };
        if !have_ended(self.arbiters).await {
            names.push(BLOCKED.to_owned());
        }
        Left { names }
    }
}

/// What the cache actor of a shard is called.
pub(super) fn actor_name(shard: usize) -> String {
    format!("cache-{shard}")
}

#[cfg(test)]
#[path = "wiring_tests.rs"]
mod tests;
