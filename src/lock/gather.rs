//! What goes to Redis or Postgres together: whatever has come while the calls before were under way.

use std::collections::VecDeque;

/// Calls of one kind that are out at once; what comes meanwhile goes together in the next.
const MAX_OUT: usize = 2;

/// What is to be sent, in the order in which it came.
#[derive(Debug)]
pub(super) struct Gather<T> {
    waiting: VecDeque<T>,
    out: usize,
    batch: usize,
}

impl<T> Gather<T> {
    /// At most `batch` go together.
    pub(super) fn new(batch: usize) -> Self {
        Self {
            waiting: VecDeque::new(),
            out: 0,
            batch,
        }
    }

    pub(super) fn push(&mut self, one: T) {
        self.waiting.push_back(one);
    }

    /// What is to be sent now, if anything is.
    pub(super) fn next(&mut self) -> Option<Vec<T>> {
        if self.waiting.is_empty() || self.out >= MAX_OUT {
            return None;
        }
        self.out += 1;
        let count = self.batch.min(self.waiting.len());
        Some(self.waiting.drain(..count).collect())
    }

    /// A call is over.
    pub(super) fn came_back(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.out == 0 && self.waiting.is_empty()
    }
}
