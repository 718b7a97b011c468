//! What is held through this daemon: what sessions hold, when that is to be renewed, and when it is lost.
//!
//! Deadlines are by our own clock, which no daemon's wall clock moves, and count from when the request was sent: Redis began
//! to count later.

use super::messages::{Lost, Session, SessionId, Standing};
use super::scripts::Letting;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Of its ttl, after which part a session's lock is renewed: there is time to try again before it ends.
const RENEWALS_A_TTL: u32 = 3;
/// The pause before a renewal that had no answer is tried again, of a ttl.
const RETRIES_A_TTL: u32 = 12;
/// Locks that sessions hold through this daemon; one more is refused.
pub(super) const MAX_OF_SESSIONS: usize = 20_000;
/// Locks that are known at all. Others are as good, but not counted.
const MAX_KNOWN: usize = 200_000;
/// Lost locks that are remembered of a session.
const MAX_LOST: usize = 1000;

/// A lock's name, and by which token it is held.
pub(super) type Holder = (Bytes, Uuid);

/// A lock that was acquired through this daemon.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    pub(super) fence: i64,
    pub(super) ttl: Duration,
    /// Until when it is held for certain, unless somebody took it away.
    pub(super) ends: Instant,
    /// Who was told by Redis that the token has it.
    pub(super) asker: u64,
    /// By which it was acquired last.
    pub(super) attempt: Uuid,
    pub(super) session: Option<Session>,
}

#[derive(Debug)]
struct Entry {
    hold: Hold,
    due: (Instant, u64),
}

#[derive(Debug, Default)]
struct Bound {
    held: HashSet<Holder>,
    lost: HashSet<Bytes>,
}

/// What is due.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) renew: Vec<Renewal>,
    /// Lost, for no renewal was acknowledged in time, or nobody hears of their session any more. Redis may hold them still.
    pub(super) lost: Vec<Letting>,
}

/// A lock that is to be held on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Renewal {
    pub(super) holder: Holder,
    pub(super) asker: u64,
    pub(super) ttl: Duration,
}

/// All that is held.
#[derive(Debug, Default)]
pub(super) struct Held {
    entries: HashMap<Holder, Entry>,
    due: BTreeMap<(Instant, u64), Holder>,
    attempts: HashMap<Uuid, Holder>,
    sessions: HashMap<SessionId, Bound>,
    of_sessions: usize,
    numbers: u64,
}

impl Held {
    /// A lock was acquired; who asked last decides to whom it is bound.
    pub(super) fn hold(&mut self, holder: Holder, hold: Hold) {
        self.forget(&holder);
        if self.entries.len() >= MAX_KNOWN && hold.session.is_none() {
            return;
        }
        if let Some(session) = &hold.session {
            let bound = self.sessions.entry(session.id).or_default();
            bound.lost.remove(&holder.0);
            bound.held.insert(holder.clone());
            self.of_sessions += 1;
        }
        self.attempts.insert(hold.attempt, holder.clone());
        let due = self.note(&holder, first_look(&hold));
        self.entries.insert(holder, Entry { hold, due });
    }

    /// A lock was extended, by whoever: it is held until `ends`, and from now on for this `ttl`.
    pub(super) fn extended(&mut self, holder: &Holder, ttl: Duration, ends: Instant) {
        if let Some(mut entry) = self.entries.remove(holder) {
            self.due.remove(&entry.due);
            (entry.hold.ttl, entry.hold.ends) = (ttl, ends);
            entry.due = self.note(holder, first_look(&entry.hold));
            self.entries.insert(holder.clone(), entry);
        }
    }

    /// A renewal had no answer: it is tried again while there is time.
    pub(super) fn not_renewed(&mut self, holder: &Holder, now: Instant) {
        if let Some(mut entry) = self.entries.remove(holder) {
            self.due.remove(&entry.due);
            let again = now + entry.hold.ttl / RETRIES_A_TTL;
            entry.due = self.note(holder, again.min(entry.hold.ends));
            self.entries.insert(holder.clone(), entry);
        }
    }

    /// A lock is no longer held: it was released, or it is not known to whom it belongs.
    pub(super) fn forget(&mut self, holder: &Holder) -> Option<Hold> {
        let entry = self.entries.remove(holder)?;
        self.due.remove(&entry.due);
        self.attempts.remove(&entry.hold.attempt);
        if let Some(session) = &entry.hold.session {
            self.of_sessions -= 1;
            if let Some(bound) = self.sessions.get_mut(&session.id) {
                bound.held.remove(holder);
                if bound.held.is_empty() && bound.lost.is_empty() {
                    self.sessions.remove(&session.id);
                }
            }
        }
        Some(entry.hold)
    }

