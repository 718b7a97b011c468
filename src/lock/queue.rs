//! Who waits for which lock in this daemon, and who is to try next.
//!
//! The first of a lock's line tries, together with those behind it that want the same: readers go together, and permits as
//! many as there are. Everybody else waits until the first has its turn. Who comes new behind somebody who waits is asked for
//! once, too, though it cannot take the lock: its token may hold it already, and the answer have been lost.

use super::messages::{Kind, MAX_SHARED};
use super::scripts::MAX_BATCH;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::{Duration, Instant};

/// How often the first of a line looks by itself: what wakes it is published, and that may be lost. So a daemon's mark is
/// renewed in time.
pub(super) const POLL_EVERY: Duration = Duration::from_secs(1);
/// Redis tells when a lock ends in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(1);

/// A place in a line: who comes later has a higher one.
pub(super) type Ticket = u64;

/// What one asks for a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    pub(super) ticket: Ticket,
    pub(super) kind: Kind,
    /// Since when it is asked for.
    pub(super) since: Instant,
    /// Until when it is waited for; none: it is tried, and not waited for.
    pub(super) until: Option<Instant>,
}

/// What is to be asked of Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Try {
    pub(super) name: Bytes,
    pub(super) ticket: Ticket,
    pub(super) kind: Kind,
    pub(super) since: Instant,
    pub(super) waits: bool,
    pub(super) is_behind: bool,
    /// Who is first if this one gets it: since when that one has waited, and for what.
    pub(super) next: Option<(Ticket, Instant, Kind)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not asked for yet.
    New,
    /// Asked for.
    Out,
    /// It could not be had.
    Waits,
}

#[derive(Debug)]
struct Waiter {
    wish: Wish,
    state: State,
    /// It was told once that the lock cannot be had: who comes now is behind it.
    is_settled: bool,
}

/// Who waits for one lock.
#[derive(Debug, Default)]
struct Line {
    waiters: BTreeMap<Ticket, Waiter>,
    /// Those of them that were not asked for yet.
    new: BTreeSet<Ticket>,
    /// Tries under way that may take the lock.
    out: usize,
    /// Something has happened since the last try.
    is_awake: bool,
    /// Who was first at the last try, and could not have it.
    settled: Option<Ticket>,
    retry_at: Option<Instant>,
    /// There is a mark of ours in Redis.
    is_marked: bool,
}

/// The lines of all locks.
#[derive(Debug, Default)]
pub(super) struct Queues {
    lines: HashMap<Bytes, Line>,
    waiting: usize,
    /// Lines that may have something to ask for.
    ready: VecDeque<Bytes>,
    /// Lines that are left, with a mark in Redis.
    left: Vec<Bytes>,
    retries: BTreeSet<(Instant, Bytes)>,
    ends: BTreeSet<(Instant, Ticket, Bytes)>,
}

impl Queues {
    /// Joins the line of a lock, behind everybody who came before.
    pub(super) fn join(&mut self, name: &Bytes, wish: Wish) {
        let line = self.lines.entry(name.clone()).or_default();
        let waiter = Waiter {
            wish,
            state: State::New,
            is_settled: false,
        };
        line.waiters.insert(wish.ticket, waiter);
        line.new.insert(wish.ticket);
        self.waiting += 1;
        if let Some(until) = wish.until {
            self.ends.insert((until, wish.ticket, name.clone()));
        }
        self.ready.push_back(name.clone());
    }

    /// Somebody of the line goes, whose place is not needed any more.
    pub(super) fn leave(&mut self, name: &Bytes, ticket: Ticket) {
        let Some(line) = self.lines.get_mut(name) else {
            return;
        };
        if let Some(waiter) = line.waiters.remove(&ticket) {
            line.new.remove(&ticket);
            self.waiting -= 1;
            if let Some(until) = waiter.wish.until {
                self.ends.remove(&(until, ticket, name.clone()));
            }
        }
        self.ready.push_back(name.clone());
    }

