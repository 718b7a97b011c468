//! Requests that wait for Redis go together: what lay in the mailbox, and what came while scripts were out.

use super::LimitError;
use super::denied::Mark;
use super::messages::Decision;
use super::requests::Request;
use crate::supervisor::Promise;
use smallvec::SmallVec;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Requests of one script, and limits of all of them: about a millisecond of Redis' time.
const MAX_REQUESTS: usize = 128;
const MAX_LIMITS: usize = 256;
/// Scripts out at a time: one is carried out while the next is on its way. More would only be smaller.
const MAX_SCRIPTS: usize = 2;

/// A request, and who waits for its answer.
pub struct Job {
    pub request: Request,
    /// What was heard of each of its limits when it came.
    pub marks: SmallVec<[Mark; 1]>,
    pub slot: Slot,
}

/// Who waits for an answer. Dropped, it tells them that there will be none.
pub enum Slot {
    /// Those who asked for several things at once.
    Place(Rc<Collector>, usize),
    Decision(Promise<Result<Decision, LimitError>>),
    Given(Promise<Result<u64, LimitError>>),
    Whether(Promise<Result<bool, LimitError>>),
}

/// What was found out for a request.
#[derive(Clone, Debug)]
pub enum Answer {
    Decision(Decision),
    /// How much was given back; or 1 if something was there.
    Given(u64),
}

impl Slot {
    /// Answers. What was asked decides which answer there is; the other one is never given.
    pub fn answer(self, answer: Result<Answer, LimitError>) {
        let decision = |answer| match answer {
            Answer::Decision(decision) => Some(decision),
            Answer::Given(_) => None,
        };
        let given = |answer| match answer {
            Answer::Given(given) => Some(given),
            Answer::Decision(_) => None,
        };
        match self {
            Slot::Place(collector, place) => {
                if let Some(answer) = answer.map(decision).transpose() {
                    collector.put(place, answer);
                }
            }
            Slot::Decision(promise) => keep(promise, answer.map(decision)),
            Slot::Given(promise) => keep(promise, answer.map(given)),
            Slot::Whether(promise) => {
                let given = answer.map(given);
                keep(promise, given.map(|given| given.map(|given| given > 0)));
            }
        }
    }
}

fn keep<T>(promise: Promise<Result<T, LimitError>>, answer: Result<Option<T>, LimitError>) {
    if let Some(answer) = answer.transpose() {
        promise.keep(answer);
    }
}

type Answers = Vec<Result<Decision, LimitError>>;

/// The answers of those who asked for several things at once, until all are there.
pub struct Collector(RefCell<Collected>);

struct Collected {
    answers: Vec<Option<Result<Decision, LimitError>>>,
    open: usize,
    promise: Option<Promise<Answers>>,
}

impl Collector {
    /// Waits for so many answers.
    pub fn new(count: usize, promise: Promise<Answers>) -> Rc<Self> {
        let mut collected = Collected {
            answers: vec![None; count],
            open: count,
            promise: Some(promise),
        };
        collected.keep_if_complete();
        Rc::new(Self(RefCell::new(collected)))
    }

    fn put(&self, place: usize, answer: Result<Decision, LimitError>) {
        let mut collected = self.0.borrow_mut();
        if let Some(slot @ None) = collected.answers.get_mut(place) {
            *slot = Some(answer);
            collected.open -= 1;
            collected.keep_if_complete();
        }
    }
}

impl Collected {
    fn keep_if_complete(&mut self) {
        if self.open == 0
            && let Some(promise) = self.promise.take()
        {
            promise.keep(self.answers.drain(..).flatten().collect());
        }
    }
}

/// What waits for a script.
#[derive(Default)]
pub struct Queue {
    jobs: VecDeque<Job>,
    scripts: usize,
}

impl Queue {
    /// Puts it behind the others.
    pub fn add(&mut self, job: Job) {
        self.jobs.push_back(job);
    }

    /// What goes out now, if something waits and may go.
    pub fn next(&mut self) -> Option<Vec<Job>> {
        if self.scripts >= MAX_SCRIPTS || self.jobs.is_empty() {
            return None;
        }
        let mut limits = 0;
        let fitting = self.jobs.iter().take(MAX_REQUESTS).take_while(|job| {
            limits += job.request.rules.len();
            limits <= MAX_LIMITS
        });
        let count = fitting.count();
        self.scripts += 1;
        Some(self.jobs.drain(..count).collect())
    }

    /// A script has come back.
    pub fn came_back(&mut self) {
        self.scripts = self.scripts.saturating_sub(1);
    }

    /// Whether nothing waits and nothing is out.
    pub fn is_idle(&self) -> bool {
        self.jobs.is_empty() && self.scripts == 0
    }

    /// Whether something waits.
    pub fn waits(&self) -> bool {
        !self.jobs.is_empty()
    }
}
