//! The warmup actor, what it is made of, and what a program may ask it.

use super::error::{StartError, WardenError};
use super::warden::Warden;
use super::wiring::Running;
use crate::cache::{Means, Scripts, Spaces, Trace, Warming};
use crate::config::{self, Config};
use crate::invalidation::OnSwept;
use crate::lock::LockHandle;
use crate::repository::{HotKeys, Repository, RepositoryError, WarmKeys};
use crate::store::Store;
use crate::supervisor::{ChildSpec, RestartPolicy};
use crate::telemetry::Metrics;
use crate::warmup::{
    LookAtRuns, Outcome, Report, Swept, Warm, WarmError, WarmupActor, WarmupHandle, WarmupParts,
};
use actix_rt::{Arbiter, ArbiterHandle};
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// Connections to Postgres that warm: reads have others.
const CONNECTIONS: usize = 1;
/// Keys that may wait for that one connection: what is under way is bounded by who sends it.
const MAX_LOADS: usize = 10_000;
/// How long a start waits for the first run at most.
const LONGEST_TO_READY: Duration = Duration::from_secs(600);

/// Whether any cache is warmed.
pub(super) fn is_declared(config: &Config) -> bool {
    config.caches.iter().any(|cache| cache.warm.is_some())
}

/// What warmup shares with the other actors.
struct Shared<'a> {
    spaces: &'a Spaces,
    scripts: &'a Arc<Scripts>,
    trace: &'a Trace,
    locks: &'a LockHandle,
    metrics: &'a Metrics,
    /// What the reads load with.
    reads: &'a Repository,
}

impl Running {
    /// Its own connection to Redis: what it loads does not hold up a sweep either.
    pub(super) fn keep_ahead(&mut self, arbiter: &Arbiter, store: &Store) {
        let kept = store.clone();
        self.supervisor.start(ChildSpec::task(
            "redis-warmup",
            arbiter.handle(),
            RestartPolicy::default(),
            move || kept.clone().keep(),
        ));
    }

    /// When Redis is there, or known to be away: a first run that fails because nobody has looked yet would fail for nothing.
    pub(super) fn start_warmup(
        &mut self,
        config: &Config,
        (spaces, scripts, trace): (&Spaces, &Arc<Scripts>, &Trace),
        arbiter: ArbiterHandle,
        store: Store,
    ) -> Result<(), StartError> {
        let all = (&self.warmup, &self.repository, &config.postgres);
        let (Some(handle), Some(reads), Some(postgres)) = all else {
            return Ok(()); // never: what is warmed is a cache, and has a database
        };
        let shared = Shared {
            spaces,
            scripts,
            trace,
            locks: &self.locks,
            metrics: &self.metrics,
            reads,
        };
        let runtime = self.io_threads.handle();
        let (parts, loads) = parts(config, postgres, store, &shared, runtime)?;
        self.ready = parts.board().ready();
        self.loads_ahead = Some(loads);
        let child = child(parts, handle.clone(), arbiter);
        self.supervisor.start(child);
        Ok(())
    }
}

/// The parts of an actor that warms over `store`, and what it loads with.
fn parts(
    config: &Config,
    postgres: &config::Postgres,
    store: Store,
    shared: &Shared<'_>,
    runtime: Handle,
) -> Result<(WarmupParts, Repository), RepositoryError> {
    let own = config::Postgres {
        pool_size: CONNECTIONS,
        ..postgres.clone()
    };
    let patient = |cache: &config::Cache| config::Cache {
        max_loads: MAX_LOADS,
        ..cache.clone()
    };
    let caches: Vec<config::Cache> = config.caches.iter().map(patient).collect();
    let repository = Repository::new(&own, &caches, runtime.clone())?;
    let means = Means::new(
        shared.spaces.clone(),
        store.clone(),
        Arc::clone(shared.scripts),
        Some(repository.clone()),
        runtime.clone(),
        shared.metrics.clone(),
    )
    .with_trace(shared.trace.clone());
    let parts = WarmupParts::new(
        config,
        store,
        shared.locks.clone(),
        Warming::new(means, repository.clone()),
        (
            WarmKeys::new(postgres, &config.caches, runtime.clone())?,
            HotKeys::new(postgres, runtime)?,
        ),
        shared.reads.clone(),
        shared.metrics.clone(),
    );
    Ok((parts, repository))
}

