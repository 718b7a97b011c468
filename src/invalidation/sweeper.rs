//! Sweeps patterns: leases first, then a pass through all keys of Redis for all patterns that wait.
//!
//! 1. The leases of every key that matches are ended: no load that began before can fill any more.
//! 2. The sweep is announced: from now on no daemon gives out a hit that matches ([`Sweeps`]).
//! 3. Every key of Redis is looked at once, and what matches is unlinked. In the other order, a load that began before could
//!    fill behind the pass, and its outdated value would stay.
//!
//! Patterns whose keys have an index are swept by that ([`indexed`](super::indexed)) as soon as they are announced, before and
//! in between the pages of such a pass; of the others, a pass builds the index that is missing.
//!
//! All of it goes over one pinned connection. Whatever happens to that, or to the server behind it, everything that waits
//! begins again with 1: leases that were ended could be back with an old snapshot, and so could values that were unlinked. What
//! was announced stays so until it is announced anew: in between, what the sweep has not removed yet would be given out again.

use super::OnSwept;
use super::indexes::Indexes;
use super::pending::{Done, Pending, Sweep};
use super::queue::{Queue, Unswept, Waiting};
use super::scripts::{ANNOUNCED_FOR, Scripts};
use super::walk::Walk;
use crate::cache::Sweeps;
use crate::keyspace::{Pattern, Scope, names::LEASE_INDEX};
use crate::store::{Identity, Pinned, Store, StoreError};
use crate::telemetry::Metrics;
use bytes::Bytes;
use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

/// How often a sweep that goes on is announced again.
pub(super) const ANNOUNCE_EVERY: Duration = Duration::from_secs(20);
/// Leases ended by one script call.
const LEASES_A_CALL: usize = 256;
/// How long sweeps may break off, one after the other, before who waits for them is told.
const PATIENCE: Duration = Duration::from_secs(2);
/// Pages after which a walk is no longer begun anew for who comes: of a million keys, less than a fiftieth.
const JOINABLE_PAGES: usize = 8;
/// How often a walk begins anew for who comes, so that it comes to its end however many do.
const MAX_JOINS: usize = 4;
/// The pause before a sweep begins again: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Why a pass did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("redis is another server now, or has another role")]
    AnotherServer,
}

/// The one connection, and to whom it leads.
pub(super) struct Ground {
    pub(super) pinned: Pinned,
    identity: Identity,
    /// When all that is announced was announced last.
    announced: Cell<Instant>,
}

/// What became of a pass.
enum Passed {
    /// Nothing waits.
    Nothing,
    Whole,
    /// Nobody wants it any more.
    Cancelled,
}

impl Ground {
    async fn of(store: &Store) -> Result<Self, StoreError> {
        let pinned = store.pin().await?;
        Ok(Self {
            identity: pinned.identity().await?,
            pinned,
            announced: Cell::new(Instant::now()),
        })
    }

    /// Whether it is the same server still, in the same role.
    pub(super) async fn check(&self) -> Result<(), Broken> {
        match self.pinned.identity().await? == self.identity {
            true => Ok(()),
            false => Err(Broken::AnotherServer),
        }
    }
}

/// What a sweeper works with.
#[derive(Clone)]
pub(super) struct Sweeper {
    pub(super) scope: Arc<Scope>,
    pub(super) store: Store,
    pub(super) scripts: Arc<Scripts>,
    pub(super) queue: Queue,
    pub(super) sweeps: Sweeps,
    pub(super) indexes: Indexes,
    pub(super) metrics: Metrics,
    /// Who we are, for other daemons.
    pub(super) instance: Uuid,
    /// [`ANNOUNCE_EVERY`], but for tests.
    pub(super) announce_every: Duration,
    pub(super) on_swept: OnSwept,
}

