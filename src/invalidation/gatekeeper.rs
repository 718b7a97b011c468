//! Decides whether what lies in a Redis may be read, before anybody reads it.
//!
//! A Redis that was away comes back as it was, or empty, or with data of earlier: from a snapshot, or as a replica that had
//! not heard everything. Then values are there again that were invalidated, and even leases that were taken away. So no
//! connection is used before its server was vouched for ([`Guard`]), and each server is asked for the heartbeats in its data,
//! one for each prefix that is declared here:
//!
//! | heartbeat of a prefix | verdict on what lies under it |
//! | --- | --- |
//! | of this very server and these data | known: nothing was lost |
//! | any other or none, and no key beside | empty: nothing is there that could be outdated |
//! | of another, younger than `replay_window` | what was invalidated since is invalidated once more |
//! | anything else | everything is invalidated |
//!
//! In the last two cases the prefix' leases are ended first, then it is in doubt ([`Doubts`]): its hits are loaded anew. Only
//! then the server is vouched for, and while it serves, the rest is done. When that is over the prefix gets a heartbeat of
//! these data: whoever finds this one may go on. Until then every daemon that comes and declares it decides the same, and all
//! do the same work, which is no harm. What only others declare keeps the heartbeat it had: to them it tells since when.
//!
//! In every case the barrier goes up: the database went on while Redis was away.

use super::barrier::Barrier;
use super::changes;
use super::doubts::Doubts;
use super::heartbeat::{Earlier, Heartbeat, Verdict};
use super::messages::{InvalidateTargets, InvalidationHandle};
use super::prover::LookedAt;
use super::scripts::Scripts;
use super::sweeper::end_leases;
use crate::cache::{Notes, Origin, Sweeps};
use crate::keyspace::{Pattern, Scope, Targets};
use crate::repository::Outbox;
use crate::store::{Guard, Identity, Pinned, Store, StoreError};
use crate::telemetry::Metrics;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::{sleep, sleep_until, timeout};

/// How often a heartbeat is left, and the server asked who it is.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// What is invalidated once more begins so long before the heartbeat: clocks are set.
const REPLAY_MARGIN: Duration = Duration::from_secs(1);
/// Keys, and patterns, that are invalidated once more. Beyond, everything is: that costs less.
const MAX_REPLAYED: usize = 100_000;
/// What another daemon has just acknowledged is noted within this time, if the database answers it.
const OTHERS_NOTE: Duration = Duration::from_millis(250);
/// How long the database may take to tell them, and to have the queue applied before.
const REPLAY_PATIENCE: Duration = Duration::from_secs(10);
/// The pause after something went wrong: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Decides which Redis is read. Cheap to clone.
#[derive(Clone)]
pub struct Gatekeeper {
    guard: Guard,
    store: Store,
    scope: Arc<Scope>,
    /// Everything under each prefix that is declared here.
    prefixes: Arc<[Pattern]>,
    doubts: Doubts,
    scripts: Arc<Scripts>,
    invalidation: InvalidationHandle,
    queue: Option<QueueSide>,
    replay_window: Duration,
    metrics: Metrics,
}

/// What a gatekeeper knows of the database's queue.
#[derive(Clone)]
pub struct QueueSide {
    pub outbox: Outbox,
    pub barrier: Barrier,
    pub looked_at: LookedAt,
    pub notes: Notes,
}

type Work = FuturesUnordered<LocalBoxFuture<'static, Identity>>;

impl Gatekeeper {
    /// From now on `store` and its siblings use no connection that was not decided on; `queue` if tables are watched.
    pub fn new(
        store: Store,
        scope: Arc<Scope>,
        sweeps: Sweeps,
        invalidation: InvalidationHandle,
        queue: Option<QueueSide>,
        replay_window: Duration,
        metrics: Metrics,
    ) -> Self {
        Self {
            guard: store.guard(),
            prefixes: scope.everything().patterns.into(),
            doubts: Doubts::new(sweeps),
            scripts: Arc::default(),
            store,
            scope,
            invalidation,
            queue,
            replay_window,
            metrics,
        }
    }

    /// Decides, and leaves heartbeats, for ever.
    pub async fn run(mut self) {
        let mut work = Work::new();
        // The server in which all is as it should be.
        let mut sound: Option<Identity> = None;
        let mut line: Option<Pinned> = None;
        let mut pause = FIRST_PAUSE;
        let mut next_beat = tokio::time::Instant::now();
        loop {
            tokio::select! {
                () = self.guard.asked() => match self.decide(&mut work, &mut sound).await {
                    Ok(()) => (pause, next_beat) = (FIRST_PAUSE, tokio::time::Instant::now()),
                    Err(error) => {
                        tracing::debug!(%error, "which redis this is cannot be told yet");
                        sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
                        pause = (pause * 2).min(LONGEST_PAUSE);
                        self.guard.ask_again();
                    }
                },
                Some(identity) = futures_util::StreamExt::next(&mut work) => {
                    sound = Some(identity);
                    next_beat = tokio::time::Instant::now();
                }
                () = sleep_until(next_beat) => {
                    next_beat = tokio::time::Instant::now() + BEAT_EVERY;
                    if let Err(error) = self.beat(&mut line, sound.as_ref()).await {
                        line = None;
                        tracing::debug!(%error, "no heartbeat was left in redis");
                    }
                }
            }
        }
    }

