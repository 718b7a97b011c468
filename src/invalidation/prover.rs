//! Proves that what is cached is fresh, by looking at what waits in the database's queue.
//!
//! 1. A look sees all rows that were committed before it and are not applied. When it sees none, all is fresh as of the look.
//! 2. When it sees some, all is fresh as of the last look that did not see them yet: they were committed after it. Their own
//!    times would say less: a change is made long before its transaction commits.
//! 3. Rows that we are applying do not count once nobody is given any more what they name
//!    ([`in_hand`](super::in_hand)). They count for the barrier, and again once applying them has failed.
//! 4. A look that fails proves nothing. After a while without one, the queue was out of reach, and the barrier goes up.

use super::barrier::Barrier;
use super::doorbell::Bell;
use super::in_hand::Applying;
use crate::cache::{Freshness, MARKED_AFTER};
use crate::repository::{Look, Outbox};
use crate::telemetry::Metrics;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio::time::{sleep, timeout};

/// Rows a look sees. When there are more, it proves nothing new: they are more than can be applied at once, anyhow.
const MAX_SEEN: usize = 10_000;
/// How often it is looked: several times within [`MARKED_AFTER`], so that a late answer is no doubt yet.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How often while the barrier is up: everybody waits for it.
const LOOK_EVERY_AT_BARRIER: Duration = Duration::from_millis(20);

/// The time of the last look by Postgres' clock, in microseconds since 1970; 0: there was none. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LookedAt(Arc<AtomicI64>);

impl LookedAt {
    pub(super) fn get(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }
}

/// Looks at the queue. Cheap to clone.
#[derive(Clone)]
pub struct Prover {
    pub outbox: Outbox,
    pub freshness: Freshness,
    pub barrier: Barrier,
    pub applying: Applying,
    /// Rung for rows that wait.
    pub bell: Bell,
    pub looked_at: LookedAt,
    pub metrics: Metrics,
}

impl Prover {
    /// Looks for ever.
    pub async fn run(self) {
        let mut memory = Memory::default();
        loop {
            // What is more than a look can see is not gone at the next one, and a full look is a dear one.
            let mut is_full = false;
            match self.outbox.look(MAX_SEEN).await {
                Ok(look) => {
                    if memory.was_out_of_reach(look.begun) {
                        self.barrier.raise(look.begun);
                    }
                    self.looked_at.0.store(look.at_us, Ordering::Release);
                    is_full = look.ids.len() >= MAX_SEEN;
                    let harmless = self.applying.harmless();
                    if look.ids.iter().any(|id| !harmless.contains(id)) {
                        self.bell.ring_for_what_waits();
                    }
                    let proof = memory.saw(&look, &harmless);
                    if let Some(fresh) = proof.fresh {
                        self.freshness.proven(fresh);
                    }
                    if let Some(applied) = proof.applied {
                        self.barrier.applied(applied);
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "nothing proves that watched caches are fresh")
                }
            }
            let age = self.freshness.age(Instant::now());
            self.metrics.proof_age.set(age.as_secs_f64());
            if is_full {
                sleep(jittered(LOOK_EVERY)).await;
            } else if self.barrier.is_up() {
                sleep(jittered(LOOK_EVERY_AT_BARRIER)).await;
            } else {
                // It goes up: the next look may be all that it waits for.
                let _raised = timeout(jittered(LOOK_EVERY), self.barrier.up()).await;
            }
        }
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

/// What earlier looks saw. Pure.
#[derive(Debug, Default)]
struct Memory {
    /// When the last look was begun.
    last: Option<Instant>,
    /// The same of the last one that saw all rows.
    whole: Option<Instant>,
    /// The rows that the last one saw, and when the last whole look was begun that had not seen them; `None`: there was none.
    seen: HashMap<i64, Option<Instant>>,
}

/// What a look proves; `None`: nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Proof {
    /// Of what was committed before, nothing outdated is given any more.
    fresh: Option<Instant>,
    /// What was committed before is applied.
    applied: Option<Instant>,
}

impl Memory {
    /// Whether nobody looked for so long that hits are in doubt.
    fn was_out_of_reach(&self, now: Instant) -> bool {
        let since = self.last.map(|last| now.saturating_duration_since(last));
        since.is_none_or(|since| since > MARKED_AFTER)
    }

    fn saw(&mut self, look: &Look, harmless: &HashSet<i64>) -> Proof {
        let before = std::mem::take(&mut self.seen);
        let unseen = |id: &i64| before.get(id).copied().unwrap_or(self.whole);
        self.seen = look.ids.iter().map(|id| (*id, unseen(id))).collect();
        self.last = Some(look.begun);
        if look.ids.len() >= MAX_SEEN {
            return Proof {
                fresh: None,
                applied: None,
            };
        }
        self.whole = Some(look.begun);
        // `None`, no look was before it, is the least.
        let all = self.seen.values().copied().min();
        let waiting = self.seen.iter().filter(|(id, _)| !harmless.contains(*id));
        let waiting = waiting.map(|(_, unseen)| *unseen).min();
        Proof {
            fresh: waiting.unwrap_or(Some(look.begun)),
            applied: all.unwrap_or(Some(look.begun)),
        }
    }
}

#[cfg(test)]
#[path = "prover_tests.rs"]
mod tests;
