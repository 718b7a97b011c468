//! What is due, and when. Pure: all times are those of Redis, in milliseconds since 1970.
//!
//! 1. A slot is run once in the fleet: what Redis notes as over is over, for every daemon.
//! 2. Slots that nobody ran, because no daemon was there, are made up for by one run, not one each.
//! 3. A slot that comes while a run goes on is skipped: the run that goes on is its run.
//! 4. A slot from before this daemon was first here is nobody's duty, if nothing is noted.
//! 5. A Redis that has forgotten its note has forgotten its values: for who is warmed at starts or after sweeps that is a sweep.
//! 6. A start is answered by any run that ended since; a sweep only by one that began since.

use super::runs::Look;
use crate::config::Schedule;
use std::time::Duration;

/// A note that lies so far ahead was made by a clock that was wrong; it is not believed.
const BELIEVED_AHEAD: u64 = 24 * 60 * 60 * 1000;
/// After a sweep, how long until what it removed is warmed: others often follow it.
const AFTER_SWEEP: u64 = 1000;
/// Between two runs that sweeps ask for: a cache that is swept all the time is not warmed all the time.
const BETWEEN_SWEEPS: u64 = 10_000;
/// How often Redis is looked at at least: what its clock says may change.
const LOOK_EVERY: u64 = 10_000;
/// The pause after a run that could not be made: the first, doubled up to the longest.
const FIRST_PAUSE: u64 = 1000;
const LONGEST_PAUSE: u64 = 60_000;
/// Skipped slots that are counted.
const MAX_COUNTED: usize = 1000;

/// Why a run is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Start,
    /// The schedule, and the slot.
    Slot(u64),
    Sweep,
    Command,
}

impl Cause {
    /// As it is told.
    pub(super) fn label(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Slot(_) => "schedule",
            Cause::Sweep => "invalidation",
            Cause::Command => "command",
        }
    }
}

/// What one cache is due for.
#[derive(Debug)]
pub(super) struct Due {
    schedule: Option<Schedule>,
    /// Whether a Redis that comes back empty is to be warmed.
    after_loss: bool,
    /// Slots up to this one are over; `None`: Redis was not looked at yet.
    over: Option<u64>,
    /// A start that is not answered yet, and when it was.
    start: Option<u64>,
    wants_start: bool,
    /// Whether Redis had a note when it was looked at.
    was_noted: bool,
    /// The first sweep that is not answered yet.
    swept: Option<u64>,
    /// When the last run was over that a sweep had asked for.
    ran: Option<u64>,
    not_before: u64,
    pause: u64,
}

impl Due {
    /// Whether a start is due is known with the first look.
    pub(super) fn new(schedule: Option<Schedule>, on_start: bool) -> Self {
        Self {
            schedule,
            after_loss: false,
            over: None,
            start: None,
            wants_start: on_start,
            was_noted: false,
            swept: None,
            ran: None,
            not_before: 0,
            pause: FIRST_PAUSE,
        }
    }

    /// The same; whether it is due as well when Redis has come back empty.
    pub(super) fn after_loss(self, after_loss: bool) -> Self {
        Self { after_loss, ..self }
    }

    /// Redis was looked at.
    pub(super) fn look(&mut self, look: &Look) {
        let noted = look.slot.filter(|slot| *slot <= look.now + BELIEVED_AHEAD);
        let known = noted.or_else(|| self.latest(look.now));
        self.over = match self.over {
            None => known,
            over => over.max(noted),
        };
        if std::mem::take(&mut self.wants_start) {
            self.start = Some(look.now);
        }
        let was_noted = std::mem::replace(&mut self.was_noted, look.ended.is_some());
        if self.after_loss && was_noted && look.ended.is_none() {
            self.swept(look.now);
        }
        let answers = |asked: &u64, at: Option<u64>| at.is_some_and(|at| at > *asked);
        self.start = self.start.filter(|asked| !answers(asked, look.ended));
        self.swept = self.swept.filter(|asked| !answers(asked, look.began));
    }

    /// Keys of the cache were swept.
    pub(super) fn swept(&mut self, now: u64) {
        self.swept = self.swept.or(Some(now));
    }

    /// Whether the start was answered, by whomever.
    pub(super) fn has_started(&self) -> bool {
        !self.wants_start && self.start.is_none()
    }

    /// What is due.
    pub(super) fn cause(&self, now: u64) -> Option<Cause> {
        if now < self.not_before {
            return None;
        }
        if self.start.is_some() {
            return Some(Cause::Start);
        }
        if let Some(slot) = self.slot(now) {
            return Some(Cause::Slot(slot));
        }
        self.sweep_due()
            .is_some_and(|due| due <= now)
            .then_some(Cause::Sweep)
    }

    /// How long to wait until something may be due.
    pub(super) fn wait(&self, now: u64) -> Duration {
        let slot = self.schedule.as_ref().and_then(|plan| plan.next(now));
        let next = match now < self.not_before {
            true => Some(self.not_before),
            false => [slot, self.sweep_due()].into_iter().flatten().min(),
        };
        let at = next.map_or(now + LOOK_EVERY, |next| next.min(now + LOOK_EVERY));
        Duration::from_millis(at.saturating_sub(now).max(1))
    }

    /// A run came to its end. The slot up to which all are over now, and how many of them came while it went on.
    pub(super) fn ran(&mut self, began: u64, ended: u64) -> (Option<u64>, usize) {
        let skipped = self.slots_between(began, ended);
        self.over = self.over.max(self.latest(ended));
        self.start = None;
        if self.swept.take().is_some() {
            self.ran = Some(ended);
        }
        (self.not_before, self.pause) = (0, FIRST_PAUSE);
        (self.over, skipped)
    }

    /// A run could not be made, or not be ended. It is tried again after a pause.
    pub(super) fn failed(&mut self, now: u64) {
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }

    fn slot(&self, now: u64) -> Option<u64> {
        let over = self.over?;
        self.latest(now).filter(|latest| *latest > over)
    }

    fn sweep_due(&self) -> Option<u64> {
        let swept = self.swept? + AFTER_SWEEP;
        Some(swept.max(self.ran.map_or(0, |ran| ran + BETWEEN_SWEEPS)))
    }

    fn latest(&self, now: u64) -> Option<u64> {
        let schedule = self.schedule.as_ref()?;
        schedule.latest(now)
    }

    fn slots_between(&self, from: u64, to: u64) -> usize {
        let Some(schedule) = &self.schedule else {
            return 0;
        };
        let next = |slot: &u64| schedule.next(*slot).filter(|slot| *slot <= to);
        std::iter::successors(Some(from), next)
            .skip(1)
            .take(MAX_COUNTED)
            .count()
    }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
