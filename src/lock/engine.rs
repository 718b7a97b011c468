//! Leads each acquisition on its way, and keeps what sessions hold.
//!
//! take (Redis) → mint (Postgres) → confirm (Redis) → answered. All I/O runs in local tasks that end by sending an
//! [`Event`]; the engine itself never waits. What belongs to somebody who is gone meanwhile is let go when it comes back.

use super::asking::{Asker, Asking};
use super::calls::Calls;
use super::events::{Curious, Event, Extending, Passage, Releasing, Trying};
use super::held::{Held, Hold, MAX_OF_SESSIONS};
use super::messages::{Acquire, Force, Grant, Info, LockInfo, MAX_WAITERS, SessionId};
use super::queue::{Queues, Ticket, Try, Wish};
use super::scripts::{Extended, Fence, Letting, Taken};
use super::{LockError, told};
use crate::store::StoreError;
use crate::supervisor::{AskError, Promise};
use crate::telemetry::Metrics;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often those are looked for who went away without a word.
const PRUNE_EVERY: Duration = Duration::from_secs(1);

/// All that is under way in one daemon.
pub(super) struct Engine {
    calls: Calls,
    held: Arc<Mutex<Held>>,
    metrics: Metrics,
    queues: Queues,
    asking: HashMap<Ticket, Asking>,
    attempts: HashMap<Uuid, Ticket>,
    sessions: HashMap<SessionId, Vec<Ticket>>,
    tickets: Ticket,
    prune_at: Instant,
    is_stopping: bool,
}

impl Engine {
    pub(super) fn new(calls: Calls, held: Arc<Mutex<Held>>, metrics: Metrics) -> Self {
        let now = Instant::now();
        held.lock().begin_anew(now);
        Self {
            calls,
            held,
            metrics,
            queues: Queues::default(),
            asking: HashMap::new(),
            attempts: HashMap::new(),
            sessions: HashMap::new(),
            tickets: 0,
            prune_at: now,
            is_stopping: false,
        }
    }

    /// Somebody wants a lock.
    pub(super) fn acquire(&mut self, acquire: Acquire, promise: Asker) {
        if let Err(error) = self.admit(&acquire) {
            return promise.keep(Err(error));
        }
        self.tickets += 1;
        let (ticket, since) = (self.tickets, Instant::now());
        self.attempts.insert(acquire.attempt, ticket);
        if let Some(session) = &acquire.session {
            self.sessions.entry(session.id).or_default().push(ticket);
        }
        let asking = Asking {
            acquire,
            promise,
            since,
        };
        Self::join(&mut self.queues, ticket, &asking);
        self.asking.insert(ticket, asking);
    }

    fn admit(&self, acquire: &Acquire) -> Result<(), LockError> {
        if self.is_stopping {
            return Err(unavailable());
        }
        if !self.calls.can_mint() {
            return Err(LockError::NoDatabase);
        }
        if !acquire.wait.is_zero() && self.queues.len() >= MAX_WAITERS {
            let limit = MAX_WAITERS;
            return Err(LockError::TooManyWaiting { limit });
        }
        if acquire.session.is_some() && self.held.lock().of_sessions() >= MAX_OF_SESSIONS {
            let limit = MAX_OF_SESSIONS;
            return Err(LockError::TooManyHeld { limit });
        }
        Ok(())
    }

    fn join(queues: &mut Queues, ticket: Ticket, asking: &Asking) {
        let wish = Wish {
            ticket,
            kind: asking.acquire.kind,
            since: asking.since,
            until: asking.until(),
        };
        queues.join(&asking.acquire.name, wish);
    }

    /// Nobody is there any more to be told.
    pub(super) fn leave(&mut self, attempt: &Uuid) {
        if let Some(ticket) = self.attempts.get(attempt).copied() {
            self.give_up(ticket);
        } else if let Some(letting) = self.held.lock().forget_attempt(attempt) {
            self.calls.let_go(letting);
        }
    }

    /// A session has ended.
    pub(super) fn end(&mut self, session: SessionId) {
        for ticket in self.sessions.remove(&session).unwrap_or_default() {
            self.give_up(ticket);
        }
        let held = self.held.lock().end(session);
        held.into_iter().for_each(|one| self.calls.let_go(one));
    }

