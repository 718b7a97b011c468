//! What keeps what is cached fresh, made from the configuration: who empties the database's queue, who proves that it is
//! emptied, and who decides which Redis is read.

use super::database;
use super::error::StartError;
use crate::cache::{Freshness, Notes, Sweeps, Told};
use crate::config::Config;
use crate::invalidation::{
    Applying, Barrier, Bell, Doorbell, Drain, Gatekeeper, Inspector, InvalidationHandle, LookedAt,
    Noter, Prover, QueueSide,
};
use crate::keyspace::{Pattern, Scope};
use crate::repository::Outbox;
use crate::store::Store;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime;

/// How long a start waits until all is applied that was queued before. Until then watched caches are read from Postgres, so a
/// later start would gain nothing but speed.
const LONGEST_BARRIER: Duration = Duration::from_secs(10);

/// The parts of one daemon.
pub(super) struct Keeping {
    pub(super) freshness: Freshness,
    pub(super) sweeps: Sweeps,
    pub(super) told: Told,
    scope: Arc<Scope>,
    invalidation: InvalidationHandle,
    metrics: Metrics,
    /// If any table is watched, or written to.
    queue: Option<Queue>,
    poll: Duration,
    /// Where connections are driven.
    runtime: runtime::Handle,
    /// Who decides which Redis is read.
    pub(super) gatekeeper: Gatekeeper,
}

struct Queue {
    side: QueueSide,
    applying: Applying,
    bell: Bell,
    /// Whether the database rings it.
    notify: bool,
}

impl Keeping {
    /// Makes the parts, for `upkeep` and its siblings, which are not used from now on unless that was decided. The barrier is up
    /// already, if anything is watched.
    pub(super) fn new(
        config: &Config,
        upkeep: &Store,
        runtime: runtime::Handle,
        invalidation: InvalidationHandle,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let settings = &config.invalidation;
        let (sweeps, told) = (Sweeps::default(), Told::default());
        let watched = config.postgres.as_ref();
        let is_queued = !settings.watches.is_empty() || config.declares_writes();
        let queue = match watched.filter(|_| is_queued) {
            None => None,
            Some(postgres) => {
                let (doubted, watched) = (sweeps.clone(), watched_by(config));
                let barrier = Barrier::doubting(doubted, watched, metrics.clone(), told.clone());
                barrier.raise(Instant::now());
                Some(Queue {
                    side: QueueSide {
                        outbox: Outbox::new(postgres, settings, runtime.clone())?,
                        barrier,
                        looked_at: LookedAt::default(),
                        notes: Notes::kept(),
                    },
                    applying: Applying::beside(sweeps.clone()),
                    bell: Bell::default(),
                    notify: settings.notify,
                })
            }
        };
        let scope = Arc::new(config.scope());
        Ok(Self {
            gatekeeper: Gatekeeper::new(
                upkeep.clone(),
                Arc::clone(&scope),
                sweeps.clone(),
                invalidation.clone(),
                queue.as_ref().map(|queue| queue.side.clone()),
                settings.replay_window,
                metrics.clone(),
            ),
            freshness: match queue {
                Some(_) => Freshness::watched(),
                None => Freshness::default(),
            },
            sweeps,
            told,
            scope,
            invalidation,
            metrics,
            queue,
            poll: settings.poll,
            runtime,
        })
    }

    /// Where it is noted what is invalidated without the queue: nowhere, if there is none.
    pub(super) fn notes(&self) -> Notes {
        let queue = self.queue.as_ref();
        queue
            .map(|queue| queue.side.notes.clone())
            .unwrap_or_default()
    }

    /// Who empties the queue, who looks whether it is empty, and who writes down what it did not have; if there is any.
    pub(super) fn queue(&self, store: Store) -> Option<(Drain, Prover, Noter)> {
        let queue = self.queue.as_ref()?;
        let (side, applying, bell) = (&queue.side, &queue.applying, &queue.bell);
        let drain = Drain {
            outbox: side.outbox.clone(),
            invalidation: self.invalidation.clone(),
            scope: Arc::clone(&self.scope),
            store,
            metrics: self.metrics.clone(),
            applying: applying.clone(),
            bell: bell.clone(),
            told: self.told.clone(),
            poll: self.poll,
            held: Drain::HELD,
            large: Drain::LARGE,
        };
        let prover = Prover {
            outbox: side.outbox.clone(),
            freshness: self.freshness.clone(),
            barrier: side.barrier.clone(),
            applying: applying.clone(),
            bell: bell.clone(),
            looked_at: side.looked_at.clone(),
            metrics: self.metrics.clone(),
        };
        let noter = Noter {
            notes: side.notes.clone(),
            outbox: side.outbox.clone(),
            scope: Arc::clone(&self.scope),
            metrics: self.metrics.clone(),
        };
        Some((drain, prover, noter))
    }

    /// Who sees that the watched tables have their triggers, and that nobody's trigger drops what is queued; if anything is.
    /// Until it has looked nothing is proven, so it is there for writes alone, too.
    pub(super) fn inspector(&self, config: &Config) -> Result<Option<Inspector>, StartError> {
        if self.queue.is_none() {
            return Ok(None);
        }
        let installer = database::installer(config, &self.runtime)?;
        Ok(installer.map(|installer| Inspector {
            installer,
            invalidation: self.invalidation.clone(),
            watched: watched_by(config),
            freshness: self.freshness.clone(),
            metrics: self.metrics.clone(),
            has_missed: Arc::default(),
            every: Inspector::EVERY,
        }))
    }

    /// Who hears the database ring, if it is to.
    pub(super) fn doorbell(&self) -> Option<Doorbell> {
        let queue = self.queue.as_ref().filter(|queue| queue.notify)?;
        Some(Doorbell {
            outbox: queue.side.outbox.clone(),
            bell: queue.bell.clone(),
            metrics: self.metrics.clone(),
            every: Doorbell::EVERY,
        })
    }

    /// Waits until what was queued before is applied, but not for ever.
    pub(super) async fn caught_up(&self) {
        let Some(queue) = &self.queue else { return };
        let caught_up = tokio::time::timeout(LONGEST_BARRIER, queue.side.barrier.down());
        if caught_up.await.is_err() {
            let seconds = LONGEST_BARRIER.as_secs();
            tracing::warn!(
                seconds,
                "changes that were queued before the start are not applied yet; until they are, watched caches are read from postgres"
            );
        }
    }
}

/// Everything under the prefixes that a watch names keys of.
fn watched_by(config: &Config) -> Vec<Pattern> {
    let caches = config.caches.iter().filter(|cache| cache.watched);
    let namespaces = config
        .namespaces
        .iter()
        .filter(|namespace| namespace.watched);
    let mut prefixes: Vec<&str> = caches
        .map(|cache| cache.key.prefix())
        .chain(namespaces.map(|namespace| namespace.prefix.as_str()))
        .collect();
    prefixes.sort_unstable();
    prefixes.dedup();
    prefixes.into_iter().map(Pattern::all_under).collect()
}
