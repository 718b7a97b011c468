//! Who saves, and for how long: campaigns, leads, resigns.

use super::JournalParts;
use super::entry::Place;
use super::error::JournalError;
use super::flusher::{Flusher, Look};
use super::scripts::Journal;
use crate::lock::Leader;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::sleep_until;

/// What the leader's lock is called.
const LOCK: &str = "cachewarden:journal";
/// The pause between looks at a stop, and the shortest while something waits for another try.
const REST: Duration = Duration::from_millis(20);
/// The pause of who does not lead, and only counts.
const IDLE_REST: Duration = Duration::from_secs(1);
/// The pause after a failure: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(3);
/// How often the writes are counted that were put aside for good: people remove them.
const COUNT_EVERY: Duration = Duration::from_secs(60);
/// Who cannot save what is left gives others so long to try, jittered by half.
const RESIGNED_FOR: Duration = Duration::from_secs(2);

/// That the daemon stops.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// Until then what stands in the journal is saved.
    pub until: Instant,
    /// What stood there last, once that is known.
    pub(super) mark: Option<Option<Place>>,
}

impl Stop {
    /// Stops then at the latest.
    pub fn by(until: Instant) -> Self {
        Self { until, mark: None }
    }
}

/// Everything that one daemon does for the journal.
pub(super) struct Terms {
    parts: JournalParts,
    journal: Journal,
    stopping: watch::Receiver<Option<Stop>>,
    stop: Option<Stop>,
}

impl Terms {
    pub(super) fn new(parts: JournalParts, stopping: watch::Receiver<Option<Stop>>) -> Self {
        Self {
            journal: Journal::new(parts.store.clone()),
            parts,
            stopping,
            stop: None,
        }
    }

    /// Runs until the daemon stops, and what it has to save is saved.
    pub(super) async fn run(mut self) {
        loop {
            let locks = self.parts.locks.clone();
            let leader = Leader::campaign(locks, LOCK, self.parts.term);
            let fence = tokio::select! {
                fence = leader.elected() => fence,
                () = self.look_on() => return,
            };
            tracing::info!(fence, "saves the writes of the journal");
            self.doubt_redis().await;
            let ended = self.lead(&leader, fence).await;
            // Resigns: others need not wait for the lock's end.
            drop(leader);
            match ended {
                Ok(()) => return,
                Err(JournalError::Foreign) if self.stop.is_some() => return,
                Err(error) => tracing::warn!(%error, "saves no writes of the journal any more"),
            }
            self.rest(jittered(RESIGNED_FOR)).await;
        }
    }

    /// Somebody else leads: counts, and at a stop waits until it has saved what is there.
    async fn look_on(&mut self) {
        loop {
            let limit = usize::from(self.stop.is_some());
            let page = self.journal.read(None, limit).await;
            if let Ok(page) = &page {
                self.parts.metrics.journal.observe(page.length);
            }
            if let Some(stop) = &mut self.stop {
                let look = page.map(|page| Look {
                    first: page.entries.first().map(|entry| entry.place),
                    last: page.last,
                });
                match look {
                    Ok(look) if stop.is_served(look, 0) => return,
                    Ok(_) if Instant::now() < stop.until => {}
                    // Late; or Redis is away, and the journal with it.
                    _ => return self.tell_what_is_left().await,
                }
            }
            let rest = if self.stop.is_some() { REST } else { IDLE_REST };
            self.rest(rest).await;
        }
    }

    /// Saves until the term, or the daemon, ends.
    async fn lead(&mut self, leader: &Leader, fence: i64) -> Result<(), JournalError> {
        // Borrowed from a copy: the stop is looked at in between.
        let (parts, journal) = (self.parts.clone(), self.journal.clone());
        let mut flusher = Flusher::new(&parts, &journal, fence);
        let mut trouble = Trouble::default();
        let mut counted: Option<Instant> = None;
        loop {
            if counted.is_none_or(|counted| counted.elapsed() >= COUNT_EVERY) {
                flusher.count_dead().await;
                counted = Some(Instant::now());
            }
            if leader.fence() != Some(fence) {
                return Err(JournalError::Deposed);
            }
            self.stop = self.stop.or(*self.stopping.borrow());
            let looked = flusher.pass().await;
            let pause = match &looked {
                Ok(look) => {
                    trouble.is_over();
                    match look.first {
                        Some(_) => Duration::ZERO,
                        None => until(flusher.next_due()).min(self.parts.rest),
                    }
                }
                Err(error @ (JournalError::Database(_) | JournalError::Store(_))) => {
                    flusher.start_over();
                    trouble.pause_after(error)
                }
                Err(error) => return Err(error.clone()),
            };
            if let Some(stop) = &mut self.stop {
                let is_served = looked
                    .as_ref()
                    .is_ok_and(|look| stop.is_served(*look, flusher.aside()));
                let is_lost = matches!(looked, Err(JournalError::Store(_)));
                if is_served {
                    return Ok(());
                }
                if is_lost || Instant::now() >= stop.until {
                    self.tell_what_is_left().await;
                    return Ok(());
                }
            }
            if !pause.is_zero() {
                self.rest(pause).await;
            }
        }
    }

    /// At the start it was checked, if it was there: it may be another one by now, or have been told otherwise.
    async fn doubt_redis(&self) {
        let durability = match self.parts.allow_volatile {
            true => return,
            false => self.parts.store.durability().await,
        };
        for flaw in durability.map(|found| found.flaws()).unwrap_or_default() {
            tracing::warn!("redis would lose writes that were acknowledged: {flaw}");
        }
    }

    async fn tell_what_is_left(&self) {
        match self.journal.read(None, 0).await {
            Ok(page) if page.length == 0 => {}
            Ok(page) => tracing::warn!(
                writes = page.length,
                "stops with writes that are not in postgres yet; they stay in the journal"
            ),
            Err(error) => {
                tracing::warn!(%error, "stops without knowing what is left in the journal")
            }
        }
    }

    /// Waits so long, or until the daemon is to stop, if it was not before.
    async fn rest(&mut self, pause: Duration) {
        let end = Instant::now() + pause;
        let stopped = async {
            match self.stop {
                Some(_) => std::future::pending().await,
                None => {
                    let stop = self.stopping.wait_for(Option::is_some).await;
                    stop.map(|stop| *stop).ok().flatten()
                }
            }
        };
        let stop = tokio::select! {
            () = sleep_until(end.into()) => None,
            stop = stopped => stop,
        };
        self.stop = self.stop.or(stop);
    }
}

/// What fails, told once.
#[derive(Default)]
struct Trouble {
    failures: u32,
}

impl Trouble {
    fn pause_after(&mut self, error: &JournalError) -> Duration {
        if self.failures == 0 {
            tracing::warn!(%error, "writes wait in the journal");
        }
        self.failures = self.failures.saturating_add(1);
        let doubled = FIRST_PAUSE.saturating_mul(1 << (self.failures - 1).min(16));
        jittered(doubled.min(LONGEST_PAUSE))
    }

    fn is_over(&mut self) {
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!("writes of the journal are saved again");
        }
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn until(due: Option<Instant>) -> Duration {
    due.map_or(Duration::MAX, |due| {
        due.saturating_duration_since(Instant::now())
    })
}
