//! The algorithms over a daemon's own memory, for while Redis is away: the same answers as the scripts give.
//!
//! Written down a second time, in whole numbers of 128 bits, where the scripts have to be clever: so that this is also what
//! they are held against, step by step (`tests/it/limits/exact.rs`).

use super::rule::{Kind, Numbers};
use super::verdict::Verdict;
use bytes::Bytes;
use std::time::Duration;

/// What one subject has taken of one limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Microseconds at which the window began, and what was taken in it.
    Fixed { start: u64, count: u64 },
    Sliding {
        start: u64,
        count: u64,
        /// Taken in the window before.
        before: u64,
    },
    /// The moment at which the bucket is full again, in parts of a microsecond: so many of them as the rate says.
    Bucket { full_at: u128, rate: u64 },
    /// Requests in flight, each with its deadline in microseconds.
    InFlight { deadlines: Vec<(Bytes, u64)> },
}

/// A request, as it concerns one counter.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Microseconds since 1970.
    pub now: u64,
    pub cost: u64,
    pub id: Option<&'a Bytes>,
}

impl Counter {
    /// Nothing was taken yet.
    pub fn new(kind: Kind) -> Self {
        match kind {
            Kind::Fixed | Kind::Plain => Counter::Fixed { start: 0, count: 0 },
            Kind::Sliding => Counter::Sliding {
                start: 0,
                count: 0,
                before: 0,
            },
            Kind::Bucket => Counter::Bucket {
                full_at: 0,
                rate: 1,
            },
            Kind::InFlight => Counter::InFlight {
                deadlines: Vec::new(),
            },
        }
    }

    /// What there is at `now`: windows that are over have gone, and so has what counts by another algorithm.
    pub fn at(&self, now: u64, numbers: &Numbers) -> Self {
        let span = numbers.span_us;
        let current = now - now % span;
        match (self, numbers.kind) {
            (Counter::Fixed { start, count }, Kind::Fixed | Kind::Plain) => {
                let counts = (current..=now).contains(start);
                Counter::Fixed {
                    start: current,
                    count: if counts { *count } else { 0 },
                }
            }
            (
                Counter::Sliding {
                    start,
                    count,
                    before,
                },
                Kind::Sliding,
            ) => {
                let (count, before) = match *start {
                    start if start > now || start + span < current => (0, 0),
                    start if start < current => (0, *count),
                    _ => (*count, *before),
                };
                Counter::Sliding {
                    start: current,
                    count,
                    before,
                }
            }
            (Counter::Bucket { full_at, rate }, Kind::Bucket) => {
                let now = u128::from(now) * u128::from(numbers.rate);
                let full_at = match *rate == numbers.rate {
                    true => *full_at,
                    false => full_at / u128::from(*rate) * u128::from(numbers.rate),
                };
                let most = now + u128::from(span) * u128::from(numbers.capacity);
                Counter::Bucket {
                    full_at: full_at.clamp(now, most),
                    rate: numbers.rate,
                }
            }
            (Counter::InFlight { deadlines }, Kind::InFlight) => {
                let live = deadlines.iter().filter(|(_, deadline)| *deadline > now);
                Counter::InFlight {
                    deadlines: live.cloned().collect(),
                }
            }
            (_, kind) => Counter::new(kind).at(now, numbers),
        }
    }

    /// How much is taken, in whole units, rounded up; of a counter as it is [`at`](Self::at) this time.
    pub fn used(&self, now: u64, numbers: &Numbers) -> u64 {
        let span = u128::from(numbers.span_us);
        match self {
            Counter::Fixed { count, .. } => *count,
            Counter::Sliding {
                start,
                count,
                before,
            } => {
                let left = span - u128::from(now - start);
                count + whole((left * u128::from(*before)).div_ceil(span))
            }
            Counter::Bucket { full_at, rate } => {
                let debt = full_at - u128::from(now) * u128::from(*rate);
                whole(debt.div_ceil(span))
            }
            Counter::InFlight { deadlines } => deadlines.len() as u64,
        }
    }

    /// What the limit says; of a counter as it is at this time.
    pub fn verdict(&self, claim: Claim<'_>, numbers: &Numbers, fits: bool) -> Verdict {
        let retry_us = match fits {
            true => Some(0),
            false if claim.cost > numbers.capacity => None,
            false => Some(self.wait(claim, numbers)),
        };
        Verdict {
            fits,
            remaining: numbers
                .capacity
                .saturating_sub(self.used(claim.now, numbers)),
            retry_after: retry_us.map(Duration::from_micros),
            reset_after: Duration::from_micros(self.reset(claim.now, numbers)),
        }
    }