impl Sweeper {
    /// Sweeps whatever comes; runs until dropped. Begins with what an earlier life left.
    pub(super) async fn run(self) {
        self.forget_progress();
        let mut pause = FIRST_PAUSE;
        let mut broken_since: Option<Instant> = None;
        loop {
            if self.with(|pending| pending.len() == 0 && !pending.any_orphans()) {
                self.queue.came().await;
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
        let ground = Ground::of(&self.store).await?;
        loop {
            self.withdraw_orphans(&ground.pinned).await;
            self.uphold(&ground.pinned).await?;
            self.reveal(&ground.pinned).await?;
            for _ in 0..=MAX_JOINS {
                let announced = self.with(|pending| pending.announced());
                let outcome = self.sweep_indexed(&ground, announced).await?;
                if outcome.revealed.is_empty() {
                    break;
                }
            }
            match self.pass(&ground).await? {
                Passed::Nothing => return Ok(()),
                Passed::Cancelled => {
                    self.metrics.passed("cancelled");
                    continue;
                }
                Passed::Whole => ground.check().await?,
            }
            self.metrics.passed("done");
            let done = self.with(Pending::end_pass);
            self.conclude(&ground.pinned, done).await;
        }
    }

    /// Keeps other daemons heeding what broke off, however long it takes until it is announced anew.
    async fn uphold(&self, pinned: &Pinned) -> Result<(), StoreError> {
        let broken = self.with(|pending| pending.broken());
        if broken.is_empty() {
            return Ok(());
        }
        self.scripts
            .announce(pinned, self.instance, ANNOUNCED_FOR, &broken)
            .await
    }

    /// Ends the leases of what is new, and announces it.
    pub(super) async fn reveal(&self, pinned: &Pinned) -> Result<Vec<Sweep>, StoreError> {
        let mut revealed = Vec::new();
        while self.with(|pending| pending.any_new()) {
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
            // Not sooner: in between nobody would doubt what they match.
            let superseded = self.with(Pending::take_superseded);
            self.withdraw(pinned, &superseded).await;
            revealed.extend(sweeps);
        }
        Ok(revealed)
    }

    /// One walk through all keys, for all that wait. What comes meanwhile has its leases ended at once. In
    /// the first pages it still joins, and the walk begins anew; later it waits for the next.
    async fn pass(&self, ground: &Ground) -> Result<Passed, Broken> {
        let pinned = &ground.pinned;
        let mut pass = self.with(Pending::begin_pass);
        if pass.is_empty() {
            return Ok(Passed::Nothing);
        }
        let (mut walk, mut joins) = (self.walk(&pass), 0);
        let mut builds = self.indexes.build(pinned, heads(&pass)).await?;
        let mut fresh = Vec::new();
        let mut doomed: Vec<Bytes> = Vec::new();
        loop {
            let (removed, page) = walk.page(pinned, &doomed, builds.segments()).await?;
            self.count(&pass, &doomed, &removed);
            builds.add(pinned, &page.kept).await?;
            doomed = page.doomed;
            if walk.is_over() {
                break;
            }
            fresh.extend(self.reveal(pinned).await?);
            let outcome = self.sweep_indexed(ground, fresh).await?;
            // Those go when another page is done: else a walk would never end while they come.
            fresh = outcome.revealed;
            if outcome.left && walk.pages <= JOINABLE_PAGES && joins < MAX_JOINS {
                joins += 1;
                pass = self.with(Pending::begin_pass);
                walk = self.walk(&pass);
                builds = self.indexes.build(pinned, heads(&pass)).await?;
            }
            if self.withdraw_orphans(pinned).await {
                pass = self.with(|pending| pending.under_way());
                if pass.is_empty() {
                    return Ok(Passed::Cancelled);
                }
                // They are keys of a page that no other page brings: an index without them would be called whole.
                let kept = walk.only(patterns(&pass), &mut doomed);
                builds.add(pinned, &kept).await?;
            }
            self.announce_again(ground).await?;
            walk.pause().await;
        }
        let removed = pinned.unlink(&doomed).await?;
        self.count(&pass, &doomed, &removed);
        self.metrics.indexes_built.inc_by(builds.end(pinned).await?);
        Ok(Passed::Whole)
    }

    fn walk(&self, pass: &[Sweep]) -> Walk {
        Walk::new(patterns(pass), Arc::clone(&self.scope))
    }

    /// Renews the announcements in time.
    pub(super) async fn announce_again(&self, ground: &Ground) -> Result<(), StoreError> {
        if ground.announced.get().elapsed() < self.announce_every {
            return Ok(());
        }
        ground.announced.set(Instant::now());
        let announced = self.with(|pending| pending.announced());
        for sweep in &announced {
            self.sweeps
                .announce(sweep.id, &sweep.pattern, ANNOUNCED_FOR);
        }
        self.scripts
            .announce(&ground.pinned, self.instance, ANNOUNCED_FOR, &announced)
            .await
    }

    fn count(&self, pass: &[Sweep], doomed: &[Bytes], removed: &[bool]) {
        let mut pending = self.queue.pending();
        for (key, _) in doomed.iter().zip(removed).filter(|(_, removed)| **removed) {
            self.metrics.swept_keys.inc();
            for sweep in pass.iter().filter(|sweep| sweep.pattern.matches(key)) {
                pending.removed(sweep.id, 1);
            }
        }
    }

    pub(super) async fn conclude(&self, pinned: &Pinned, done: Vec<Done<Waiting>>) {
        let ended: Vec<Sweep> = done.iter().map(|done| done.sweep.clone()).collect();
        self.withdraw(pinned, &ended).await;
        for done in done {
            let (pattern, removed) = (done.sweep.pattern.shown(), done.removed);
            tracing::debug!(pattern, removed, "swept");
            self.on_swept.tell(&done.sweep.pattern);
            for waiting in done.waiting {
                // Who asked may be gone.
                let _gone = waiting.send(Ok(removed));
            }
        }
    }

    /// Withdraws what was announced and is not swept any more; whether there was any.
    async fn withdraw_orphans(&self, pinned: &Pinned) -> bool {
        let orphans = self.with(Pending::take_orphans);
        self.withdraw(pinned, &orphans).await;
        !orphans.is_empty()
    }

    /// Takes announcements back, here and elsewhere.
    async fn withdraw(&self, pinned: &Pinned, sweeps: &[Sweep]) {
        if sweeps.is_empty() {
            return;
        }
        for sweep in sweeps {
            self.sweeps.end(sweep.id);
        }
        // Untold, other daemons heed the announcement until it expires, and one sweeps again: that costs time, and nothing else.
        if let Err(error) = self.scripts.withdraw(pinned, self.instance, sweeps).await {
            tracing::debug!(%error, "the end of a sweep was not told");
        }
    }

    /// Tells who waits that it takes long, and why. The sweep goes on without them.
    fn tell(&self, broken: &Broken) {
        let Broken::Store(error) = broken else { return };
        for waiting in self.with(Pending::take_waiting) {
            let _gone = waiting.send(Err(Unswept::Late(error.clone())));
        }
    }

    fn forget_progress(&self) {
        let begin_again = |pending: &mut Pending<Waiting>| {
            pending.begin_again();
            pending.broken()
        };
        for sweep in self.with(begin_again) {
            self.sweeps.break_off(sweep.id, ANNOUNCED_FOR);
        }
    }

    pub(super) fn with<T>(&self, work: impl FnOnce(&mut Pending<Waiting>) -> T) -> T {
        let mut pending = self.queue.pending();
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

fn heads(sweeps: &[Sweep]) -> impl Iterator<Item = &[u8]> {
    sweeps.iter().map(|sweep| sweep.pattern.head())
}

fn matches_any(sweeps: &[Sweep], key: &[u8]) -> bool {
    sweeps.iter().any(|sweep| sweep.pattern.matches(key))
}
