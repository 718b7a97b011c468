//! How a daemon is, for whoever watches it, and whether its servers are there.

use super::database;
use super::error::StartError;
use super::warden::Warden;
use super::wiring::Running;
use crate::config::{Config, Listen};
use crate::repository::Repository;
use crate::store::Store;
use crate::telemetry::Metrics;

/// How a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Declared caches.
    pub caches: usize,
    /// Watched tables.
    pub watches: usize,
    /// Where it listens, as `[resp] listen` spells it.
    pub listens: Vec<String>,
    /// Open connections of clients.
    pub connections: i64,
    /// Writes that are acknowledged and not in the database yet.
    pub writes_waiting: i64,
    /// Names of servers that were not there when they were last needed.
    pub away: Vec<&'static str>,
}

/// Where that is looked up.
pub(super) struct Vitals {
    config: Config,
    metrics: Metrics,
    stores: Vec<Store>,
    repository: Option<Repository>,
    listens: Vec<String>,
}

impl Running {
    pub(super) fn vitals(&self, config: Config) -> Vitals {
        let tcp = self.addresses.resp.iter().map(ToString::to_string);
        let unix = config.resp.listen.iter().filter_map(|listen| match listen {
            Listen::Tcp(_) => None,
            Listen::Unix(path) => Some(format!("unix:{}", path.display())),
        });
        Vitals {
            listens: tcp.chain(unix).collect(),
            metrics: self.metrics.clone(),
            stores: self.stores.clone(),
            repository: self.repository.clone(),
            config,
        }
    }
}

impl Vitals {
    fn away(&self) -> Vec<&'static str> {
        let redis = self.stores.iter().all(Store::is_up);
        let postgres = self.repository.as_ref().is_none_or(Repository::is_up);
        let servers = [("redis", redis), ("postgres", postgres)];
        let away = servers.into_iter().filter(|(_, is_up)| !is_up);
        away.map(|(name, _)| name).collect()
    }
}

impl Warden {
    /// How it is right now. Asks nobody.
    pub fn status(&self) -> Status {
        let vitals = &self.0.vitals;
        Status {
            caches: vitals.config.caches.len(),
            watches: vitals.config.invalidation.watches.len(),
            listens: vitals.listens.clone(),
            connections: vitals.metrics.connections.get(),
            writes_waiting: vitals.metrics.journal.rows.get(),
            away: vitals.away(),
        }
    }

    /// Names of servers that are not there; asks Postgres anew. One that was away at the start and has come is then asked whether
    /// it knows what is declared, as it would have been at the start.
    ///
    /// # Errors
    /// [`StartError::Queries`].
    pub async fn servers_away(&self) -> Result<Vec<&'static str>, StartError> {
        let vitals = &self.0.vitals;
        if let Some(repository) = vitals.repository.as_ref().filter(|known| !known.is_up()) {
            database::check_queries(&vitals.config, repository).await?;
        }
        Ok(vitals.away())
    }
}
