//! What an error of the inside looks like outside: a code to match on, the key, the cause, and what to do.

use super::codec::reply;
use super::door::RateLimits;
use crate::cache::{CacheError, Class};
use crate::invalidation::InvalidationError;
use crate::keyspace::{KeyError, RoutedKey, TargetError};
use crate::lock::{self, LockError};
use crate::plain::{self, PlainError};
use crate::rate_limit::{self, LimitError};
use crate::supervisor::AskError;

/// Bytes of a key that an error repeats.
const SHOWN_KEY: usize = 64;
/// Names of limits that an error lists.
const KNOWN_NAMES: usize = 8;

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

/// A command on plain keys that Redis was not asked, or has not answered.
pub(super) fn plain(out: &mut Vec<u8>, error: &PlainError) {
    let code = match error.class() {
        plain::Class::Invalid => "ERR",
        plain::Class::BadPattern => "BADPATTERN",
        plain::Class::Busy => "BUSY",
        plain::Class::Unavailable => "UNAVAILABLE",
    };
    match error.mend() {
        Some(mend) => reply::error(out, code, format_args!("{error}; {mend}")),
        None => reply::error(out, code, error),
    }
}

/// A write that was not done; of one key, if there is no more. What Postgres refuses names the key itself.
pub(super) fn write(out: &mut Vec<u8>, key: Option<&RoutedKey>, error: &CacheError) {
    match key {
        Some(key) if error.class() != Class::Invalid => read(out, key, error),
        _ => command(out, error),
    }
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

/// A request against `limits`, by a subject, that has no answer.
pub(super) fn limit(
    out: &mut Vec<u8>,
    declared: &RateLimits,
    (limits, subject): (&[u8], &[u8]),
    error: &LimitError,
) {
    let shown =
        |word: &[u8]| String::from_utf8_lossy(&word[..word.len().min(SHOWN_KEY)]).into_owned();
    if let LimitError::Undeclared { name } = error {
        let name = shown(name.as_bytes());
        let known = known(&declared.names.borrow());
        let text = format_args!("no limit '{name}' is declared ({known})");
        return reply::error(out, "ERR", text);
    }
    let code = match error.class() {
        rate_limit::Class::Invalid => "ERR",
        rate_limit::Class::Busy => "BUSY",
        rate_limit::Class::Unavailable => "UNAVAILABLE",
    };
    let (limits, subject) = (shown(limits), shown(subject));
    let mend = error.mend();
    reply::error(
        out,
        code,
        format_args!("'{limits}' of '{subject}': {error}; {mend}"),
    );
}

fn known(names: &[String]) -> String {
    match names {
        [] => "none is declared".to_owned(),
        few if few.len() <= KNOWN_NAMES => format!("known: {}", few.join(", ")),
        many => format!("known: {}, …", many[..KNOWN_NAMES].join(", ")),
    }
}

fn code(class: Class) -> &'static str {
    match class {
        Class::LoadFailed => "LOADFAIL",
        Class::Busy => "BUSY",
        Class::Unavailable => "UNAVAILABLE",
        Class::Invalid => "ERR",
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