    /// Extends a lock, for whoever has its token.
    pub(super) fn extend(&mut self, extending: Extending) {
        self.calls.extends.push(extending);
    }

    /// Lets a lock go, for whoever has its token.
    pub(super) fn release(
        &mut self,
        name: Bytes,
        token: Uuid,
        promise: Promise<Result<bool, LockError>>,
    ) {
        // From now on nothing is renewed, whatever comes of it.
        self.held.lock().forget(&(name.clone(), token));
        let asker = None;
        self.calls.releases.push(Releasing {
            letting: Letting { name, token, asker },
            promise: Some(promise),
        });
    }

    /// Takes a lock away from whoever holds it.
    pub(super) fn force(&mut self, force: Force, promise: Promise<Result<bool, LockError>>) {
        self.calls.force(force, promise);
    }

    /// Tells of one lock.
    pub(super) fn tell(&self, ask: Info, promise: Promise<Result<LockInfo, LockError>>) {
        let session = ask.session;
        self.calls.look(ask.name, Curious::One { session, promise });
    }

    /// Tells of all locks whose names begin like this.
    pub(super) fn list(&self, prefix: Bytes, promise: Promise<Result<Vec<LockInfo>, LockError>>) {
        self.calls.list(prefix, Curious::Many(promise));
    }

    /// A lock is worth another try.
    pub(super) fn wake(&mut self, name: &Bytes) {
        self.queues.wake(name);
    }

    /// What was asked has come back.
    pub(super) fn on_event(&mut self, event: Event) {
        self.calls.came_back(&event);
        match event {
            Event::Taken { out, sent, answer } => match answer {
                Ok(answers) => {
                    for (out, taken) in out.into_iter().zip(answers) {
                        self.on_taken(out, taken, sent);
                    }
                }
                Err(error) => {
                    for Trying { tried, letting, .. } in out {
                        self.queues.failed(&tried);
                        self.fail(tried.ticket, LockError::Store(error.clone()));
                        self.calls.let_go(letting);
                    }
                }
            },
            Event::Minted { out, answer } => match answer {
                Ok(fences) if fences.len() == out.len() => {
                    for (passage, fence) in out.into_iter().zip(fences) {
                        self.calls.confirms.push(Passage { fence, ..passage });
                    }
                }
                Ok(_) => self.fail_all(out, &LockError::LostOnTheWay),
                Err(error) => self.fail_all(out, &LockError::Fence(error)),
            },
            Event::Confirmed { out, sent, answer } => match answer {
                Ok(answers) => {
                    for (passage, confirmed) in out.into_iter().zip(answers) {
                        self.on_confirmed(passage, confirmed, sent);
                    }
                }
                Err(error) => self.fail_all(out, &LockError::Store(error)),
            },
            Event::Extended { out, sent, answer } => self.on_extended(out, sent, answer),
            Event::Released { out, answer } => self.on_released(out, answer),
            Event::Left => {}
            Event::Forced { name } => {
                self.queues.wake(&name);
                // Who held it is told now, and not when it would have been renewed.
                self.held.lock().renew_now(&name, Instant::now());
            }
            Event::Seen { answer, curious } => {
                told::tell(answer, curious, &self.queues, &self.held.lock());
            }
        }
    }

    fn on_taken(&mut self, out: Trying, taken: Taken, sent: Instant) {
        let (ticket, now) = (out.tried.ticket, Instant::now());
        match taken {
            Taken::No(pause) => {
                if !self.queues.refused(&out.tried, pause, now) {
                    self.answer(ticket, Ok(None));
                }
            }
            Taken::Yes(fence) => {
                let is_there = self.queues.took(&out.tried, out.ttl, now);
                match fence {
                    _ if !is_there => self.calls.let_go(out.letting),
                    Fence::Minted(fence) => self.grant(ticket, out.letting, fence, sent + out.ttl),
                    Fence::Due(birth) => self.calls.mints.push(Passage {
                        ticket,
                        letting: out.letting,
                        ttl: out.ttl,
                        birth,
                        fence: 0,
                    }),
                }
            }
        }
    }

