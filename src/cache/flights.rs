//! Single flight: who waits for which load, and whose answer it is. Pure; the engine does what it says.
//!
//! One flight a key in this shard. Its way:
//! ```text
//!            ┌────────────── refused, or too late: the next read ──────────────┐
//!            ▼                                                                 │
//!  join ─▶ Queued ─▶ Acquiring ─┬─ there ───────────────────────────────▶ answered
//!            ▲                  ├─ leased ─▶ Loading ─▶ Ending ─┬─ filled ─▶ answered
//!            │                  ├─ no lease to be had ─▶ Loading (bare) ────▶ answered, not cached
//!            └──── Parked ◀─────┘ held by another daemon
//! ```
//! **Nobody joins what has been sent.** A reader that comes after an invalidation was acknowledged must not be given a
//! value from before it:
//! 1. reader A's look-up is sent; Redis answers it with the old value; 2. the row changes, the invalidation is acknowledged;
//! 3. reader B asks; 4. A's answer arrives. Had B joined A, it would get the old value.
//!
//! So in `Acquiring` and `Ending`, and in a bare load, late comers wait for what is sent *next*, be it this flight's own
//! load. The one exception is a load under a lease: an invalidation after its read takes the lease away, so that what *was*
//! filled is right for everybody who joined before the fill was sent, and what was not filled goes only to the `early`:
//! those who came before its read.

use bytes::Bytes;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Fills of one flight that may be refused before it answers without caching.
const MAX_REFUSALS: u8 = 3;
/// How soon a parked flight looks again: at first, and at most.
const FIRST_POLL: Duration = Duration::from_millis(2);
const SLOWEST_POLL: Duration = Duration::from_millis(50);

/// What the acquire script said of one key.
#[derive(Clone, Debug)]
pub enum Acquired<A> {
    /// The value is there.
    There(A),
    /// The lease is ours.
    Leased,
    /// Another load holds the lease.
    Held,
    /// Redis is out of reach or refuses to write: load without a lease.
    NoLease,
}

/// What Postgres, or the program's loader, said of one key.
#[derive(Clone, Debug)]
pub enum Loaded<A> {
    /// To be filled.
    Fill(A),
    /// An answer that is not to be cached.
    Pass(A),
    /// No answer.
    Failed(A),
}

/// What the script that ends a lease said of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The lease was ours to the end.
    Ours,
    /// An invalidation, an expiry or an eviction came between.
    Refused,
    /// No reply: it may or may not have been filled.
    Unknown,
}

/// What to do next with one key.
#[derive(Debug)]
pub enum Next<W, A> {
    /// Nothing; the flight waits for something else.
    Wait,
    /// Load it, then call [`Flights::loaded`].
    Load {
        /// Under the lease that was just acquired.
        leased: bool,
    },
    /// Fill it (`fill`) or only give the lease back, then call [`Flights::ended`].
    End {
        /// Whether the value is stored.
        fill: bool,
    },
    /// Tell these readers; the flight is over, or goes on for others.
    Answer(Vec<W>, A),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Queued,
    Acquiring,
    Parked,
    Loading { leased: bool },
    Ending { fill: bool },
}

#[cfg_attr(test, derive(Clone, Debug))]
struct Flight<I, W, A> {
    item: I,
    phase: Phase,
    /// Who gets this flight's answer, in order of arrival.
    waiters: Vec<W>,
    /// So many of them came before the current read was sent.
    early: usize,
    /// Who came too late for it.
    next: Vec<W>,
    answer: Option<A>,
    refusals: u8,
    /// An invalidation was heard: nobody joins any more.
    closed: bool,
    parked: Option<Parked>,
}

#[derive(Clone, Copy)]
struct Parked {
    since: Instant,
    due: Instant,
    pause: Duration,
}

/// Not when, only that: the model check has no time, and two worlds that differ in it alone are one.
#[cfg(test)]
impl std::fmt::Debug for Parked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parked")
    }
}

/// All flights of one shard. `I` is what a load needs to know, `W` a waiting reader, `A` an answer.
// The model check branches: it keeps copies, and tells them apart.
#[cfg_attr(test, derive(Clone, Debug))]
pub struct Flights<I, W, A> {
    flights: HashMap<Bytes, Flight<I, W, A>, foldhash::fast::RandomState>,
    queued: Vec<Bytes>,
    parked: usize,
    waiting: usize,
    most_waiting: usize,
}

