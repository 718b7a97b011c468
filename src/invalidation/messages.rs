//! What one may ask the invalidation actor.

use super::{InvalidationActor, InvalidationError};
use crate::cache::Origin;
use crate::keyspace::{Pattern, Targets};
use crate::supervisor::Handle;
use actix::{Addr, Message};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Invalidates keys, and whatever matches patterns. Answered once all of it has run to its end in Redis, with the number
/// of keys removed.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, InvalidationError>")]
pub struct InvalidateTargets {
    pub targets: Targets,
    pub origin: Origin,
}

/// Counts the keys that [`InvalidateTargets`] would remove now, and removes none.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, InvalidationError>")]
pub struct CountTargets {
    pub targets: Targets,
}

/// Gives up the sweeps, waiting or under way in this daemon, whose pattern as a text matches one of these; how many. Who waits
/// for one is told. What a watched table asks for comes back with its row.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, InvalidationError>")]
pub struct CancelSweeps {
    pub patterns: Vec<Pattern>,
}

/// Publishes a message on a channel of Redis; how many heard it.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, InvalidationError>")]
pub struct Publish {
    pub channel: String,
    pub payload: Bytes,
}

/// Told of every pattern that was swept, once it was: this daemon's own, never others'.
#[derive(Clone)]
pub struct OnSwept(Arc<dyn Fn(&Pattern) + Send + Sync>);

impl OnSwept {
    /// `tell` may not wait for anything.
    pub fn new(tell: impl Fn(&Pattern) + Send + Sync + 'static) -> Self {
        Self(Arc::new(tell))
    }

    pub(super) fn tell(&self, pattern: &Pattern) {
        (self.0)(pattern);
    }
}

/// Nobody is told.
impl Default for OnSwept {
    fn default() -> Self {
        Self::new(|_pattern| {})
    }
}

/// Requests that wait at once, a kind.
const MAX_IN_FLIGHT: usize = 4096;
/// Counts at once: each walks through all keys of Redis.
const MAX_COUNTS: usize = 2;
/// A sweep takes a second a million keys; who has waited this long is told, and the sweep goes on.
const LONGEST_SWEEP: Duration = Duration::from_secs(600);

/// The handles of the invalidation actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct InvalidationHandle {
    pub invalidate: Handle<InvalidateTargets>,
    pub count: Handle<CountTargets>,
    pub cancel: Handle<CancelSweeps>,
    pub publish: Handle<Publish>,
}

impl InvalidationHandle {
    /// Handles nobody answers yet.
    pub fn unbound() -> Self {
        Self {
            invalidate: Handle::unbound("invalidation", MAX_IN_FLIGHT, LONGEST_SWEEP),
            count: Handle::unbound("invalidation", MAX_COUNTS, LONGEST_SWEEP),
            cancel: Handle::unbound("invalidation", MAX_IN_FLIGHT, Duration::from_secs(60)),
            publish: Handle::unbound("invalidation", MAX_IN_FLIGHT, Duration::from_secs(60)),
        }
    }

    /// Requests that the actor has taken and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.invalidate.in_flight()
            + self.count.in_flight()
            + self.cancel.in_flight()
            + self.publish.in_flight()
    }

    pub(super) fn bind_each(&self, address: Option<&Addr<InvalidationActor>>) {
        match address {
            Some(address) => {
                self.invalidate.bind(address.clone().recipient());
                self.count.bind(address.clone().recipient());
                self.cancel.bind(address.clone().recipient());
                self.publish.bind(address.clone().recipient());
            }
            None => {
                self.invalidate.unbind();
                self.count.unbind();
                self.cancel.unbind();
                self.publish.unbind();
            }
        }
    }
}
