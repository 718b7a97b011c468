//! What the daemon says of itself: under `INFO`'s `# Cachewarden`, and on the page of metrics.

use super::wiring::{Running, actor_name};
use crate::cache::L1;
use crate::repository::Repository;
use crate::resp::InfoSource;
use crate::store::Store;
use crate::supervisor::{ActorHealth, Health};
use crate::telemetry::Metrics;
use std::sync::Arc;
use tokio::sync::watch;

/// How many requests an actor has taken and not answered yet.
type Depth = Box<dyn Fn() -> usize + Send + Sync>;

/// Where it is to be seen. What nobody counts as it happens is looked at when somebody asks.
pub(super) struct Seen {
    pub(super) metrics: Metrics,
    pub(super) health: Health,
    pub(super) stores: Vec<Store>,
    pub(super) repository: Option<Repository>,
    /// Whether the first runs of the warmup are over.
    pub(super) ready: watch::Receiver<bool>,
    l1: L1,
    mailboxes: Vec<(String, Depth)>,
}

impl Running {
    pub(super) fn seen(&self, stores: Vec<Store>) -> Arc<Seen> {
        Arc::new(Seen {
            metrics: self.metrics.clone(),
            health: self.health(),
            stores,
            repository: self.repository.clone(),
            ready: self.ready.clone(),
            l1: self.l1.clone(),
            mailboxes: self.mailboxes(),
        })
    }

    /// Of every actor that is asked anything.
    fn mailboxes(&self) -> Vec<(String, Depth)> {
        let mut mailboxes: Vec<(String, Depth)> = Vec::new();
        let mut add = |name: String, depth: Depth| mailboxes.push((name, depth));
        for (shard, cache) in self.caches.iter().cloned().enumerate() {
            add(actor_name(shard), Box::new(move || cache.in_flight()));
        }
        for (core, plain) in self.plain.iter().cloned().enumerate() {
            add(
                format!("plain-{core}"),
                Box::new(move || plain.pass.in_flight()),
            );
        }
        let invalidation = self.invalidation.clone();
        add(
            "invalidation".to_owned(),
            Box::new(move || invalidation.in_flight()),
        );
        let (audit, locks) = (self.audit.clone(), self.locks.clone());
        add(
            "audit".to_owned(),
            Box::new(move || audit.explain.in_flight()),
        );
        add("lock".to_owned(), Box::new(move || locks.in_flight()));
        let limits = self.reloading.rate_limits().actor;
        add(
            "rate-limit".to_owned(),
            Box::new(move || limits.in_flight()),
        );
        if let Some(warmup) = self.warmup.clone() {
            add("warmup".to_owned(), Box::new(move || warmup.in_flight()));
        }
        mailboxes
    }
}

/// The lines of `INFO`.
pub(super) fn source(seen: Arc<Seen>) -> InfoSource {
    Arc::new(move || seen.lines())
}

impl Seen {
    /// The page of metrics.
    pub(super) fn page(&self) -> String {
        self.look();
        self.metrics.render()
    }

    /// Every metric, every actor's state, and how Postgres is loaded.
    pub(super) fn lines(&self) -> Vec<(String, String)> {
        let actors = self.look();
        let mut lines = self.metrics.lines();
        if let Some(stats) = self.repository.as_ref().map(Repository::stats) {
            lines.extend([
                (
                    "postgres_statements".to_owned(),
                    stats.statements.to_string(),
                ),
                (
                    "postgres_statements_running".to_owned(),
                    stats.running.to_string(),
                ),
                ("postgres_writes".to_owned(), stats.writes.to_string()),
                (
                    "postgres_writes_failed".to_owned(),
                    stats.writes_failed.to_string(),
                ),
                (
                    "postgres_keys_waiting".to_owned(),
                    stats.waiting.to_string(),
                ),
            ]);
        }
        for (cache, keys) in self.repository.iter().flat_map(Repository::bearable) {
            let name = format!("postgres_bears{{cache=\"{cache}\"}}");
            lines.push((name, keys.to_string()));
        }
        for actor in actors {
            let state = format!("{:?}", actor.state).to_lowercase();
            lines.push((format!("actor_{}", actor.name), state));
        }
        lines
    }

    /// Brings what is only looked at up to now.
    fn look(&self) -> Vec<ActorHealth> {
        let redis_up = self.stores.iter().all(Store::is_up);
        let postgres_up = self.repository.as_ref().is_none_or(Repository::is_up);
        self.metrics.observe_targets(redis_up, postgres_up);
        self.l1.observe();
        let actors = self.health.snapshot();
        for actor in &actors {
            self.metrics.observe_restarts(&actor.name, actor.restarts);
        }
        for (actor, depth) in &self.mailboxes {
            self.metrics.observe_mailbox(actor, depth());
        }
        actors
    }
}