    /// Meets the server that new connections lead to, and lets them be used.
    async fn decide(
        &self,
        work: &mut Work,
        sound: &mut Option<Identity>,
    ) -> Result<(), StoreError> {
        let outage = self.guard.outage();
        let pinned = self.store.pin().await?;
        let identity = pinned.identity().await?;
        if self.guard.admits(outage, &identity) {
            return Ok(());
        }
        let is_sound = |sound: &Identity| identity.continues(sound);
        let verdict = match sound.take().filter(is_sound) {
            // We have it from itself that nothing replaced its data, whatever became of the heartbeat in them.
            Some(_) => Verdict::Known,
            None => self.judge(&pinned, &identity).await?,
        };
        // Whatever was under way is decided anew.
        work.clear();
        if let Some(queue) = &self.queue {
            queue.barrier.raise(Instant::now());
        }
        self.metrics.met_redis(verdict.label());
        match verdict {
            Verdict::Known | Verdict::Empty => {
                // At once, for another daemon that comes now; if it cannot be written, the next beat says so.
                let _soon = self.leave(&pinned, &identity).await;
                self.doubts.lay();
                *sound = Some(identity.clone());
            }
            Verdict::Earlier(earlier) => {
                let prefixes = earlier.prefixes().count();
                tracing::warn!(
                    prefixes,
                    "redis holds data of earlier: what may be outdated in them is invalidated"
                );
                let is_doubted =
                    |key: &[u8]| earlier.prefixes().any(|doubted| doubted.matches(key));
                end_leases(&pinned, &self.scripts, is_doubted).await?;
                self.doubts.raise(earlier.prefixes());
                let (this, identity) = (self.clone(), identity.clone());
                work.push(Box::pin(async move { this.renew(earlier, identity).await }));
            }
        }
        self.guard.vouch(outage, identity);
        Ok(())
    }

    async fn judge(&self, pinned: &Pinned, identity: &Identity) -> Result<Verdict, StoreError> {
        let (keys, heartbeats) = self.scripts.heartbeats(pinned, &self.prefixes).await?;
        let data = Heartbeat::data(identity);
        Ok(Verdict::of(&data, keys, &self.prefixes, &heartbeats))
    }

    /// Makes what is in Redis as it should be; gives the server back when it is.
    async fn renew(self, earlier: Earlier, identity: Identity) -> Identity {
        let mut targets = match self.replayed(&earlier).await {
            Some(targets) => targets,
            None => Targets {
                patterns: earlier.lacking,
                ..Targets::default()
            },
        };
        targets.patterns.extend(earlier.unknown);
        let mut pause = FIRST_PAUSE;
        loop {
            let origin = Origin::Return;
            let targets = targets.clone();
            let ask = InvalidateTargets { targets, origin };
            match self.invalidation.invalidate.ask(ask).await {
                Ok(Ok(removed)) => {
                    tracing::info!(removed, "what redis had kept of earlier is invalidated");
                    self.doubts.lay();
                    return identity;
                }
                Ok(Err(error)) => tracing::debug!(%error, "data of earlier are still in redis"),
                Err(error) => tracing::debug!(%error, "data of earlier are still in redis"),
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// What was invalidated since, if anything lacks that; `None`: that is not known, or too much.
    async fn replayed(&self, earlier: &Earlier) -> Option<Targets> {
        let queue = self.queue.as_ref()?;
        if earlier.lacking.is_empty() {
            return None;
        }
        let margin_us = i64::try_from(REPLAY_MARGIN.as_micros()).ok()?;
        let since_us = earlier.since_us.checked_sub(margin_us)?;
        let telling = async {
            // What somebody has just applied to the Redis of before is still in the queue, or noted by then.
            tokio::join!(
                queue.barrier.down(),
                queue.notes.all_written(),
                sleep(OTHERS_NOTE)
            );
            queue.outbox.applied_since(since_us, MAX_REPLAYED).await
        };
        let applied = match timeout(REPLAY_PATIENCE, telling).await {
            Ok(Ok(applied)) => applied,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what was invalidated of late is not known");
                return None;
            }
            Err(_elapsed) => return None,
        };
        // What is older than the window may be forgotten.
        let age = u64::try_from(applied.now_us.checked_sub(since_us)?).ok()?;
        let is_complete =
            applied.keys.len() < MAX_REPLAYED && applied.patterns.len() < MAX_REPLAYED;
        if Duration::from_micros(age) > self.replay_window || !is_complete {
            return None;
        }
        Some(changes::once_more(&self.scope, &applied))
    }

    /// Asks the server who it is, and leaves heartbeats in it if it is `sound`.
    async fn beat(
        &self,
        line: &mut Option<Pinned>,
        sound: Option<&Identity>,
    ) -> Result<(), StoreError> {
        let Some(vouched) = self.guard.vouched() else {
            *line = None;
            return Ok(());
        };
        let pinned = match line {
            Some(pinned) => pinned,
            None => line.insert(self.store.pin().await?),
        };
        let identity = pinned.identity().await?;
        if !identity.continues(&vouched) {
            tracing::warn!("redis is another server now, or has taken over other data");
            *line = None;
            self.guard.condemn();
            return Ok(());
        }
        if sound.is_some_and(|sound| identity.continues(sound)) {
            self.leave(pinned, &identity).await?;
        }
        Ok(())
    }

    /// Vouches for all that is declared here. To be called only when all of that was found, or made, as it should be.
    async fn leave(&self, pinned: &Pinned, identity: &Identity) -> Result<(), StoreError> {
        let looked_at = self.queue.as_ref().map(|queue| queue.looked_at.get());
        // Who has not looked, or never does, does not spoil what others know: the script sees to that.
        let at_us = looked_at.unwrap_or_default();
        let life = Heartbeat::life(self.replay_window);
        let prefixes = &self.prefixes;
        self.scripts
            .vouch(pinned, identity, at_us, life, prefixes)
            .await
    }
}
