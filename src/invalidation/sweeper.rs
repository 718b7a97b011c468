//! Sweeps patterns: leases first, then a pass through all keys of Redis for all patterns that wait.
//!
//! 1. The leases of every key that matches are ended: no load that began before can fill any more.
//! 2. The sweep is announced: from now on no daemon gives out a hit that matches ([`Sweeps`]).
//! 3. Every key of Redis is looked at once, and what matches is unlinked. In the other order, a load that began before could
//!    fill behind the pass, and its outdated value would stay.
//!
//! All of it goes over one pinned connection. Whatever happens to that, or to the server behind it, everything that waits
//! begins again with 1: leases that were ended could be back with an old snapshot, and so could values that were unlinked.

use super::pace::Pace;
use super::pending::{Done, Pending, Sweep};
use super::scripts::Scripts;
use crate::cache::Sweeps;
use crate::keyspace::{
    Pattern, Scope,
    names::{self, LEASE_INDEX},
};
use crate::store::{Pinned, Store, StoreError};
use crate::telemetry::Metrics;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};
use uuid::Uuid;

/// How long other daemons heed an announcement that is not renewed.
const ANNOUNCED_FOR: Duration = Duration::from_secs(60);
/// How often a sweep that goes on is announced again.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(20);
/// Leases ended by one script call.
const LEASES_A_CALL: usize = 256;
/// How long sweeps may break off, one after the other, before who waits for them is told.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pages after which a walk is no longer begun anew for who comes: of a million keys, less than a fiftieth.
const JOINABLE_PAGES: usize = 16;
/// How often a walk begins anew for who comes, so that it comes to its end however many do.
const MAX_JOINS: usize = 4;
/// The pause before a sweep begins again: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("redis is another server now, or has another role")]
    AnotherServer,
}

/// What who waits for a sweep gets: the number of keys it removed, or why that takes long.
pub(super) type Swept = Result<u64, StoreError>;
type Waiting = oneshot::Sender<Swept>;

/// What waits to be swept. It outlives the actor: a restart begins again with it. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Queue(Arc<Queued>);

#[derive(Default)]
struct Queued {
    pending: Mutex<Pending<Waiting>>,
    came: Notify,
}

impl Queue {
    /// Adds a pattern; the answer is the number of keys removed once it is swept.
    pub(super) fn add(
        &self,
        scope: &Scope,
        pattern: Pattern,
        claim: Option<Bytes>,
    ) -> oneshot::Receiver<Swept> {
        let (waiting, swept) = oneshot::channel();
        let wide = scope.widened(&pattern);
        self.0
            .pending
            .lock()
            .add(pattern, wide, Some(waiting), claim);
        self.0.came.notify_one();
        swept
    }

    /// Tells who waits that it is in vain. The patterns stay.
    pub(super) fn let_go(&self) {
        drop(self.0.pending.lock().take_waiting());
    }

    /// How many patterns wait.
    pub(super) fn len(&self) -> usize {
        self.0.pending.lock().len()
    }

    /// Adds a pattern for which nobody waits.
    pub(super) fn add_unheard(&self, scope: &Scope, pattern: Pattern) {
        let wide = scope.widened(&pattern);
        self.0.pending.lock().add(pattern, wide, None, None);
        self.0.came.notify_one();
    }
}

/// What a sweeper works with.
#[derive(Clone)]
pub(super) struct Sweeper {
    pub(super) store: Store,
    pub(super) scripts: Arc<Scripts>,
    pub(super) queue: Queue,
    pub(super) sweeps: Sweeps,
    pub(super) metrics: Metrics,
    /// Who we are, for other daemons.
    pub(super) instance: Uuid,
}

