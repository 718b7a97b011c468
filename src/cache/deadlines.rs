//! Answers reads whose time is up, without a timer each; and says who has waited for so long that an old value is better.
//!
//! All reads of one cache wait equally long, so their deadlines come in the order in which they were entered: a queue a
//! cache, looked at from its front every few milliseconds while there is anything in it.

use super::CacheError;
use super::collect::Collector;
use super::fallback::Late;
use super::spaces::Space;
use crate::keyspace::{RoutedKey, SpaceId};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

/// One read's place in a queue.
struct Due {
    at: Instant,
    key: RoutedKey,
    after: Duration,
    collector: Weak<Collector>,
    index: usize,
}

/// Entries below which a queue is not worth tidying.
const TIDY_FROM: usize = 1024;

/// The deadlines of one shard's reads.
#[derive(Default)]
pub(super) struct Deadlines {
    queues: HashMap<(SpaceId, Kind), Queue>,
}

/// What becomes of a read at the end of its time.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    /// It is answered with an error.
    Hard,
    /// It is answered with an old value, if there is one.
    Soft,
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
    /// From now on `collector`'s place `index`, which wants `key`, has the time of its `space` to be answered.
    pub(super) fn enter(
        &mut self,
        key: &RoutedKey,
        space: &Space,
        collector: &Arc<Collector>,
        index: usize,
    ) {
        let mut enter = |kind, after| {
            let queue = self.queues.entry((key.space, kind)).or_default();
            queue.tidy();
            queue.due.push_back(Due {
                at: Instant::now() + after,
                key: key.clone(),
                after,
                collector: Arc::downgrade(collector),
                index,
            });
        };
        enter(Kind::Hard, space.load_timeout);
        if !space.windows.on_error.is_zero() {
            enter(Kind::Soft, space.windows.soft_timeout);
        }
    }

    /// Whether no read waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queues.is_empty()
    }

    /// Answers what is due, and forgets what was answered meanwhile. Returns the reads that an old value is better for than to
    /// wait on.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Late> {
        let mut late = Vec::new();
        self.queues.retain(|(_, kind), queue| {
            while let Some(due) = queue.due.front() {
                match due.collector.upgrade() {
                    Some(_waiting) if due.at > now => break,
                    Some(collector) if *kind == Kind::Hard => {
                        let after_ms = u64::try_from(due.after.as_millis()).unwrap_or(u64::MAX);
                        collector.answer(due.index, || Err(CacheError::TimedOut { after_ms }));
                    }
                    Some(collector) => late.push(Late {
                        key: due.key.clone(),
                        collector,
                        place: due.index,
                    }),
                    None => {}
                }
                queue.due.pop_front();
            }
            !queue.due.is_empty()
        });
        late
    }
}
