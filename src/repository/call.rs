//! One call of `load` and its keys on their way.
//!
//! A call ends at its deadline whatever becomes of its keys, and a key that is dropped on its way
//! (a task that died, a runtime that stopped) answers by itself: nobody waits for an answer that
//! cannot come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::LoadError;
use crate::keyspace::RoutedKey;

/// What a key is answered: the value's JSON text, or that there is none.
pub(super) type Answer = Result<Option<Bytes>, LoadError>;

/// A caller that waits for the answers to its keys.
pub(super) struct Call {
    deadline: Instant,
    timeout: Duration,
    slots: Mutex<Slots>,
    complete: Notify,
    given_up: AtomicBool,
}

struct Slots {
    answers: Vec<Option<Answer>>,
    open: usize,
}

impl Call {
    pub fn new(keys: usize, timeout: Duration) -> Arc<Self> {
        Arc::new(Self {
            deadline: Instant::now() + timeout,
            timeout,
            slots: Mutex::new(Slots {
                answers: vec![None; keys],
                open: keys,
            }),
            complete: Notify::new(),
            given_up: AtomicBool::new(false),
        })
    }

    /// The answers, in the order of the keys; those that are still out at the deadline timed out.
    pub async fn answers(self: Arc<Self>) -> Vec<Answer> {
        let guard = GiveUp(&self);
        if self.slots.lock().open > 0 {
            // The deadline's own error is the answer below.
            let _ = tokio::time::timeout_at(self.deadline, self.complete.notified()).await;
        }
        drop(guard);
        let answers = std::mem::take(&mut self.slots.lock().answers);
        answers
            .into_iter()
            .map(|answer| answer.unwrap_or_else(|| Err(self.timed_out())))
            .collect()
    }

    fn timed_out(&self) -> LoadError {
        LoadError::TimedOut {
            after_ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn answer(&self, slot: usize, answer: Answer) {
        let mut slots = self.slots.lock();
        // The answers are taken away at the deadline: what comes later has no place any more.
        let Some(place) = slots.answers.get_mut(slot) else {
            return;
        };
        if place.replace(answer).is_none() {
            slots.open -= 1;
        }
        if slots.open == 0 {
            self.complete.notify_one();
        }
    }
}

/// Tells keys that are still on their way that nobody waits for them, also when the caller's future
/// is dropped in the middle.
struct GiveUp<'a>(&'a Call);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        self.0.given_up.store(true, Ordering::Relaxed);
    }
}

/// A key on its way to its answer.
pub(super) struct Pending {
    pub key: RoutedKey,
    slot: usize,
    call: Option<Arc<Call>>,
}

impl Pending {
    pub fn new(key: RoutedKey, slot: usize, call: &Arc<Call>) -> Self {
        Self {
            key,
            slot,
            call: Some(Arc::clone(call)),
        }
    }

    pub fn answer(mut self, answer: Answer) {
        if let Some(call) = self.call.take() {
            call.answer(self.slot, answer);
        }
    }

    /// Whether nobody waits for the answer any more: it need not be asked for.
    pub fn is_moot(&self, now: Instant) -> bool {
        self.call
            .as_ref()
            .is_none_or(|call| call.given_up.load(Ordering::Relaxed) || call.deadline <= now)
    }

    pub fn deadline(&self) -> Option<Instant> {
        self.call.as_ref().map(|call| call.deadline)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            let error = if call.deadline <= Instant::now() {
                call.timed_out()
            } else {
                let reason = Arc::from("the load was given up before its answer came");
                LoadError::Unavailable { reason }
            };
            call.answer(self.slot, Err(error));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{KeyTemplate, Router};

    const LONG: Duration = Duration::from_secs(20);

    fn pending(call: &Arc<Call>, slot: usize) -> Pending {
        let template = KeyTemplate::parse("k:{id:int}").unwrap();
        let router = Router::new(&[("k".to_owned(), template)], &[]);
        let key = router.route(b"k:1").unwrap();
        Pending::new(key.with_key(Bytes::from_static(b"k:1")), slot, call)
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_keys() {
        let call = Call::new(2, LONG);
        let (first, second) = (pending(&call, 0), pending(&call, 1));
        second.answer(Ok(None));
        first.answer(Ok(Some(Bytes::from_static(b"1"))));
        assert_eq!(
            call.answers().await,
            [Ok(Some(Bytes::from_static(b"1"))), Ok(None)]
        );
    }

    #[tokio::test]
    async fn a_key_that_is_dropped_answers_by_itself() {
        let call = Call::new(1, LONG);
        drop(pending(&call, 0));
        assert!(matches!(
            call.answers().await[..],
            [Err(LoadError::Unavailable { .. })]
        ));
    }

    #[tokio::test]
    async fn what_is_out_at_the_deadline_has_timed_out_and_comes_too_late_afterwards() {
        let call = Call::new(2, Duration::ZERO);
        let (first, second) = (pending(&call, 0), pending(&call, 1));
        first.answer(Ok(None));
        let answers = Arc::clone(&call).answers().await;
        assert_eq!(
            answers,
            [Ok(None), Err(LoadError::TimedOut { after_ms: 0 })]
        );
        assert!(second.is_moot(Instant::now()));
        second.answer(Ok(None));
        assert!(Arc::clone(&call).answers().await.is_empty());
    }

    #[tokio::test]
    async fn the_keys_of_a_caller_that_goes_away_are_moot() {
        let call = Call::new(1, LONG);
        let key = pending(&call, 0);
        let mut answers = Box::pin(Arc::clone(&call).answers());
        let once = futures_util::FutureExt::now_or_never(&mut answers);
        assert_eq!(once, None);
        assert!(!key.is_moot(Instant::now()));
        drop(answers);
        assert!(key.is_moot(Instant::now()));
    }

    #[tokio::test]
    async fn a_call_of_no_keys_is_answered_at_once() {
        assert!(Call::new(0, LONG).answers().await.is_empty());
    }
}