    /// A lock is worth another try.
    pub(super) fn wake(&mut self, name: &Bytes) {
        if let Some(line) = self.lines.get_mut(name) {
            line.is_awake = true;
            self.ready.push_back(name.clone());
        }
    }

    /// What is to be asked for now.
    pub(super) fn tries(&mut self) -> Vec<Try> {
        let mut tries = Vec::new();
        while let Some(name) = self.ready.pop_front() {
            let Some(line) = self.lines.get_mut(&name) else {
                continue;
            };
            line.tries(&name, &mut tries);
            if line.waiters.is_empty() && line.out == 0 {
                let (retry_at, is_marked) = (line.retry_at, line.is_marked);
                self.lines.remove(&name);
                if let Some(at) = retry_at {
                    self.retries.remove(&(at, name.clone()));
                }
                if is_marked {
                    self.left.push(name);
                }
            }
        }
        tries
    }

    /// Lines that were left, and have a mark in Redis that holds up other daemons.
    pub(super) fn left(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.left)
    }

    /// A try took the lock, for `ttl`. Whether it is still waited for.
    pub(super) fn took(&mut self, tried: &Try, ttl: Duration, now: Instant) -> bool {
        let mut was_there = false;
        if let Some(line) = self.lines.get_mut(&tried.name) {
            line.came_back(tried);
            was_there = line.waiters.contains_key(&tried.ticket);
            if !tried.is_behind {
                line.is_marked = tried.next.is_some();
                line.settled = tried.next.map(|(ticket, ..)| ticket);
                line.is_awake |= tried.kind != Kind::Exclusive;
                // Nobody else wakes the next one if the release that follows fails, or comes too late.
                if line.waiters.len() > usize::from(was_there) {
                    let at = now + POLL_EVERY.min(ttl + ROUNDING);
                    Self::retry(&mut self.retries, &tried.name, line, at);
                }
            }
        }
        self.leave(&tried.name, tried.ticket);
        was_there
    }

    /// A try did not get the lock, and another one is worth it after `pause`. Whether it is waited for; if not, it has left.
    pub(super) fn refused(&mut self, tried: &Try, pause: Duration, now: Instant) -> bool {
        let Some(line) = self.lines.get_mut(&tried.name) else {
            return false;
        };
        line.came_back(tried);
        if !tried.is_behind {
            line.is_marked |= tried.waits;
            let at = now + POLL_EVERY.min(pause + ROUNDING);
            Self::retry(&mut self.retries, &tried.name, line, at);
        }
        let waiter = line.waiters.get_mut(&tried.ticket);
        let waits_on = waiter.is_some_and(|waiter| {
            waiter.state = State::Waits;
            waiter.is_settled = true;
            waiter.wish.until.is_some_and(|until| until > now)
        });
        if !tried.is_behind && line.is_first(tried.ticket) {
            line.settled = Some(tried.ticket);
        }
        if waits_on {
            self.ready.push_back(tried.name.clone());
        } else {
            self.leave(&tried.name, tried.ticket);
        }
        waits_on
    }

    /// A try had no answer. Who asked for it leaves.
    pub(super) fn failed(&mut self, tried: &Try) {
        if let Some(line) = self.lines.get_mut(&tried.name) {
            line.came_back(tried);
        }
        self.leave(&tried.name, tried.ticket);
    }

    /// Those whose wait is over; and wakes the lines that are to look again. Who is being asked for has its answer soon.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Bytes, Ticket)> {
        while let Some((at, _)) = self.retries.first()
            && *at <= now
            && let Some((_, name)) = self.retries.pop_first()
        {
            if let Some(line) = self.lines.get_mut(&name) {
                line.retry_at = None;
            }
            self.wake(&name);
        }
        let mut over = Vec::new();
        while let Some((at, ..)) = self.ends.first()
            && *at <= now
            && let Some((_, ticket, name)) = self.ends.pop_first()
        {
            let line = self.lines.get(&name);
            let waiter = line.and_then(|line| line.waiters.get(&ticket));
            if waiter.is_some_and(|waiter| waiter.state != State::Out) {
                self.leave(&name, ticket);
                over.push((name, ticket));
            }
        }
        over
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let retry = self.retries.first().map(|(at, _)| *at);
        let end = self.ends.first().map(|(at, ..)| *at);
        retry.into_iter().chain(end).min()
    }

    /// How many wait in this daemon.
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// How many of them wait for this lock.
    pub(super) fn waiting_for(&self, name: &Bytes) -> usize {
        self.lines.get(name).map_or(0, |line| line.waiters.len())
    }

    /// Drops all lines; those with a mark in Redis.
    pub(super) fn clear(&mut self) -> Vec<Bytes> {
        let lines = std::mem::take(self).lines.into_iter();
        let marked = lines.filter(|(_, line)| line.is_marked || line.out > 0);
        marked.map(|(name, _)| name).collect()
    }

    fn retry(retries: &mut BTreeSet<(Instant, Bytes)>, name: &Bytes, line: &mut Line, at: Instant) {
        if let Some(before) = line.retry_at.replace(at) {
            retries.remove(&(before, name.clone()));
        }
        retries.insert((at, name.clone()));
    }
}

