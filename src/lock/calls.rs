//! The calls to Redis and Postgres, many requests in each. They run in local tasks, each of which ends by sending an event.

use super::LockError;
use super::events::{Curious, Event, Extending, Passage, Releasing, Trying};
use super::gather::Gather;
use super::messages::Force;
use super::scripts::{Extension, Letting, Locks, MAX_BATCH, Take};
use crate::repository::Fences;
use crate::supervisor::Promise;
use bytes::Bytes;
use std::time::Instant;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::spawn_local;

/// Fences of one statement.
const MINTED_TOGETHER: usize = 1024;

/// What is to be sent, and what is out.
pub(super) struct Calls {
    locks: Locks,
    fences: Option<Fences>,
    events: UnboundedSender<Event>,
    pub(super) takes: Gather<Trying>,
    pub(super) mints: Gather<Passage>,
    pub(super) confirms: Gather<Passage>,
    pub(super) extends: Gather<Extending>,
    pub(super) releases: Gather<Releasing>,
    pub(super) leaves: Gather<Bytes>,
}

impl Calls {
    pub(super) fn new(
        locks: Locks,
        fences: Option<Fences>,
        events: UnboundedSender<Event>,
    ) -> Self {
        Self {
            locks,
            fences,
            events,
            takes: Gather::new(MAX_BATCH),
            mints: Gather::new(MINTED_TOGETHER),
            confirms: Gather::new(MAX_BATCH),
            extends: Gather::new(MAX_BATCH),
            releases: Gather::new(MAX_BATCH),
            leaves: Gather::new(MAX_BATCH),
        }
    }

    /// Whether there is a database that mints fences.
    pub(super) fn can_mint(&self) -> bool {
        self.fences.is_some()
    }

    /// Lets go of what belongs to nobody who could. If that fails, it ends by itself.
    pub(super) fn let_go(&mut self, letting: Letting) {
        let promise = None;
        self.releases.push(Releasing { letting, promise });
    }

    /// Notes that a call is over.
    pub(super) fn came_back(&mut self, event: &Event) {
        match event {
            Event::Taken { .. } => self.takes.came_back(),
            Event::Minted { .. } => self.mints.came_back(),
            Event::Confirmed { .. } => self.confirms.came_back(),
            Event::Extended { .. } => self.extends.came_back(),
            Event::Released { .. } => self.releases.came_back(),
            Event::Left => self.leaves.came_back(),
            Event::Forced { .. } | Event::Seen { .. } => {}
        }
    }

    /// Sends what may go. What frees locks goes first.
    pub(super) fn send(&mut self) {
        while let Some(out) = self.releases.next() {
            self.send_releases(out);
        }
        while let Some(names) = self.leaves.next() {
            self.spawn(async move |locks| {
                // Marks that are left there end by themselves.
                let _left = locks.leave(&names).await;
                Event::Left
            });
        }
        while let Some(out) = self.extends.next() {
            self.send_extends(out);
        }
        while let Some(out) = self.confirms.next() {
            self.send_confirms(out);
        }
        while let Some(out) = self.takes.next() {
            self.send_takes(out);
        }
        while let Some(out) = self.mints.next() {
            self.send_mints(out);
        }
    }

    /// Nothing is under way, nor to be sent.
    pub(super) fn is_idle(&self) -> bool {
        self.takes.is_idle()
            && self.mints.is_idle()
            && self.confirms.is_idle()
            && self.extends.is_idle()
            && self.releases.is_idle()
            && self.leaves.is_idle()
    }

    fn spawn(&self, call: impl AsyncFnOnce(&Locks) -> Event + 'static) {
        let (locks, events) = (self.locks.clone(), self.events.clone());
        spawn_local(async move {
            let event = call(&locks).await;
            // An actor that is gone has told its askers already.
            let _gone = events.send(event);
        });
    }

    fn send_takes(&self, out: Vec<Trying>) {
        self.spawn(async move |locks| {
            let sent = Instant::now();
            // As late as can be: what a wait seems shorter by, somebody of another daemon may overtake.
            let takes: Vec<_> = out.iter().map(|one| take(one, sent)).collect();
            let answer = locks.take(&takes).await;
            Event::Taken { out, sent, answer }
        });
    }

