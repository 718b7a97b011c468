//! What may be asked for at all.

use super::LockError;
use super::messages::{Acquire, Kind, MAX_PERMITS, MAX_WAIT};
use crate::keyspace::check_label;
use std::time::Duration;

/// The shortest time for which a lock can be held.
const MIN_TTL: Duration = Duration::from_millis(1);

/// Whether a lock can be acquired like this, where none is held for longer than `max_ttl`.
pub(super) fn check(acquire: &Acquire, max_ttl: Duration) -> Result<(), LockError> {
    check_name(&acquire.name)?;
    check_ttl(acquire.ttl, max_ttl)?;
    if acquire.wait > MAX_WAIT {
        let (wait, most) = (acquire.wait.as_millis(), MAX_WAIT.as_millis());
        return invalid(format!("a wait of {wait} ms is longer than {most} ms"));
    }
    match acquire.kind {
        Kind::Permits(n) if !(1..=MAX_PERMITS).contains(&n) => {
            invalid(format!("{n} permits are not 1 to {MAX_PERMITS}"))
        }
        _ => Ok(()),
    }
}

/// Whether this can be the name of a lock.
pub(super) fn check_name(name: &[u8]) -> Result<(), LockError> {
    check_label(name).or_else(|error| invalid(format!("the name of a lock {error}")))
}

/// Whether names of locks can begin like this.
pub(super) fn check_prefix(prefix: &[u8]) -> Result<(), LockError> {
    if prefix.is_empty() {
        return Ok(());
    }
    check_name(prefix)
}

/// Whether a lock can be held for so long.
pub(super) fn check_ttl(ttl: Duration, max_ttl: Duration) -> Result<(), LockError> {
    if (MIN_TTL..=max_ttl).contains(&ttl) {
        return Ok(());
    }
    let (ttl, most) = (ttl.as_millis(), max_ttl.as_millis());
    invalid(format!(
        "a ttl of {ttl} ms is not 1 to {most} ms (locks.max_ttl)"
    ))
}

fn invalid<T>(why: String) -> Result<T, LockError> {
    Err(LockError::Invalid(why))
}
