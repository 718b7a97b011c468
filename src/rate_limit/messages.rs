//! What one may ask the rate limit actor.

use super::LimitError;
use crate::config;
use actix::Message;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// What a limit is, as answers name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// As declared; `RATE.FIXED` and `CL.THROTTLE` of what a command asks for by itself.
    pub name: String,
    /// How much is let through in a window; of a token bucket, at once (its burst); of `concurrency`, in flight.
    pub limit: u64,
    /// None for what counts requests in flight.
    pub window: Option<Duration>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    /// The limit that this answer speaks of: the one that refused, or the one that has least left.
    pub policy: Arc<Policy>,
    /// How much more would be let through now.
    pub remaining: u64,
    /// After which time the same request would be let through, if nobody else asks; zero when it was. `None`: never, for it
    /// asks for more than the limit ever has.
    pub retry_after: Option<Duration>,
    /// After which time the limit has all of it again, if nobody else asks.
    pub reset_after: Duration,
    /// The request's name among those in flight; none if it was refused, or no limit of the check is a `concurrency`.
    pub id: Option<Bytes>,
}

/// One request against one limit, or several, of which it takes from all or from none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Names with commas between them.
    pub limits: Bytes,
    /// Who asks: 1 to 512 bytes.
    pub subject: Bytes,
    /// How much: from 1.
    pub cost: u64,
    /// For `concurrency`: the name of the request; one is made if none is given. The same name asked again counts once.
    pub id: Option<Bytes>,
    /// Whether it takes what it asks for, or only looks.
    pub ask: Ask,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Let me through.
    Take,
    /// Would you?
    Peek,
}

/// Asks for requests that came together; answers in their order.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Result<Decision, LimitError>>")]
pub struct Check {
    pub asked: Vec<Asked>,
}

/// Asks for a fixed window that is declared nowhere: `limit` requests of `subject` in each `window` of whole seconds.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Decision, LimitError>")]
pub struct Fixed {
    pub subject: Bytes,
    pub limit: u64,
    pub window: Duration,
}

/// Asks a token bucket that is declared nowhere, in the terms of redis-cell: `max_burst` + 1 at once, `count` in each
/// `period`.
#[derive(Clone, Debug, Message)]
#[rtype(result = "Result<Decision, LimitError>")]
pub struct Throttle {
    pub key: Bytes,
    pub max_burst: u64,
    pub count: u64,
    pub period: Duration,
    /// How much; 0 only looks.
    pub quantity: u64,
}

/// Forgets what `subject` has taken of `limit`. Whether there was anything.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, LimitError>")]
pub struct Reset {
    pub limit: Bytes,
    pub subject: Bytes,
}

/// Gives back what was taken and not used. How much of it there was to give back.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, LimitError>")]
pub struct Refund {
    pub limit: Bytes,
    pub subject: Bytes,
    pub amount: u64,
}

/// Ends a request in flight. Whether it was.
#[derive(Debug, Message)]
#[rtype(result = "Result<bool, LimitError>")]
pub struct Release {
    pub limit: Bytes,
    pub subject: Bytes,
    pub id: Bytes,
}

/// From now on these are the limits. What was counted stays counted.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Reload {
    pub limits: Vec<config::Limit>,
    /// Of limits that commands bring with them.
    pub defaults: config::LimitDefaults,
}
