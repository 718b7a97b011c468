//! Why a key is what it is: what Redis holds of it, what has happened to it, and what would invalidate it.

use super::look::{HeldLease, Looking};
use super::origins::Origins;
use crate::cache::{L1, Spaces, Story, Trace};
use crate::keyspace::SpaceId;
use crate::store::{Store, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What a remembered missing row looks like in Redis.
const MISSING: &[u8] = b"null";

/// All that is known of one key.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The cache or namespace that declares it; `None`: another program's.
    pub cache: Option<String>,
    pub redis_key: Bytes,
    /// Whether Redis holds a value, a remembered missing row included.
    pub cached: bool,
    /// Time since it was filled; `None`: nothing is cached, or by somebody who set no expiry.
    pub age: Option<Duration>,
    /// What is left of its life; `None`: the same.
    pub left: Option<Duration>,
    /// The load that is under way, in whatever daemon.
    pub lease: Option<HeldLease>,
    /// Whether this process holds it as well.
    pub l1: bool,
    /// What this daemon knows to have happened.
    pub story: Story,
    /// This daemon, in the story of others.
    pub instance: Uuid,
    /// What would invalidate it, a line each.
    pub invalidated_by: Vec<String>,
}

/// Explains keys.
#[derive(Clone)]
pub(super) struct Explainer {
    pub(super) store: Store,
    pub(super) spaces: Spaces,
    pub(super) origins: Arc<Origins>,
    pub(super) trace: Trace,
    pub(super) l1: L1,
    pub(super) looking: Arc<Looking>,
}

impl Explainer {
    pub(super) async fn explain(
        &self,
        key: Bytes,
        space: Option<SpaceId>,
    ) -> Result<Explanation, StoreError> {
        // One byte more than a remembered missing row has, to tell it from what only begins like it.
        let look = self.looking.head(&self.store, &key, MISSING.len() + 1);
        let look = look.await?;
        let space = space.map(|space| self.spaces.get(space));
        let age = match (look.value.as_deref(), space, look.life.left) {
            (Some(head), Some(space), Some(left)) => Some(space.age(&key, head, left)),
            _ => None,
        };
        Ok(Explanation {
            cache: space.map(|space| space.name.clone()),
            // What others keep there is theirs to choose: a hash, a list.
            cached: look.value.is_some() || space.is_none() && look.is_no_value,
            age,
            left: look.life.left,
            lease: look.lease,
            l1: self.l1.holds(&key),
            story: self.trace.of(&key),
            instance: self.trace.instance(),
            invalidated_by: self.origins.naming(&key),
            redis_key: key,
        })
    }
}
