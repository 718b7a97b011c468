//! The limits as they are declared now: what the actor counts by, and what answers in its place while it cannot be asked.

use super::LimitError;
use super::messages::{Asked, Decision, Fixed, Throttle};
use super::requests::{Request, Rules};
use super::rule::Rule;
use super::verdict::{Verdict, settle};
use crate::config::{Config, Limit, LimitDefaults, OnRedisError};
use crate::telemetry::Metrics;
use parking_lot::RwLock;
use std::sync::Arc;

/// Shared with whoever asks: it outlives the actor's restarts. Cheap to clone. By default no limit has a name.
#[derive(Clone, Debug, Default)]
pub struct Declared {
    now: Arc<RwLock<Now>>,
    metrics: Metrics,
}

#[derive(Debug, Default)]
struct Now {
    rules: Arc<Rules>,
    /// Of limits that commands bring with them.
    defaults: LimitDefaults,
}

impl Declared {
    /// As the configuration has them.
    pub fn new(config: &Config, metrics: Metrics) -> Self {
        let rules = Arc::new(Rules::of(&config.limits, &metrics));
        let defaults = config.limit_defaults;
        let now = Arc::new(RwLock::new(Now { rules, defaults }));
        Self { now, metrics }
    }

    /// From now on these are the limits.
    pub fn replace(&self, limits: &[Limit], defaults: LimitDefaults) {
        let rules = Arc::new(Rules::of(limits, &self.metrics));
        *self.now.write() = Now { rules, defaults };
    }

    /// Those with names.
    pub fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.now.read().rules)
    }

    /// Whether a limit is shared among daemons while Redis is away.
    pub fn shares(&self) -> bool {
        let now = self.now.read();
        now.defaults.on_redis_error == OnRedisError::Local || now.rules.share()
    }

    /// A request whose limit it brings with it.
    ///
    /// # Errors
    /// If its numbers or its subject are out of bounds.
    pub fn fixed(&self, fixed: Fixed) -> Result<Request, LimitError> {
        let mode = self.now.read().defaults.on_redis_error;
        let rule = Rule::fixed(fixed.limit, fixed.window, mode, &self.metrics)?;
        Request::alone(rule, fixed.subject, 1)
    }

    /// The same.
    ///
    /// # Errors
    /// The same.
    pub fn throttle(&self, throttle: Throttle) -> Result<Request, LimitError> {
        let Throttle {
            key,
            max_burst,
            count,
            period,
            quantity,
        } = throttle;
        let mode = self.now.read().defaults.on_redis_error;
        let rule = Rule::throttle(max_burst, count, period, mode, &self.metrics)?;
        Request::alone(rule, key, quantity)
    }

    /// A request of declared limits.
    ///
    /// # Errors
    /// If it makes no sense, or a limit is not declared.
    pub fn check(&self, asked: Asked) -> Result<Request, LimitError> {
        self.rules().check(asked)
    }
}

/// What is said of a request while nobody counts: as for a Redis that is away, but that a daemon's own share is not known.
pub fn unasked(request: &Request) -> Option<Decision> {
    let verdict = |rule: &Arc<Rule>| {
        let fits = rule.on_redis_error == OnRedisError::Allow;
        Verdict::unasked(rule, fits)
    };
    let verdicts: Vec<Verdict> = request.rules.iter().map(verdict).collect();
    settle(request, &verdicts, false)
}