    /// Whether the request may be let through.
    pub fn fits(&self, claim: Claim<'_>, numbers: &Numbers) -> bool {
        let renews = match (self, claim.id) {
            (Counter::InFlight { deadlines }, Some(id)) => {
                deadlines.iter().any(|(known, _)| known == id)
            }
            _ => false,
        };
        renews || self.used(claim.now, numbers) + claim.cost <= numbers.capacity
    }

    /// Takes.
    pub fn take(&mut self, claim: Claim<'_>, numbers: &Numbers) {
        match self {
            Counter::Fixed { count, .. } | Counter::Sliding { count, .. } => *count += claim.cost,
            Counter::Bucket { full_at, .. } => {
                *full_at += u128::from(numbers.span_us) * u128::from(claim.cost);
            }
            Counter::InFlight { deadlines } => {
                let id = claim.id.cloned().unwrap_or_default();
                deadlines.retain(|(known, _)| *known != id);
                deadlines.push((id, claim.now + numbers.span_us));
            }
        }
    }

    /// Gives up to so much back, and says how much that was.
    pub fn refund(&mut self, claim: Claim<'_>, numbers: &Numbers) -> u64 {
        let used = self.used(claim.now, numbers);
        match self {
            Counter::Fixed { count, .. } => {
                let given = claim.cost.min(*count);
                *count -= given;
                given
            }
            Counter::Sliding { count, before, .. } => {
                let given = claim.cost.min(*count + *before);
                let from_count = given.min(*count);
                *count -= from_count;
                *before -= given - from_count;
                given
            }
            Counter::Bucket { full_at, rate } => {
                let given = claim.cost.min(used);
                let back = u128::from(numbers.span_us) * u128::from(given);
                let now = u128::from(claim.now) * u128::from(*rate);
                *full_at = full_at.saturating_sub(back).max(now);
                given
            }
            Counter::InFlight { .. } => 0,
        }
    }

    /// Ends a request in flight. Whether it was.
    pub fn release(&mut self, id: &Bytes) -> bool {
        let Counter::InFlight { deadlines } = self else {
            return false;
        };
        let before = deadlines.len();
        deadlines.retain(|(known, _)| known != id);
        deadlines.len() < before
    }

    /// Microseconds until what does not fit would.
    fn wait(&self, claim: Claim<'_>, numbers: &Numbers) -> u64 {
        let span = u128::from(numbers.span_us);
        let room = numbers.capacity - claim.cost;
        match self {
            Counter::Fixed { start, .. } => start + numbers.span_us - claim.now,
            Counter::Sliding {
                start,
                count,
                before,
            } => {
                // So long after a window began, of the one before it no more than `room` counts.
                let thin = |before: u64, room: u64| {
                    numbers.span_us - whole(u128::from(room) * span / u128::from(before))
                };
                let at = match *count <= room {
                    true => start + thin(*before, room - count),
                    false => start + numbers.span_us + thin(*count, room),
                };
                at - claim.now
            }
            Counter::Bucket { full_at, rate } => {
                let fits_at = full_at - u128::from(room) * span;
                whole(fits_at.div_ceil(u128::from(*rate))) - claim.now
            }
            Counter::InFlight { deadlines } => {
                let mut ends: Vec<u64> = deadlines.iter().map(|(_, end)| *end).collect();
                ends.sort_unstable();
                let first = ends.len() - usize::try_from(numbers.capacity).unwrap_or(ends.len());
                ends.get(first).map_or(0, |end| end - claim.now)
            }
        }
    }

    /// Microseconds until nothing is taken any more.
    pub fn reset(&self, now: u64, numbers: &Numbers) -> u64 {
        let span = numbers.span_us;
        match self {
            Counter::Fixed { count: 0, .. } => 0,
            Counter::Fixed { start, .. } => start + span - now,
            Counter::Sliding {
                start,
                count,
                before,
            } => match (count, before) {
                (0, 0) => 0,
                (0, _) => start + span - now,
                _ => start + 2 * span - now,
            },
            Counter::Bucket { full_at, rate } => whole(full_at.div_ceil(u128::from(*rate))) - now,
            Counter::InFlight { deadlines } => {
                let latest = deadlines.iter().map(|(_, end)| end - now).max();
                latest.unwrap_or(0)
            }
        }
    }

    /// How much memory it takes, in units of about a hundred bytes.
    pub fn size(&self) -> usize {
        match self {
            Counter::InFlight { deadlines } => 1 + deadlines.len(),
            _ => 1,
        }
    }
}

/// What is within the bounds of limits and of time.
fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
