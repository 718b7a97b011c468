//! What limits answer while Redis cannot be asked, each as it is declared to.
//!
//! `local`: every daemon grants its share, limit / daemons rounded down, so that the fleet as a whole stays within the limit. How
//! many daemons there are was last heard from Redis. What was taken before Redis went away is not known here.
//!
//! The memory is bounded. When it is full of subjects that count, others are refused: who could bring in new subjects without
//! end would otherwise have no limit.

use super::counter::{Claim, Counter};
use super::fleet::Fleet;
use super::requests::{Request, Verb};
use super::rule::{Kind, Numbers, Rule, micros};
use super::verdict::Verdict;
use crate::config::OnRedisError;
use bytes::Bytes;
use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

/// Subjects, and requests in flight, that are counted at most: about 200 bytes each.
const MAX_COUNTED: usize = 65_536;
/// Of one subject that is counted in flight: each request looks at all of them.
const MAX_FLIGHTS: usize = 1024;
/// How often a full memory is tidied.
const TIDY_EVERY: Duration = Duration::from_secs(1);

/// Whose counter: the limit, and the subject.
type Whose = (String, Bytes);

/// Counts in this daemon's memory.
pub struct Local {
    fleet: Fleet,
    counters: HashMap<Whose, (Numbers, Counter)>,
    /// What they take, as [`Counter::size`] says.
    size: usize,
    tidied_at: Instant,
    /// The same moment by two clocks: windows begin by one, and time goes by the other, which is never set.
    began: (SystemTime, Instant),
}

impl Local {
    /// Nothing was taken yet.
    pub fn new(fleet: Fleet) -> Self {
        Self {
            fleet,
            counters: HashMap::new(),
            size: 0,
            tidied_at: Instant::now(),
            began: (SystemTime::now(), Instant::now()),
        }
    }

    /// What each limit of a request says. All that count take it, or none.
    pub fn verdicts(&mut self, request: &Request) -> Vec<Verdict> {
        let claim = Claim {
            now: self.now(),
            cost: request.cost,
            id: request.id.as_ref(),
        };
        let seen: Vec<Seen> = request
            .rules
            .iter()
            .map(|rule| self.look(rule, &request.subject, claim))
            .collect();
        let told = request.rules.iter().zip(&seen);
        let refused = told
            .clone()
            .any(|(rule, seen)| !rule.shadow && !seen.fits());
        let takes = request.verb == Verb::Take && !refused;
        let told = request.rules.iter().zip(seen);
        told.map(|(rule, seen)| match seen {
            Seen::Uncounted(verdict) => verdict,
            Seen::Counted(numbers, mut counter, fits) => {
                if takes && fits {
                    counter.take(claim, &numbers);
                    self.put(rule, &request.subject, numbers, counter.clone());
                }
                counter.verdict(claim, &numbers, fits)
            }
        })
        .collect()
    }

    /// Gives back what was counted here; what Redis has counted is not within reach.
    pub fn give_back(&mut self, request: &Request) {
        let now = self.now();
        for rule in &request.rules {
            let whose = (rule.identity.clone(), request.subject.clone());
            let Some((numbers, counter)) = self.counters.get_mut(&whose) else {
                continue;
            };
            let before = counter.size();
            *counter = match request.verb {
                Verb::Reset => Counter::new(numbers.kind),
                _ => counter.at(now, numbers),
            };
            let claim = Claim {
                now,
                cost: request.cost,
                id: None,
            };
            match (request.verb, &request.id) {
                (Verb::Refund, _) => drop(counter.refund(claim, numbers)),
                (Verb::Release, Some(id)) => drop(counter.release(id)),
                _ => {}
            }
            self.size = self.size + counter.size() - before;
        }
    }

    fn look(&mut self, rule: &Rule, subject: &Bytes, claim: Claim<'_>) -> Seen {
        let numbers = rule.numbers.share(self.fleet.daemons());
        match rule.on_redis_error {
            OnRedisError::Allow => Seen::Uncounted(Verdict::unasked(rule, true)),
            OnRedisError::Local if numbers.capacity > 0 && numbers.rate > 0 => {
                let whose = (rule.identity.clone(), subject.clone());
                if !self.counters.contains_key(&whose) && self.is_full(claim.now) {
                    return Seen::Uncounted(Verdict::unasked(rule, false));
                }
                let counter = match self.counters.get(&whose) {
                    Some((_, counter)) => counter.at(claim.now, &numbers),
                    None => Counter::new(numbers.kind).at(claim.now, &numbers),
                };
                let fits = counter.fits(claim, &numbers);
                if fits && numbers.kind == Kind::InFlight && self.is_crowded(&counter, claim.now) {
                    return Seen::Uncounted(Verdict::unasked(rule, false));
                }
                Seen::Counted(numbers, counter, fits)
            }
            _ => Seen::Uncounted(Verdict::unasked(rule, false)),
        }
    }

    /// Whether no more requests in flight can be remembered.
    fn is_crowded(&mut self, counter: &Counter, now: u64) -> bool {
        counter.size() > MAX_FLIGHTS || self.is_full(now)
    }

    fn put(&mut self, rule: &Rule, subject: &Bytes, numbers: Numbers, counter: Counter) {
        let whose = (rule.identity.clone(), subject.clone());
        self.size += counter.size();
        if let Some((_, replaced)) = self.counters.insert(whose, (numbers, counter)) {
            self.size -= replaced.size();
        }
    }

    /// Whether there is no room, even after everything that is over was forgotten.
    fn is_full(&mut self, now: u64) -> bool {
        if self.size >= MAX_COUNTED && self.tidied_at.elapsed() >= TIDY_EVERY {
            self.tidied_at = Instant::now();
            self.counters.retain(|_, (numbers, counter)| {
                *counter = counter.at(now, numbers);
                counter.reset(now, numbers) > 0
            });
            self.size = self.counters.values().map(|(_, it)| it.size()).sum();
        }
        self.size >= MAX_COUNTED
    }

    /// Microseconds since 1970.
    fn now(&self) -> u64 {
        let (wall, monotonic) = self.began;
        let began = wall.duration_since(SystemTime::UNIX_EPOCH);
        micros(began.unwrap_or_default() + monotonic.elapsed())
    }
}

/// What was found of one limit.
enum Seen {
    /// It says what it is declared to say.
    Uncounted(Verdict),
    /// What there is now, and whether the request fits.
    Counted(Numbers, Counter, bool),
}

impl Seen {
    fn fits(&self) -> bool {
        match self {
            Seen::Uncounted(verdict) => verdict.fits,
            Seen::Counted(_, _, fits) => *fits,
        }
    }
}

#[cfg(test)]
#[path = "local_tests.rs"]
mod tests;
