//! One pass: every declared key that Redis holds, compared with the database. Of any number of keys, a page at a time is
//! kept.

use super::check::{Checker, Verdict, Wrong};
use crate::cache::leases::Leases;
use crate::cache::{Scripts, Source, Spaces, Sweeps};
use crate::config::Config;
use crate::keyspace::{RoutedKey, Router};
use crate::repository::{Admission, QueryProblem, RepositoryError};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

/// Keys that Redis looks at for one page.
const PAGE: usize = 1000;
/// Keys of a cache compared together.
const TOGETHER: usize = 128;
/// Wrong keys that are shown, of those of each cache.
const MAX_EXAMPLES: usize = 5;
/// How long Redis has to be there at all.
const LONGEST_TO_CONNECT: Duration = Duration::from_secs(5);

/// Why a pass could not be made, or not be finished.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// Redis cannot be used, or was lost on the way.
    #[error("cannot audit without redis: {0}\nhint: start Redis, or check [redis] url")]
    Redis(#[from] StoreError),
    /// The URL of Postgres cannot be used.
    #[error("{0}")]
    Url(RepositoryError),
    /// Postgres cannot be used, or was lost on the way.
    #[error("cannot audit without postgres: {0}\nhint: start Postgres, or check [postgres] url")]
    Postgres(RepositoryError),
    /// The queue cannot be looked at, so nobody can tell what is still to be invalidated.
    #[error("{0}\nhint: are the watched tables installed? `cachewarden migrate` does that")]
    Queue(RepositoryError),
    /// Postgres refuses declared queries.
    #[error("postgres refuses {} of the declared queries", .0.len())]
    Queries(Vec<QueryProblem>),
}

/// How a pass is to go.
#[derive(Clone, Copy, Debug)]
pub struct PassOptions {
    /// Keys compared a second, at most.
    pub rate: u32,
    /// Whether what is wrong is invalidated.
    pub repair: bool,
}

/// How far a pass has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Keys of Redis looked at, of whatever kind.
    pub looked_at: u64,
    /// Keys that Redis held when the pass began.
    pub of: u64,
}

/// What came of the keys of one cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub cache: String,
    /// Values compared to the end.
    pub checked: u64,
    pub equal: u64,
    /// Values that are wrong though a watched table should have invalidated them.
    pub inconsistent: u64,
    /// Values that are wrong where no watched table tells.
    pub drift: u64,
    /// Keys that were gone, or filled anew, before they could be compared.
    pub gone: u64,
    /// Keys of which nothing can be said, such as those whose invalidation is queued.
    pub undecided: u64,
    /// Wrong values that were invalidated.
    pub repaired: u64,
    pub took: Duration,
}

/// A key whose value is wrong.
#[derive(Clone, Debug)]
pub struct Example {
    pub key: Bytes,
    pub cache: String,
    pub wrong: Wrong,
}

/// What a pass has found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// A cache each, in the order of the configuration.
    pub caches: Vec<Tally>,
    pub examples: Vec<Example>,
    /// Why keys are undecided, and how many.
    pub reasons: BTreeMap<&'static str, u64>,
    pub took: Duration,
}

