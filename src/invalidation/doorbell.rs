//! The doorbell: while the database is proven to ring when something is queued, who empties the queue rests until it does.
//!
//! 1. A ring means *look now*, whoever rings and whatever is told with it. Rings while nobody rests are one ring, and looks
//!    have a pause between them, so that rings without end are looks at a bounded pace.
//! 2. It is believed as long as it is proven: we ring ourselves, on another connection, and hear it; at once, and every
//!    minute. If not, or if the connection is lost, the queue is polled as if there were no doorbell, and it is tried again.
//! 3. What was committed before we listened has rung for nobody, and neither has what comes while a doorbell is broken that is
//!    still believed. So it is looked when listening begins and when it ends; a rest is never long; and who proves freshness, and
//!    looks several times a second anyway, rings for what is left lying.
//!
//! Faults survived: the connection cut, or silent; a pooler that takes the `LISTEN` and delivers nothing; payloads empty,
//! huge, foreign; rings without end; no trigger that rings.

use crate::repository::{Listening, Outbox, RepositoryError};
use crate::telemetry::Metrics;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// The longest rest while the doorbell is proven.
const LONGEST_REST: Duration = Duration::from_secs(1);
/// Between two looks, however often it rings: each look that finds something is a transaction to write.
const LEAST_REST: Duration = Duration::from_millis(5);
/// How long our own ring may take to come back.
const ECHO_WITHIN: Duration = Duration::from_secs(3);
/// The pause before listening again: the first, doubled up to the longest, jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// What is heard of the doorbell by who empties the queue. One that nobody rings is none at all. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Bell(Arc<Hung>);

#[derive(Debug, Default)]
struct Hung {
    is_proven: AtomicBool,
    rung: Notify,
}

impl Bell {
    /// Wakes who rests, or who is about to.
    pub(super) fn ring(&self) {
        self.0.rung.notify_one();
    }

    /// Rings for what was seen in the queue and is applied by nobody here. Without a doorbell to replace, it is polled.
    pub(super) fn ring_for_what_waits(&self) {
        if self.is_proven() {
            self.ring();
        }
    }

    fn is_proven(&self) -> bool {
        self.0.is_proven.load(Ordering::Acquire)
    }

    /// The longest pause between two looks that find nothing, where it is `unheard` without a doorbell.
    pub(super) fn longest_rest(&self, unheard: Duration) -> Duration {
        if self.is_proven() {
            LONGEST_REST.max(unheard)
        } else {
            unheard
        }
    }

    /// Rests for `pause`, or until it rings.
    pub(super) async fn rest(&self, pause: Duration) {
        let begun = Instant::now();
        sleep(LEAST_REST.min(pause)).await;
        // Rung or not, it is looked.
        let _rung = timeout_at(begun + pause, self.0.rung.notified()).await;
    }
}

/// Listens, and proves that it hears. Cheap to clone.
#[derive(Clone)]
pub struct Doorbell {
    pub outbox: Outbox,
    pub bell: Bell,
    pub metrics: Metrics,
    /// How often it is proven: [`Doorbell::EVERY`], but for tests that cannot wait as long.
    pub every: Duration,
}

/// Why it is not heard.
#[derive(Error, Debug)]
enum Unheard {
    #[error(transparent)]
    Postgres(#[from] RepositoryError),
    #[error(
        "our own ring did not come back within {after_ms} ms; hint: a pooler in transaction mode swallows it: name the server itself in [postgres] url, or set notify = false"
    )]
    Silent { after_ms: u128 },
}

impl Doorbell {
    /// Until it is noticed that it has died without a word.
    pub const EVERY: Duration = Duration::from_secs(60);

    /// Listens for ever.
    pub async fn run(self) {
        let mut failures: u32 = 0;
        loop {
            let unheard = match self.outbox.listen().await {
                Ok(listening) => self.hear(listening, &mut failures).await,
                Err(error) => error.into(),
            };
            failures = failures.saturating_add(1);
            if failures == 1 {
                tracing::warn!(error = %unheard, "the doorbell is not heard; the queue is polled until it is");
            } else {
                tracing::debug!(error = %unheard, failures, "the doorbell is not heard");
            }
            sleep(jittered(after(failures))).await;
        }
    }

    /// Hears until it cannot be proven any more; why. Once it is proven, nothing has failed.
    async fn hear(&self, mut listening: Listening, failures: &mut u32) -> Unheard {
        let mut proven = None;
        loop {
            if let Err(unheard) = self.prove(&mut listening).await {
                return unheard;
            }
            if proven.is_none() {
                tracing::info!("the doorbell is heard: the queue is looked at when it rings");
                proven = Some(Proven::new(self));
            }
            *failures = 0;
            let lost = async {
                loop {
                    match listening.rung().await {
                        Ok(rings) => self.rang(rings),
                        Err(error) => return error,
                    }
                }
            };
            if let Ok(error) = timeout(jittered(self.every), lost).await {
                return error.into();
            }
        }
    }

    /// Our own ring is one like any other: so it is looked once whenever we have begun to listen.
    async fn prove(&self, listening: &mut Listening) -> Result<(), Unheard> {
        let echo = self.outbox.echo(listening, |rings| self.rang(rings));
        match timeout(ECHO_WITHIN, echo).await {
            Ok(echo) => Ok(echo?),
            Err(_elapsed) => Err(Unheard::Silent {
                after_ms: ECHO_WITHIN.as_millis(),
            }),
        }
    }

    fn rang(&self, rings: u64) {
        self.metrics.doorbell_rings.inc_by(rings);
        self.bell.ring();
    }
}

/// While it lives, the doorbell is believed. However that ends, who rests for long on its account is woken.
struct Proven<'d>(&'d Doorbell);

impl<'d> Proven<'d> {
    fn new(doorbell: &'d Doorbell) -> Self {
        doorbell.bell.0.is_proven.store(true, Ordering::Release);
        doorbell.metrics.doorbell_up.set(1);
        Self(doorbell)
    }
}

impl Drop for Proven<'_> {
    fn drop(&mut self) {
        self.0.bell.0.is_proven.store(false, Ordering::Release);
        self.0.metrics.doorbell_up.set(0);
        self.0.bell.ring();
    }
}

/// The pause after so many failures.
fn after(failures: u32) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE)
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_is_long_only_while_it_is_proven_that_it_would_be_ended() {
        let bell = Bell::default();
        let (unheard, longer) = (Duration::from_millis(100), 2 * LONGEST_REST);
        assert_eq!(bell.longest_rest(unheard), unheard);
        bell.0.is_proven.store(true, Ordering::Release);
        assert_eq!(bell.longest_rest(unheard), LONGEST_REST);
        assert_eq!(bell.longest_rest(longer), longer);
    }

    #[tokio::test]
    async fn a_ring_ends_a_rest_and_rings_without_end_are_looks_at_a_pace() {
        let (bell, begun) = (Bell::default(), Instant::now());
        for _look in 0..20 {
            bell.ring();
            bell.ring();
            // It would be over after all the tests.
            bell.rest(Duration::from_secs(1_000_000)).await;
        }
        assert!(begun.elapsed() >= 20 * LEAST_REST);
    }

    #[test]
    fn it_is_tried_again_ever_more_seldom() {
        let pauses: Vec<_> = [1, 2, 3, 100, u32::MAX].map(after).into();
        assert_eq!(pauses[..2], [FIRST_PAUSE, 2 * FIRST_PAUSE]);
        assert!(pauses.is_sorted());
        assert_eq!(pauses[4], LONGEST_PAUSE);
    }
}
