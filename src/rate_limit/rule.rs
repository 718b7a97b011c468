//! A limit as it is counted: declared in the configuration, or asked for by a single command.

use super::messages::Policy;
use super::{LimitError, requests};
use crate::config::{self, OnRedisError};
use crate::keyspace::names;
use crate::telemetry::{LimitMetrics, Metrics};
use std::sync::Arc;
use std::time::Duration;

/// More than this no limit lets through, and nobody asks for at once: the scripts' arithmetic is exact up to there.
pub const MAX_LIMIT: u64 = 1_000_000_000;
/// The longest window, and the longest time in which a bucket may fill; for the same reason.
pub const MAX_WINDOW: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What limits are called that a command asks for by itself.
const FIXED: &str = "RATE.FIXED";
const THROTTLE: &str = "CL.THROTTLE";

/// How is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Fixed,
    Sliding,
    Bucket,
    InFlight,
    /// A fixed window whose counter is a plain number under the key of that window.
    Plain,
}

impl Kind {
    /// The algorithm's name in the scripts.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Fixed => "fixed_window",
            Kind::Sliding => "sliding_window",
            Kind::Bucket => "token_bucket",
            Kind::InFlight => "concurrency",
            Kind::Plain => "plain",
        }
    }
}

/// The numbers of a limit, as the algorithms take them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers {
    pub kind: Kind,
    /// Units in each span.
    pub rate: u64,
    /// The window; of what is in flight, its lease. Microseconds.
    pub span_us: u64,
    /// Units at once: the limit, of a bucket its burst.
    pub capacity: u64,
}

impl Numbers {
    /// What one of so many daemons may let through: its share, rounded down, so that all of them together stay within the
    /// limit.
    pub fn share(self, daemons: u64) -> Self {
        Self {
            rate: self.rate / daemons.max(1),
            capacity: self.capacity / daemons.max(1),
            ..self
        }
    }
}

/// A limit.
#[derive(Clone, Debug)]
pub struct Rule {
    pub policy: Arc<Policy>,
    pub numbers: Numbers,
    pub on_redis_error: OnRedisError,
    /// It counts and reports, and never refuses.
    pub shadow: bool,
    pub metrics: LimitMetrics,
    /// What its keys begin with; the subject follows.
    prefix: String,
    /// Tells it from every other limit, and from those of the same command with other numbers.
    pub identity: String,
}

impl Rule {
    /// A declared limit.
    pub fn declared(limit: &config::Limit, metrics: &Metrics) -> Self {
        let (kind, span, capacity) = match limit.algorithm {
            config::Algorithm::FixedWindow { window } => (Kind::Fixed, window, limit.limit),
            config::Algorithm::SlidingWindow { window } => (Kind::Sliding, window, limit.limit),
            config::Algorithm::TokenBucket { window, burst } => (Kind::Bucket, window, burst),
            config::Algorithm::Concurrency { lease } => (Kind::InFlight, lease, limit.limit),
        };
        Self {
            policy: Arc::new(Policy {
                name: limit.name.clone(),
                limit: capacity,
                window: limit.window(),
            }),
            numbers: Numbers {
                kind,
                rate: limit.limit,
                span_us: micros(span),
                capacity,
            },
            on_redis_error: limit.on_redis_error,
            shadow: limit.shadow,
            metrics: metrics.limit(&limit.name),
            prefix: names::limit_prefix(&limit.name),
            identity: limit.name.clone(),
        }
    }

    /// The limit of a `RATE.FIXED`.
    ///
    /// # Errors
    /// If its numbers are out of bounds.
    pub fn fixed(
        limit: u64,
        window: Duration,
        on_redis_error: OnRedisError,
        metrics: &Metrics,
    ) -> Result<Self, LimitError> {
        let whole_seconds = window.subsec_nanos() == 0;
        let in_bounds = within(limit) && !window.is_zero() && window <= MAX_WINDOW;
        requests::require(in_bounds && whole_seconds, || {
            format!(
                "`{FIXED}` takes limits of 1 to {MAX_LIMIT} in windows of whole seconds up to a year"
            )
        })?;
        let numbers = Numbers {
            kind: Kind::Plain,
            rate: limit,
            span_us: micros(window),
            capacity: limit,
        };
        let policy = (FIXED, window);
        let identity = format!("{FIXED} {limit} {}", window.as_secs());
        let prefix = names::FIXED_WINDOWS.to_owned();
        Ok(Self::asked(
            policy,
            numbers,
            prefix,
            identity,
            on_redis_error,
            metrics,
        ))
    }

    /// The limit of a `CL.THROTTLE`: `count` in each `period`, `max_burst` + 1 at once.
    ///
    /// # Errors
    /// If its numbers are out of bounds.
    pub fn throttle(
        max_burst: u64,
        count: u64,
        period: Duration,
        on_redis_error: OnRedisError,
        metrics: &Metrics,
    ) -> Result<Self, LimitError> {
        let in_bounds = within(count) && max_burst < MAX_LIMIT && period <= MAX_WINDOW;
        requests::require(in_bounds && micros(period) > 0, || {
            format!("`{THROTTLE}` takes up to {MAX_LIMIT}, in periods up to a year")
        })?;
        let numbers = Numbers {
            kind: Kind::Bucket,
            rate: count,
            span_us: micros(period),
            capacity: max_burst + 1,
        };
        requests::require(fills_in_time(numbers), || {
            format!(
                "a bucket that takes longer than a year to fill is none: `{THROTTLE}` takes a smaller burst, or more in a period"
            )
        })?;
        let policy = (THROTTLE, period);
        let identity = format!("{THROTTLE} {max_burst} {count} {}", numbers.span_us);
        let prefix = names::THROTTLES.to_owned();
        Ok(Self::asked(
            policy,
            numbers,
            prefix,
            identity,
            on_redis_error,
            metrics,
        ))
    }

    fn asked(
        (name, window): (&str, Duration),
        numbers: Numbers,
        prefix: String,
        identity: String,
        on_redis_error: OnRedisError,
        metrics: &Metrics,
    ) -> Self {
        Self {
            policy: Arc::new(Policy {
                name: name.to_owned(),
                limit: numbers.capacity,
                window: Some(window),
            }),
            numbers,
            on_redis_error,
            shadow: false,
            metrics: metrics.limit(name),
            prefix,
            identity,
        }
    }

    /// Where is counted what `subject` takes; of a plain counter, what its keys begin with.
    pub fn key(&self, subject: &[u8]) -> Vec<u8> {
        let end: &[u8] = match self.numbers.kind {
            Kind::Plain => b":",
            _ => b"",
        };
        [self.prefix.as_bytes(), subject, end].concat()
    }

    /// Whether a refusal stands until its time is over. Of requests in flight one may end at any moment; what is only counted
    /// is counted each time.
    pub fn is_remembered(&self) -> bool {
        !self.shadow && self.numbers.kind != Kind::InFlight
    }
}

fn within(limit: u64) -> bool {
    (1..=MAX_LIMIT).contains(&limit)
}

/// Whether a bucket is full again within the longest window.
fn fills_in_time(numbers: Numbers) -> bool {
    let filling = u128::from(numbers.span_us) * u128::from(numbers.capacity);
    filling <= u128::from(micros(MAX_WINDOW)) * u128::from(numbers.rate)
}

/// Whole microseconds.
pub(super) fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
