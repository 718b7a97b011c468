//! What an error of the inside looks like outside: a code to match on, the key, the cause, and what to do.

use super::codec::reply;
use crate::cache::{CacheError, Class};
use crate::keyspace::{KeyError, RoutedKey};
use crate::supervisor::AskError;

/// A key that leads nowhere.
pub(super) fn key(out: &mut Vec<u8>, error: &KeyError) {
    reply::error(out, error.code(), error);
}

/// A read of one key that has no answer.
pub(super) fn read(out: &mut Vec<u8>, key: &RoutedKey, error: &CacheError) {
    let shown = String::from_utf8_lossy(&key.key);
    reply::error(
        out,
        code(error.class()),
        format_args!("'{shown}': {error}; {}", error.mend()),
    );
}

/// Anything else that an actor could not do.
pub(super) fn command(out: &mut Vec<u8>, error: &CacheError) {
    reply::error(
        out,
        code(error.class()),
        format_args!("{error}; {}", error.mend()),
    );
}

/// The actor itself did not answer.
pub(super) fn ask(out: &mut Vec<u8>, error: AskError) {
    command(out, &CacheError::Actor(error));
}

fn code(class: Class) -> &'static str {
    match class {
        Class::LoadFailed => "LOADFAIL",
        Class::Busy => "BUSY",
        Class::Unavailable => "UNAVAILABLE",
    }
}
