//! Sees that the triggers of the watched tables stay where `migrate` has put them.
//!
//! A trigger may be dropped or disabled any day, its table be made anew, and a daemon may start while Postgres is away and
//! nothing can be checked. Changes are then made that nothing tells of, and an empty queue proves nothing: watched hits are
//! marked as stale, until all is as declared and everything that was cached meanwhile is invalidated. What is flawed but not silent, such as a trigger that a later `migrate` has
//! replaced, or a new partition without triggers of its own, is only told.

use super::InvalidationError;
use super::messages::{InvalidateTargets, InvalidationHandle};
use crate::cache::{Freshness, Origin};
use crate::keyspace::{Pattern, Targets};
use crate::repository::{Installer, RepositoryError, WatchProblem};
use crate::supervisor::AskError;
use crate::telemetry::Metrics;
use std::sync::Arc;
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
    /// How often it is looked: [`Inspector::EVERY`], but for tests.
    pub every: Duration,
}

impl Inspector {
    pub const EVERY: Duration = Duration::from_secs(60);
    /// How often while something is wrong, or nothing is known: it may be mended any moment.
    const EVERY_IF_WRONG: Duration = Duration::from_secs(1);

    /// Looks for ever.
    pub async fn run(self) {
        let mut known = Known::default();
        loop {
            let pause = match self.look(&mut known).await {
                Ok(()) if known.wrong.is_empty() => self.every,
                Ok(()) => self.every.min(Self::EVERY_IF_WRONG),
                Err(error) => {
                    // What was known last holds. The queue cannot be looked at either, so nothing is proven meanwhile.
                    tracing::debug!(%error, "the watched tables could not be looked at");
                    self.every.min(Self::EVERY_IF_WRONG)
                }
            };
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        }
    }

    async fn look(&self, known: &mut Known) -> Result<(), Unseen> {
        let plan = self.installer.plan().await?;
        let wrong: Vec<_> = plan.problems.iter().chain(&plan.flaws).collect();
        let count = i64::try_from(wrong.len()).unwrap_or(i64::MAX);
        self.metrics.watch_flaws.set(count);
        for problem in wrong.iter().filter(|p| !known.wrong.contains(&p.message)) {
            tell(problem);
        }
        if wrong.is_empty() && !known.wrong.is_empty() {
            tracing::info!("all watches are installed as declared again");
        }
        known.wrong = wrong.iter().map(|p| p.message.clone()).collect();
        if wrong.iter().any(|problem| problem.is_untold) {
            known.was_untold = true;
            self.freshness.untold(true);
            return Ok(());
        }
        if known.was_untold {
            self.invalidate_all().await?;
            known.was_untold = false;
        }
        self.freshness.untold(false);
        Ok(())
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

/// What the last look found.
#[derive(Default)]
struct Known {
    /// What was wrong: it is told when it is found, and not again.
    wrong: Vec<String>,
    was_untold: bool,
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
