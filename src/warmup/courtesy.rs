//! How runs give way to reads: while somebody reads, one small batch of all runs goes at a time, and the next one after as
//! long a rest; while reads wait for Postgres, none does.

use crate::cache::{Manner, Warming};
use crate::repository::Repository;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

/// Somebody reads for so long after each read.
const READERS_STAY: Duration = Duration::from_secs(1);
/// Keys of a batch while somebody reads.
const MAX_KEYS: usize = 64;
/// Batches under way otherwise: while one is loaded, the one before is filled and the one behind takes its leases.
const MAX_BATCHES: usize = 3;
/// While reads wait for a connection to Postgres, the next batch waits: so long between two looks, and at most so often, so that
/// a cache that is read all the time is warmed all the same.
const YIELD_STEP: Duration = Duration::from_millis(2);
const MAX_YIELDS: usize = 100;

/// What all runs have in common.
#[derive(Clone)]
pub(super) struct Courtesy {
    warming: Warming,
    /// Whom the reads load from.
    reads: Repository,
    /// Of the batches that go while somebody reads.
    turn: Arc<Semaphore>,
}

/// Who reads, as one run sees it.
#[derive(Debug)]
pub(super) struct Readers {
    keys: u64,
    seen: Option<Instant>,
}

impl Courtesy {
    pub(super) fn new(warming: Warming, reads: Repository) -> Self {
        let turn = Arc::new(Semaphore::new(1));
        Self {
            warming,
            reads,
            turn,
        }
    }

    /// Nobody is known to read yet.
    pub(super) fn readers(&self) -> Readers {
        Readers {
            keys: self.warming.reads(),
            seen: None,
        }
    }

    /// How the next batch is to go.
    pub(super) fn manner(&self, readers: &mut Readers) -> Manner {
        readers.manner(self.warming.reads(), Instant::now())
    }

    /// Waits while reads wait for Postgres.
    pub(super) async fn give_way(&self) {
        for _ in 0..MAX_YIELDS {
            if self.reads.stats().waiting == 0 {
                return;
            }
            sleep(YIELD_STEP).await;
        }
    }

    /// Waits until a batch may go in this manner, as long as what is answered is held.
    pub(super) async fn turn(&self, manner: Manner) -> Option<SemaphorePermit<'_>> {
        match manner {
            Manner::Brisk => None,
            // Never closed.
            Manner::Courteous => self.turn.acquire().await.ok(),
        }
    }
}

impl Readers {
    fn manner(&mut self, keys: u64, now: Instant) -> Manner {
        if keys != self.keys {
            self.keys = keys;
            self.seen = Some(now);
        }
        match self.seen {
            Some(seen) if now < seen + READERS_STAY => Manner::Courteous,
            _ => Manner::Brisk,
        }
    }
}

/// How many batches of one run are under way.
pub(super) fn batches(manner: Manner) -> usize {
    match manner {
        Manner::Brisk => MAX_BATCHES,
        Manner::Courteous => 1,
    }
}

/// How many keys a batch has at most.
pub(super) fn most_keys(manner: Manner) -> usize {
    match manner {
        Manner::Brisk => usize::MAX,
        Manner::Courteous => MAX_KEYS,
    }
}

/// The rest after a batch that took so long.
pub(super) fn rest(manner: Manner, took: Duration) -> Duration {
    match manner {
        Manner::Brisk => Duration::ZERO,
        Manner::Courteous => took,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_read_a_moment_ago_is_given_way_to() {
        let start = Instant::now();
        let mut readers = Readers {
            keys: 7,
            seen: None,
        };
        let shortly_before = READERS_STAY - Duration::from_millis(1);
        for (keys, later, manner) in [
            (7, Duration::ZERO, Manner::Brisk),
            (8, Duration::ZERO, Manner::Courteous),
            (8, shortly_before, Manner::Courteous),
            (8, READERS_STAY, Manner::Brisk),
            (9, READERS_STAY, Manner::Courteous),
        ] {
            assert_eq!(readers.manner(keys, start + later), manner, "{keys}");
        }
    }
}
