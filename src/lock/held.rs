//! What is held through this daemon: what sessions hold, when that is to be renewed, and when it is lost.
//!
//! Deadlines are by our own clock, which no daemon's wall clock moves, and count from when the request was sent: Redis began
//! to count later.
//!
//! A token may have been told of its lock more than once, by several sessions: each is a claim, and who goes takes only its own.

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
    pub(super) attempt: Uuid,
    pub(super) session: Option<Session>,
}

/// One to whom it was answered that the token has the lock: a session, or all that are bound to none.
#[derive(Debug)]
struct Claim {
    asker: u64,
    /// None once it was answered to the same one again: neither attempt takes away what the other was told.
    attempt: Option<Uuid>,
    session: Option<Session>,
}

impl Claim {
    fn id(&self) -> Option<SessionId> {
        self.session.as_ref().map(|session| session.id)
    }
}

#[derive(Debug)]
struct Entry {
    fence: i64,
    /// The longest of those that were asked for: a renewal makes no life shorter.
    ttl: Duration,
    ends: Instant,
    claims: Vec<Claim>,
    due: (Instant, u64),
}

impl Entry {
    fn sessions(&self) -> impl Iterator<Item = &Session> {
        self.claims.iter().filter_map(|one| one.session.as_ref())
    }

    fn is_renewed(&self) -> bool {
        self.sessions().next().is_some()
    }

    /// When a lock that was just acquired or extended is looked at.
    fn first_look(&self) -> Instant {
        match self.is_renewed() {
            true => self.ends - (self.ttl - self.ttl / RENEWALS_A_TTL),
            false => self.ends,
        }
    }
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
    /// Which of its acquisitions.
    pub(super) fence: i64,
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
    /// A lock was acquired, or is answered once more; what is to be let go then, for it was told to the same one before.
    pub(super) fn hold(&mut self, holder: Holder, hold: Hold) -> Option<Letting> {
        let (ttl, ends) = (hold.ttl, hold.ends);
        let before = self.entries.get(&holder);
        if before.is_some_and(|before| before.fence != hold.fence) {
            // What the token had before is over.
            self.forget(&holder);
        }
        let entry = self.entries.remove(&holder);
        if entry.is_none() && self.entries.len() >= MAX_KNOWN && hold.session.is_none() {
            return None;
        }
        let mut entry = entry.unwrap_or_else(|| Entry {
            fence: hold.fence,
            ttl,
            ends,
            claims: Vec::new(),
            due: (ends, 0),
        });
        (entry.ttl, entry.ends) = (entry.ttl.max(ttl), entry.ends.max(ends));
        let again = self.claim(&holder, &mut entry, hold);
        self.due.remove(&entry.due);
        entry.due = self.note(&holder, entry.first_look());
        self.entries.insert(holder, entry);
        again
    }

    fn claim(&mut self, holder: &Holder, entry: &mut Entry, hold: Hold) -> Option<Letting> {
        let id = hold.session.as_ref().map(|session| session.id);
        if let Some(mine) = entry.claims.iter_mut().find(|one| one.id() == id) {
            if let Some(attempt) = mine.attempt.take() {
                self.attempts.remove(&attempt);
            }
            return Some(letting(holder.clone(), hold.asker));
        }
        if let Some(id) = id {
            let bound = self.sessions.entry(id).or_default();
            bound.lost.remove(&holder.0);
            bound.held.insert(holder.clone());
            self.of_sessions += 1;
        }
        self.attempts.insert(hold.attempt, holder.clone());
        entry.claims.push(Claim {
            asker: hold.asker,
            attempt: Some(hold.attempt),
            session: hold.session,
        });
        None
    }

    /// A lock was extended, by whoever: it is held until `ends`, and from now on for this `ttl`.
    pub(super) fn extended(&mut self, holder: &Holder, ttl: Duration, ends: Instant) {
        if let Some(mut entry) = self.entries.remove(holder) {
            self.due.remove(&entry.due);
            (entry.ttl, entry.ends) = (ttl, ends);
            entry.due = self.note(holder, entry.first_look());
            self.entries.insert(holder.clone(), entry);
        }
    }

    /// A renewal had no answer: it is tried again while there is time.
    pub(super) fn not_renewed(&mut self, holder: &Holder, now: Instant) {
        if let Some(mut entry) = self.entries.remove(holder) {
            self.due.remove(&entry.due);
            let again = now + entry.ttl / RETRIES_A_TTL;
            entry.due = self.note(holder, again.min(entry.ends));
            self.entries.insert(holder.clone(), entry);
        }
    }

    /// A lock is no longer held: it was released, or lost.
    pub(super) fn forget(&mut self, holder: &Holder) {
        self.take(holder);
    }

    fn take(&mut self, holder: &Holder) -> Option<Entry> {
        let entry = self.entries.remove(holder)?;
        self.due.remove(&entry.due);
        entry.claims.iter().for_each(|one| self.unbind(holder, one));
        Some(entry)
    }

