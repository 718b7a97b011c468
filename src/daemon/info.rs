//! What the daemon says of itself under `INFO`'s `# Cachewarden`.

use super::wiring::actor_name;
use crate::cache::{CacheHandle, L1};
use crate::repository::Repository;
use crate::resp::InfoSource;
use crate::store::Store;
use crate::supervisor::Health;
use crate::telemetry::Metrics;
use std::sync::Arc;

/// Every metric, every actor's state, and how Postgres is loaded.
pub(super) fn source(
    metrics: Metrics,
    caches: Arc<[CacheHandle]>,
    l1: L1,
    stores: Vec<Store>,
    repository: Option<Repository>,
    health: Health,
) -> InfoSource {
    Arc::new(move || {
        let redis_up = stores.iter().all(Store::is_up);
        let postgres_up = repository.as_ref().is_none_or(Repository::is_up);
        metrics.observe_targets(redis_up, postgres_up);
        l1.observe();
        let actors = health.snapshot();
        for actor in &actors {
            metrics.observe_restarts(&actor.name, actor.restarts);
        }
        for (shard, cache) in caches.iter().enumerate() {
            metrics.observe_mailbox(&actor_name(shard), cache.in_flight());
        }
        let mut lines = metrics.lines();
        if let Some(stats) = repository.as_ref().map(Repository::stats) {
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
        for (cache, keys) in repository.iter().flat_map(Repository::bearable) {
            let name = format!("postgres_bears{{cache=\"{cache}\"}}");
            lines.push((name, keys.to_string()));
        }
        for actor in actors {
            let state = format!("{:?}", actor.state).to_lowercase();
            lines.push((format!("actor_{}", actor.name), state));
        }
        lines
    })
}
