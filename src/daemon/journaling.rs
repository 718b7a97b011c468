//! The journal actor, what it is made of, and whether Redis can be trusted with a journal.

use super::error::StartError;
use crate::cache::CacheHandle;
use crate::config::{Cache, Config};
use crate::journal::{JournalActor, JournalParts};
use crate::keyspace::names::JOURNAL;
use crate::lock::LockHandle;
use crate::repository::{JournalWriter, RepositoryError};
use crate::store::{Store, StoreError};
use crate::supervisor::{ChildSpec, RestartPolicy};
use crate::telemetry::Metrics;
use actix_rt::ArbiterHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;

/// How long it takes until another daemon saves when the one that did has died.
const TERM: Duration = Duration::from_secs(5);

/// The pause between two looks at a journal that was empty: the longest that a write is gathered with others.
const REST: Duration = Duration::from_millis(20);
/// The same where no cache puts anything into it: others may, or have.
const LONG_REST: Duration = Duration::from_secs(1);

/// What the journal shares with others.
pub(super) struct Shared<'a> {
    pub(super) caches: &'a Arc<[CacheHandle]>,
    pub(super) locks: &'a LockHandle,
    pub(super) metrics: &'a Metrics,
    /// Where connections to Postgres live.
    pub(super) runtime: Handle,
}

/// The actor, on the thread of whatever goes on beside the reads.
pub(super) fn child(
    config: &Config,
    store: Store,
    shared: &Shared<'_>,
    arbiter: ArbiterHandle,
) -> Result<Option<ChildSpec>, RepositoryError> {
    let parts = parts(config, store, shared)?;
    Ok(parts.map(|parts| {
        ChildSpec::new(
            "journal",
            arbiter,
            RestartPolicy::default(),
            move || JournalActor::new(parts.clone()),
            // Nobody asks it for anything.
            |_address| {},
        )
    }))
}

/// The parts of an actor that saves the writes of the journal in `store`; `None`: no cache declares writes. One that saves at
/// once today may have writes of yesterday in the journal.
fn parts(
    config: &Config,
    store: Store,
    shared: &Shared<'_>,
) -> Result<Option<JournalParts>, RepositoryError> {
    let writes = config.caches.iter().any(|cache| cache.write.is_some());
    let Some(postgres) = config.postgres.as_ref().filter(|_| writes) else {
        return Ok(None);
    };
    Ok(Some(JournalParts {
        store,
        locks: shared.locks.clone(),
        term: TERM.min(config.locks.max_ttl),
        writer: JournalWriter::new(postgres, &config.caches, shared.runtime.clone())?,
        router: Arc::new(config.router()),
        caches: Arc::clone(shared.caches),
        metrics: shared.metrics.clone(),
        rest: match config.caches.iter().any(Cache::is_journaled) {
            true => REST,
            false => LONG_REST,
        },
        allow_volatile: config.redis.allow_volatile_journal,
    }))
}

/// Sees that Redis does not lose writes that were acknowledged. One that is away is no reason not to start: then nothing is
/// acknowledged either.
pub(super) async fn check(config: &Config) -> Result<(), StartError> {
    match volatility(config).await {
        Ok(None) => Ok(()),
        Ok(Some(report)) => Err(StartError::Journal(report)),
        Err(error) => {
            tracing::warn!(%error, "whether redis keeps the journal of writes could not be checked");
            Ok(())
        }
    }
}

/// What the journal of the declared caches has against Redis, and what to do about it.
///
/// # Errors
/// If it cannot be asked.
pub async fn volatility(config: &Config) -> Result<Option<String>, StoreError> {
    let journaled = config.caches.iter().find(|cache| cache.is_journaled());
    let Some(cache) = journaled.filter(|_| !config.redis.allow_volatile_journal) else {
        return Ok(None);
    };
    let flaws = store(config)?.durability().await?.flaws();
    let report = format!(
        "caches.{}.write acknowledges writes before postgres has them, and redis would lose them: {}\n\
         hint: set appendonly yes and a maxmemory-policy such as noeviction in redis, or allow_volatile_journal = true in [redis]",
        cache.name,
        flaws.join("; ")
    );
    Ok((!flaws.is_empty()).then_some(report))
}

/// How many acknowledged writes wait in Redis for Postgres, however the caches are declared by now.
///
/// # Errors
/// If it cannot be asked.
pub async fn waiting_writes(config: &Config) -> Result<u64, StoreError> {
    store(config)?.pin().await?.length(JOURNAL).await
}

/// A way to Redis of its own.
fn store(config: &Config) -> Result<Store, StoreError> {
    let mut stores = Store::siblings(&config.redis, 1)?;
    stores.pop().ok_or(StoreError::Away)
}