    fn unbind(&mut self, holder: &Holder, claim: &Claim) {
        if let Some(attempt) = &claim.attempt {
            self.attempts.remove(attempt);
        }
        let Some(id) = claim.id() else { return };
        self.of_sessions -= 1;
        if let Some(bound) = self.sessions.get_mut(&id) {
            bound.held.remove(holder);
            if bound.held.is_empty() && bound.lost.is_empty() {
                self.sessions.remove(&id);
            }
        }
    }

    /// One claim is given up. The others stand.
    fn give_up(&mut self, holder: &Holder, is_meant: impl Fn(&Claim) -> bool) -> Option<Letting> {
        let entry = self.entries.get_mut(holder)?;
        let at = entry.claims.iter().position(is_meant)?;
        let claim = entry.claims.swap_remove(at);
        let is_last = entry.claims.is_empty();
        self.unbind(holder, &claim);
        if is_last {
            self.forget(holder);
        }
        Some(letting(holder.clone(), claim.asker))
    }

    /// An acquisition (`None`: whichever) is not its holder's any more. Its sessions are told, once.
    pub(super) fn lose(&mut self, holder: &Holder, fence: Option<i64>) -> Vec<Letting> {
        let entry = self.entries.get(holder);
        // The token may have acquired it anew meanwhile.
        let is_meant = entry.is_some_and(|entry| fence.is_none_or(|one| one == entry.fence));
        let entry = is_meant.then(|| self.take(holder)).flatten();
        let Some(Entry { fence, claims, .. }) = entry else {
            return Vec::new();
        };
        let lost = claims.into_iter().filter_map(|claim| {
            let session = claim.session?;
            let lost = &mut self.sessions.entry(session.id).or_default().lost;
            if lost.len() < MAX_LOST {
                lost.insert(holder.0.clone());
            }
            let (name, token) = holder.clone();
            // One that takes nothing in can ask.
            let _full = session.lost.try_send(Lost { name, token, fence });
            Some(letting(holder.clone(), claim.asker))
        });
        lost.collect()
    }

    /// What is to be renewed, and what is lost by now. What nobody renews ends by itself.
    pub(super) fn due(&mut self, now: Instant) -> Due {
        let mut found = Due::default();
        while let Some((at, _)) = self.due.first_key_value().map(|(due, _)| *due)
            && at <= now
            && let Some((_, holder)) = self.due.pop_first()
        {
            let sessions = self.entries.get(&holder).into_iter();
            let sessions = sessions.flat_map(Entry::sessions);
            let closed = sessions.filter(|session| session.lost.is_closed());
            // It has ended, and its `EndSession` was lost: with an actor that was restarting, for one.
            for closed in closed.map(|session| session.id).collect::<Vec<_>>() {
                found.lost.extend(self.end(closed));
            }
            let Some(entry) = self.entries.get(&holder) else {
                continue;
            };
            let (is_renewed, ends) = (entry.is_renewed(), entry.ends);
            if ends <= now {
                found.lost.extend(self.lose(&holder, None));
                continue;
            }
            if is_renewed {
                let (fence, ttl) = (entry.fence, entry.ttl);
                let holder = holder.clone();
                found.renew.push(Renewal { holder, fence, ttl });
            }
            // Until a renewal is answered, only the lock's end is due.
            let due = self.note(&holder, ends);
            if let Some(entry) = self.entries.get_mut(&holder) {
                entry.due = due;
            }
        }
        found
    }

    /// What sessions hold under this name is to be renewed now: somebody may have taken it away.
    pub(super) fn renew_now(&mut self, name: &Bytes, now: Instant) {
        let of_sessions = self
            .entries
            .iter()
            .filter(|(holder, entry)| holder.0 == *name && entry.is_renewed());
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
        let held = bound.held.into_iter();
        let held = held.filter_map(|holder| self.give_up(&holder, |one| one.id() == Some(session)));
        held.collect()
    }

    /// All sessions end: what they held.
    pub(super) fn end_all(&mut self) -> Vec<Letting> {
        let sessions: Vec<_> = self.sessions.keys().copied().collect();
        let held = sessions.into_iter().flat_map(|session| self.end(session));
        held.collect()
    }

    /// Nobody was told what was answered to this attempt.
    pub(super) fn forget_attempt(&mut self, attempt: &Uuid) -> Option<Letting> {
        let holder = self.attempts.get(attempt)?.clone();
        self.give_up(&holder, |one| one.attempt == Some(*attempt))
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
        let renewed = renewed.filter(|(_, entry)| entry.is_renewed());
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

fn letting((name, token): Holder, asker: u64) -> Letting {
    let asker = Some(asker);
    Letting { name, token, asker }
}

#[cfg(test)]
#[path = "held_tests.rs"]
mod tests;
