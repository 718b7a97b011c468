//! The handle by which programs, and the binary itself, start, use and stop a daemon.

use super::error::{StartError, WardenError};
use super::main_thread;
use super::reload::Reloading;
use super::status::Vitals;
use super::web::Addresses;
use super::wiring::STOP_DEADLINE;
use crate::cache::{
    CacheError, CacheHandle, Found, GetOrLoad, Hit, Invalidate, L1, Loader, Origin, Put, Read,
    Scripts,
};
use crate::config::Config;
use crate::invalidation::{InvalidateTargets, InvalidationHandle};
use crate::keyspace::{KeyError, RoutedKey, Router, Scope, Targets};
use crate::lock::{Held, Leader, LockHandle, Locking};
use crate::plain::PlainHandle;
use crate::rate_limit::RateLimitHandle;
use crate::resp::Passed;
use crate::supervisor::Health;
use crate::warmup::WarmupHandle;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};

/// Keys one call of `mget`, `mset` or `invalidate` takes at most.
const MAX_KEYS: usize = 10_000;

/// How a daemon ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As asked, everything finished.
    Stopped,
    /// As asked, but these were still running at the deadline.
    Late { names: Vec<String> },
    /// An actor could not be kept running.
    GaveUp { reason: String },
}

/// A running daemon. Cheap to clone; the daemon stops when [`Warden::stop`] is called or the last clone is dropped.
#[derive(Clone)]
pub struct Warden(pub(super) Arc<Inner>);

pub(super) struct Inner {
    router: Router,
    scope: Scope,
    invalidation: InvalidationHandle,
    caches_declared: usize,
    caches: Arc<[CacheHandle]>,
    l1: L1,
    plain: Arc<[PlainHandle]>,
    locks: LockHandle,
    lock_ttl: Duration,
    pub(super) rate_limit: RateLimitHandle,
    pub(super) warmup: Option<WarmupHandle>,
    pub(super) ready: watch::Receiver<bool>,
    next: AtomicUsize,
    pub(super) addresses: Addresses,
    pub(super) vitals: Vitals,
    health: Health,
    pub(super) reloading: Arc<Reloading>,
    /// One message begins the stop, a second one hurries it; a closed channel is a stop, too.
    stop: mpsc::Sender<Duration>,
    ended: watch::Receiver<Option<Ended>>,
}

impl Warden {
    /// Starts a daemon on threads of its own: actors, connections, and the doors of `[resp]`. It is ready: what is to be warm by
    /// then has been warmed.
    ///
    /// # Errors
    /// See [`StartError`]. Servers that are away are none: the daemon starts and comes to use them.
    pub async fn start(config: Config) -> Result<Warden, StartError> {
        let warden = Self::launch(config).await?;
        warden.ready().await;
        Ok(warden)
    }

