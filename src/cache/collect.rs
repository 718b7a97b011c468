//! The answers of one request, gathered from wherever its keys are loaded.

use super::CacheError;
use super::messages::Answer;
use crate::supervisor::Promise;
use crate::telemetry::Timer;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// Whom the gathered answers go to.
pub(super) enum ReplyTo {
    /// A read of many keys.
    Many(Promise<Vec<Answer>>),
    /// A single key.
    One(Promise<Answer>),
}

impl ReplyTo {
    /// Whether the asker still waits.
    pub(super) fn is_awaited(&self) -> bool {
        match self {
            ReplyTo::Many(promise) => promise.is_awaited(),
            ReplyTo::One(promise) => promise.is_awaited(),
        }
    }
}

/// A request some of whose keys are still being loaded.
pub(super) struct Collector(Mutex<Collecting>);

struct Collecting {
    answers: Vec<Option<Answer>>,
    left: usize,
    reply: Option<ReplyTo>,
    timer: Option<Timer>,
}

impl Collector {
    /// `answers` holds what is known; every `None` needs a [`Slot`].
    pub(super) fn new(
        answers: Vec<Option<Answer>>,
        reply: ReplyTo,
        timer: Option<Timer>,
    ) -> Arc<Self> {
        let left = answers.iter().filter(|answer| answer.is_none()).count();
        Arc::new(Self(Mutex::new(Collecting {
            answers,
            left,
            reply: Some(reply),
            timer,
        })))
    }

    /// The duty to answer place `index`.
    pub(super) fn slot(self: &Arc<Self>, index: usize) -> Slot {
        Slot {
            collector: Arc::clone(self),
            index,
        }
    }

    /// Answers one place; the second answer to a place counts for nothing.
    pub(super) fn answer(&self, index: usize, answer: impl FnOnce() -> Answer) {
        let mut collecting = self.0.lock();
        match collecting.answers.get_mut(index) {
            Some(place @ None) => *place = Some(answer()),
            _ => return,
        }
        collecting.left -= 1;
        if collecting.left > 0 {
            return;
        }
        let answers = std::mem::take(&mut collecting.answers);
        let time = collecting.timer.take();
        let Some(reply) = collecting.reply.take() else {
            return;
        };
        drop((collecting, time));
        Self::reply(answers, reply);
    }

    /// Sends answers that are all there.
    pub(super) fn reply(answers: Vec<Option<Answer>>, reply: ReplyTo) {
        let mut answers = answers
            .into_iter()
            .map(|answer| answer.unwrap_or(Err(CacheError::Restarted)));
        match reply {
            ReplyTo::Many(promise) => promise.keep(answers.collect()),
            ReplyTo::One(promise) => {
                promise.keep(answers.next().unwrap_or(Err(CacheError::Restarted)));
            }
        }
    }
}

/// One place of a request. Dropped unanswered (its shard died), it tells the asker so.
pub(super) struct Slot {
    collector: Arc<Collector>,
    index: usize,
}

impl Slot {
    pub(super) fn answer(self, answer: Answer) {
        self.collector.answer(self.index, || answer);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.collector
            .answer(self.index, || Err(CacheError::Restarted));
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Slot({})", self.index)
    }
}
