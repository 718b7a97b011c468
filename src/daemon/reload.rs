//! Applies what may change while the daemon runs, and says what may not.

use crate::config::{Config, Limit};
use crate::rate_limit::{Declared, Denied, RateLimitHandle, Reload};
use crate::resp::RateLimits;
use crate::supervisor::AskError;
use crate::telemetry::Metrics;
use tokio::sync::{Mutex, watch};

/// What another configuration has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// Names of limits that are new.
    pub added: Vec<String>,
    /// Names of limits that are declared otherwise. What was counted of them stays counted.
    pub changed: Vec<String>,
    /// Names of limits that are not declared any more.
    pub removed: Vec<String>,
    /// Whether limits that commands bring with them are answered otherwise while Redis is away.
    pub has_other_defaults: bool,
    /// Sections that differ from those the daemon was started with: they wait for a restart.
    pub waiting: Vec<&'static str>,
}

/// The configuration in use, and who is told of another.
#[derive(Debug)]
pub(super) struct Reloading {
    /// As it was started, with the limits and their defaults of now. Locked until the actor has answered: who reloads last decides.
    config: Mutex<Config>,
    names: watch::Sender<Vec<String>>,
    rate_limits: RateLimitHandle,
    denied: Denied,
}

impl Reloading {
    /// With a handle of the limits' actor that nobody answers yet.
    pub(super) fn new(config: &Config, metrics: &Metrics) -> Self {
        Self {
            names: watch::Sender::new(names_of(&config.limits)),
            config: Mutex::new(config.clone()),
            rate_limits: RateLimitHandle::unbound(Declared::new(config, metrics.clone())),
            denied: Denied::new(metrics.clone()),
        }
    }

    /// Whom the door asks, and who is refused without asking; it hears of new names.
    pub(super) fn rate_limits(&self) -> RateLimits {
        RateLimits {
            actor: self.rate_limits.clone(),
            names: self.names.subscribe(),
            denied: self.denied.clone(),
        }
    }

    pub(super) async fn reload(&self, new: Config) -> Result<Reloaded, AskError> {
        let mut config = self.config.lock().await;
        let waiting = config.sections_unlike(&new);
        let reloaded = Reloaded {
            has_other_defaults: config.limit_defaults != new.limit_defaults,
            waiting,
            ..compare(&config.limits, &new.limits)
        };
        let (limits, defaults) = (new.limits.clone(), new.limit_defaults);
        let reload = Reload { limits, defaults };
        self.rate_limits.reload.ask(reload).await?;
        self.names.send_replace(names_of(&new.limits));
        config.limits = new.limits;
        config.limit_defaults = new.limit_defaults;
        Ok(reloaded)
    }
}

fn names_of(limits: &[Limit]) -> Vec<String> {
    limits.iter().map(|limit| limit.name.clone()).collect()
}

fn compare(old: &[Limit], new: &[Limit]) -> Reloaded {
    let find =
        |limits: &[Limit], name: &str| limits.iter().find(|limit| limit.name == name).cloned();
    let mut compared = Reloaded::default();
    for limit in new {
        match find(old, &limit.name) {
            None => compared.added.push(limit.name.clone()),
            Some(before) if before != *limit => compared.changed.push(limit.name.clone()),
            Some(_same) => {}
        }
    }
    let gone = old.iter().filter(|limit| find(new, &limit.name).is_none());
    compared.removed = gone.map(|limit| limit.name.clone()).collect();
    compared
}
