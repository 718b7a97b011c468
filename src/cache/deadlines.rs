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

/// The deadlines of one shard's reads.
#[derive(Default)]
pub(super) struct Deadlines {
    queues: HashMap<SpaceId, VecDeque<Due>>,
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
        self.queues.entry(space).or_default().push_back(Due {
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
            while let Some(due) = queue.front() {
                match due.collector.upgrade() {
                    Some(collector) if due.at <= now => {
                        let after_ms = u64::try_from(due.after.as_millis()).unwrap_or(u64::MAX);
                        collector.answer(due.index, || Err(CacheError::TimedOut { after_ms }));
                    }
                    Some(_waiting) => break,
                    None => {}
                }
                queue.pop_front();
            }
            !queue.is_empty()
        });
        !self.queues.is_empty()
    }
}
