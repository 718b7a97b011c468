//! `LOCK.ACQUIRE`, `LOCK.EXTEND`, `LOCK.RELEASE`, `LOCK.INFO`, `LOCK.LIST`, `LOCK.FORCE`.

use super::super::batch::millis;
use super::super::codec::{Protocol, reply};
use super::super::door::Door;
use super::super::failure;
use super::Session;
use crate::lock::{
    Acquire, Extend, Force, Grant, Info, Kind, List, LockError, LockInfo, Lost, MAX_PERMITS,
    MAX_WAIT, Release, Standing,
};
use crate::supervisor::AskError;
use bytes::Bytes;
use std::fmt::Display;
use std::time::Duration;
use uuid::Uuid;

/// Bytes of a word that an error repeats.
const SHOWN: usize = 40;

/// What a refused argument is, and why.
type Refused = (&'static str, String);

/// What a connection asks the actor for, or `None` when the refusal is written:
/// `LOCK.ACQUIRE name ttl_ms [WAIT ms] [SESSION] [SHARED] [PERMITS n] [TOKEN uuid]`
pub(in super::super) fn acquire(
    door: &Door,
    args: &[&[u8]],
    session: &mut Session,
    out: &mut Vec<u8>,
) -> Option<Acquire> {
    match parse_acquire(args) {
        Ok((mut acquire, bound)) => {
            acquire.session = bound.then(|| session.locks.open(door));
            Some(acquire)
        }
        Err((code, text)) => {
            reply::error(out, code, text);
            None
        }
    }
}

/// And whether it is to be bound to the connection.
fn parse_acquire(args: &[&[u8]]) -> Result<(Acquire, bool), Refused> {
    let [name, ttl, options @ ..] = args else {
        return Err(syntax(
            "LOCK.ACQUIRE takes a name and a ttl in milliseconds",
        ));
    };
    let mut acquire = Acquire {
        name: checked_name(name)?,
        kind: Kind::Exclusive,
        ttl: milliseconds("ttl_ms", ttl, 1, u64::MAX)?,
        wait: Duration::ZERO,
        token: Uuid::new_v4(),
        session: None,
        attempt: Uuid::new_v4(),
    };
    let (mut seen, mut bound) = (Vec::new(), false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let option = option.to_ascii_uppercase();
        if seen.contains(&option) {
            let option = shown(&option);
            return Err(syntax(format_args!("{option} is there twice")));
        }
        let mut value = || {
            let missing = || syntax(format_args!("{} needs a value", shown(&option)));
            options.next().copied().ok_or_else(missing)
        };
        match option.as_slice() {
            b"WAIT" => {
                let longest = u64::try_from(MAX_WAIT.as_millis()).unwrap_or(u64::MAX);
                acquire.wait = milliseconds("WAIT", value()?, 0, longest)?;
            }
            b"TOKEN" => acquire.token = token(value()?)?,
            b"SESSION" => bound = true,
            b"SHARED" => acquire.kind = Kind::Shared,
            b"PERMITS" => acquire.kind = Kind::Permits(permits(value()?)?),
            _ => {
                let option = shown(&option);
                let known = "WAIT ms, SESSION, SHARED, PERMITS n and TOKEN uuid";
                return Err(syntax(format_args!(
                    "'{option}' is no option of LOCK.ACQUIRE; there are {known}"
                )));
            }
        }
        seen.push(option);
    }
    let is_there = |option: &[u8]| seen.iter().any(|seen| seen == option);
    if is_there(b"SHARED") && is_there(b"PERMITS") {
        return Err(syntax("a lock is SHARED or has PERMITS, not both"));
    }
    Ok((acquire, bound))
}

/// What became of it.
pub(in super::super) fn write_acquired(
    answer: Result<Result<Option<Grant>, LockError>, AskError>,
    protocol: Protocol,
    out: &mut Vec<u8>,
) {
    match answer {
        Ok(Ok(Some(Grant { token, fence, .. }))) => {
            reply::array(out, 2);
            reply::bulk(out, token.to_string().as_bytes());
            reply::integer(out, fence);
        }
        Ok(Ok(None)) => reply::null(out, protocol),
        Ok(Err(error)) => failure::lock(out, &error),
        Err(error) => failure::ask(out, error),
    }
}

/// Tells a client of RESP3 what it has lost.
pub(in super::super) fn push_lost(lost: &Lost, out: &mut Vec<u8>) {
    reply::push(out, 4);
    reply::bulk(out, b"lock-lost");
    reply::bulk(out, &lost.name);
    reply::bulk(out, lost.token.to_string().as_bytes());
    reply::integer(out, lost.fence);
}

/// `LOCK.EXTEND name token ttl_ms`
pub(super) async fn extend(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let ask = || {
        Ok::<_, Refused>(Extend {
            name: checked_name(args[0])?,
            token: token(args[1])?,
            ttl: milliseconds("ttl_ms", args[2], 1, u64::MAX)?,
        })
    };
    match ask() {
        Ok(ask) => write_claim(door.locks.extend.ask(ask).await, out),
        Err((code, text)) => reply::error(out, code, text),
    }
}

/// `LOCK.RELEASE name token`
pub(super) async fn release(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let ask = || {
        Ok::<_, Refused>(Release {
            name: checked_name(args[0])?,
            token: token(args[1])?,
        })
    };
    match ask() {
        Ok(ask) => write_claim(door.locks.release.ask(ask).await, out),
        Err((code, text)) => reply::error(out, code, text),
    }
}

/// `LOCK.FORCE name`
pub(super) async fn force(door: &Door, name: &[u8], session: &Session, out: &mut Vec<u8>) {
    match checked_name(name) {
        Ok(name) => {
            let by = session.who();
            write_claim(door.locks.force.ask(Force { name, by }).await, out);
        }
        Err((code, text)) => reply::error(out, code, text),
    }
}

/// `LOCK.INFO name`
pub(super) async fn info(door: &Door, name: &[u8], session: &Session, out: &mut Vec<u8>) {
    let name = match checked_name(name) {
        Ok(name) => name,
        Err((code, text)) => return reply::error(out, code, text),
    };
    let ask = Info {
        name,
        session: session.locks.id(),
    };
    match door.locks.info.ask(ask).await {
        Ok(Ok(info)) => write_info(&info, session.protocol, out),
        Ok(Err(error)) => failure::lock(out, &error),
        Err(error) => failure::ask(out, error),
    }
}

/// `LOCK.LIST [prefix]`
pub(super) async fn list(door: &Door, args: &[&[u8]], protocol: Protocol, out: &mut Vec<u8>) {
    let prefix = match args {
        [] => Bytes::new(),
        [[]] => Bytes::new(),
        [prefix] => match checked_name(prefix) {
            Ok(prefix) => prefix,
            Err((code, text)) => return reply::error(out, code, text),
        },
        _ => return reply::error(out, "ERR", super::WrongArity("lock.list")),
    };
    match door.locks.list.ask(List { prefix }).await {
        Ok(Ok(locks)) => {
            reply::array(out, locks.len());
            for lock in &locks {
                write_info(lock, protocol, out);
            }
        }
        Ok(Err(error)) => failure::lock(out, &error),
        Err(error) => failure::ask(out, error),
    }
}

fn write_info(info: &LockInfo, protocol: Protocol, out: &mut Vec<u8>) {
    let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    reply::map(out, protocol, 6);
    reply::bulk(out, b"name");
    reply::bulk(out, &info.name);
    reply::bulk(out, b"held");
    reply::integer(out, number(info.held));
    reply::bulk(out, b"fence");
    match info.fence {
        Some(fence) => reply::integer(out, fence),
        None => reply::null(out, protocol),
    }
    reply::bulk(out, b"ttl_ms");
    reply::integer(out, millis(info.left));
    reply::bulk(out, b"waiters");
    reply::integer(out, number(info.waiters));
    reply::bulk(out, b"yours");
    match info.yours {
        Some(Standing::Held) => reply::bulk(out, b"held"),
        Some(Standing::Lost) => reply::bulk(out, b"lost"),
        None => reply::null(out, protocol),
    }
}

/// 1 for what was, 0 for what was not.
fn write_claim(answer: Result<Result<bool, LockError>, AskError>, out: &mut Vec<u8>) {
    match answer {
        Ok(Ok(claim)) => reply::integer(out, i64::from(claim)),
        Ok(Err(error)) => failure::lock(out, &error),
        Err(error) => failure::ask(out, error),
    }
}

fn checked_name(name: &[u8]) -> Result<Bytes, Refused> {
    match crate::keyspace::check_label(name) {
        Ok(()) => Ok(Bytes::copy_from_slice(name)),
        Err(error) => Err(("BADKEY", format!("the lock's name {error}"))),
    }
}

fn token(text: &[u8]) -> Result<Uuid, Refused> {
    const HYPHENATED: usize = 36;
    let refused = || {
        let hint = "pass the token that LOCK.ACQUIRE answered";
        syntax(format_args!("'{}' is no UUID; {hint}", shown(text)))
    };
    // One way to write it: others, with braces or without hyphens, are most often something else.
    let hyphenated = Some(text).filter(|text| text.len() == HYPHENATED);
    let parsed = hyphenated.and_then(|text| Uuid::try_parse_ascii(text).ok());
    parsed.ok_or_else(refused)
}

fn milliseconds(what: &str, text: &[u8], min: u64, max: u64) -> Result<Duration, Refused> {
    number(what, "milliseconds", text, min, max).map(Duration::from_millis)
}

fn permits(text: &[u8]) -> Result<u32, Refused> {
    let permits = number("PERMITS", "holders", text, 1, u64::from(MAX_PERMITS))?;
    Ok(u32::try_from(permits).unwrap_or(MAX_PERMITS))
}

/// Digits only: no sign, and nothing around them.
fn number(what: &str, of: &str, text: &[u8], min: u64, max: u64) -> Result<u64, Refused> {
    let digits = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let number = digits.and_then(|digits| digits.parse().ok());
    let in_range = number.filter(|number| (min..=max).contains(number));
    in_range.ok_or_else(|| {
        let text = shown(text);
        match max {
            u64::MAX => syntax(format_args!(
                "{what} '{text}' is no number of {of} from {min} on"
            )),
            max => syntax(format_args!(
                "{what} '{text}' is no number of {of} from {min} to {max}"
            )),
        }
    })
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(&text[..text.len().min(SHOWN)]).into_owned()
}

fn syntax(text: impl Display) -> Refused {
    ("ERR", text.to_string())
}