    /// A lock that was told to `asker` (`None`: to whomever) is not its holder's any more. Its session is told, once.
    pub(super) fn lose(&mut self, holder: &Holder, asker: Option<u64>) {
        let entry = self.entries.get(holder);
        // The token may have acquired it anew meanwhile.
        let is_meant = entry.is_some_and(|entry| asker.is_none_or(|by| by == entry.hold.asker));
        let Some(hold) = is_meant.then(|| self.forget(holder)).flatten() else {
            return;
        };
        let Some(session) = hold.session else { return };
        let lost = &mut self.sessions.entry(session.id).or_default().lost;
        if lost.len() < MAX_LOST {
            lost.insert(holder.0.clone());
        }
        let (name, token) = holder.clone();
        let fence = hold.fence;
        // One that takes nothing in can ask.
        let _full = session.lost.try_send(Lost { name, token, fence });
    }

    /// What is to be renewed, and what is lost by now. What nobody renews ends by itself.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let mut found = Due::default();
        while let Some((at, _)) = self.due.first_key_value().map(|(due, _)| *due)
            && at <= now
            && let Some((_, holder)) = self.due.pop_first()
        {
            let Some(hold) = self.entries.get(&holder).map(|entry| entry.hold.clone()) else {
                continue;
            };
            let Some(session) = &hold.session else {
                self.forget(&holder);
                continue;
            };
            if session.lost.is_closed() {
                // It has ended, and its `EndSession` was lost: with an actor that was restarting, for one.
                found.lost.extend(self.end(session.id));
            } else if hold.ends <= now {
                self.lose(&holder, None);
                found.lost.push(letting(holder, &hold));
            } else {
                // Until it is answered, only its end is due.
                let due = self.note(&holder, hold.ends);
                if let Some(entry) = self.entries.get_mut(&holder) {
                    entry.due = due;
                }
                let (asker, ttl) = (hold.asker, hold.ttl);
                found.renew.push(Renewal { holder, asker, ttl });
            }
        }
        found
    }

    /// What sessions hold under this name is to be renewed now: somebody may have taken it away.
    pub(super) fn renew_now(&mut self, name: &Bytes, now: Instant) {
        let of_sessions = self
            .entries
            .iter()
            .filter(|(holder, entry)| holder.0 == *name && entry.hold.session.is_some());
        let holders: Vec<Holder> = of_sessions.map(|(holder, _)| holder.clone()).collect();
        for holder in holders {
            let due = self.note(&holder, now);
            if let Some(entry) = self.entries.get_mut(&holder) {
                self.due.remove(&entry.due);
                entry.due = due;
            }
        }
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }

    /// A session has ended: what it held.
    pub(super) fn end(&mut self, session: SessionId) -> Vec<Letting> {
        let bound = self.sessions.remove(&session).unwrap_or_default();
        let held = bound.held.into_iter().filter_map(|holder| {
            let hold = self.forget(&holder)?;
            Some(letting(holder, &hold))
        });
        held.collect()
    }

    /// All sessions end: what they held.
    pub(super) fn end_all(&mut self) -> Vec<Letting> {
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        let held = sessions.into_iter().flat_map(|session| self.end(session));
        held.collect()
    }

    /// Nobody holds what was acquired by this attempt, and by no later one.
    pub(super) fn forget_attempt(&mut self, attempt: &Uuid) -> Option<Letting> {
        let holder = self.attempts.get(attempt)?.clone();
        let hold = self.forget(&holder)?;
        Some(letting(holder, &hold))
    }

    /// How a session stands to a lock.
    pub(super) fn standing(&self, session: SessionId, name: &Bytes) -> Option<Standing> {
        let bound = self.sessions.get(&session)?;
        if bound.held.iter().any(|(held, _)| held == name) {
            return Some(Standing::Held);
        }
        bound.lost.contains(name).then_some(Standing::Lost)
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them sessions hold.
    pub(super) fn of_sessions(&self) -> usize {
        self.of_sessions
    }

    /// Renewals that were under way are nobody's any more: all are due.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        let renewed = self.entries.iter();
        let renewed = renewed.filter(|(_, entry)| entry.hold.session.is_some());
        let holders: Vec<_> = renewed.map(|(holder, _)| holder.clone()).collect();
        for holder in holders {
            self.not_renewed(&holder, now);
        }
    }

    fn note(&mut self, holder: &Holder, at: Instant) -> (Instant, u64) {
        self.numbers += 1;
        self.due.insert((at, self.numbers), holder.clone());
        (at, self.numbers)
    }
}

fn letting((name, token): Holder, hold: &Hold) -> Letting {
    let asker = Some(hold.asker);
    Letting { name, token, asker }
}

/// When a lock that was just acquired or extended is looked at.
fn first_look(hold: &Hold) -> Instant {
    match hold.session {
        Some(_) => hold.ends - (hold.ttl - hold.ttl / RENEWALS_A_TTL),
        None => hold.ends,
    }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
