//! What the actor thinks: what is answered at once, what goes to Redis, and what becomes of its answer.

use super::declared::Declared;
use super::denied::Denied;
use super::local::Local;
use super::messages::{Check, Decision, Reload};
use super::queue::{Answer, Collector, Job, Queue, Slot};
use super::requests::{Request, Rules, Verb, require};
use super::rule::Rule;
use super::scripts::{Scripts, Served};
use super::verdict::{Verdict, settle};
use super::{LimitError, RateLimitParts};
use crate::store::{Store, StoreError};
use crate::supervisor::Promise;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

/// Requests of one message: many times what a connection gathers.
const MAX_ASKED: usize = 10_000;

/// Requests on their way to Redis.
pub struct Batch {
    jobs: Vec<Job>,
    asked: Instant,
}

/// Rules, refusals that stand, and what waits.
pub struct Limiter {
    declared: Declared,
    rules: Arc<Rules>,
    denied: Denied,
    local: Local,
    queue: Queue,
}

impl Limiter {
    /// Nothing waits yet.
    pub fn new(parts: &RateLimitParts) -> Self {
        Self {
            rules: parts.declared.rules(),
            declared: parts.declared.clone(),
            denied: parts.denied.clone(),
            local: Local::new(parts.fleet.clone()),
            queue: Queue::default(),
        }
    }

    /// Takes a message of several requests.
    pub fn check(&mut self, check: Check, promise: Promise<Vec<Result<Decision, LimitError>>>) {
        let count = check.asked.len();
        let collector = Collector::new(count, promise);
        for (place, asked) in check.asked.into_iter().enumerate() {
            let few = require(count <= MAX_ASKED, || {
                format!("{count} requests at once are more than {MAX_ASKED}")
            });
            let request = few.and_then(|()| self.rules.check(asked));
            self.take(request, Slot::Place(Rc::clone(&collector), place));
        }
    }

    /// From now on these are the limits. What is counted lies in Redis, under their names.
    pub fn reload(&mut self, reload: &Reload) {
        // For the actor that comes after this one, too.
        self.declared.replace(&reload.limits, reload.defaults);
        self.rules = self.declared.rules();
        // They may have been raised.
        self.denied.clear();
    }

    /// The declared limits.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Takes a request; answered at once if a refusal stands against it.
    pub fn take(&mut self, request: Result<Request, LimitError>, slot: Slot) {
        let request = match request {
            Ok(request) => request,
            Err(error) => return slot.answer(Err(error)),
        };
        if request.verb.decides() {
            let (subject, cost) = (&request.subject, request.cost);
            let takes = request.verb == Verb::Take;
            let known = |rule: &Rule| {
                let identity = &rule.identity;
                self.denied.refusal(identity, subject, cost, takes)
            };
            if let Some(refusal) = request.rules.iter().find_map(|rule| known(rule)) {
                return slot.answer(Ok(Answer::Decision(refusal)));
            }
        }
        // Not only when it is sent: what waits until then is asked by the limits of now, and those may be declared anew.
        let rules = request.rules.iter();
        let marks = rules.map(|rule| self.denied.mark(rule, &request.subject));
        let marks = marks.collect();
        self.queue.add(Job {
            request,
            marks,
            slot,
        });
    }

    /// Whether something waits for a script.
    pub fn waits(&self) -> bool {
        self.queue.waits()
    }

    /// Whether nothing waits and nothing is out.
    pub fn is_idle(&self) -> bool {
        self.queue.is_idle()
    }

    /// What goes to Redis now.
    pub fn next(&mut self) -> Option<Batch> {
        let jobs = self.queue.next()?;
        Some(Batch {
            jobs,
            asked: Instant::now(),
        })
    }

    /// Answers what was asked.
    pub fn came_back(&mut self, batch: Batch, served: Result<Vec<Served>, StoreError>) {
        self.queue.came_back();
        let served = match served {
            Ok(served) => served,
            Err(error) => return self.without_redis(batch, &error),
        };
        for (job, served) in batch.jobs.into_iter().zip(served) {
            let Job {
                request,
                marks,
                slot,
            } = job;
            match served {
                Served::Given(given) => {
                    self.gave_back(&request);
                    slot.answer(Ok(Answer::Given(given)));
                }
                Served::Verdicts(verdicts) => {
                    let told = request.rules.iter().zip(&verdicts).zip(marks);
                    for ((rule, verdict), mark) in told {
                        let cost = request.cost;
                        self.denied.remember(mark, rule, verdict, cost, batch.asked);
                    }
                    answer(&request, slot, &verdicts, true);
                }
            }
        }
    }

    fn gave_back(&self, request: &Request) {
        for rule in &request.rules {
            let identity = rule.identity.as_bytes();
            self.denied.forget(identity, &request.subject);
        }
    }

    /// Each limit answers as it is declared to.
    fn without_redis(&mut self, batch: Batch, error: &StoreError) {
        tracing::debug!(%error, "limits answer without redis");
        for Job { request, slot, .. } in batch.jobs {
            if request.verb.decides() {
                let verdicts = self.local.verdicts(&request);
                answer(&request, slot, &verdicts, false);
            } else {
                self.local.give_back(&request);
                slot.answer(Err(LimitError::Store(error.clone())));
            }
        }
    }
}

impl Batch {
    /// Asks Redis.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn serve(&self, store: &Store, scripts: &Scripts) -> Result<Vec<Served>, StoreError> {
        let requests: Vec<&Request> = self.jobs.iter().map(|job| &job.request).collect();
        scripts.serve(store, &requests, &[]).await
    }
}

fn answer(request: &Request, slot: Slot, verdicts: &[Verdict], asked: bool) {
    // Always: there is a verdict a limit, and at least one limit. Else who waits is told that there is no answer.
    if let Some(decision) = settle(request, verdicts, asked) {
        slot.answer(Ok(Answer::Decision(decision)));
    }
}

#[cfg(test)]
#[path = "limiter_tests.rs"]
mod tests;
