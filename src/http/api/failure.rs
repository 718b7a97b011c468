//! What an error of the inside looks like outside: a status, a code to match on, the cause, and what to do.

use super::super::problem::Refusal;
use crate::cache::{CacheError, Class};
use crate::keyspace::{KeyError, TargetError, UnknownCache};
use crate::lock::{self, LockError};
use crate::rate_limit::{self, LimitError};
use crate::supervisor::AskError;
use crate::warmup::WarmError;
use actix_web::http::StatusCode;

/// An actor's answer, or its silence.
pub(super) fn answered<T, E>(answer: Result<Result<T, E>, AskError>) -> Result<T, Refusal>
where
    Refusal: From<E>,
{
    Ok(answer??)
}

impl From<KeyError> for Refusal {
    fn from(error: KeyError) -> Self {
        let status = match error {
            KeyError::Undeclared { .. } => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_REQUEST,
        };
        Refusal::new(status, error.code(), error.to_string())
    }
}

impl From<TargetError> for Refusal {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::Key(error) => error.into(),
            TargetError::Pattern(_) => {
                Refusal::new(StatusCode::BAD_REQUEST, error.code(), error.to_string())
            }
        }
    }
}

impl From<UnknownCache> for Refusal {
    fn from(error: UnknownCache) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, "ERR", error.to_string())
    }
}

impl From<CacheError> for Refusal {
    fn from(error: CacheError) -> Self {
        let (status, code) = match (error.class(), &error) {
            (Class::LoadFailed, error) if error.is_late() => {
                (StatusCode::GATEWAY_TIMEOUT, "LOADFAIL")
            }
            (Class::LoadFailed, _) => (StatusCode::BAD_GATEWAY, "LOADFAIL"),
            (Class::Busy, _) => (StatusCode::SERVICE_UNAVAILABLE, "BUSY"),
            (Class::Unavailable, _) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
            (Class::Invalid, CacheError::TooLargeToSave { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "ERR")
            }
            (Class::Invalid, CacheError::NotJson { .. }) => (StatusCode::BAD_REQUEST, "ERR"),
            (Class::Invalid, _) => (StatusCode::UNPROCESSABLE_ENTITY, "ERR"),
        };
        Refusal::new(status, code, format!("{error}; {}", error.mend()))
    }
}

impl From<AskError> for Refusal {
    fn from(error: AskError) -> Self {
        CacheError::Actor(error).into()
    }
}

impl From<LockError> for Refusal {
    fn from(error: LockError) -> Self {
        let (status, code) = match error.class() {
            lock::Class::Invalid => (StatusCode::BAD_REQUEST, "ERR"),
            lock::Class::Busy => (StatusCode::SERVICE_UNAVAILABLE, "BUSY"),
            lock::Class::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        };
        Refusal::new(status, code, format!("{error}; {}", error.mend()))
    }
}

impl From<LimitError> for Refusal {
    fn from(error: LimitError) -> Self {
        let (status, code) = match (error.class(), &error) {
            (_, LimitError::Undeclared { .. }) => (StatusCode::NOT_FOUND, "ERR"),
            (rate_limit::Class::Invalid, _) => (StatusCode::BAD_REQUEST, "ERR"),
            (rate_limit::Class::Busy, _) => (StatusCode::SERVICE_UNAVAILABLE, "BUSY"),
            (rate_limit::Class::Unavailable, _) => (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE"),
        };
        Refusal::new(status, code, format!("{error}; {}", error.mend()))
    }
}

impl From<WarmError> for Refusal {
    fn from(error: WarmError) -> Self {
        let status = match error {
            WarmError::Unknown { .. } => StatusCode::NOT_FOUND,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        Refusal::new(status, "ERR", error.to_string())
    }
}
