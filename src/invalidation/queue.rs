//! What waits to be swept, and who waits for it. It outlives the actor: a restart begins again with it.

use super::pending::{Pending, Sweep};
use crate::keyspace::{Pattern, Scope};
use crate::store::StoreError;
use bytes::Bytes;
use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};

/// Why who waits for a sweep has no number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unswept {
    /// It takes long, and goes on without them.
    Late(StoreError),
    /// Somebody gave it up.
    Cancelled,
}

/// What who waits for a sweep gets: the number of keys it removed, or why there is none.
pub(super) type Swept = Result<u64, Unswept>;
pub(super) type Waiting = oneshot::Sender<Swept>;

/// The queue. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Queued>);

#[derive(Default)]
struct Queued {
    pending: Mutex<Pending<Waiting>>,
    came: Notify,
}

impl Queue {
    /// Adds a pattern; the answer is the number of keys removed once it is swept.
    pub(super) fn add(
        &self,
        scope: &Scope,
        pattern: Pattern,
        claim: Option<Bytes>,
    ) -> oneshot::Receiver<Swept> {
        let (waiting, swept) = oneshot::channel();
        let wide = scope.widened(&pattern);
        self.0
            .pending
            .lock()
            .add(pattern, wide, Some(waiting), claim);
        self.0.came.notify_one();
        swept
    }

    /// Tells who waits that it is in vain. The patterns stay.
    pub(super) fn let_go(&self) {
        drop(self.0.pending.lock().take_waiting());
    }

    /// Gives up the patterns that `is_meant`; how many. What they have removed is gone, and what is left stays.
    pub(super) fn cancel(&self, is_meant: impl Fn(&Pattern) -> bool) -> u64 {
        let cancelled = self.0.pending.lock().cancel(is_meant);
        for done in &cancelled {
            let (pattern, removed) = (done.sweep.pattern.shown(), done.removed);
            tracing::warn!(
                pattern,
                removed,
                "a sweep was cancelled: values that it should have removed are given out again"
            );
        }
        let count = u64::try_from(cancelled.len()).unwrap_or(u64::MAX);
        for waiting in cancelled.into_iter().flat_map(|done| done.waiting) {
            let _gone = waiting.send(Err(Unswept::Cancelled));
        }
        // For the announcements.
        self.0.came.notify_one();
        count
    }

    /// What waits.
    pub(super) fn pending(&self) -> MutexGuard<'_, Pending<Waiting>> {
        self.0.pending.lock()
    }

    /// Something has come, or was taken away.
    pub(super) async fn came(&self) {
        self.0.came.notified().await;
    }

    /// How many patterns wait.
    pub(super) fn len(&self) -> usize {
        self.0.pending.lock().len()
    }

    /// Adds what a daemon that is gone has announced and not swept.
    pub(super) fn adopt(&self, scope: &Scope, sweep: Sweep) {
        let wide = scope.widened(&sweep.pattern);
        self.0.pending.lock().adopt(sweep, wide);
        self.0.came.notify_one();
    }

    /// Adds a pattern for which nobody waits.
    pub(super) fn add_unheard(&self, scope: &Scope, pattern: Pattern) {
        let wide = scope.widened(&pattern);
        self.0.pending.lock().add(pattern, wide, None, None);
        self.0.came.notify_one();
    }
}
