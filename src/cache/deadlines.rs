//! Answers reads whose time is up, without a timer each.
//!
//! All reads of one cache wait equally long, so their deadlines come in the order in which they were entered: a queue a
//! cache, looked at from its front every few milliseconds while there is anything in it.

use super::CacheError;
use super::collect::Collector;
use crate::keyspace::SpaceId;
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// One read's place in a queue.
struct Due {
    at: Instant,
    after: Duration,
    collector: Weak<Collector>,
    index: usize,
}

/// Entries below which a queue is not worth tidying.
const TIDY_FROM: usize = 1024;

/// The deadlines of one shard's reads.
#[derive(Default)]
pub(super) struct Deadlines {
    queues: HashMap<SpaceId, Queue>,
}

/// One space's deadlines, the next one in front.
#[derive(Default)]
struct Queue {
    due: VecDeque<Due>,
    /// Entries that were left by the last tidying.
    kept: usize,
}

impl Queue {
    /// Drops what was answered meanwhile. It may lie behind a read that waits long; done when the queue has doubled, so
    /// that it costs little an entry.
    fn tidy(&mut self) {
        if self.due.len() >= TIDY_FROM.max(2 * self.kept) {
            self.due.retain(|due| due.collector.strong_count() > 0);
            self.kept = self.due.len();
        }
    }
}

impl Deadlines {
    /// From now on `collector`'s place `index` has `after` to be answered.
    pub(super) fn enter(
        &mut self,
        space: SpaceId,
        after: Duration,
        collector: &Arc<Collector>,
        index: usize,
    ) {
        let queue = self.queues.entry(space).or_default();
        queue.tidy();
        queue.due.push_back(Due {
            at: Instant::now() + after,
            after,
            collector: Arc::downgrade(collector),
            index,
        });
    }

    /// Whether no read waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Answers what is due, and forgets what was answered meanwhile. Returns whether anything is left.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        self.queues.retain(|_, queue| {
            while let Some(due) = queue.due.front() {
                match due.collector.upgrade() {
                    Some(collector) if due.at <= now => {
                        let after_ms = u64::try_from(due.after.as_millis()).unwrap_or(u64::MAX);
                        collector.answer(due.index, || Err(CacheError::TimedOut { after_ms }));
                    }
                    Some(_waiting) => break,
                    None => {}
                }
                queue.due.pop_front();
            }
            !queue.due.is_empty()
        });
        !self.queues.is_empty()
    }
}
