//! What one may ask the audit actor.

use super::{AuditActor, Explanation};
use crate::keyspace::SpaceId;
use crate::store::StoreError;
use crate::supervisor::Handle;
use actix::{Addr, Message};
use bytes::Bytes;
use std::time::Duration;

/// Tells all that is known of a key.
#[derive(Debug, Message)]
#[rtype(result = "Result<Explanation, StoreError>")]
pub struct Explain {
    pub key: Bytes,
    /// Whose it is; `None`: another program's.
    pub space: Option<SpaceId>,
}

/// Keys explained at once; one more is answered *overloaded*.
const MAX_IN_FLIGHT: usize = 256;
/// One look at Redis, which has a deadline of its own.
const DEADLINE: Duration = Duration::from_secs(60);

/// The handles of the audit actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct AuditHandle {
    pub explain: Handle<Explain>,
}

impl AuditHandle {
    /// Handles nobody answers yet.
    pub fn unbound() -> Self {
        Self {
            explain: Handle::unbound("audit", MAX_IN_FLIGHT, DEADLINE),
        }
    }

    pub(super) fn bind_each(&self, address: Option<&Addr<AuditActor>>) {
        match address {
            Some(address) => self.explain.bind(address.clone().recipient()),
            None => self.explain.unbind(),
        }
    }
}
