//! How runs give way to reads: while anybody reads from any daemon, one small batch of all runs goes at a time, and the next one
//! after as long a rest; while reads wait for Postgres, none does.

use crate::cache::{Manner, Warming};
use crate::keyspace::names::READERS;
use crate::repository::Repository;
use crate::store::Store;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::sleep;

/// Somebody reads for so long after each read.
const READERS_STAY: Duration = Duration::from_secs(1);
/// How often a daemon that is read from says so to the fleet, and for how long that is true.
const TELL_EVERY: Duration = Duration::from_secs(1);
const TOLD_FOR: Duration = Duration::from_secs(2);
/// How often a run asks whether any has.
const ASK_EVERY: Duration = Duration::from_millis(250);
/// Keys of a batch while somebody reads: a statement for more keeps a core of Postgres longer than a read takes.
const MAX_KEYS: usize = 16;
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
    store: Store,
    /// Whom the reads load from.
    reads: Repository,
    /// Of the batches that go while somebody reads.
    turn: Arc<Semaphore>,
}

/// Who reads, as one run sees it.
#[derive(Debug)]
pub(super) struct Readers {
    /// That were read here so far.
    keys: u64,
    /// When somebody was seen last.
    seen: Option<Instant>,
    /// When the fleet was asked last.
    asked: Option<Instant>,
}

impl Courtesy {
    pub(super) fn new(warming: Warming, store: Store, reads: Repository) -> Self {
        Self {
            warming,
            store,
            reads,
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Nobody is known to read yet.
    pub(super) fn readers(&self) -> Readers {
        Readers {
            keys: self.warming.reads(),
            seen: None,
            asked: None,
        }
    }

    /// Tells the fleet whenever somebody reads here. Runs until dropped.
    pub(super) async fn keep_telling(self) {
        let mut readers = self.readers();
        loop {
            sleep(TELL_EVERY).await;
            if readers.read_on(self.warming.reads()) {
                // Untold, a run of another daemon is less careful for a second.
                let _told = self.store.mark(READERS.as_bytes(), TOLD_FOR).await;
            }
        }
    }

    /// How the next batch is to go.
    pub(super) async fn manner(&self, readers: &mut Readers) -> Manner {
        let now = Instant::now();
        let here = readers.read_on(self.warming.reads());
        if here || readers.may_ask(now) && self.is_told().await {
            readers.seen = Some(now);
        }
        readers.manner(now)
    }

    /// Whether somebody reads from any daemon. Of a Redis that does not answer the batch will hear.
    async fn is_told(&self) -> bool {
        let told = self.store.mget(&[READERS]).await;
        told.is_ok_and(|told| told.iter().any(Option::is_some))
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
    /// Whether anything was read here since this was asked last.
    fn read_on(&mut self, keys: u64) -> bool {
        std::mem::replace(&mut self.keys, keys) != keys
    }

    /// Whether it is time to ask the fleet, which it then is.
    fn may_ask(&mut self, now: Instant) -> bool {
        let may = self.asked.is_none_or(|asked| now >= asked + ASK_EVERY);
        if may {
            self.asked = Some(now);
        }
        may
    }

    fn manner(&self, now: Instant) -> Manner {
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
            asked: None,
        };
        assert_eq!(readers.manner(start), Manner::Brisk);
        readers.seen = Some(start);
        let shortly_before = start + READERS_STAY - Duration::from_millis(1);
        assert_eq!(readers.manner(shortly_before), Manner::Courteous);
        assert_eq!(readers.manner(start + READERS_STAY), Manner::Brisk);
    }

    #[test]
    fn what_was_read_counts_once_and_the_fleet_is_asked_now_and_then() {
        let start = Instant::now();
        let mut readers = Readers {
            keys: 7,
            seen: None,
            asked: None,
        };
        assert_eq!(
            [7, 8, 8, 9].map(|keys| readers.read_on(keys)),
            [false, true, false, true]
        );
        let moments = [Duration::ZERO, ASK_EVERY / 2, ASK_EVERY];
        assert_eq!(
            moments.map(|later| readers.may_ask(start + later)),
            [true, false, true]
        );
    }
}