/// A pass over the caches of one configuration, with connections of its own: it needs no daemon.
pub struct Pass {
    store: Store,
    keeper: JoinHandle<()>,
    router: Router,
    spaces: Spaces,
    checker: Checker,
    leases: Leases,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Pass {
    /// Connects to both servers, and sees that there is all that a pass needs. `None`: no cache is declared. Runs on
    /// `runtime`.
    ///
    /// # Errors
    /// See [`PassError`].
    pub async fn open(config: &Config, runtime: Handle) -> Result<Option<Self>, PassError> {
        let store = Store::siblings(&config.redis, 1)?.remove(0);
        let checker = Checker::new(config, store.clone(), Sweeps::default(), runtime.clone());
        let Some(checker) = checker
            .map_err(PassError::Url)?
            .filter(|_| !config.caches.is_empty())
        else {
            return Ok(None);
        };
        let pass = Self {
            keeper: runtime.spawn(store.clone().keep()),
            leases: Leases::new(store.clone(), Arc::new(Scripts::default())),
            store,
            router: config.router(),
            spaces: Spaces::of(&config.caches, &config.namespaces),
            checker,
        };
        pass.wait_for_redis().await?;
        pass.checker
            .prepare(!config.invalidation.watches.is_empty())
            .await?;
        Ok(Some(pass))
    }

    async fn wait_for_redis(&self) -> Result<(), StoreError> {
        let mut up = self.store.up();
        let there = tokio::time::timeout(LONGEST_TO_CONNECT, up.wait_for(|up| *up));
        // What it answers is a lock that the keeper needs: it goes at once.
        let is_there = there.await.is_ok();
        match is_there {
            true => Ok(()),
            // Asked once more by ourselves, for the reason.
            false => self.store.pin().await.map(drop),
        }
    }

    /// Walks through all keys. `told` hears after each page how far it is.
    ///
    /// # Errors
    /// When a server is lost; what was repaired by then stays so.
    pub async fn run(
        &self,
        options: PassOptions,
        mut told: impl FnMut(Progress),
    ) -> Result<Findings, PassError> {
        let begun = Instant::now();
        let mut found = Findings {
            caches: self.queried().map(tally_of).collect(),
            ..Findings::default()
        };
        let of = self.store.key_count().await?;
        let mut pace = Pace::new(options.rate);
        let (mut cursor, mut looked_at) = (0, 0);
        loop {
            let page = self.store.scan(cursor, PAGE).await?;
            looked_at += u64::try_from(page.keys.len()).unwrap_or(0);
            self.page(page.keys, options.repair, &mut pace, &mut found)
                .await?;
            told(Progress { looked_at, of });
            cursor = page.cursor;
            if cursor == 0 {
                break;
            }
        }
        self.checker.close().await;
        found.took = begun.elapsed();
        Ok(found)
    }

    /// Compares what is ours on a page.
    async fn page(
        &self,
        keys: Vec<Bytes>,
        repair: bool,
        pace: &mut Pace,
        found: &mut Findings,
    ) -> Result<(), PassError> {
        let mut by_cache: BTreeMap<usize, Vec<RoutedKey>> = BTreeMap::new();
        for key in keys {
            let Ok(route) = self.router.route(&key) else {
                continue;
            };
            if let Source::Query(cache) = self.spaces.get(route.space).source {
                by_cache.entry(cache).or_default().push(route.with_key(key));
            }
        }
        for (cache, mut keys) in by_cache {
            while !keys.is_empty() {
                let rest = keys.split_off(keys.len().min(pace.together));
                let together = std::mem::replace(&mut keys, rest);
                let turn = pace.turn(Instant::now(), together.len());
                tokio::time::sleep_until(turn.into()).await;
                self.compare(cache, together, repair, found).await?;
            }
        }
        Ok(())
    }

    async fn compare(
        &self,
        cache: usize,
        keys: Vec<RoutedKey>,
        repair: bool,
        found: &mut Findings,
    ) -> Result<(), PassError> {
        let begun = Instant::now();
        let checked = self.checker.check(keys, Admission::Wait).await?;
        self.checker.still_there(&checked)?;
        let mut doomed = Vec::new();
        for checked in checked {
            if let Verdict::Wrong(_) = checked.verdict {
                doomed.push(checked.key.key.clone());
            }
            found.add(cache, checked.key.key, checked.verdict);
        }
        if repair {
            self.leases.invalidate(&doomed).await?;
        }
        let Some(tally) = found.caches.get_mut(cache) else {
            return Ok(());
        };
        tally.took += begun.elapsed();
        if repair {
            tally.repaired += u64::try_from(doomed.len()).unwrap_or(0);
        }
        Ok(())
    }

    fn queried(&self) -> impl Iterator<Item = &str> {
        let queried = |space: &&crate::cache::Space| matches!(space.source, Source::Query(_));
        self.spaces
            .iter()
            .filter(queried)
            .map(|space| space.name.as_str())
    }
}

/// When the next keys may be compared.
struct Pace {
    /// Keys a second.
    rate: u32,
    /// Keys compared at once: no more than may be in a second.
    together: usize,
    next: Option<Instant>,
}

impl Pace {
    fn new(rate: u32) -> Self {
        let rate = rate.max(1);
        Self {
            rate,
            together: usize::try_from(rate).unwrap_or(TOGETHER).min(TOGETHER),
            next: None,
        }
    }

    /// When so many keys may be compared, if they come at `now`. Who was slow makes up for nothing.
    fn turn(&mut self, now: Instant, keys: usize) -> Instant {
        let turn = self.next.map_or(now, |next| next.max(now));
        let keys = u32::try_from(keys).unwrap_or(u32::MAX);
        self.next = Some(turn + Duration::from_secs(1) * keys / self.rate);
        turn
    }
}

fn tally_of(cache: &str) -> Tally {
    Tally {
        cache: cache.to_owned(),
        ..Tally::default()
    }
}

impl Findings {
    /// All caches together.
    pub fn total(&self) -> Tally {
        let mut total = tally_of("total");
        for tally in &self.caches {
            total.checked += tally.checked;
            total.equal += tally.equal;
            total.inconsistent += tally.inconsistent;
            total.drift += tally.drift;
            total.gone += tally.gone;
            total.undecided += tally.undecided;
            total.repaired += tally.repaired;
        }
        total.took = self.took;
        total
    }

    fn add(&mut self, cache: usize, key: Bytes, verdict: Verdict) {
        let Some(tally) = self.caches.get_mut(cache) else {
            return;
        };
        match verdict {
            Verdict::Gone => tally.gone += 1,
            Verdict::Undecided(why) => {
                tally.undecided += 1;
                *self.reasons.entry(why).or_default() += 1;
            }
            Verdict::Equal => {
                tally.checked += 1;
                tally.equal += 1;
            }
            Verdict::Wrong(wrong) => {
                tally.checked += 1;
                match wrong.watched {
                    true => tally.inconsistent += 1,
                    false => tally.drift += 1,
                }
                let cache = tally.cache.clone();
                let known = self
                    .examples
                    .iter()
                    .filter(|example| example.cache == cache);
                if known.count() < MAX_EXAMPLES {
                    self.examples.push(Example { key, cache, wrong });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_first_wait_until_those_before_them_have_had_their_time() {
        let (mut pace, begun) = (Pace::new(10), Instant::now());
        assert_eq!(pace.together, 10);
        let at = |pace: &mut Pace, ms: u64, keys| {
            let turn = pace.turn(begun + Duration::from_millis(ms), keys);
            turn.duration_since(begun).as_millis()
        };
        assert_eq!(at(&mut pace, 0, 10), 0);
        assert_eq!(at(&mut pace, 1, 5), 1000);
        assert_eq!(at(&mut pace, 1001, 1), 1500);
        assert_eq!(at(&mut pace, 9000, 1), 9000);
        assert_eq!(at(&mut pace, 9000, 1), 9100);
        assert_eq!(Pace::new(20_000).together, TOGETHER);
    }
}