/// The answer to [`Flights::join`].
#[derive(Debug, PartialEq, Eq)]
pub enum Join<W> {
    /// A new flight; it is queued.
    Led,
    /// Part of a flight that was there already.
    Joined,
    /// As many wait as may.
    Full(W),
}

impl<I: Clone, W, A: Clone> Flights<I, W, A> {
    /// No flights; at most `most_waiting` readers will wait.
    pub fn new(most_waiting: usize) -> Self {
        Self {
            flights: HashMap::default(),
            queued: Vec::new(),
            parked: 0,
            waiting: 0,
            most_waiting,
        }
    }

    /// A reader wants `key`.
    pub fn join(&mut self, key: &Bytes, item: &I, waiter: W) -> Join<W> {
        if self.waiting >= self.most_waiting {
            return Join::Full(waiter);
        }
        self.waiting += 1;
        let Some(flight) = self.flights.get_mut(key) else {
            self.launch(key.clone(), item.clone(), vec![waiter]);
            return Join::Led;
        };
        let joinable = match flight.phase {
            Phase::Queued | Phase::Parked => true,
            Phase::Loading { leased } => leased && !flight.closed,
            Phase::Acquiring | Phase::Ending { .. } => false,
        };
        if joinable {
            flight.waiters.push(waiter);
        } else {
            flight.next.push(waiter);
        }
        Join::Joined
    }

    /// Takes what is queued: these look-ups are about to be sent. `true`: it has waited for another daemon's lease.
    pub fn take_queued(&mut self) -> Vec<(Bytes, I, bool)> {
        let mut taken = Vec::with_capacity(self.queued.len());
        for key in std::mem::take(&mut self.queued) {
            if let Some(flight) = self.flights.get_mut(&key) {
                flight.phase = Phase::Acquiring;
                taken.push((key, flight.item.clone(), flight.parked.is_some()));
            }
        }
        taken
    }

    /// The acquire script answered. `patience` is how long another daemon's lease is waited for.
    pub fn acquired(
        &mut self,
        key: &Bytes,
        acquired: Acquired<A>,
        now: Instant,
        patience: Duration,
    ) -> Next<W, A> {
        let Some(flight) = self.flights.get_mut(key) else {
            return Next::Wait;
        };
        match acquired {
            Acquired::There(answer) => self.settle(key, answer),
            Acquired::Leased => flight.load(true),
            Acquired::NoLease => flight.load(false),
            Acquired::Held => {
                let parked = flight.parked.get_or_insert(Parked {
                    since: now,
                    due: now,
                    pause: FIRST_POLL,
                });
                if now.duration_since(parked.since) >= patience {
                    // A dead or slow holder fails nobody else.
                    return flight.load(false);
                }
                parked.due = now + parked.pause;
                parked.pause = (parked.pause * 2).min(SLOWEST_POLL);
                flight.phase = Phase::Parked;
                self.parked += 1;
                Next::Wait
            }
        }
    }

    /// The load came back.
    pub fn loaded(&mut self, key: &Bytes, loaded: Loaded<A>) -> Next<W, A> {
        let Some(flight) = self.flights.get_mut(key) else {
            return Next::Wait;
        };
        let leased = flight.phase == Phase::Loading { leased: true };
        let (fill, answer) = match loaded {
            Loaded::Failed(answer) => return self.fail(key, answer),
            Loaded::Fill(answer) => (true, answer),
            Loaded::Pass(answer) => (false, answer),
        };
        if !leased {
            return self.settle_unfilled(key, answer);
        }
        flight.answer = Some(answer);
        flight.phase = Phase::Ending { fill };
        Next::End { fill }
    }

    /// The lease was ended. Refused flights are queued again, or answered without caching.
    pub fn ended(&mut self, key: &Bytes, ended: Ended) -> Next<W, A> {
        let Some(flight) = self.flights.get_mut(key) else {
            return Next::Wait;
        };
        let filled = flight.phase == Phase::Ending { fill: true } && ended == Ended::Ours;
        let Some(answer) = flight.answer.take() else {
            return Next::Wait;
        };
        if filled {
            return self.settle(key, answer);
        }
        flight.refusals += u8::from(ended == Ended::Refused);
        if ended == Ended::Refused && flight.refusals < MAX_REFUSALS {
            // Read again.
            flight.requeue();
            self.queued.push(key.clone());
            return Next::Wait;
        }
        self.settle_unfilled(key, answer)
    }