    fn on_confirmed(&mut self, passage: Passage, confirmed: Extended, sent: Instant) {
        match confirmed {
            Extended::Yes(Fence::Minted(fence)) => {
                self.grant(passage.ticket, passage.letting, fence, sent + passage.ttl);
            }
            Extended::Yes(Fence::Due(_)) | Extended::No => self.lost_on_the_way(passage.ticket),
        }
    }

    /// Tells who asked that the lock is held until `ends`.
    fn grant(&mut self, ticket: Ticket, letting: Letting, fence: i64, ends: Instant) {
        if Instant::now() >= ends {
            self.calls.let_go(letting);
            return self.lost_on_the_way(ticket);
        }
        let asking = self.forget(ticket);
        let Some(asking) = asking.filter(|asking| asking.promise.is_awaited()) else {
            return self.calls.let_go(letting);
        };
        self.time(&asking, "acquired");
        let hold = Hold {
            fence,
            ttl: asking.acquire.ttl,
            ends,
            asker: letting.asker.unwrap_or_default(),
            attempt: asking.acquire.attempt,
            session: asking.acquire.session,
        };
        let token = letting.token;
        if let Some(again) = self.held.lock().hold((letting.name, token), hold) {
            self.calls.let_go(again);
        }
        asking.promise.keep(Ok(Some(Grant {
            token,
            fence,
            until: ends,
        })));
    }

    /// The lock was taken, and had expired before it was confirmed: who waits on, waits again, in its old place.
    fn lost_on_the_way(&mut self, ticket: Ticket) {
        let Some(asking) = self.asking.get(&ticket) else {
            return;
        };
        match asking.until() {
            Some(until) if until > Instant::now() => Self::join(&mut self.queues, ticket, asking),
            _ => self.answer(ticket, Err(LockError::LostOnTheWay)),
        }
    }

    fn on_extended(
        &mut self,
        out: Vec<Extending>,
        sent: Instant,
        answer: Result<Vec<Extended>, StoreError>,
    ) {
        let mut held = self.held.lock();
        for (at, extending) in out.into_iter().enumerate() {
            let is_held = answer
                .as_ref()
                .map(|all| matches!(all.get(at), Some(Extended::Yes(_))));
            let is_held = is_held.map_err(|error| LockError::Store(error.clone()));
            let (holder, ttl, fence) = match &extending {
                Extending::Asked { holder, ttl, .. } => (holder, *ttl, None),
                Extending::Renewed(one) => (&one.holder, one.ttl, Some(one.fence)),
            };
            match is_held {
                Ok(true) => held.extended(holder, ttl, sent + ttl),
                Ok(false) => drop(held.lose(holder, fence)),
                Err(_) if fence.is_some() => held.not_renewed(holder, Instant::now()),
                Err(_) => {}
            }
            if let Extending::Asked { promise, .. } = extending {
                promise.keep(is_held);
            }
        }
    }

    fn on_released(&mut self, out: Vec<Releasing>, answer: Result<Vec<bool>, StoreError>) {
        for (at, releasing) in out.into_iter().enumerate() {
            let is_let_go = answer.as_ref().map(|all| all.get(at) == Some(&true));
            if matches!(is_let_go, Ok(true)) {
                self.queues.wake(&releasing.letting.name);
            }
            if let Some(promise) = releasing.promise {
                promise.keep(is_let_go.map_err(|error| LockError::Store(error.clone())));
            }
        }
    }

    /// What time has brought: waits that are over, locks that are to be renewed, or are lost.
    pub(super) fn tick(&mut self, now: Instant) {
        for (_, ticket) in self.queues.due(now) {
            self.answer(ticket, Ok(None));
        }
        let due = self.held.lock().due(now);
        due.lost.into_iter().for_each(|one| self.calls.let_go(one));
        let renewals = due.renew.into_iter().map(Extending::Renewed);
        renewals.for_each(|one| self.calls.extends.push(one));
        if now >= self.prune_at {
            self.prune_at = now + PRUNE_EVERY;
            let gone = self
                .asking
                .iter()
                .filter(|(_, asking)| !asking.promise.is_awaited());
            let gone: Vec<_> = gone.map(|(ticket, _)| *ticket).collect();
            gone.into_iter().for_each(|ticket| self.give_up(ticket));
            self.answer_overdue(now);
        }
    }

