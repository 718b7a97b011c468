//! Empties the database's queue: what a committed change names is invalidated, and only then its row is removed.
//!
//! 1. Rows are claimed, all that they name is invalidated as for anybody who asks, and the claim is done with. Whatever
//!    goes wrong in between, the claim is dropped and the rows are handed out again, to us or to another daemon.
//! 2. A claim is given back well before Postgres would take it. A sweep that takes longer goes on, and when it is over, its
//!    rows are removed, whoever of us has claimed them by then ([`Late`]). Otherwise a sweep that is always longer than a
//!    claim would never be the last.
//! 3. Sweeps do not hold up what is committed meanwhile: several claims are applied at once. The first few follow one another
//!    as quickly as there are changes. The others are spread over the time that a claim is held at most, so that there is
//!    always one to be had within half a second, however long the sweeps of those before take.
//! 4. What is so much that row by row it would take long is taken as a whole ([`backlog`](super::backlog)).
//! 5. While Redis is away nothing is claimed: the rows wait where they are safe.

use super::changes;
use super::doorbell::Bell;
use super::in_hand::{Applying, Named};
use super::late::Late;
use super::messages::InvalidationHandle;
use super::subscriber::drive;
use crate::cache::{Origin, Told};
use crate::keyspace::{Scope, Targets};
use crate::repository::{Change, Claim, MAX_CLAIMS, MAX_HELD, Outbox};
use crate::store::Store;
use crate::telemetry::Metrics;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Rows claimed together.
const CLAIM_ROWS: usize = 1000;
/// Claims that are taken at once when there are changes. Sweeps that take no longer than usual never need more.
const QUICK_CLAIMS: usize = 3;
/// Before each further claim, unless one is done with meanwhile.
const SPARING_PAUSE: Duration =
    Duration::from_millis(Drain::HELD.as_millis() as u64 / (MAX_CLAIMS - QUICK_CLAIMS) as u64);
/// Changes whose sweeps go on, those without a claim by now included.
const MAX_UNDER_WAY: usize = 200;
/// The pause when there is nothing to do.
const IDLE_PAUSE: Duration = Duration::from_millis(100);
/// The pause after something went wrong: the first, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Empties the queue. Cheap to clone.
#[derive(Clone)]
pub struct Drain {
    pub outbox: Outbox,
    pub invalidation: InvalidationHandle,
    pub scope: Arc<Scope>,
    /// The way to Redis that invalidations take.
    pub store: Store,
    pub metrics: Metrics,
    /// What we are applying, for who looks at the queue beside us.
    pub applying: Applying,
    /// Ends a rest early.
    pub bell: Bell,
    /// Rows whose keys need no second invalidation.
    pub told: Told,
    /// The pause while there are changes.
    pub poll: Duration,
    /// How long a claim is held while it is applied: [`Drain::HELD`], but for tests that cannot wait as long.
    pub held: Duration,
    /// From so many rows on a backlog may be taken as a whole: [`Drain::LARGE`], but for tests.
    pub large: u64,
}

/// What the claims of one life have in common.
#[derive(Default)]
pub(super) struct Shared {
    late: Late,
    /// While rows are removed whose claim was gone.
    concluding: tokio::sync::Mutex<()>,
    /// Claims that could not be applied, one after the other.
    failed: Cell<u32>,
    /// Claims that are held.
    held: Cell<usize>,
    /// Rows that waited when they were last counted.
    pub(super) backlog: watch::Sender<u64>,
    /// While much of what waits is taken as a whole: what is claimed meanwhile is mostly in vain.
    pub(super) is_taking: Cell<bool>,
}

impl Drain {
    /// The rest of a claim's time is for being done with it.
    pub const HELD: Duration = Duration::from_secs(MAX_HELD.as_secs() / 2);

    /// Empties the queue for ever.
    pub async fn run(self) {
        let shared = Rc::new(Shared::default());
        tokio::join!(
            self.watch_backlog(&shared),
            self.take_large(&shared),
            self.empty(&shared)
        );
    }

    async fn empty(&self, shared: &Rc<Shared>) {
        let mut applying: FuturesUnordered<LocalBoxFuture<'static, ()>> = FuturesUnordered::new();
        let mut up = self.store.up();
        let (mut pause, mut errors) = (self.poll, 0);
        loop {
            drive(&mut applying, up.wait_for(|up| *up)).await.ok();
            match drive(&mut applying, self.outbox.claim(CLAIM_ROWS)).await {
                Ok(Some(claim)) => {
                    errors = 0;
                    let is_full = claim.rows().len() >= CLAIM_ROWS;
                    pause = if is_full { Duration::ZERO } else { self.poll };
                    shared.held.set(shared.held.get() + 1);
                    let (drain, shared) = (self.clone(), Rc::clone(shared));
                    applying.push(Box::pin(async move { drain.apply(claim, &shared).await }));
                }
                Ok(None) => {
                    errors = 0;
                    let longer = pause.mul_f64(1.5).max(self.poll);
                    pause = longer.min(self.bell.longest_rest(IDLE_PAUSE.max(self.poll)));
                }
                Err(error) => {
                    errors += 1;
                    tell(errors, &error);
                    pause = after(errors);
                }
            }
            let failing = after(errors.max(shared.failed.get()));
            if failing.is_zero() {
                drive(&mut applying, self.bell.rest(jittered(pause))).await;
            } else {
                // Whoever rings: that something is queued mends nothing.
                drive(&mut applying, sleep(jittered(pause.max(failing)))).await;
            }
            if shared.is_taking.get() {
                drive(&mut applying, sleep(SPARING_PAUSE)).await;
            } else if shared.held.get() >= QUICK_CLAIMS {
                next_within(SPARING_PAUSE, &mut applying).await;
            }
            while shared.held.get() >= MAX_CLAIMS || applying.len() >= MAX_UNDER_WAY {
                next_within(self.poll, &mut applying).await;
            }
        }
    }