    /// An invalidation of `key` was heard: whoever comes from now on gets the next read.
    pub fn close(&mut self, key: &[u8]) {
        if let Some(flight) = self.flights.get_mut(key) {
            flight.closed = true;
        }
    }

    /// Queues the parked flights whose time has come.
    pub fn wake_parked(&mut self, now: Instant) {
        if self.parked == 0 {
            return;
        }
        for (key, flight) in &mut self.flights {
            let due = flight.parked.is_some_and(|parked| parked.due <= now);
            if flight.phase == Phase::Parked && due {
                flight.requeue();
                self.parked -= 1;
                self.queued.push(key.clone());
            }
        }
    }

    /// Whether a flight waits for another daemon's lease.
    pub fn any_parked(&self) -> bool {
        self.parked > 0
    }

    /// Whether look-ups are waiting to be sent.
    pub fn any_queued(&self) -> bool {
        !self.queued.is_empty()
    }

    /// What the flight of `key` loads.
    pub fn item(&self, key: &[u8]) -> Option<&I> {
        self.flights.get(key).map(|flight| &flight.item)
    }

    /// Flights under way.
    pub fn len(&self) -> usize {
        self.flights.len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.flights.is_empty()
    }

    fn launch(&mut self, key: Bytes, item: I, waiters: Vec<W>) {
        self.queued.push(key.clone());
        let flight = Flight {
            item,
            phase: Phase::Queued,
            waiters,
            early: 0,
            next: Vec::new(),
            answer: None,
            refusals: 0,
            closed: false,
            parked: None,
        };
        self.flights.insert(key, flight);
    }

    /// The answer is right for all who joined.
    fn settle(&mut self, key: &Bytes, answer: A) -> Next<W, A> {
        self.finish(key, usize::MAX, answer)
    }

    /// The answer is right only for those who came before its read was sent.
    fn settle_unfilled(&mut self, key: &Bytes, answer: A) -> Next<W, A> {
        let early = self.flights.get(key).map_or(0, |flight| flight.early);
        self.finish(key, early, answer)
    }

    /// A failure is nobody's stale value, and a second try for the late ones could not end in their time; unless an
    /// invalidation was heard: who came after it asks about another row.
    fn fail(&mut self, key: &Bytes, answer: A) -> Next<W, A> {
        let Some(flight) = self.flights.remove(key) else {
            return Next::Wait;
        };
        let mut waiters = flight.waiters;
        if flight.closed && !flight.next.is_empty() {
            self.launch(key.clone(), flight.item, flight.next);
        } else {
            waiters.extend(flight.next);
        }
        self.waiting -= waiters.len();
        Next::Answer(waiters, answer)
    }

    fn finish(&mut self, key: &Bytes, first: usize, answer: A) -> Next<W, A> {
        let Some(flight) = self.flights.remove(key) else {
            return Next::Wait;
        };
        let mut answered = flight.waiters;
        let mut late = answered.split_off(first.min(answered.len()));
        late.extend(flight.next);
        if !late.is_empty() {
            self.launch(key.clone(), flight.item, late);
        }
        self.waiting -= answered.len();
        Next::Answer(answered, answer)
    }
}

impl<I, W, A> Flight<I, W, A> {
    fn load(&mut self, leased: bool) -> Next<W, A> {
        self.gather();
        self.phase = Phase::Loading { leased };
        self.early = self.waiters.len();
        self.parked = None;
        Next::Load { leased }
    }

    fn requeue(&mut self) {
        self.gather();
        self.phase = Phase::Queued;
        self.closed = false;
    }

    /// Before anything is sent: everybody who is here came before it. Who was left to a flight of their own instead would
    /// wait for another daemon's lease all over again, beyond their time.
    fn gather(&mut self) {
        self.waiters.append(&mut self.next);
    }
}

#[cfg(test)]
#[path = "flights_tests.rs"]
mod tests;
