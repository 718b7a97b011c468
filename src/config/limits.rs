//! `[limits.*]`, `[limit_defaults]` and `[locks]`: how much is let through, and how long a lock may be held.

use super::reader::Reader;
use super::value::{Checked, Named};
use std::time::Duration;

const DEFAULT_LOCK_TTL: Duration = Duration::from_secs(10);
const DEFAULT_MAX_LOCK_TTL: Duration = Duration::from_secs(600);
/// The longest duration anywhere.
const LONGEST_FILLING: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const DEFAULT_LEASE: Duration = Duration::from_secs(30);

/// `[locks]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Locks {
    /// How long a lock of the library is held, where its caller does not say.
    pub default_ttl: Duration,
    /// No lock is taken, or extended, for longer.
    pub max_ttl: Duration,
    /// Whether the section is there: then what locks need has to be installed. Locks can be had without it, too.
    pub is_declared: bool,
}

/// `[limit_defaults]`, as it concerns limits that are declared nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitDefaults {
    pub on_redis_error: OnRedisError,
}

/// A limit of `[limits.*]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    pub name: String,
    pub algorithm: Algorithm,
    /// How much is let through in a window; of `concurrency`, at once.
    pub limit: u64,
    pub on_redis_error: OnRedisError,
    /// It counts and reports, and never refuses.
    pub shadow: bool,
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    FixedWindow { window: Duration },
    SlidingWindow { window: Duration },
    TokenBucket { window: Duration, burst: u64 },
    Concurrency { lease: Duration },
}

impl Limit {
    /// The time that the limit is meant for; none for what counts requests in flight.
    pub fn window(&self) -> Option<Duration> {
        match self.algorithm {
            Algorithm::FixedWindow { window }
            | Algorithm::SlidingWindow { window }
            | Algorithm::TokenBucket { window, .. } => Some(window),
            Algorithm::Concurrency { .. } => None,
        }
    }
}

/// What a limit answers while Redis cannot be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnRedisError {
    #[default]
    Allow,
    Deny,
    /// Each daemon grants its share.
    Local,
}

pub(super) fn locks(reader: &mut Reader<'_>, table: &Checked, is_declared: bool) -> Locks {
    let (default, max) = (table.duration("default_ttl"), table.duration("max_ttl"));
    let max_ttl = max.unwrap_or(DEFAULT_MAX_LOCK_TTL);
    if let Some(default) = default.filter(|default| *default > max_ttl) {
        let span = table.span_of("default_ttl").unwrap_or_default();
        let message = format!("`default_ttl` {default:?} is above `max_ttl` {max_ttl:?}");
        reader.fault(span, message, "write a default_ttl up to max_ttl");
    }
    Locks {
        default_ttl: default.unwrap_or(DEFAULT_LOCK_TTL.min(max_ttl)),
        max_ttl,
        is_declared,
    }
}

pub(super) fn defaults(table: &Checked) -> LimitDefaults {
    let mode = table.text("on_redis_error");
    LimitDefaults {
        on_redis_error: mode
            .map(|mode| on_redis_error(mode.value))
            .unwrap_or_default(),
    }
}

/// `None` only if a problem was reported.
pub(super) fn limit(reader: &mut Reader<'_>, named: &Named, defaults: &Checked) -> Option<Limit> {
    let table = &named.table;
    check_keys(reader, table);
    let limit = u64::try_from(table.number("limit")?).ok()?;
    let window = table.duration("window");
    let algorithm = match table.text("algorithm")?.value {
        "fixed_window" => Algorithm::FixedWindow { window: window? },
        "sliding_window" => Algorithm::SlidingWindow { window: window? },
        "token_bucket" => Algorithm::TokenBucket {
            window: window?,
            burst: table
                .number("burst")
                .and_then(|burst| u64::try_from(burst).ok())
                .unwrap_or(limit),
        },
        _ => Algorithm::Concurrency {
            lease: table.duration("lease").unwrap_or(DEFAULT_LEASE),
        },
    };
    check_filling(reader, table, limit, algorithm);
    let mode = table.text("on_redis_error");
    let mode = mode.or_else(|| defaults.text("on_redis_error"));
    let shadow = table.flag("shadow").or_else(|| defaults.flag("shadow"));
    Some(Limit {
        name: named.name.value.clone(),
        algorithm,
        limit,
        on_redis_error: mode
            .map(|mode| on_redis_error(mode.value))
            .unwrap_or_default(),
        shadow: shadow.unwrap_or(false),
    })
}

fn on_redis_error(text: &str) -> OnRedisError {
    match text {
        "deny" => OnRedisError::Deny,
        "local" => OnRedisError::Local,
        _ => OnRedisError::Allow,
    }
}

/// A bucket is full again within the longest duration there is: what counts it is exact up to there.
fn check_filling(reader: &mut Reader<'_>, table: &Checked, limit: u64, algorithm: Algorithm) {
    let Algorithm::TokenBucket { window, burst } = algorithm else {
        return;
    };
    let filling = window.as_millis() * u128::from(burst);
    if filling > LONGEST_FILLING.as_millis() * u128::from(limit) {
        let span = table.span_of("burst").unwrap_or_default();
        let message = format!("`{}` takes longer than a year to fill", table.path);
        reader.fault(span, message, "write a smaller burst, or a shorter window");
    }
}

/// Which keys belong to which algorithm.
fn check_keys(reader: &mut Reader<'_>, limit: &Checked) {
    let Some(algorithm) = limit.text("algorithm") else {
        return;
    };
    if algorithm.value != "concurrency" && limit.is_empty_of(&["window"]) {
        let message = format!(
            "`{}` has no `window`, which `{}` needs",
            limit.path, algorithm.value
        );
        reader.fault(algorithm.span, message, "write window = \"1m\"");
    }
    if let Some(span) = limit
        .span_of("window")
        .filter(|_| algorithm.value == "concurrency")
    {
        reader.fault(
            span,
            "`concurrency` counts what is in flight, in no `window`".to_owned(),
            "drop it; how long one request may be in flight is its `lease`",
        );
    }
    for (key, owner) in [("burst", "token_bucket"), ("lease", "concurrency")] {
        if let Some(span) = limit.span_of(key).filter(|_| algorithm.value != owner) {
            let message = format!(
                "`{key}` belongs to algorithm `{owner}`, not to `{}`",
                algorithm.value
            );
            reader.fault(
                span,
                message,
                format!("drop it, or write algorithm = \"{owner}\""),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_has_what_the_defaults_say_unless_it_says_otherwise() {
        let text = "redis.url = \"redis://h\"\n[limit_defaults]\non_redis_error = \"deny\"\nshadow = true\n\
            [limits.plain]\nalgorithm = \"token_bucket\"\nlimit = 5\nwindow = \"1s\"\n\
            [limits.own]\nalgorithm = \"concurrency\"\nlimit = 2\nshadow = false\non_redis_error = \"local\"\n";
        let limits = super::super::Config::from_toml(text).unwrap().limits;
        let second = Duration::from_secs(1);
        let plain = Limit {
            name: "plain".to_owned(),
            algorithm: Algorithm::TokenBucket {
                window: second,
                burst: 5,
            },
            limit: 5,
            on_redis_error: OnRedisError::Deny,
            shadow: true,
        };
        let own = Limit {
            name: "own".to_owned(),
            algorithm: Algorithm::Concurrency { lease: 30 * second },
            limit: 2,
            on_redis_error: OnRedisError::Local,
            shadow: false,
        };
        assert_eq!(limits, [plain, own]);
    }
}
