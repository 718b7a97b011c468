//! Compares cached values with the database, and tells a value that is wrong from one that is about to be invalidated.
//!
//! For a watched key this is no matter of waiting long enough:
//! 1. Redis holds value V, which expires at E.
//! 2. A statement that starts afterwards finds D in the database, and D is not V. Some transaction made the difference, and
//!    has committed; in that same transaction it has put a row into the queue of invalidations.
//! 3. The rows that lie in the queue after that are awaited. Rows leave it only when all that they name is gone from Redis,
//!    so the row of 2 has either been applied before, or is among them.
//! 4. Redis still holds V, which expires at E. Then it outlived the invalidation that the commit owed it, or none was owed,
//!    and that is wrong, too.
//!
//! A value that was filled in between expires at another time than E, even if its bytes are V's.

use super::compare::is_same;
use super::look::{Life, Look, Looking};
use super::origins::Origins;
use super::pass::PassError;
use crate::cache::{Source, Spaces, Sweeps};
use crate::config::{self, Config};
use crate::keyspace::RoutedKey;
use crate::repository::{Admission, PendingChanges, Repository, RepositoryError};
use crate::store::{Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Handle;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// Why a key is undecided whose row could not be read.
const NOT_LOADED: &str = "postgres did not load it";
/// Why a key is undecided that holds something else than a text. Reads load it anew, and replace what is there.
const NO_VALUE: &str = "no value lies there, but something of another program";
/// Queued changes waited for at once; more of them are a backlog, and nothing is called wrong before that is gone.
const MAX_AWAITED: usize = 1000;
/// How long they are awaited: many times what an invalidation takes.
const PATIENCE: Duration = Duration::from_secs(2);
/// Connections that load: live reads have others.
const CONNECTIONS: usize = 1;
/// Between two looks at the queue: the first, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// What came of one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The cache says what the database says.
    Equal,
    /// There is no value any more, or another one by now.
    Gone,
    /// Nothing can be said, and why.
    Undecided(&'static str),
    /// The value is not what the database says.
    Wrong(Wrong),
}

/// What is known of a wrong value: enough to look into it, and nothing of what it says.
#[derive(Clone, Debug, PartialEq)]
pub struct Wrong {
    /// Whether a change would have invalidated it. If not, it is drift: it ends when the value's life does.
    pub watched: bool,
    /// Hashes of the cached value, and of the database's (`None`: no row).
    pub cached: u64,
    pub stored: Option<u64>,
    /// Time since it was filled; `None`: it has no expiry, so nobody knows.
    pub age: Option<Duration>,
    /// What was left of its life.
    pub left: Option<Duration>,
}

/// One key, and what came of it.
#[derive(Clone, Debug)]
pub struct Checked {
    pub key: RoutedKey,
    pub verdict: Verdict,
}

/// Compares keys of declared caches with the database. Cheap to clone.
#[derive(Clone)]
pub struct Checker {
    store: Store,
    repository: Repository,
    pending: PendingChanges,
    spaces: Spaces,
    origins: Arc<Origins>,
    /// Announced sweeps: what they match is on its way out.
    sweeps: Sweeps,
    looking: Arc<Looking>,
}

/// A value that was not what the database says.
struct Suspect {
    key: RoutedKey,
    /// Of the whole value, to know it again.
    print: u128,
    life: Life,
    wrong: Wrong,
}

impl Checker {
    /// A checker over `store`, with connections to Postgres of its own; `None`: no database is declared.
    ///
    /// # Errors
    /// If the URL of Postgres cannot be used.
    pub fn new(
        config: &Config,
        store: Store,
        sweeps: Sweeps,
        runtime: Handle,
    ) -> Result<Option<Self>, RepositoryError> {
        let Some(postgres) = &config.postgres else {
            return Ok(None);
        };
        let own = config::Postgres {
            pool_size: CONNECTIONS,
            ..postgres.clone()
        };
        Ok(Some(Self {
            store,
            repository: Repository::new(&own, &config.caches, runtime.clone())?,
            pending: PendingChanges::new(postgres, runtime)?,
            spaces: Spaces::of(&config.caches, &config.namespaces),
            origins: Arc::new(Origins::of(config)),
            sweeps,
            looking: Arc::default(),
        }))
    }

    /// Sees that every declared query can be asked, and, if tables are watched (`watches`), that the queue can be looked at.
    ///
    /// # Errors
    /// If one of them cannot.
    pub(super) async fn prepare(&self, watches: bool) -> Result<(), PassError> {
        let problems = self.repository.check().await;
        let problems = problems.map_err(PassError::Postgres)?;
        if !problems.is_empty() {
            return Err(PassError::Queries(problems));
        }
        if watches {
            let looked = self.pending.naming(&[], 1).await;
            looked.map_err(PassError::Queue)?;
        }
        Ok(())
    }

    /// Tells a Postgres that is away from one that refuses some keys.
    pub(super) fn still_there(&self, checked: &[Checked]) -> Result<(), PassError> {
        let not_loaded = |checked: &Checked| checked.verdict == Verdict::Undecided(NOT_LOADED);
        if self.repository.is_up() || !checked.iter().any(not_loaded) {
            return Ok(());
        }
        let lost = RepositoryError::Connect("it was lost on the way".to_owned());
        Err(PassError::Postgres(lost))
    }

    /// Refuses further loads, and returns when none runs.
    pub async fn close(&self) {
        self.repository.close().await;
    }

    /// Checks keys, at most 128 of them count as one exchange; `admission` says whether loads wait for others of their
    /// cache.
    ///
    /// # Errors
    /// If Redis does not answer. Of Postgres' errors each concerns its own keys.
    pub async fn check(
        &self,
        keys: Vec<RoutedKey>,
        admission: Admission,
    ) -> Result<Vec<Checked>, StoreError> {
        let (mut checked, mut suspects) = (Vec::new(), Vec::new());
        let mut rest = keys;
        while !rest.is_empty() {
            let names: Vec<&Bytes> = rest.iter().map(|key| &key.key).collect();
            let looks = self.looking.first(&self.store, &names).await?;
            let behind = rest.split_off(looks.len().clamp(1, rest.len()));
            let looked = std::mem::replace(&mut rest, behind).into_iter().zip(looks);
            let (done, doubted) = self.compare(looked, admission).await;
            checked.extend(done);
            suspects.extend(doubted);
        }
        checked.extend(self.confirm(suspects).await?);
        Ok(checked)
    }

    /// Reads the database's side of what was looked at.
    async fn compare(
        &self,
        looked: impl Iterator<Item = (RoutedKey, Look)>,
        admission: Admission,
    ) -> (Vec<Checked>, Vec<Suspect>) {
        let (mut checked, mut suspects) = (Vec::new(), Vec::new());
        let mut by_cache: BTreeMap<usize, Vec<(RoutedKey, Bytes, Life)>> = BTreeMap::new();
        for (key, look) in looked {
            match (look.value, self.spaces.get(key.space).source) {
                (Some(value), Source::Query(cache)) => {
                    let held = (key, value, look.life);
                    by_cache.entry(cache).or_default().push(held);
                }
                _ => {
                    let verdict = match look.is_no_value {
                        true => Verdict::Undecided(NO_VALUE),
                        false => Verdict::Gone,
                    };
                    checked.push(Checked { key, verdict });
                }
            }
        }
        for (cache, held) in by_cache {
            let keys = held.iter().map(|(key, ..)| key.clone()).collect();
            let answers = self.repository.load(cache, keys, admission).await;
            for ((key, value, life), answer) in held.into_iter().zip(answers) {
                let verdict = match answer {
                    Ok(stored) if is_same(&value, stored.as_deref()) => Verdict::Equal,
                    Ok(stored) => {
                        let suspect = self.suspect(key, &value, life, stored.as_deref());
                        suspects.push(suspect);
                        continue;
                    }
                    Err(error) => {
                        tracing::debug!(%error, "a cached value could not be compared");
                        Verdict::Undecided(NOT_LOADED)
                    }
                };
                checked.push(Checked { key, verdict });
            }
        }
        (checked, suspects)
    }

    fn suspect(&self, key: RoutedKey, value: &[u8], life: Life, stored: Option<&[u8]>) -> Suspect {
        let space = self.spaces.get(key.space);
        let age = life.left.map(|left| space.age(&key.key, value, left));
        let wrong = Wrong {
            watched: self.origins.is_watched(&key.key),
            cached: xxh3_64(value),
            stored: stored.map(xxh3_64),
            age,
            left: life.left,
        };
        Suspect {
            key,
            print: xxh3_128(value),
            life,
            wrong,
        }
    }

    /// Waits for what the queue owes the suspects, and looks at them again.
    async fn confirm(&self, suspects: Vec<Suspect>) -> Result<Vec<Checked>, StoreError> {
        let watched = suspects.iter().filter(|suspect| suspect.wrong.watched);
        let prefixes: Vec<String> = watched.map(|suspect| prefix_of(&suspect.key.key)).collect();
        let owed = match prefixes.is_empty() {
            true => Ok(Settled::Yes),
            false => self.settle(&prefixes).await,
        };
        let owed = owed.unwrap_or_else(|error| {
            tracing::debug!(%error, "not known which invalidations are under way");
            Settled::No("the queue of invalidations could not be looked at")
        });
        let mut checked = Vec::with_capacity(suspects.len());
        let mut rest = suspects;
        while !rest.is_empty() {
            let names: Vec<&Bytes> = rest.iter().map(|suspect| &suspect.key.key).collect();
            let asked = Instant::now();
            let looks = self.looking.first(&self.store, &names).await?;
            let behind = rest.split_off(looks.len().clamp(1, rest.len()));
            for (suspect, look) in std::mem::replace(&mut rest, behind).into_iter().zip(looks) {
                let verdict = self.verdict(&suspect, &look, owed, asked);
                let key = suspect.key;
                checked.push(Checked { key, verdict });
            }
        }
        Ok(checked)
    }

    fn verdict(&self, suspect: &Suspect, look: &Look, owed: Settled, asked: Instant) -> Verdict {
        let value = look.value.as_deref();
        let is_there = value.is_some_and(|value| xxh3_128(value) == suspect.print)
            && look.life.is_same(suspect.life);
        match owed {
            _ if !is_there => Verdict::Gone,
            _ if look.lease.is_some() => Verdict::Undecided("it is being loaded"),
            _ if self.sweeps.doubts(&suspect.key.key, asked) => {
                Verdict::Undecided("it is being swept")
            }
            Settled::No(why) if suspect.wrong.watched => Verdict::Undecided(why),
            _ => Verdict::Wrong(suspect.wrong.clone()),
        }
    }

    /// Waits until every change that is queued now, and could concern keys under `prefixes`, was applied.
    async fn settle(&self, prefixes: &[String]) -> Result<Settled, RepositoryError> {
        let end = Instant::now() + PATIENCE;
        let mut ids = self.pending.naming(prefixes, MAX_AWAITED).await?;
        if ids.len() >= MAX_AWAITED {
            return Ok(Settled::No("too many invalidations are queued"));
        }
        let mut pause = FIRST_PAUSE;
        while !ids.is_empty() {
            if Instant::now() >= end {
                return Ok(Settled::No("its invalidation may be queued"));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            ids = self.pending.left(&ids).await?;
        }
        Ok(Settled::Yes)
    }
}

/// Whether all invalidations that were under way have been applied.
#[derive(Clone, Copy)]
enum Settled {
    Yes,
    No(&'static str),
}

/// What stands up to and including the first `:`; whatever names a key begins with it.
fn prefix_of(key: &[u8]) -> String {
    let end = key.iter().position(|byte| *byte == b':');
    let prefix = &key[..end.map_or(0, |at| at + 1)];
    String::from_utf8_lossy(prefix).into_owned()
}
