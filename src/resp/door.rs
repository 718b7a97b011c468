//! What all connections of the door share.

use super::codec::Limits;
use super::patience::Patience;
use crate::audit::AuditHandle;
use crate::cache::{CacheHandle, Hit, L1};
use crate::config;
use crate::invalidation::InvalidationHandle;
use crate::keyspace::{KeyError, Reach, RoutedKey, Router, Scope};
use crate::lock::LockHandle;
use crate::password::Password;
use crate::plain::{self, PlainHandle};
use crate::rate_limit::{self, Decision, Denied, RateLimitHandle};
use crate::telemetry::Metrics;
use crate::warmup::WarmupHandle;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use tokio::sync::watch;

/// Lines that `INFO` adds under `# Cachewarden`, as `name:value`.
pub type InfoSource = Arc<dyn Fn() -> Vec<(String, String)> + Send + Sync>;

/// The actors that answer this door.
pub struct Asked {
    /// One a core.
    pub caches: Arc<[CacheHandle]>,
    pub invalidation: InvalidationHandle,
    pub l1: L1,
    pub audit: AuditHandle,
    /// One a core; none without a passthrough.
    pub plain: Arc<[PlainHandle]>,
    pub locks: LockHandle,
    pub rate_limits: RateLimits,
    /// `None`: no cache is warmed.
    pub warmup: Option<WarmupHandle>,
}

/// Who is asked about limits, and the names of those that are declared.
pub struct RateLimits {
    pub actor: RateLimitHandle,
    /// For errors only: whether a limit is declared, the actor says.
    pub names: watch::Receiver<Vec<String>>,
    /// The refusals that stand.
    pub denied: Denied,
}

impl RateLimits {
    /// The refusal that stands against a request of one limit; of several, and of what is wrong, the actor knows more.
    pub(super) fn refusal(&self, asked: &rate_limit::Asked) -> Option<Decision> {
        let name = std::str::from_utf8(&asked.limits).ok()?;
        let takes = asked.ask == rate_limit::Ask::Take;
        let refusal = self
            .denied
            .refusal(name, &asked.subject, asked.cost, takes)?;
        // What commands ask for by themselves is remembered as well, under names that nobody may use.
        (refusal.policy.name == name).then_some(refusal)
    }
}

/// A key that may be invalidated, and asked about.
pub(super) enum Named {
    /// Of a declared cache or namespace.
    Ours(RoutedKey),
    /// Another program's, under one of `invalidation.prefixes`.
    Foreign(Bytes),
}

/// What every connection needs: where keys lead, whom to ask, what is allowed.
pub struct Door {
    pub(super) router: Router,
    /// The names of the declared spaces, by id; and whether each is a cache.
    pub(super) spaces: Vec<(String, bool)>,
    /// Of the declared caches, by id: whether they save, and whether they delete.
    writes: Vec<(bool, bool)>,
    pub(super) caches: Arc<[CacheHandle]>,
    pub(super) invalidation: InvalidationHandle,
    /// None, if no cache uses it.
    l1: Option<L1>,
    pub(super) audit: AuditHandle,
    pub(super) plain: Arc<[PlainHandle]>,
    pub(super) rate_limits: RateLimits,
    pub(super) locks: LockHandle,
    pub(super) warmup: Option<WarmupHandle>,
    /// What can be invalidated by name.
    pub(super) scope: Scope,
    /// Keys that other programs cache by themselves: `invalidation.prefixes`.
    foreign: Reach,
    /// The channels that may be published on.
    pub(super) channels: Vec<String>,
    pub(super) password: Option<Password>,
    pub(super) limits: Limits,
    pub(super) patience: Patience,
    pub(super) max_connections: usize,
    pub(super) metrics: Metrics,
    pub(super) info: InfoSource,
    pub(super) since: Instant,
    clients: AtomicU64,
    sessions: AtomicU64,
}

