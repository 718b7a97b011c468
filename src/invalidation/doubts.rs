//! Whole caches in doubt: every hit of theirs is invalidated by name and loaded anew, once, until the doubt is over.
//!
//! To a reader it is a sweep that was announced ([`Sweeps`]), of everything under some prefixes.

use crate::cache::Sweeps;
use crate::keyspace::Pattern;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// As long as it takes: who raised a doubt lays it, and nobody else could.
const DOUBTED_FOR: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A doubt about some prefixes, raised or not. Cheap to clone; clones share it.
#[derive(Clone)]
pub(super) struct Doubts(Arc<Inner>);

struct Inner {
    sweeps: Sweeps,
    raised: Mutex<Vec<Uuid>>,
}

impl Doubts {
    pub(super) fn new(sweeps: Sweeps) -> Self {
        Self(Arc::new(Inner {
            sweeps,
            raised: Mutex::default(),
        }))
    }

    /// From now on every hit under `prefixes` is doubted, those too that an earlier doubt has renewed; and no other.
    pub(super) fn raise<'a>(&self, prefixes: impl Iterator<Item = &'a Pattern>) {
        let mut raised = self.0.raised.lock();
        let before = std::mem::take(&mut *raised);
        for pattern in prefixes {
            let id = Uuid::new_v4();
            self.0.sweeps.announce(id, pattern, DOUBTED_FOR);
            raised.push(id);
        }
        // Not sooner: in between nothing would be doubted.
        self.end(before);
    }

    /// The hits are beyond doubt.
    pub(super) fn lay(&self) {
        let raised = std::mem::take(&mut *self.0.raised.lock());
        self.end(raised);
    }

    fn end(&self, ids: Vec<Uuid>) {
        for id in ids {
            self.0.sweeps.end(id);
        }
    }
}
