//! What all requests of the door share.

use crate::audit::AuditHandle;
use crate::cache::CacheHandle;
use crate::config::{self, Config};
use crate::invalidation::InvalidationHandle;
use crate::keyspace::{KeyError, RoutedKey, Router, Scope};
use crate::lock::LockHandle;
use crate::password::Password;
use crate::rate_limit::RateLimitHandle;
use crate::warmup::WarmupHandle;
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The actors that answer this door.
pub struct Asked {
    /// One a core.
    pub caches: Arc<[CacheHandle]>,
    pub invalidation: InvalidationHandle,
    pub audit: AuditHandle,
    pub locks: LockHandle,
    pub rate_limit: RateLimitHandle,
    /// `None`: no cache is warmed.
    pub warmup: Option<WarmupHandle>,
}

/// Why the daemon is not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// An actor's name, `redis`, `postgres`, `queue`, `proof`, `warmup` or `migrations`.
    pub what: String,
    /// For people.
    pub detail: String,
}

/// What the daemon says of itself, as of now.
pub struct Told {
    /// The page of metrics, in the format of OpenMetrics.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// The lines of `INFO`, name and value.
    pub lines: Box<dyn Fn() -> Vec<(String, String)> + Send + Sync>,
    /// None: it is ready.
    pub unready: Box<dyn Fn() -> Vec<Reason> + Send + Sync>,
}

/// Where keys lead, whom to ask, and who may.
pub struct Door {
    router: Router,
    /// The names of the declared spaces, by id.
    spaces: Vec<String>,
    /// Of the declared caches, by id: whether they save, and whether they delete.
    writes: Vec<(bool, bool)>,
    pub(super) scope: Scope,
    pub(super) asked: Asked,
    pub(super) told: Told,
    pub(super) token: Option<Password>,
    /// Names of this machine, beside addresses and `localhost`.
    pub(super) hosts: Vec<String>,
    next: AtomicUsize,
}

impl Door {
    /// The door of `[http]`, in front of these actors.
    pub fn new(config: &Config, http: &config::Http, asked: Asked, told: Told) -> Self {
        let caches = config.caches.iter().map(|cache| cache.name.clone());
        let namespaces = config.namespaces.iter().map(|space| space.name.clone());
        let writes = config.caches.iter().map(|cache| match &cache.write {
            Some(write) => (write.save.is_some(), write.delete.is_some()),
            None => (false, false),
        });
        Self {
            router: config.router(),
            spaces: caches.chain(namespaces).collect(),
            writes: writes.collect(),
            scope: config.scope(),
            asked,
            told,
            token: http.token.clone().map(Password::new),
            hosts: http.hosts.clone(),
            next: AtomicUsize::new(0),
        }
    }

    pub(super) fn route(&self, key: &str) -> Result<RoutedKey, KeyError> {
        let route = self.router.route(key.as_bytes())?;
        Ok(route.with_key(Bytes::copy_from_slice(key.as_bytes())))
    }

    /// The name of the key's cache or namespace.
    pub(super) fn space(&self, key: &RoutedKey) -> &str {
        let space = self.spaces.get(usize::from(key.space.0));
        space.map_or("", String::as_str)
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

    /// The cache actors in turn; any of them can answer anything.
    pub(super) fn cache(&self) -> &CacheHandle {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.asked.caches[next % self.asked.caches.len()]
    }
}
