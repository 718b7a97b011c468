//! What goes to Redis in one exchange, and how much may be on its way at once.
//!
//! One connection answers in order, and reads of the caches share it: a pipeline of five hundred values of a megabyte would
//! hold up everybody for longer than `redis.timeout`, and count as an outage. So it goes in parts, one after the other, by a
//! guess of how large values are: it rises at once and falls slowly, and begins with the largest that a client may send. It is
//! a guess about cost, never about truth.

use crate::store::{Call, Passed, Store, StoreError};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use tokio::sync::Semaphore;

/// Commands of one exchange: what Redis does for them holds up everybody else for as long as it runs.
const MAX_CALLS: usize = 256;
/// Bytes of one exchange, sent and expected, unless a single command has more; and of all that are under way. Over a network
/// of 1 Gbit/s they take 35 ms.
const MAX_BYTES: usize = 4 << 20;
/// Permits are counted in this many bytes.
const GRAIN: usize = 1 << 10;
/// So many values of another size make half of the guess when it falls.
const INERTIA: usize = 32;

/// A command, and how many values its reply may bring.
pub(super) struct Step {
    pub(super) call: Call,
    pub(super) values: usize,
}

/// The way to Redis.
pub(super) struct Exchange {
    store: Store,
    room: Semaphore,
    guess: Guess,
}

impl Exchange {
    /// `largest` is what a value has at most, in bytes, as far as clients send it.
    pub(super) fn new(store: Store, largest: usize) -> Self {
        Self {
            store,
            room: Semaphore::new(MAX_BYTES / GRAIN),
            guess: Guess::new(largest),
        }
    }

    /// How many values one command should ask for at most.
    pub(super) fn values_at_once(&self) -> usize {
        (MAX_BYTES / self.guess.bytes().max(1)).max(1)
    }

    /// Sends all of it in its order, in as many exchanges as it takes; what Redis says to each. What stands behind an exchange
    /// that failed is not sent.
    pub(super) async fn send(&self, steps: &[Step]) -> Vec<Result<Passed, StoreError>> {
        let mut replies = Vec::with_capacity(steps.len());
        let mut left = steps;
        while !left.is_empty() {
            let (count, bytes) = part(left, self.guess.bytes());
            let (part, rest) = left.split_at(count);
            match self.exchange(part, bytes).await {
                Ok(passed) => replies.extend(passed.into_iter().map(Ok)),
                Err(error) => {
                    replies.extend(left.iter().map(|_| Err(error.clone())));
                    break;
                }
            }
            left = rest;
        }
        replies
    }

    async fn exchange(&self, part: &[Step], bytes: usize) -> Result<Vec<Passed>, StoreError> {
        let permits = u32::try_from(bytes.min(MAX_BYTES) / GRAIN).unwrap_or(u32::MAX);
        // Never closed.
        let _room = self.room.acquire_many(permits).await.ok();
        let calls: Vec<&Call> = part.iter().map(|step| &step.call).collect();
        let passed = self.store.pass(&calls).await;
        match &passed {
            Ok(passed) => {
                let carrying = part.iter().zip(passed).filter(|(step, _)| step.values > 0);
                let sizes = carrying.map(|(_, reply)| texts(reply));
                let (values, bytes) = sizes.fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
                self.guess.seen(values, bytes);
            }
            // Perhaps because values are larger than expected.
            Err(StoreError::TimedOut { .. }) => self.guess.doubt(),
            Err(_) => {}
        }
        passed
    }
}

/// How many of `steps` go together, and what they have, or are expected to have, in bytes: one at least.
fn part(steps: &[Step], value: usize) -> (usize, usize) {
    let (mut count, mut bytes) = (0, 0_usize);
    for step in steps.iter().take(MAX_CALLS) {
        let more = step.call.bytes() + step.values.saturating_mul(value);
        let sum = bytes.saturating_add(more);
        if count > 0 && sum > MAX_BYTES {
            break;
        }
        (count, bytes) = (count + 1, sum);
    }
    (count, bytes)
}

/// How many values a reply has, and of how many bytes.
fn texts(reply: &Passed) -> (usize, usize) {
    match reply {
        Passed::Text(text) => (1, text.len()),
        Passed::List(items) => items
            .iter()
            .map(texts)
            .fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1)),
        _ => (0, 0),
    }
}

/// How large a value is, probably, in bytes.
struct Guess {
    mean: AtomicUsize,
    largest: usize,
}

impl Guess {
    fn new(largest: usize) -> Self {
        Self {
            mean: AtomicUsize::new(largest),
            largest,
        }
    }

    fn bytes(&self) -> usize {
        self.mean.load(Relaxed)
    }

    fn seen(&self, values: usize, bytes: usize) {
        if values == 0 {
            return;
        }
        let learned = |mean: usize| {
            let fallen = mean.saturating_mul(INERTIA).saturating_add(bytes) / (INERTIA + values);
            Some(fallen.max(bytes / values))
        };
        let _as_it_was = self.mean.fetch_update(Relaxed, Relaxed, learned);
    }

    fn doubt(&self) {
        self.mean.fetch_max(self.largest, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn get(values: usize) -> Step {
        let call = Call::new("GET", vec![Bytes::from_static(b"key")]);
        Step { call, values }
    }

    #[test]
    fn an_exchange_is_as_large_as_it_may_be_and_has_one_command_at_least() {
        let gets = |count: usize| (0..count).map(|_| get(1)).collect::<Vec<_>>();
        let mib = 1 << 20;
        assert_eq!(part(&gets(10), mib - 3), (4, 4 * mib));
        assert_eq!(part(&gets(10), 100 * mib).0, 1);
        assert_eq!(part(&gets(1000), 10).0, MAX_CALLS);
        assert_eq!(part(&[get(0), get(7), get(1)], mib).0, 1);
        assert_eq!(part(&[], mib), (0, 0));
    }

    #[test]
    fn a_guess_falls_slowly_and_rises_at_once() {
        let guess = Guess::new(1 << 20);
        guess.seen(0, 0);
        assert_eq!(guess.bytes(), 1 << 20);
        guess.seen(INERTIA, 0);
        assert_eq!(guess.bytes(), 1 << 19);
        for _ in 0..1000 {
            guess.seen(1, 100);
        }
        assert!((100..200).contains(&guess.bytes()), "{}", guess.bytes());
        guess.seen(2, 4 << 20);
        assert_eq!(guess.bytes(), 2 << 20);
        for _ in 0..1000 {
            guess.seen(1, 100);
        }
        guess.doubt();
        assert_eq!(guess.bytes(), 1 << 20);
    }
}
