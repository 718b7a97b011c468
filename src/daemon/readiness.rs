//! Whether clients should be sent to this daemon, and why not.

use super::info::Seen;
use crate::http::Reason;
use crate::repository::Repository;
use crate::store::Store;
use crate::supervisor::ActorState;
use std::time::Duration;

/// From this age of the proof on. Hits are marked stale a good deal earlier; a daemon that is just busy with a backlog is not
/// to be taken away from its clients.
const PROVEN_WITHIN: Duration = Duration::from_secs(5);

impl Seen {
    /// None: it is ready. A daemon that is not still answers what it can.
    pub(super) fn unready(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        let mut tell = |what: &str, detail: &str| {
            reasons.push(Reason {
                what: what.to_owned(),
                detail: detail.to_owned(),
            });
        };
        for actor in self.health.snapshot() {
            match actor.state {
                ActorState::Up => {}
                ActorState::Starting => tell(&actor.name, "is being started"),
                ActorState::BackingOff => tell(&actor.name, "has died, and is started again soon"),
                ActorState::Stopped => tell(&actor.name, "has stopped"),
                ActorState::GaveUp => tell(&actor.name, "has died too often"),
            }
        }
        if !self.stores.iter().all(Store::is_up) {
            tell("redis", "does not answer; reads go to Postgres");
        }
        if !self.repository.as_ref().is_none_or(Repository::is_up) {
            tell("postgres", "does not answer; only what is cached is served");
        }
        let metrics = &self.metrics;
        if metrics.barrier_up.get() != 0 {
            tell(
                "queue",
                "watched caches are read from Postgres until it is caught up with",
            );
        }
        if metrics.proof_age.get() > PROVEN_WITHIN.as_secs_f64() {
            tell(
                "proof",
                "nothing proves of late that what is cached is fresh",
            );
        }
        if metrics.watch_flaws.get() != 0 {
            tell(
                "migrations",
                "watched tables lack their triggers: run `cachewarden migrate`",
            );
        }
        if !*self.ready.borrow() {
            tell("warmup", "the first runs are not over");
        }
        reasons
    }
}
