//! Checks a few cached keys a second, for ever: some that were invalidated of late, some as a walk through all keys meets
//! them. What is wrong and should not be is told, counted and invalidated.

use super::actor::AuditParts;
use super::check::{Checked, Checker, Verdict, Wrong};
use super::drifting::Drifting;
use super::story::Told;
use crate::cache::{Invalidate, Origin, Source};
use crate::keyspace::RoutedKey;
use crate::repository::Admission;
use crate::store::StoreError;
use bytes::Bytes;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Keys checked together.
const MAX_TOGETHER: usize = 32;
/// Keys that Redis looks at for one page of the walk.
const PAGE: usize = 100;
/// Pages read at once for want of a key that is ours.
const MAX_PAGES: usize = 4;
/// The pause after Redis did not answer.
const PAUSE_AFTER_ERROR: Duration = Duration::from_secs(1);
/// Wrong keys logged in a while; the others are counted.
const LOGGED_A_WHILE: u32 = 20;
const WHILE: Duration = Duration::from_secs(10);

/// The sampler of one life of the actor.
pub(super) struct Sampler {
    parts: AuditParts,
    checker: Checker,
    /// Where the walk goes on.
    cursor: u64,
    /// Keys that the walk has met and nobody has checked yet.
    met: VecDeque<RoutedKey>,
    drifting: Drifting,
    logged_since: Instant,
    logged: u32,
}

impl Sampler {
    /// `None`: there is nothing to compare with, or nobody wants it.
    pub(super) fn new(parts: AuditParts) -> Option<Self> {
        let checker = parts.checker.clone().filter(|_| parts.rate > 0)?;
        Some(Self {
            parts,
            checker,
            cursor: 0,
            met: VecDeque::new(),
            drifting: Drifting::default(),
            logged_since: Instant::now(),
            logged: 0,
        })
    }

    /// Samples; runs until dropped.
    pub(super) async fn run(mut self) {
        let together = self.parts.rate.min(MAX_TOGETHER);
        let rate = u32::try_from(self.parts.rate).unwrap_or(u32::MAX);
        let mut up = self.parts.store.up();
        loop {
            // What it answers is a lock that the keeper waits for to say that Redis is away: it must not be kept.
            drop(up.wait_for(|up| *up).await);
            let begun = Instant::now();
            match self.round(together).await {
                Ok(taken) => {
                    let count = u32::try_from(taken.clamp(1, together)).unwrap_or(1);
                    let next = begun + Duration::from_secs(1) * count / rate;
                    tokio::time::sleep_until(next.into()).await;
                }
                Err(error) => {
                    tracing::debug!(%error, "nothing was audited");
                    tokio::time::sleep(PAUSE_AFTER_ERROR).await;
                }
            }
        }
    }

    /// Checks the next keys; how many those were. None cost a whole round, so that an empty Redis is asked little.
    async fn round(&mut self, together: usize) -> Result<usize, StoreError> {
        let keys = self.next_keys(together).await?;
        let taken = if keys.is_empty() {
            together
        } else {
            keys.len()
        };
        let checked = self.checker.check(keys, Admission::NoWait).await?;
        for Checked { key, verdict } in checked {
            self.take(&key, verdict).await;
        }
        Ok(taken)
    }

    /// Half of them invalidated of late, if there are so many.
    async fn next_keys(&mut self, together: usize) -> Result<Vec<RoutedKey>, StoreError> {
        let recent = self.parts.trace.take_recent(together.div_ceil(2));
        let mut keys: Vec<RoutedKey> = recent
            .into_iter()
            .filter_map(|key| self.ours(key))
            .collect();
        let mut pages = 0;
        while self.met.len() + keys.len() < together && pages < MAX_PAGES {
            let page = self.parts.store.scan(self.cursor, PAGE).await?;
            (self.cursor, pages) = (page.cursor, pages + 1);
            let ours: Vec<RoutedKey> = page
                .keys
                .into_iter()
                .filter_map(|key| self.ours(key))
                .collect();
            self.met.extend(ours);
            if self.cursor == 0 {
                break;
            }
        }
        let walked = together.saturating_sub(keys.len()).min(self.met.len());
        keys.extend(self.met.drain(..walked));
        Ok(keys)
    }

    /// A key of a declared cache; others have nothing to be compared with.
    fn ours(&self, key: Bytes) -> Option<RoutedKey> {
        let route = self.parts.router.route(&key).ok()?;
        let space = self.parts.spaces.get(route.space);
        matches!(space.source, Source::Query(_)).then(|| route.with_key(key))
    }

    async fn take(&mut self, key: &RoutedKey, verdict: Verdict) {
        let metrics = &self.parts.metrics.audit;
        match verdict {
            Verdict::Gone => self.drifting.forget(&key.key),
            Verdict::Undecided(why) => {
                metrics.undecided.inc();
                tracing::debug!(key = shown(key), why, "a cached value could not be judged");
            }
            Verdict::Equal => {
                self.drifting.forget(&key.key);
                metrics.found_equal();
            }
            Verdict::Wrong(wrong) if wrong.watched => {
                metrics.found_inconsistent();
                self.tell(key, &wrong);
                self.repair(key).await;
            }
            // Nobody promised more than the end of its life, and that comes.
            Verdict::Wrong(wrong) => {
                metrics.found_drift(self.drifting.is_news(&key.key, wrong.cached));
                tracing::debug!(
                    key = shown(key),
                    age_ms = wrong.age.map(millis),
                    "a cached value is older than the database, and no watch would tell"
                );
            }
        }
    }

    fn tell(&mut self, key: &RoutedKey, wrong: &Wrong) {
        if self.logged_since.elapsed() > WHILE {
            (self.logged_since, self.logged) = (Instant::now(), 0);
        }
        self.logged += 1;
        if self.logged > LOGGED_A_WHILE {
            return;
        }
        let cache = &self.parts.spaces.get(key.space).name;
        let stored = wrong
            .stored
            .map_or("no row".to_owned(), |hash| format!("{hash:016x}"));
        let story = self.parts.trace.of(&key.key);
        tracing::error!(
            key = shown(key),
            cache,
            cached = format_args!("{:016x}", wrong.cached),
            stored,
            age_ms = wrong.age.map(millis),
            ttl_ms = wrong.left.map(millis),
            trace = %Told(&story),
            "a cached value is not what the database says, and no invalidation is under way; it is invalidated now"
        );
    }

    /// Unconditional: whatever the value looks like by now, at worst it is loaded once more.
    async fn repair(&self, key: &RoutedKey) {
        let Some(cache) = self.parts.caches.first() else {
            return;
        };
        let ask = Invalidate {
            origin: Origin::Audit,
            ..Invalidate::keys(vec![key.clone()])
        };
        match cache.invalidate.ask(ask).await {
            Ok(Ok(_removed)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "a wrong value could not be invalidated"),
            Err(error) => tracing::warn!(%error, "a wrong value could not be invalidated"),
        }
    }
}

fn shown(key: &RoutedKey) -> String {
    String::from_utf8_lossy(&key.key).into_owned()
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