    /// Applies a claim and is done with it, or drops it.
    async fn apply(&self, claim: Claim, shared: &Shared) {
        let begun = Instant::now();
        let ids: Vec<i64> = claim.rows().iter().map(|row| row.id).collect();
        let (named, refused) = self.read(&claim, &shared.late);
        // Until all is done, in time or late.
        let in_hand = self.applying.begin(ids.clone(), &named);
        let mut work = std::pin::pin!(in_hand.apply(&self.invalidation, named));
        let in_time = async {
            tokio::select! {
                answer = &mut work => Some(answer),
                // By an earlier claim of ours.
                () = shared.late.has_all(claim.rows()) => Some(Ok(())),
                () = sleep(self.held) => None,
            }
        };
        let (answer, claim) = match in_time.await {
            Some(answer) => (answer, Some(claim)),
            None => {
                drop(claim);
                shared.let_go();
                let rows = ids.len();
                tracing::debug!(rows, "queued changes take long to apply");
                (work.await, None)
            }
        };
        let is_held = claim.is_some();
        match (answer, claim) {
            (Ok(()), Some(claim)) => self.conclude(claim, refused, shared).await,
            (Ok(()), None) => {
                shared.late.add(&ids, begun);
                self.conclude_late(&ids, refused, shared).await;
            }
            (Err(error), _) => shared.fail(&error),
        }
        if is_held {
            shared.let_go();
        }
    }

    /// What a claim's rows name, by who has queued it, and those that name what cannot be invalidated, with the reason.
    fn read(&self, claim: &Claim, late: &Late) -> (Named, Vec<(i64, String)>) {
        let origins = [Origin::Watch, Origin::Sql, Origin::Write];
        let mut named = origins.map(|origin| (origin, Targets::default()));
        let mut refused = Vec::new();
        for row in claim.rows() {
            let mut gone = Targets::default();
            let [(_, of_watches), (_, of_calls), (_, of_writes)] = &mut named;
            let names = match row {
                row if late.has(row) => &mut gone,
                row if row.is_called() => of_calls,
                row if row.is_written() => of_writes,
                _ => of_watches,
            };
            let has_told = row.is_written() && self.told.has(row.id, row.since);
            let patterns_alone = has_told.then(|| Change {
                keys: Vec::new(),
                ..row.clone()
            });
            let named_by = patterns_alone.as_ref().unwrap_or(row);
            if let Some(reason) = changes::read(&self.scope, named_by, names) {
                let source = &row.source;
                tracing::warn!(row = row.id, source, reason, "a queued change is put aside");
                refused.push((row.id, reason));
            }
        }
        // What is changed often is named by many rows, and by one row for the old and the new value.
        named.iter_mut().for_each(|(_, targets)| targets.dedup());
        (named.into(), refused)
    }

    /// Removes the rows, which are applied.
    async fn conclude(&self, mut claim: Claim, refused: Vec<(i64, String)>, shared: &Shared) {
        for (id, reason) in refused {
            claim.bury(id, reason);
        }
        let rows: Vec<(i64, Instant)> =
            claim.rows().iter().map(|row| (row.id, row.since)).collect();
        match claim.done().await {
            Ok(()) => {
                for (_, since) in &rows {
                    let seconds = since.elapsed().as_secs_f64();
                    self.metrics.timings.invalidated("outbox", seconds);
                }
                shared.failed.set(0);
                self.told.forget(rows.iter().map(|(id, _)| *id));
                shared.late.forget(rows.into_iter().map(|(id, _)| id));
            }
            Err(error) => shared.fail(&error),
        }
    }

    /// Removes rows whose claim is gone, unless somebody has claimed them: then they are done with by whoever that is.
    async fn conclude_late(&self, ids: &[i64], refused: Vec<(i64, String)>, shared: &Shared) {
        // One at a time: there is one connection for it.
        let _turn = shared.concluding.lock().await;
        let is_late = |row: &Change| shared.late.has(row);
        match self.outbox.claim_again(ids, is_late).await {
            Ok(Some(claim)) => self.conclude(claim, refused, shared).await,
            Ok(None) => {}
            Err(error) => shared.fail(&error),
        }
    }
}

impl Shared {
    /// A claim is held no more.
    fn let_go(&self) {
        self.held.set(self.held.get().saturating_sub(1));
    }

    fn fail(&self, error: &dyn std::fmt::Display) {
        self.failed.set(self.failed.get().saturating_add(1));
        tell(self.failed.get(), error);
    }
}

/// Waits until one of them is over, but no longer than this.
async fn next_within<T>(
    most: Duration,
    applying: &mut FuturesUnordered<LocalBoxFuture<'static, T>>,
) {
    // None are left, or none is over yet: the same to who asks.
    let _over = timeout(most, futures_util::StreamExt::next(applying)).await;
}

/// The first of a row of failures is for everybody, the others are for who looks closely.
pub(super) fn tell(failures: u32, error: &dyn std::fmt::Display) {
    if failures == 1 {
        tracing::warn!(%error, "queued changes are not applied; they wait, and are tried again");
    } else {
        tracing::debug!(%error, failures, "queued changes are not applied");
    }
}

/// The pause after so many failures.
fn after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => (FIRST_PAUSE * (1 << (n - 1).min(10))).min(LONGEST_PAUSE),
    }
}

pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