    /// The same, returning as soon as the doors are open; [`Warden::ready`] waits for the rest.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn launch(config: Config) -> Result<Warden, StartError> {
        Self::start_with_scripts(config, Scripts::default()).await
    }

    /// The same, over sockets that listen already where `[resp] listen` says; what is not among them is bound.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn launch_on(passed: Passed, config: Config) -> Result<Warden, StartError> {
        Self::begin(config, Scripts::default(), passed).await
    }

    /// For tests that take a safeguard away; see [`Scripts::with_end`].
    #[doc(hidden)]
    pub async fn start_with_scripts(
        config: Config,
        scripts: Scripts,
    ) -> Result<Warden, StartError> {
        Self::begin(config, scripts, Passed::default()).await
    }

    async fn begin(config: Config, scripts: Scripts, passed: Passed) -> Result<Warden, StartError> {
        let (router, scope) = (config.router(), config.scope());
        let caches_declared = config.caches.len();
        let lock_ttl = config.locks.default_ttl;
        let (started, stop, ended) = main_thread::start(config, scripts, passed).await?;
        Ok(Warden(Arc::new(Inner {
            router,
            scope,
            invalidation: started.invalidation,
            caches_declared,
            caches: started.caches,
            l1: started.l1,
            plain: started.plain,
            locks: started.locks,
            lock_ttl,
            rate_limit: started.rate_limit,
            warmup: started.warmup,
            ready: started.ready,
            next: AtomicUsize::new(0),
            addresses: started.addresses,
            vitals: started.vitals,
            health: started.health,
            reloading: started.reloading,
            stop,
            ended,
        })))
    }

    /// The value of a key as `T`, loaded if it is not cached; `None` if there is no such row.
    ///
    /// # Errors
    /// See [`WardenError`].
    pub async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, WardenError> {
        let mut found = self.read(&[key]).await?;
        let found = found.pop().unwrap_or(Err(CacheError::Restarted))?;
        decode(key, found)
    }

    /// The values of many keys, in their order; those of one cache that are not cached are loaded by one query.
    ///
    /// # Errors
    /// See [`WardenError`]; the first key that fails decides.
    pub async fn mget<T: DeserializeOwned>(
        &self,
        keys: &[&str],
    ) -> Result<Vec<Option<T>>, WardenError> {
        let found = self.read(keys).await?;
        keys.iter()
            .zip(found)
            .map(|(key, found)| decode(key, found?))
            .collect()
    }

    /// The value of a key of a namespace; if it is not there, `loader` makes it, once in the whole fleet however many ask.
    ///
    /// `life` replaces the namespace's `ttl`. The loader is called again if an invalidation made its first result
    /// outdated before it could be stored; it must read its sources anew each time.
    ///
    /// # Errors
    /// See [`WardenError`]; a loader's own error is [`CacheError::Loader`].
    pub async fn get_or_load<T, F, Fut>(
        &self,
        key: &str,
        life: impl Into<Option<Duration>>,
        loader: F,
    ) -> Result<Option<T>, WardenError>
    where
        T: Serialize + DeserializeOwned,
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<T>, String>> + Send + 'static,
    {
        let routed = self.namespaced(key)?;
        let loader = Loader::new(move || {
            let loading = loader();
            async move {
                let value = loading.await?;
                let encoded = value.map(|value| serde_json::to_vec(&value)).transpose();
                encoded
                    .map(|bytes| bytes.map(Bytes::from))
                    .map_err(|error| error.to_string())
            }
        });
        let ask = GetOrLoad {
            key: routed,
            life: life.into(),
            loader,
        };
        decode(key, self.actor().get_or_load.ask(ask).await??)
    }

    /// Stores a value under a key of a namespace; `life` replaces the namespace's `ttl`.
    ///
    /// # Errors
    /// See [`WardenError`].
    pub async fn set<T: Serialize>(
        &self,
        key: &str,
        value: &T,
        life: impl Into<Option<Duration>>,
    ) -> Result<(), WardenError> {
        self.mset(&[(key, value)], life).await
    }

    /// Stores many values under keys of namespaces.
    ///
    /// # Errors
    /// See [`WardenError`]; some of the values may have been stored.
    pub async fn mset<T: Serialize>(
        &self,
        values: &[(&str, T)],
        life: impl Into<Option<Duration>>,
    ) -> Result<(), WardenError> {
        within_limit(values.len())?;
        let life = life.into();
        let values: Result<Vec<_>, WardenError> = values
            .iter()
            .map(|(key, value)| {
                let bytes = serde_json::to_vec(value).map_err(|why| WardenError::Encode {
                    key: (*key).to_owned(),
                    why: Arc::new(why),
                })?;
                Ok((self.namespaced(key)?, Bytes::from(bytes), life))
            })
            .collect();
        let put = Put { values: values? };
        Ok(self.actor().put.ask(put).await??)
    }

    /// Invalidates keys, and whatever matches patterns: what holds `*`, `?`, `[` or `\` is a pattern, a Redis glob. Returns,
    /// once acknowledged, how many values were cached.
    ///
    /// # Errors
    /// See [`WardenError`]; some of it may have been invalidated.
    pub async fn invalidate(&self, keys: &[&str]) -> Result<u64, WardenError> {
        within_limit(keys.len())?;
        let mut targets = Targets::default();
        for key in keys {
            self.0.scope.add(key.as_bytes(), &mut targets)?;
        }
        if targets.patterns.is_empty() && targets.others.is_empty() {
            let ask = Invalidate::keys(targets.keys);
            return Ok(self.actor().invalidate.ask(ask).await??);
        }
        let origin = Origin::Command;
        let ask = InvalidateTargets { targets, origin };
        let answer = self.0.invalidation.invalidate.ask(ask).await?;
        answer.map_err(|error| WardenError::Cache(error.into_cache()))
    }

    /// Runs `work` under the lock `name`, which one at a time holds in the whole fleet: acquired within three tries, renewed
    /// while the work goes on, and released when that returns, panics or is dropped. `ttl` replaces `locks.default_ttl`: how
    /// long it takes until another may have the lock if this process dies. What `work` is given has the fencing token, and
    /// tells when the lock is lost.
    ///
    /// # Errors
    /// [`WardenError::Lock`], if the lock cannot be had. `work` was not called then.
    pub async fn with_lock<T, F, Fut>(
        &self,
        name: &str,
        ttl: impl Into<Option<Duration>>,
        work: F,
    ) -> Result<T, WardenError>
    where
        F: FnOnce(Held) -> Fut,
        Fut: Future<Output = T>,
    {
        let locking = self.lock(name);
        let locking = match ttl.into() {
            Some(ttl) => locking.ttl(ttl),
            None => locking,
        };
        Ok(locking.run(work).await?)
    }

    /// The same, to be said more precisely: beside whom, how long to wait, how often to try.
    pub fn lock(&self, name: &str) -> Locking {
        Locking::new(self.0.locks.clone(), name, self.0.lock_ttl)
    }

    /// Campaigns to be the one of all who do so under this name that leads, until what is returned is dropped.
    pub fn lead(&self, name: &str, ttl: impl Into<Option<Duration>>) -> Leader {
        let ttl = ttl.into().unwrap_or(self.0.lock_ttl);
        Leader::campaign(self.0.locks.clone(), name, ttl)
    }

    /// The handles of the lock actor: for programs and tests that send messages themselves.
    pub fn locks(&self) -> &LockHandle {
        &self.0.locks
    }

    /// The handles of the invalidation actor: for programs and tests that send messages themselves.
    pub fn invalidation(&self) -> &InvalidationHandle {
        &self.0.invalidation
    }

    /// The handles of the cache actors, one a core: for programs and tests that send messages themselves.
    pub fn caches(&self) -> &[CacheHandle] {
        &self.0.caches
    }

    /// The handles of the plain actors, one a core, if a passthrough is declared: for programs and tests that send messages
    /// themselves.
    pub fn plain(&self) -> &[PlainHandle] {
        &self.0.plain
    }

    /// A key with its space and parameters, as messages carry it.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn route(&self, key: &str) -> Result<RoutedKey, KeyError> {
        let route = self.0.router.route(key.as_bytes())?;
        Ok(route.with_key(Bytes::copy_from_slice(key.as_bytes())))
    }

    /// The state of every actor.
    pub fn health(&self) -> Health {
        self.0.health.clone()
    }

    /// Stops the daemon: doors close, what was read is answered, actors finish.
    pub async fn stop(&self) -> Ended {
        self.stop_within(STOP_DEADLINE).await
    }

    /// Stops the daemon within `deadline`. A second call hurries it: what is still running is dropped.
    pub async fn stop_within(&self, deadline: Duration) -> Ended {
        // Full or closed: it is being hurried, or over.
        let _already = self.0.stop.try_send(deadline);
        self.ended().await
    }

    /// Waits until the daemon has ended, for whatever reason.
    pub async fn ended(&self) -> Ended {
        let mut ended = self.0.ended.clone();
        let end = ended.wait_for(Option::is_some).await;
        end.ok()
            .and_then(|end| end.clone())
            .unwrap_or_else(|| Ended::GaveUp {
                reason: "the main thread panicked".to_owned(),
            })
    }

    async fn read(&self, keys: &[&str]) -> Result<Vec<Result<Found, CacheError>>, WardenError> {
        let routed = self.route_all(keys)?;
        let shard = self.shard();
        let now = Instant::now();
        let known = |key: &RoutedKey| {
            self.0
                .l1
                .hit(shard, &key.key, now, |hit: &Hit<'_>| hit.found())
        };
        let known: Vec<Option<Found>> = routed.iter().map(known).collect();
        let rest = routed.into_iter().zip(&known);
        let rest: Arc<[_]> = rest
            .filter(|(_, known)| known.is_none())
            .map(|(key, _)| key)
            .collect();
        let mut rest = if rest.is_empty() {
            Vec::new()
        } else {
            let read = Read {
                keys: rest,
                with_age: false,
            };
            self.0.caches[shard].read.ask(read).await?
        }
        .into_iter();
        let answers = known.into_iter().map(|known| match known {
            Some(found) => Ok(found),
            None => rest.next().unwrap_or(Err(CacheError::Restarted)),
        });
        Ok(answers.collect())
    }

    pub(super) fn route_all(&self, keys: &[&str]) -> Result<Vec<RoutedKey>, WardenError> {
        within_limit(keys.len())?;
        let routed: Result<_, KeyError> = keys.iter().map(|key| self.route(key)).collect();
        Ok(routed?)
    }

    fn namespaced(&self, key: &str) -> Result<RoutedKey, WardenError> {
        let routed = self.route(key)?;
        if usize::from(routed.space.0) < self.0.caches_declared {
            return Err(WardenError::NotANamespace {
                key: key.to_owned(),
            });
        }
        Ok(routed)
    }

    /// The actors in turn; any of them can answer anything.
    pub(super) fn actor(&self) -> &CacheHandle {
        &self.0.caches[self.shard()]
    }

    fn shard(&self) -> usize {
        self.0.next.fetch_add(1, Ordering::Relaxed) % self.0.caches.len()
    }
}

pub(super) fn within_limit(given: usize) -> Result<(), WardenError> {
    if given > MAX_KEYS {
        let limit = MAX_KEYS;
        return Err(WardenError::TooMany { given, limit });
    }
    Ok(())
}

fn decode<T: DeserializeOwned>(key: &str, found: Found) -> Result<Option<T>, WardenError> {
    let decoded = found.value.map(|value| serde_json::from_slice(&value));
    decoded.transpose().map_err(|why| WardenError::Decode {
        key: key.to_owned(),
        wanted: std::any::type_name::<T>(),
        why: Arc::new(why),
    })
}