    /// Redis or Postgres may be slower than anybody wants to wait. What they still answer is let go.
    fn answer_overdue(&mut self, now: Instant) {
        let overdue = self.asking.iter().filter_map(|(ticket, asking)| {
            let answer = asking.overdue(now)?;
            Some((*ticket, asking.acquire.name.clone(), answer))
        });
        for (ticket, name, answer) in overdue.collect::<Vec<_>>() {
            self.queues.leave(&name, ticket);
            self.answer(ticket, answer);
        }
    }

    /// When something is due next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let prune = (!self.asking.is_empty()).then_some(self.prune_at);
        let held = self.held.lock().next_due();
        [prune, held, self.queues.next_due()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Sends what is to be sent.
    pub(super) fn flush(&mut self) {
        let mut tries = self.queues.tries();
        while !tries.is_empty() {
            tries.into_iter().for_each(|tried| self.send(tried));
            // Somebody behind who is gone may be next.
            tries = self.queues.tries();
        }
        let left = self.queues.left();
        left.into_iter()
            .for_each(|name| self.calls.leaves.push(name));
        self.calls.send();
        let count = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.metrics.locks.held.set(count(self.held.lock().len()));
        self.metrics.locks.waiters.set(count(self.queues.len()));
    }

    fn send(&mut self, tried: Try) {
        let asking = self.asking.get(&tried.ticket);
        let Some(asking) = asking.filter(|asking| asking.promise.is_awaited()) else {
            self.queues.failed(&tried);
            return self.give_up(tried.ticket);
        };
        let asker = fastrand::u64(1..);
        self.calls.takes.push(Trying {
            letting: Letting {
                name: tried.name.clone(),
                token: asking.acquire.token,
                asker: Some(asker),
            },
            asker,
            ttl: asking.acquire.ttl,
            tried,
        });
    }

    /// The daemon stops: who waits is told so, and what sessions hold is let go, for they are gone.
    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
        let waiting: Vec<_> = self.asking.keys().copied().collect();
        for ticket in waiting {
            self.answer(ticket, Err(unavailable()));
        }
        let marked = self.queues.clear();
        marked
            .into_iter()
            .for_each(|name| self.calls.leaves.push(name));
        let held = self.held.lock().end_all();
        held.into_iter().for_each(|one| self.calls.let_go(one));
    }

    /// Nothing is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.calls.is_idle()
    }

    fn fail_all(&mut self, passages: Vec<Passage>, error: &LockError) {
        for passage in passages {
            self.fail(passage.ticket, error.clone());
            self.calls.let_go(passage.letting);
        }
    }

    fn fail(&mut self, ticket: Ticket, error: LockError) {
        self.answer(ticket, Err(error));
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Option<Grant>, LockError>) {
        if let Some(asking) = self.forget(ticket) {
            self.time(&asking, "refused");
            asking.promise.keep(answer);
        }
    }

    /// Nobody waits for this any more; what is under way is let go when it comes back.
    fn give_up(&mut self, ticket: Ticket) {
        if let Some(asking) = self.forget(ticket) {
            self.time(&asking, "refused");
            self.queues.leave(&asking.acquire.name, ticket);
        }
    }

    fn forget(&mut self, ticket: Ticket) -> Option<Asking> {
        let asking = self.asking.remove(&ticket)?;
        self.attempts.remove(&asking.acquire.attempt);
        if let Some(session) = &asking.acquire.session
            && let Some(tickets) = self.sessions.get_mut(&session.id)
        {
            tickets.retain(|other| *other != ticket);
            if tickets.is_empty() {
                self.sessions.remove(&session.id);
            }
        }
        Some(asking)
    }

    fn time(&self, asking: &Asking, result: &'static str) {
        if !asking.acquire.wait.is_zero() {
            let seconds = asking.since.elapsed().as_secs_f64();
            self.metrics.locks.waited(result, seconds);
        }
    }
}

/// The daemon stops.
pub(super) fn unavailable() -> LockError {
    let actor = super::messages::NAME;
    LockError::Actor(AskError::Unavailable { actor })
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
