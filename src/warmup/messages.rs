//! What one may ask the warmup actor.

use super::board::{Outcome, Report};
use super::{WarmError, WarmupActor};
use crate::keyspace::Pattern;
use crate::supervisor::Handle;
use actix::{Addr, Message};
use std::time::Duration;

/// Warms caches, by name, now; none: all that are warmed at all. Each by itself, side by side; one that fails stops no other.
/// Answered when all of them are done, in the order of the configuration.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Vec<(String, Outcome)>, WarmError>")]
pub struct Warm {
    pub caches: Vec<String>,
    /// Load what is fresh, too.
    pub force: bool,
}

/// Tells where the warmup of each cache stands.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Report>")]
pub struct LookAtRuns;

/// Whatever matches this pattern was removed.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Swept {
    pub pattern: Pattern,
}

/// Runs that are waited for at once; one more is answered *overloaded*.
const MAX_IN_FLIGHT: usize = 256;
/// Who has waited this long for a run is told, and the run goes on.
pub const LONGEST_RUN: Duration = Duration::from_secs(60 * 60);
/// What is answered at once.
const DEADLINE: Duration = Duration::from_secs(60);

/// The handles of the warmup actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct WarmupHandle {
    pub warm: Handle<Warm>,
    pub look: Handle<LookAtRuns>,
    pub swept: Handle<Swept>,
}

impl WarmupHandle {
    /// Handles nobody answers yet.
    pub fn unbound() -> Self {
        Self {
            warm: Handle::unbound("warmup", MAX_IN_FLIGHT, LONGEST_RUN),
            look: Handle::unbound("warmup", MAX_IN_FLIGHT, DEADLINE),
            swept: Handle::unbound("warmup", MAX_IN_FLIGHT, DEADLINE),
        }
    }

    /// Requests that the actor has taken and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.warm.in_flight() + self.look.in_flight() + self.swept.in_flight()
    }

    pub(super) fn bind_each(&self, address: Option<&Addr<WarmupActor>>) {
        match address {
            Some(address) => {
                self.warm.bind(address.clone().recipient());
                self.look.bind(address.clone().recipient());
                self.swept.bind(address.clone().recipient());
            }
            None => {
                self.warm.unbind();
                self.look.unbind();
                self.swept.unbind();
            }
        }
    }
}
