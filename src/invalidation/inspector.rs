//! Sees that the triggers of the watched tables stay where `migrate` has put them.
//!
//! A trigger may be dropped or disabled any day, its table be made anew, and a daemon may start while Postgres is away and
//! nothing can be checked. Changes are then made that nothing tells of, and an empty queue proves nothing: watched hits are
//! marked as stale, until all is as declared and everything that was cached meanwhile is invalidated. What is flawed but not
//! silent, such as a trigger that a later `migrate` has replaced, or a new partition without triggers of its own, is only
//! told.

use super::InvalidationError;
use super::messages::{InvalidateTargets, InvalidationHandle};
use crate::cache::{Freshness, Origin};
use crate::keyspace::{Pattern, Targets};
use crate::repository::{Installer, RepositoryError, WatchProblem};
use crate::supervisor::AskError;
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::sleep;

/// Looks at the watched tables. Cheap to clone.
#[derive(Clone)]
pub struct Inspector {
    pub installer: Arc<Installer>,
    pub invalidation: InvalidationHandle,
    /// All that watched tables feed.
    pub watched: Vec<Pattern>,
    pub freshness: Freshness,
    pub metrics: Metrics,
    /// Whether changes may have been missed that are not made good for yet: it outlives a restart.
    pub has_missed: Arc<AtomicBool>,
    /// How often it is looked: [`Inspector::EVERY`], but for tests.
    pub every: Duration,
}

impl Inspector {
    pub const EVERY: Duration = Duration::from_secs(60);
    /// How often while hits are marked for it, or nothing is known: it may be mended any moment.
    const EVERY_IF_UNTOLD: Duration = Duration::from_secs(1);

    /// Looks for ever.
    pub async fn run(self) {
        let mut told = Vec::new();
        loop {
            let pause = match self.look(&mut told).await {
                Ok(true) => self.every,
                Ok(false) => self.every.min(Self::EVERY_IF_UNTOLD),
                Err(error) => {
                    // What was known last holds. The queue cannot be looked at either, so nothing is proven meanwhile.
                    tracing::debug!(%error, "the watched tables could not be looked at");
                    self.every.min(Self::EVERY_IF_UNTOLD)
                }
            };
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    /// Whether every change is told. What is wrong is logged when it is found, and not again: `told`.
    async fn look(&self, told: &mut Vec<String>) -> Result<bool, Unseen> {
        let plan = self.installer.plan().await?;
        let wrong: Vec<_> = plan.problems.iter().chain(&plan.flaws).collect();
        let count = i64::try_from(wrong.len()).unwrap_or(i64::MAX);
        self.metrics.watch_flaws.set(count);
        for problem in wrong.iter().filter(|p| !told.contains(&p.message)) {
            tell(problem);
        }
        if wrong.is_empty() && !told.is_empty() {
            tracing::info!("all watches are installed as declared again");
        }
        *told = wrong.iter().map(|p| p.message.clone()).collect();
        if wrong.iter().any(|problem| problem.is_untold) {
            self.has_missed.store(true, Ordering::Release);
            self.freshness.untold(true);
            return Ok(false);
        }
        if self.has_missed.load(Ordering::Acquire) {
            self.invalidate_all().await?;
            self.has_missed.store(false, Ordering::Release);
        }
        self.freshness.untold(false);
        Ok(true)
    }

    /// Whoever mends a trigger by hand does not queue what was missed.
    async fn invalidate_all(&self) -> Result<(), Unseen> {
        let targets = Targets {
            patterns: self.watched.clone(),
            ..Targets::default()
        };
        let origin = Origin::Deaf;
        let ask = InvalidateTargets { targets, origin };
        Ok(self.invalidation.invalidate.ask(ask).await?.map(drop)?)
    }
}

/// Why a look told nothing, or has to be repeated.
#[derive(Debug, thiserror::Error)]
enum Unseen {
    #[error(transparent)]
    Database(#[from] RepositoryError),
    #[error(transparent)]
    Invalidation(#[from] InvalidationError),
    #[error(transparent)]
    Actor(#[from] AskError),
}

fn tell(problem: &WatchProblem) {
    let (message, hint) = (&problem.message, &problem.hint);
    if problem.is_untold {
        tracing::error!(
            hint,
            "changes may go untold, so watched hits are marked as stale: {message}"
        );
    } else {
        tracing::warn!(hint, "a watch is not installed as declared: {message}");
    }
}
