//! What can go wrong between us and Redis.

/// Why a command has no reply.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The breaker is open: Redis was away a moment ago and no probe has succeeded since. Nothing was sent.
    #[error("redis is away")]
    Away,
    /// Sent, and not answered within `redis.timeout`; it may have run.
    #[error("redis did not answer within {timeout_ms} ms")]
    TimedOut { timeout_ms: u64 },
    /// Sent, and the connection was lost; it may have run.
    #[error("the connection to redis was lost")]
    Lost,
    /// Redis said no: out of memory, read-only, no permission.
    #[error("redis refused `{command}`: {message}")]
    Refused {
        command: &'static str,
        message: String,
    },
    /// A reply of a shape that this command never has.
    #[error("redis answered `{command}` with something unexpected")]
    Unexpected { command: &'static str },
    /// The URL of `[redis]` names nothing one could connect to.
    #[error("redis.url is not usable: {reason}")]
    BadUrl { reason: String },
}

impl StoreError {
    /// Whether Redis as a whole is out of reach, in contrast to this one command being refused.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            StoreError::Away | StoreError::TimedOut { .. } | StoreError::Lost
        )
    }

    /// Whether Redis only asks for a script's text, which it does not know (any more).
    pub(super) fn is_unknown_script(&self) -> bool {
        matches!(self, StoreError::Refused { message, .. } if message.starts_with("NOSCRIPT"))
    }
}
