//! The keepers of all caches, and who of them is told what.

use super::WarmError;
use super::board::{Board, Outcome};
use super::keeper::{Asked, Heard, Keeper, Means};
use super::plan::Plan;
use crate::keyspace::Pattern;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// What a keeper has not heard yet: beyond that, who asks waits, and a sweep more or less says nothing new.
const MAX_UNHEARD: usize = 64;

/// The ways to the keepers.
pub(super) struct Keepers {
    plans: Arc<[Plan]>,
    ways: Vec<mpsc::Sender<Heard>>,
}

/// The runs that were asked for, by cache.
type Wanted = Vec<(String, mpsc::Sender<Heard>)>;

impl Keepers {
    /// Keepers for all plans, each to be run.
    pub(super) fn new(
        plans: &Arc<[Plan]>,
        means: &Means,
    ) -> (Self, Vec<impl Future<Output = ()> + use<>>) {
        let mut ways = Vec::new();
        let mut running = Vec::new();
        for (at, plan) in plans.iter().enumerate() {
            let (way, heard) = mpsc::channel(MAX_UNHEARD);
            ways.push(way);
            running.push(Keeper::new(at, plan.clone(), means.clone()).run(heard));
        }
        let plans = Arc::clone(plans);
        (Self { plans, ways }, running)
    }

    /// Runs of these caches, none meaning all; not asked for before it is awaited.
    ///
    /// # Errors
    /// If one of them is not warmed at all.
    pub(super) fn warm(
        &self,
        caches: &[String],
        force: bool,
    ) -> Result<impl Future<Output = Vec<(String, Outcome)>> + use<>, WarmError> {
        let is_known = |name: &&String| self.plans.iter().any(|plan| plan.name == **name);
        if let Some(name) = caches.iter().find(|name| !is_known(name)) {
            let name = name.clone();
            return Err(WarmError::Unknown { name });
        }
        let is_wanted = |plan: &Plan| caches.is_empty() || caches.contains(&plan.name);
        let wanted = self.plans.iter().zip(&self.ways);
        let wanted = wanted.filter(|(plan, _)| is_wanted(plan));
        let wanted: Wanted = wanted
            .map(|(plan, way)| (plan.name.clone(), way.clone()))
            .collect();
        Ok(ask_all(wanted, force))
    }

    /// Tells those whose keys may have been swept.
    pub(super) fn swept(&self, pattern: &Pattern) {
        for (plan, way) in self.plans.iter().zip(&self.ways) {
            if plan.warm.after_invalidation && plan.is_met_by(pattern) {
                let _full_of_the_same = way.try_send(Heard::Swept);
            }
        }
    }
}

async fn ask_all(wanted: Wanted, force: bool) -> Vec<(String, Outcome)> {
    let asked = wanted.into_iter().map(|(cache, way)| async move {
        let answer = ask(&cache, &way, force).await;
        let outcome = answer.unwrap_or_else(|error| Outcome {
            error: Some(error.to_string()),
            ..Outcome::default()
        });
        (cache, outcome)
    });
    futures_util::future::join_all(asked).await
}

async fn ask(cache: &str, way: &mpsc::Sender<Heard>, force: bool) -> Result<Outcome, WarmError> {
    let broken_off = || WarmError::BrokenOff {
        cache: cache.to_owned(),
    };
    let (answer, answered) = oneshot::channel();
    let asked = Heard::Asked(Asked { force, answer });
    way.send(asked).await.map_err(|_gone| broken_off())?;
    answered.await.map_err(|_gone| broken_off())?
}

/// For [`Board`]: each cache by name, and whether the daemon is not ready before its first run.
pub(super) fn board(plans: &[Plan]) -> Board {
    let awaited = |plan: &Plan| (plan.name.clone(), plan.warm.ready_after_warm);
    Board::new(plans.iter().map(awaited))
}