impl Sweeper {
    /// Sweeps whatever comes; runs until dropped. Begins with what an earlier life left.
    pub(super) async fn run(self) {
        self.forget_progress();
        let mut pause = FIRST_PAUSE;
        let mut broken_since: Option<Instant> = None;
        loop {
            if self.with(|pending| pending.len()) == 0 {
                self.queue.0.came.notified().await;
                continue;
            }
            match self.sweep_all().await {
                Ok(()) => (pause, broken_since) = (FIRST_PAUSE, None),
                Err(broken) => {
                    self.metrics.passed("broken");
                    match broken_since {
                        None => {
                            tracing::warn!(%broken, "a sweep begins again with the leases");
                            broken_since = Some(Instant::now());
                        }
                        Some(since) if since.elapsed() > PATIENCE => self.tell(&broken),
                        Some(_) => {}
                    }
                    self.forget_progress();
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Passes until nothing waits.
    async fn sweep_all(&self) -> Result<(), Broken> {
        let pinned = self.store.pin().await?;
        let identity = pinned.identity().await?;
        let orphans = self.with(Pending::take_orphans);
        self.withdraw(&pinned, &orphans).await;
        loop {
            self.admit(&pinned).await?;
            if !self.pass(&pinned).await? {
                return Ok(());
            }
            if pinned.identity().await? != identity {
                return Err(Broken::AnotherServer);
            }
            self.metrics.passed("done");
            let done = self.with(Pending::end_pass);
            self.conclude(&pinned, done).await;
        }
    }

    /// Ends the leases of what is new, and announces it. Whether there was any.
    async fn admit(&self, pinned: &Pinned) -> Result<bool, StoreError> {
        let mut any = false;
        while self.with(|pending| pending.any_new()) {
            any = true;
            let (sweeps, claims) = self.with(Pending::take_new);
            // Who hears the same message from now on is too late for these leases, and has to sweep again.
            pinned.unlink(&claims).await?;
            end_leases(pinned, &self.scripts, |key| matches_any(&sweeps, key)).await?;
            self.with(Pending::revoked);
            for sweep in &sweeps {
                self.sweeps
                    .announce(sweep.id, &sweep.pattern, ANNOUNCED_FOR);
            }
            self.scripts
                .announce(pinned, self.instance, ANNOUNCED_FOR, &sweeps)
                .await?;
        }
        Ok(any)
    }

    /// One walk through all keys, for all that wait; whether any does. What comes meanwhile has its leases ended at once. In
    /// the first pages it still joins, and the walk begins anew; later it waits for the next.
    async fn pass(&self, pinned: &Pinned) -> Result<bool, StoreError> {
        let mut pass = self.with(Pending::begin_pass);
        if pass.is_empty() {
            return Ok(false);
        }
        let (mut walk, mut joins) = (Walk::new(patterns(&pass)), 0);
        let mut announced = Instant::now();
        let mut doomed: Vec<Bytes> = Vec::new();
        loop {
            let (removed, page) = walk.page(pinned, &doomed).await?;
            self.count(&pass, &doomed, &removed);
            doomed = page;
            if walk.is_over() {
                break;
            }
            if self.admit(pinned).await? && walk.pages <= JOINABLE_PAGES && joins < MAX_JOINS {
                joins += 1;
                pass = self.with(Pending::begin_pass);
                walk = Walk::new(patterns(&pass));
            }
            if announced.elapsed() >= ANNOUNCE_EVERY {
                announced = Instant::now();
                self.announce_again(pinned).await?;
            }
            walk.pause().await;
        }
        let removed = pinned.unlink(&doomed).await?;
        self.count(&pass, &doomed, &removed);
        Ok(true)
    }

    async fn announce_again(&self, pinned: &Pinned) -> Result<(), StoreError> {
        let announced = self.with(|pending| pending.announced());
        for sweep in &announced {
            self.sweeps
                .announce(sweep.id, &sweep.pattern, ANNOUNCED_FOR);
        }
        self.scripts
            .announce(pinned, self.instance, ANNOUNCED_FOR, &announced)
            .await
    }

    fn count(&self, pass: &[Sweep], doomed: &[Bytes], removed: &[bool]) {
        let mut pending = self.queue.0.pending.lock();
        for (key, _) in doomed.iter().zip(removed).filter(|(_, removed)| **removed) {
            self.metrics.swept_keys.inc();
            for sweep in pass.iter().filter(|sweep| sweep.pattern.matches(key)) {
                pending.removed(sweep.id, 1);
            }
        }
    }

    async fn conclude(&self, pinned: &Pinned, done: Vec<Done<Waiting>>) {
        let ended: Vec<Sweep> = done.iter().map(|done| done.sweep.clone()).collect();
        self.withdraw(pinned, &ended).await;
        for done in done {
            let (pattern, removed) = (done.sweep.pattern.shown(), done.removed);
            tracing::debug!(pattern, removed, "swept");
            for waiting in done.waiting {
                // Who asked may be gone.
                let _gone = waiting.send(Ok(removed));
            }
        }
    }

    /// Takes announcements back, here and elsewhere.
    async fn withdraw(&self, pinned: &Pinned, sweeps: &[Sweep]) {
        if sweeps.is_empty() {
            return;
        }
        for sweep in sweeps {
            self.sweeps.end(sweep.id);
        }
        // Untold, other daemons heed the announcement until it expires: that costs loads, and nothing else.
        if let Err(error) = self.scripts.withdraw(pinned, self.instance, sweeps).await {
            tracing::debug!(%error, "the end of a sweep was not told");
        }
    }

    /// Tells who waits that it takes long, and why. The sweep goes on without them.
    fn tell(&self, broken: &Broken) {
        let Broken::Store(error) = broken else { return };
        for waiting in self.with(Pending::take_waiting) {
            let _gone = waiting.send(Err(error.clone()));
        }
    }

    fn forget_progress(&self) {
        for sweep in self.with(Pending::begin_again) {
            self.sweeps.end(sweep.id);
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Pending<Waiting>) -> T) -> T {
        let mut pending = self.queue.0.pending.lock();
        let result = work(&mut pending);
        let waiting = i64::try_from(pending.len()).unwrap_or(i64::MAX);
        self.metrics.sweeps_pending.set(waiting);
        result
    }
}

/// Ends the leases that `matches` picks. One taken while this goes on may be missed, and belongs to a load that begins after
/// this was asked for.
pub(super) async fn end_leases(
    pinned: &Pinned,
    scripts: &Scripts,
    matches: impl Fn(&[u8]) -> bool,
) -> Result<(), StoreError> {
    let mut cursor = 0;
    loop {
        let page = pinned.members(LEASE_INDEX, cursor, LEASES_A_CALL).await?;
        let matching = page.keys.into_iter().filter(|key| matches(key));
        let matching: Vec<Bytes> = matching.collect();
        for keys in matching.chunks(LEASES_A_CALL) {
            scripts.revoke(pinned, keys).await?;
        }
        cursor = page.cursor;
        if cursor == 0 {
            return Ok(());
        }
    }
}

fn patterns(sweeps: &[Sweep]) -> Vec<Pattern> {
    sweeps.iter().map(|sweep| sweep.pattern.clone()).collect()
}

fn matches_any(sweeps: &[Sweep], key: &[u8]) -> bool {
    sweeps.iter().any(|sweep| sweep.pattern.matches(key))
}

/// One walk through all keys of Redis, and what of them matches.
pub(super) struct Walk {
    patterns: Vec<Pattern>,
    cursor: u64,
    /// Pages read so far.
    pages: usize,
    pace: Pace,
}

impl Walk {
    pub(super) fn new(patterns: Vec<Pattern>) -> Self {
        Self {
            patterns,
            cursor: 0,
            pages: 0,
            pace: Pace::new(),
        }
    }

    /// Whether every key was looked at.
    pub(super) fn is_over(&self) -> bool {
        self.pages > 0 && self.cursor == 0
    }

    /// Unlinks `doomed`, and reads the next page: whether each was there, and what of the page matches.
    pub(super) async fn page(
        &mut self,
        pinned: &Pinned,
        doomed: &[Bytes],
    ) -> Result<(Vec<bool>, Vec<Bytes>), StoreError> {
        // One pattern is matched by Redis, which then sends what matches only; more of them here, in one pass.
        let only = match self.patterns.as_slice() {
            [only] => Some(only.text().as_ref()),
            _ => None,
        };
        let sent = Instant::now();
        let count = self.pace.count();
        let (removed, page) = pinned
            .unlink_and_scan(doomed, self.cursor, only, count)
            .await?;
        self.pace.page_took(sent.elapsed());
        (self.pages, self.cursor) = (self.pages + 1, page.cursor);
        let mut matching = page.keys;
        matching.retain(|key| {
            !names::is_reserved(key) && self.patterns.iter().any(|pattern| pattern.matches(key))
        });
        Ok((removed, matching))
    }

    /// Leaves Redis to others for a while.
    pub(super) async fn pause(&self) {
        let pause = self.pace.pause();
        // The runtime's timer counts whole milliseconds, five times what a pause should be. A thread that waits for
        // blocking work costs nobody anything.
        let waiting = tokio::task::spawn_blocking(move || std::thread::park_timeout(pause));
        // Without the thread there is no pause.
        let _waited = waiting.await;
    }
}