    fn send_mints(&self, out: Vec<Passage>) {
        let Some(fences) = self.fences.clone() else {
            return; // never: who asks then was refused
        };
        self.spawn(async move |_| {
            let answer = fences.mint(out.len()).await;
            Event::Minted { out, answer }
        });
    }

    fn send_confirms(&self, out: Vec<Passage>) {
        let confirmation = |one: &Passage| Extension {
            name: one.letting.name.clone(),
            token: one.letting.token,
            ttl: one.ttl,
            minted: Some((one.birth, one.fence)),
        };
        let extensions: Vec<_> = out.iter().map(confirmation).collect();
        self.spawn(async move |locks| {
            let sent = Instant::now();
            let answer = locks.extend(&extensions).await;
            Event::Confirmed { out, sent, answer }
        });
    }

    fn send_extends(&self, out: Vec<Extending>) {
        let extension = |one: &Extending| {
            let ((name, token), ttl) = match one {
                Extending::Asked { holder, ttl, .. } => (holder.clone(), *ttl),
                Extending::Renewed(one) => (one.holder.clone(), one.ttl),
            };
            let minted = None;
            Extension {
                name,
                token,
                ttl,
                minted,
            }
        };
        let extensions: Vec<_> = out.iter().map(extension).collect();
        self.spawn(async move |locks| {
            let sent = Instant::now();
            let answer = locks.extend(&extensions).await;
            Event::Extended { out, sent, answer }
        });
    }

    fn send_releases(&self, out: Vec<Releasing>) {
        let lettings: Vec<_> = out.iter().map(|one| one.letting.clone()).collect();
        self.spawn(async move |locks| {
            let answer = locks.release(&lettings).await;
            Event::Released { out, answer }
        });
    }

    /// Takes a lock away, and writes down who has done so.
    pub(super) fn force(&self, force: Force, promise: Promise<Result<bool, LockError>>) {
        self.spawn(async move |locks| {
            let Force { name, by } = force;
            let taken = locks.force(&name).await;
            if let Ok(fences) = &taken
                && !fences.is_empty()
            {
                let lock = String::from_utf8_lossy(&name).into_owned();
                // Of who is still waiting for a fence there is none.
                let fences: Vec<i64> = fences.iter().flatten().copied().collect();
                tracing::warn!(target: "cachewarden::audit", by, lock, ?fences, "a lock was taken away");
            }
            let was_held = taken.map(|fences| !fences.is_empty());
            promise.keep(was_held.map_err(LockError::Store));
            Event::Forced { name }
        });
    }

    /// Looks at one lock.
    pub(super) fn look(&self, name: Bytes, curious: Curious) {
        self.spawn(async move |locks| {
            let looks = locks.look(std::slice::from_ref(&name)).await;
            let answer =
                looks.map(|looks| looks.into_iter().map(|look| (name.clone(), look)).collect());
            Event::Seen { answer, curious }
        });
    }

    /// Looks at all locks whose names begin like this.
    pub(super) fn list(&self, prefix: Bytes, curious: Curious) {
        self.spawn(async move |locks| {
            let answer = async {
                let mut seen = Vec::new();
                let names = locks.find(&prefix).await?;
                for names in names.chunks(MAX_BATCH) {
                    let looks = locks.look(names).await?;
                    seen.extend(names.iter().cloned().zip(looks));
                }
                Ok(seen)
            };
            let answer = answer.await;
            Event::Seen { answer, curious }
        });
    }
}

fn take(one: &Trying, now: Instant) -> Take {
    let waited = |since: Instant| now.saturating_duration_since(since);
    let next = one.tried.next;
    Take {
        name: one.tried.name.clone(),
        token: one.letting.token,
        asker: one.asker,
        kind: one.tried.kind,
        ttl: one.ttl,
        waited: waited(one.tried.since),
        waits: one.tried.waits,
        is_behind: one.tried.is_behind,
        next: next.map(|(_, since, kind)| (waited(since), kind)),
    }
}