/// The actor, on the thread of whatever goes on beside the reads.
fn child(parts: WarmupParts, handle: WarmupHandle, arbiter: ArbiterHandle) -> ChildSpec {
    ChildSpec::new(
        "warmup",
        arbiter,
        RestartPolicy::default(),
        move || WarmupActor::new(parts.clone()),
        move |address| WarmupActor::bind(&handle, address),
    )
}

/// Tells the actor of every sweep.
pub(super) fn on_swept(handle: WarmupHandle) -> OnSwept {
    OnSwept::new(move |pattern| {
        let pattern = pattern.clone();
        // Untold, the next slot warms what was swept.
        let _unheard = handle.swept.tell(Swept { pattern });
    })
}

/// Sees that the keys to warm can be asked for. A Postgres that is away is no reason not to start.
pub(super) async fn check_keys(config: &Config, runtime: &Handle) -> Result<(), StartError> {
    let Some(postgres) = config.postgres.as_ref().filter(|_| is_declared(config)) else {
        return Ok(());
    };
    let source = WarmKeys::new(postgres, &config.caches, runtime.clone())?;
    match source.check().await {
        Ok(problems) if problems.is_empty() => Ok(()),
        Ok(problems) => {
            let report = |problem: &crate::repository::QueryProblem| {
                let hint = problem.hint.as_deref();
                let (cache, declared) = (problem.cache, problem.declared);
                config.report_declared(cache, declared, problem.offset, &problem.message, hint)
            };
            let reports: Vec<String> = problems.iter().map(report).collect();
            Err(StartError::Queries(reports.join("\n\n")))
        }
        Err(error @ RepositoryError::Connect(_)) => {
            tracing::warn!(%error, "the queries for keys to warm could not be checked");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

impl Warden {
    /// Waits until the first runs of the caches with `ready_after_warm = true` are over, well or not; ten minutes at most.
    /// [`Warden::start`] has waited for it.
    pub async fn ready(&self) {
        let mut ready = self.0.ready.clone();
        let waited = tokio::time::timeout(LONGEST_TO_READY, ready.wait_for(|ready| *ready)).await;
        if waited.is_err() {
            tracing::warn!("ready before the first warmup is done: it takes too long");
        }
    }

    /// Warms these caches, by name, now; none: all that have a `[caches.*.warm]` section. With `force`, what is fresh is loaded,
    /// too. What came of each, in the order of the configuration, once all of them are done.
    ///
    /// # Errors
    /// If one of them is not warmed at all, or the runs take longer than an hour: then they go on.
    pub async fn warm(
        &self,
        caches: &[&str],
        force: bool,
    ) -> Result<Vec<(String, Outcome)>, WardenError> {
        let caches: Vec<String> = caches.iter().map(|name| (*name).to_owned()).collect();
        match (&self.0.warmup, caches.first()) {
            (Some(warmup), _) => Ok(warmup.warm.ask(Warm { caches, force }).await??),
            (None, Some(name)) => {
                let name = name.clone();
                Err(WarmError::Unknown { name }.into())
            }
            (None, None) => Ok(Vec::new()),
        }
    }

    /// Where the warmup of each cache stands.
    ///
    /// # Errors
    /// If its actor is restarting.
    pub async fn warming(&self) -> Result<Vec<Report>, WardenError> {
        match &self.0.warmup {
            Some(warmup) => Ok(warmup.look.ask(LookAtRuns).await?),
            None => Ok(Vec::new()),
        }
    }
}