impl Door {
    /// The door to the actors of `asked`.
    pub fn new(config: &config::Config, asked: Asked, metrics: Metrics, info: InfoSource) -> Self {
        let names = config.caches.iter().map(|cache| (cache.name.clone(), true));
        let namespaces = config.namespaces.iter();
        let spaces = names
            .chain(namespaces.map(|namespace| (namespace.name.clone(), false)))
            .collect();
        let writes = config.caches.iter().map(|cache| {
            let write = cache.write.as_ref();
            write.map_or((false, false), |write| {
                (write.save.is_some(), write.delete.is_some())
            })
        });
        Self {
            router: config.router(),
            spaces,
            writes: writes.collect(),
            caches: asked.caches,
            invalidation: asked.invalidation,
            l1: Some(asked.l1).filter(L1::is_used),
            audit: asked.audit,
            plain: asked.plain,
            rate_limits: asked.rate_limits,
            locks: asked.locks,
            warmup: asked.warmup,
            scope: config.scope(),
            foreign: Reach::new(config.invalidation.prefixes.iter().cloned()),
            channels: config.invalidation.channels(),
            password: config.resp.password.clone().map(Password::new),
            limits: Limits::new(config.resp.max_request),
            patience: Patience::default(),
            max_connections: config.resp.max_connections,
            metrics,
            info,
            since: Instant::now(),
            clients: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
        }
    }

    /// Tells `each` of these keys, in their order, whether L1 has an entry that may be read.
    pub(super) fn hits(
        &self,
        core: usize,
        keys: &[&[u8]],
        mut each: impl FnMut(&[u8], Option<Hit<'_>>),
    ) {
        match &self.l1 {
            Some(l1) => l1.hits(core, keys, Instant::now(), each),
            None => keys.iter().for_each(|key| each(key, None)),
        }
    }

    /// Whether a key is a plain one: of a passthrough.
    pub(super) fn is_plain(&self, key: &[u8]) -> bool {
        self.router.is_plain(key)
    }

    /// Whether a command of these words is passed on: all keys that it names are plain ones.
    pub(super) fn passes<'a>(
        &self,
        verb: plain::Verb,
        words: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        let (count, step) = verb.keys();
        let mut keys = words.take(count).step_by(step);
        !self.plain.is_empty() && keys.all(|key| self.is_plain(key))
    }

    pub(super) fn route(&self, key: &[u8]) -> Result<RoutedKey, KeyError> {
        let route = self.router.route(key)?;
        Ok(route.with_key(Bytes::copy_from_slice(key)))
    }

    /// The key of whoever's, ours or another program's.
    pub(super) fn named(&self, key: &[u8]) -> Result<Named, KeyError> {
        match self.route(key) {
            Err(KeyError::Undeclared { .. }) if self.foreign.covers(key) => {
                Ok(Named::Foreign(Bytes::copy_from_slice(key)))
            }
            routed => routed.map(Named::Ours),
        }
    }

    /// Whether the key is a declared cache's, and the name of its cache or namespace.
    pub(super) fn space(&self, key: &RoutedKey) -> (&str, bool) {
        self.spaces
            .get(usize::from(key.space.0))
            .map_or(("", false), |(name, is_cache)| (name.as_str(), *is_cache))
    }

    /// Whether the key's cache declares how values are saved.
    pub(super) fn saves(&self, key: &RoutedKey) -> bool {
        let writes = self.writes.get(usize::from(key.space.0));
        writes.is_some_and(|(saves, _)| *saves)
    }

    /// Whether the key's cache declares how rows are deleted.
    pub(super) fn deletes(&self, key: &RoutedKey) -> bool {
        let writes = self.writes.get(usize::from(key.space.0));
        writes.is_some_and(|(_, deletes)| *deletes)
    }

    pub(super) fn next_client(&self) -> u64 {
        self.clients.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number for a session of locks.
    pub(super) fn next_session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn clients_so_far(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }
}
