//! What an error of the inside looks like outside: a code to match on, the key, the cause, and what to do.

use super::codec::reply;
use crate::cache::{CacheError, Class};
use crate::invalidation::InvalidationError;
use crate::keyspace::{KeyError, RoutedKey, TargetError};
use crate::lock::{self, LockError};
use crate::supervisor::AskError;

/// Bytes of a key that an error repeats.
const SHOWN_KEY: usize = 64;

/// A key that leads nowhere.
pub(super) fn key(out: &mut Vec<u8>, error: &KeyError) {
    reply::error(out, error.code(), error);
}

/// A key or pattern that cannot be invalidated.
pub(super) fn target(out: &mut Vec<u8>, error: &TargetError) {
    reply::error(out, error.code(), error);
}

/// An invalidation that has no answer.
pub(super) fn invalidation(out: &mut Vec<u8>, error: InvalidationError) {
    command(out, &error.into_cache());
}

/// A read of one key that has no answer.
pub(super) fn read(out: &mut Vec<u8>, key: &RoutedKey, error: &CacheError) {
    // Cause and mend come behind the key, on a line that is cut.
    let shown = &key.key[..key.key.len().min(SHOWN_KEY)];
    let shown = String::from_utf8_lossy(shown);
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

/// A lock that has no answer.
pub(super) fn lock(out: &mut Vec<u8>, error: &LockError) {
    let code = match error.class() {
        lock::Class::Invalid => "ERR",
        lock::Class::Busy => "BUSY",
        lock::Class::Unavailable => "UNAVAILABLE",
    };
    reply::error(out, code, format_args!("{error}; {}", error.mend()));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::Router;
    use bytes::Bytes;

    #[test]
    fn a_long_key_leaves_room_for_the_cause_and_the_mend() {
        let router = Router::new(&[], &[("calc".to_owned(), "calc:".to_owned())]);
        let text = format!("calc:{}", "k".repeat(500));
        let route = router.route(text.as_bytes()).expect("declared");
        let mut out = Vec::new();
        let error = CacheError::TimedOut { after_ms: 2000 };
        read(&mut out, &route.with_key(Bytes::from(text)), &error);
        let line = String::from_utf8(out).expect("text");
        assert!(line.contains("timed out after 2000 ms"), "{line}");
        assert!(line.contains(error.mend()), "{line}");
    }
}
