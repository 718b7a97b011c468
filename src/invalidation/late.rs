//! Rows whose names were invalidated when their claim was gone already.
//!
//! They are removed at once, if nobody has claimed them meanwhile. If we have, that claim is done with by this; if another
//! daemon has, they are remembered for the case that it does not come to an end with them either.

use crate::repository::Change;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::Instant;
use tokio::sync::Notify;

/// Rows remembered. Beyond, they are invalidated again.
const MAX_LATE: usize = 100_000;

/// The rows of one life.
#[derive(Default)]
pub(super) struct Late {
    /// When it was begun to invalidate what they name.
    begun: Mutex<HashMap<i64, Instant>>,
    came: Notify,
}

impl Late {
    /// What these name is invalidated; that was begun then.
    pub(super) fn add(&self, ids: &[i64], begun: Instant) {
        let mut late = self.begun.lock();
        if late.len() + ids.len() > MAX_LATE {
            late.clear();
        }
        late.extend(ids.iter().map(|id| (*id, begun)));
        drop(late);
        self.came.notify_waiters();
    }

    /// Whether what it names is invalidated.
    pub(super) fn has(&self, row: &Change) -> bool {
        // An id may be given anew once the queue was installed anew; that row is younger.
        let begun = self.begun.lock().get(&row.id).copied();
        begun.is_some_and(|begun| row.since < begun)
    }

    /// Waits until what all of them name is invalidated.
    pub(super) async fn has_all(&self, rows: &[Change]) {
        loop {
            let mut came = std::pin::pin!(self.came.notified());
            // Before we look: else what comes in between would be missed.
            came.as_mut().enable();
            if rows.iter().all(|row| self.has(row)) {
                return;
            }
            came.await;
        }
    }

    /// They are gone from the queue.
    pub(super) fn forget(&self, ids: impl Iterator<Item = i64>) {
        let mut late = self.begun.lock();
        for id in ids {
            late.remove(&id);
        }
    }
}
