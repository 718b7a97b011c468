//! Sweeps that other daemons have announced, and what becomes of them if their daemon is gone.
//!
//! Who sweeps renews its announcement until it tells the end of it. If it does neither, it has died in the middle, and what
//! its sweep had not come to would be given out again as soon as the announcement runs out. So before that every daemon that
//! knows of it doubts on, and one of them begins the sweep again, as its own: the announcement that was left stands until that
//! one is announced in its place, and is withdrawn then, which all the others hear. If the heir dies as well, it begins anew.
//!
//! Announcements are heard on a channel on which anybody may publish. A forged one makes no more of us than any message with
//! this pattern would: it is swept once, and only if it is under a declared prefix.

use super::actor::InvalidationParts;
use super::invalidate;
use super::pending::Sweep;
use super::scripts::ANNOUNCED_FOR;
use crate::cache::Origin;
use crate::keyspace::names::claim_of;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout_at;
use uuid::Uuid;

/// Sweeps of others known at once. One beyond, if it is left, is begun again by who does know it, or starts later.
const MAX_KNOWN: usize = 4096;
/// How long the claim to begin a sweep again stands: all that know of it come at about the same time.
const CLAIMED_FOR: Duration = Duration::from_secs(10);

/// What others have announced. Cheap to clone; it outlives the actor.
#[derive(Clone, Default)]
pub(super) struct Others(Arc<Known>);

#[derive(Default)]
struct Known {
    sweeps: Mutex<HashMap<Uuid, Other>>,
    came: Notify,
}

struct Other {
    sweep: Sweep,
    /// Unless it is renewed by then, it has been left.
    left_at: Instant,
}

impl Others {
    /// It is announced, or again, for `life`.
    pub(super) fn announced(&self, sweep: Sweep, life: Duration) {
        let mut sweeps = self.0.sweeps.lock();
        if sweeps.len() >= MAX_KNOWN && !sweeps.contains_key(&sweep.id) {
            return;
        }
        let left_at = Instant::now() + waited(life);
        sweeps.insert(sweep.id, Other { sweep, left_at });
        self.0.came.notify_one();
    }

    /// It has ended, or is ours now.
    pub(super) fn ended(&self, id: Uuid) {
        self.0.sweeps.lock().remove(&id);
    }

    /// Waits until some have been left. They are left again if nothing becomes of them.
    async fn left(&self) -> Vec<Sweep> {
        loop {
            let now = Instant::now();
            let (mut left, mut next) = (Vec::new(), now + ANNOUNCED_FOR);
            for other in self.0.sweeps.lock().values_mut() {
                if other.left_at <= now {
                    left.push(other.sweep.clone());
                    other.left_at = now + waited(ANNOUNCED_FOR);
                }
                next = next.min(other.left_at);
            }
            if !left.is_empty() {
                return left;
            }
            // Sooner, if one comes that does not last as long.
            let _late = timeout_at(next.into(), self.0.came.notified()).await;
        }
    }
}

/// How long an announcement is waited for to be renewed: two renewals are missing then, and a quarter of it is left to begin
/// again while it is heeded.
fn waited(life: Duration) -> Duration {
    life / 4 * 3
}

/// Begins again whatever others leave; runs until dropped.
pub(super) async fn take_over(parts: InvalidationParts) {
    loop {
        for sweep in parts.others.left().await {
            // Doubted on, whoever begins it again: that one tells when it is announced in its place.
            parts
                .sweeps
                .announce(sweep.id, &sweep.pattern, ANNOUNCED_FOR);
            let claim = claim_of(sweep.id.as_u128());
            // Whether it is ours or cannot be known: to sweep twice costs time, not to sweep costs truth.
            if let Ok(false) = parts.store.claim(&claim, CLAIMED_FOR).await {
                continue;
            }
            let (pattern, origin) = (&sweep.pattern, Origin::Elsewhere);
            tracing::warn!(
                pattern = pattern.shown(),
                "a sweep that another daemon has left is begun again"
            );
            parts.count_patterns(1, origin.label());
            parts.trace.swept(pattern, origin, None);
            invalidate::note(&parts, std::slice::from_ref(pattern), origin);
            let id = sweep.id;
            parts.queue.adopt(&parts.scope, sweep);
            parts.others.ended(id);
        }
    }
}
