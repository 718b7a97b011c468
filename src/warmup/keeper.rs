//! Keeps one cache warm: waits for what is due, or asked for, and makes one run after the other, each under the fleet's lock.

use super::WarmError;
use super::board::{Board, Outcome, Tally};
use super::due::{Cause, Due};
use super::plan::Plan;
use super::run::{Run, Tools};
use super::runs::{Look, Note, Runs};
use crate::lock::{Held, LockError, LockHandle, Locking, Retry};
use crate::store::{Store, StoreError};
use crate::telemetry::Metrics;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

/// How long it takes until another daemon goes on, when one dies in the middle of a run.
const LOCK_TTL: Duration = Duration::from_secs(15);
/// How long a turn waits for the lock: then it is looked whether the run is still due.
const LOCK_WAIT: Duration = Duration::from_secs(5);
/// The pause after a Redis that does not answer, jittered by half.
const PAUSE: Duration = Duration::from_secs(1);

/// What a keeper hears.
#[derive(Debug)]
pub(super) enum Heard {
    Asked(Asked),
    Swept,
}

/// A run that somebody wants, and waits for.
#[derive(Debug)]
pub(super) struct Asked {
    /// However fresh the values are.
    pub(super) force: bool,
    pub(super) answer: oneshot::Sender<Result<Outcome, WarmError>>,
}

/// What a keeper works with.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) store: Store,
    pub(super) locks: LockHandle,
    pub(super) board: Board,
    pub(super) metrics: Metrics,
    pub(super) tools: Tools,
}

/// Keeps one cache warm.
pub(super) struct Keeper {
    /// Its place among those that are warmed.
    at: usize,
    plan: Plan,
    means: Means,
    runs: Runs,
    due: Due,
    /// Who waits for the next run.
    asked: Vec<Asked>,
}

/// A run that came to its end.
struct Ran {
    look: Look,
    ended: u64,
    fence: i64,
    left_out: Option<String>,
}

impl Keeper {
    pub(super) fn new(at: usize, plan: Plan, means: Means) -> Self {
        let on_start = plan.warm.on_start && !means.board.has_started(at);
        let after_loss = plan.warm.on_start || plan.warm.after_invalidation;
        Self {
            runs: Runs::new(means.store.clone(), &plan.name),
            due: Due::new(plan.warm.schedule.clone(), on_start).after_loss(after_loss),
            at,
            plan,
            means,
            asked: Vec::new(),
        }
    }

    /// Runs until dropped, or nobody is left who could be heard.
    pub(super) async fn run(mut self, mut heard: mpsc::Receiver<Heard>) {
        loop {
            let asked = Instant::now();
            let look = match self.runs.look().await {
                Ok(look) => look,
                Err(error) => {
                    self.refuse(&WarmError::Redis(error));
                    // Who waits for the first run is not kept waiting for a Redis that is away.
                    self.means.board.tried(self.at, false);
                    tokio::select! {
                        () = sleep(PAUSE.mul_f64(0.5 + fastrand::f64())) => {}
                        more = heard.recv() => match more {
                            Some(more) => self.hear(more, 0),
                            None => return,
                        },
                    }
                    continue;
                }
            };
            self.due.look(&look);
            if self.due.has_started() {
                self.means.board.tried(self.at, true);
            }
            let cause = match self.asked.is_empty() {
                true => self.due.cause(look.now),
                false => Some(Cause::Command),
            };
            if let Some(cause) = cause {
                self.turn(cause).await;
                continue;
            }
            tokio::select! {
                more = heard.recv() => match more {
                    Some(more) => {
                        let passed = u64::try_from(asked.elapsed().as_millis()).unwrap_or(0);
                        self.hear(more, look.now + passed);
                    }
                    None => return,
                },
                () = sleep(self.due.wait(look.now)) => {}
            }
        }
    }

    fn hear(&mut self, heard: Heard, now: u64) {
        match heard {
            Heard::Asked(asked) => self.asked.push(asked),
            Heard::Swept => self.due.swept(now),
        }
    }

    /// One try to run: under the lock, if it is still due then.
    async fn turn(&mut self, cause: Cause) {
        let began = Instant::now();
        let force = self.asked.iter().any(|asked| asked.force);
        let name = format!("cachewarden/warm/{}", self.plan.name);
        let once = Retry {
            tries: 1,
            pause: Duration::ZERO,
        };
        let locking = Locking::new(self.means.locks.clone(), &name, LOCK_TTL);
        let locking = locking.wait(LOCK_WAIT).retry(once);
        let this = &mut *self;
        let ran = locking
            .run(|held| this.under_lock(cause, force, held))
            .await;
        match ran {
            Ok(Ok(None)) => {}
            Ok(Ok(Some((ran, outcome)))) => self.ended(cause, ran, outcome).await,
            Ok(Err((error, outcome))) => self.failed(cause, &error, outcome).await,
            Err(LockError::HeldByAnother { .. }) => self.refuse(&WarmError::Elsewhere {
                cache: self.plan.name.clone(),
            }),
            Err(source) => {
                let cache = self.plan.name.clone();
                let outcome = Outcome {
                    took: began.elapsed(),
                    ..Outcome::default()
                };
                self.failed(cause, &WarmError::Lock { cache, source }, outcome)
                    .await;
            }
        }
    }