impl Line {
    fn first(&self) -> Option<&Waiter> {
        self.waiters.first_key_value().map(|(_, waiter)| waiter)
    }

    fn is_first(&self, ticket: Ticket) -> bool {
        self.first()
            .is_some_and(|first| first.wish.ticket == ticket)
    }

    fn came_back(&mut self, tried: &Try) {
        if !tried.is_behind {
            self.out = self.out.saturating_sub(1);
        }
    }

    /// Whether the first ought to try.
    fn is_due(&self) -> bool {
        let Some(first) = self.first().filter(|_| self.out == 0) else {
            return false;
        };
        match first.state {
            State::New => true,
            State::Waits => self.is_awake || self.settled != Some(first.wish.ticket),
            State::Out => false,
        }
    }

    fn tries(&mut self, name: &Bytes, tries: &mut Vec<Try>) {
        if self.is_due() {
            self.is_awake = false;
            self.out = self.together();
            let next = self.waiters.values().skip(self.out);
            let mut next = next.filter(|waiter| waiter.wish.until.is_some());
            let next = next.next().map(|waiter| {
                let wish = &waiter.wish;
                (wish.ticket, wish.since, wish.kind)
            });
            for waiter in self.waiters.values_mut().take(self.out) {
                self.new.remove(&waiter.wish.ticket);
                tries.push(waiter.ask(name, false, next));
            }
        }
        if self.first().is_some_and(|first| first.is_settled) {
            for ticket in std::mem::take(&mut self.new) {
                let waiter = self.waiters.get_mut(&ticket);
                tries.extend(waiter.map(|waiter| waiter.ask(name, true, None)));
            }
        }
    }

    /// How many from the first on may hold it together. None of them is being asked for.
    fn together(&self) -> usize {
        let Some(first) = self.first() else {
            return 0;
        };
        let room = match first.wish.kind {
            Kind::Exclusive => 1,
            Kind::Shared => MAX_SHARED,
            Kind::Permits(n) => n,
        };
        let room = usize::try_from(room).unwrap_or(MAX_BATCH).min(MAX_BATCH);
        let alike =
            self.waiters.values().take(room).take_while(|waiter| {
                waiter.wish.kind == first.wish.kind && waiter.state != State::Out
            });
        alike.count()
    }
}

impl Waiter {
    fn ask(&mut self, name: &Bytes, is_behind: bool, next: Option<(Ticket, Instant, Kind)>) -> Try {
        self.state = State::Out;
        Try {
            name: name.clone(),
            ticket: self.wish.ticket,
            kind: self.wish.kind,
            since: self.wish.since,
            waits: self.wish.until.is_some(),
            is_behind,
            next,
        }
    }
}

#[cfg(test)]
#[path = "queue_tests.rs"]
mod tests;