    /// `None`: it is not due any more, for another daemon has done it.
    async fn under_lock(
        &mut self,
        cause: Cause,
        force: bool,
        held: Held,
    ) -> Result<Option<(Ran, Outcome)>, (WarmError, Outcome)> {
        let nothing = |error: StoreError| (error.into(), Outcome::default());
        let look = self.runs.look().await.map_err(nothing)?;
        self.due.look(&look);
        if cause != Cause::Command && self.due.cause(look.now).is_none() {
            return Ok(None);
        }
        let tally = self.means.board.begin(self.at);
        let run = Run::new(&self.plan, &self.means.tools, &tally, force);
        let cache = || self.plan.name.clone();
        let done = tokio::select! {
            done = run.go() => done,
            () = held.lost() => Err(WarmError::LockLost { cache: cache() }),
        };
        let outcome = |error: Option<&WarmError>| tally.outcome(error.map(WarmError::to_string));
        self.tell_examples(&tally);
        let left_out = done.map_err(|error| {
            let outcome = outcome(Some(&error));
            (error, outcome)
        })?;
        let end = self.runs.look().await;
        let end = end.map_err(|error| (error.into(), outcome(None)))?;
        let ran = Ran {
            ended: end.now.max(look.now),
            look,
            fence: held.fence(),
            left_out,
        };
        Ok(Some((ran, outcome(None))))
    }

    /// It came to its end: that is noted for the fleet, counted, told, and answered.
    async fn ended(&mut self, cause: Cause, ran: Ran, outcome: Outcome) {
        let (slot, skipped) = self.due.ran(ran.look.now, ran.ended);
        let note = Note {
            fence: ran.fence,
            slot,
            began: ran.look.now,
            ended: ran.ended,
        };
        // Unnoted, another daemon may run it again, and find everything fresh.
        if let Err(error) = self.runs.note(note).await {
            tracing::debug!(%error, "a run was not noted");
        }
        let outcome = Outcome {
            error: ran.left_out,
            ..outcome
        };
        let cache = &self.plan.name;
        let Outcome {
            loaded,
            skipped: fresh,
            failed,
            took,
            ..
        } = outcome;
        let ms = took.as_millis();
        tracing::info!(
            "warmed `{cache}` for {}: {loaded} loaded, {fresh} skipped, {failed} failed, {ms} ms",
            cause.label()
        );
        if let Some(error) = &outcome.error {
            tracing::warn!("{error}");
        }
        if skipped > 0 {
            tracing::warn!(
                "the run of `{cache}` went on past {skipped} of its slots, which are skipped: give it more time, or a higher rate"
            );
        }
        self.means.metrics.warm.ran(cache, "done");
        self.finish(cause, Ok(outcome));
    }

    async fn failed(&mut self, cause: Cause, error: &WarmError, outcome: Outcome) {
        // Whenever that is: only how long the pause is depends on it.
        let now = self.runs.look().await.map_or(0, |look| look.now);
        self.due.failed(now);
        let cache = &self.plan.name;
        let label = cause.label();
        tracing::warn!(%error, "`{cache}` could not be warmed for {label}");
        self.means.metrics.warm.ran(cache, "failed");
        let outcome = Outcome {
            error: Some(error.to_string()),
            ..outcome
        };
        self.means.board.tried(self.at, false);
        self.finish(cause, Ok(outcome));
    }

    fn finish(&mut self, cause: Cause, answer: Result<Outcome, WarmError>) {
        if let Ok(outcome) = &answer {
            let board = &self.means.board;
            board.end(self.at, outcome.clone(), cause.label());
        }
        for asked in self.asked.drain(..) {
            // Who asked may be gone.
            let _gone = asked.answer.send(answer.clone());
        }
    }

    fn refuse(&mut self, error: &WarmError) {
        for asked in self.asked.drain(..) {
            let _gone = asked.answer.send(Err(error.clone()));
        }
    }

    fn tell_examples(&self, tally: &Tally) {
        let cache = &self.plan.name;
        for example in tally.examples() {
            tracing::warn!("`{cache}` cannot be warmed with {example}");
        }
    }
}
