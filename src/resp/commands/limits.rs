//! `RATE.*` and `CL.THROTTLE`: how much is let through. (`RATE.CHECK` and `RATE.PEEK` are batched.)
//!
//! `CL.THROTTLE` speaks as redis-cell does (github.com/brandur/redis-cell); where only its source says how, a comment says so.

use super::super::batch::millis;
use super::super::codec::reply;
use super::super::door::Door;
use super::super::failure;
use super::{Verb, WrongArity};
use crate::keyspace::MAX_KEY_BYTES;
use crate::rate_limit::{
    Ask, Asked, Decision, Fixed, LimitError, Refund, Release, Reset, Throttle,
};
use crate::supervisor::AskError;
use bytes::Bytes;
use std::fmt;
use std::time::Duration;

/// The most that a command may ask for, and the highest limit one may name: that of a declared one.
const MAX_AMOUNT: u64 = 1_000_000_000;
/// The longest time a command may name, in seconds: 365 days, that of the configuration.
const MAX_SECONDS: u64 = 365 * 24 * 60 * 60;
/// Bytes of the names of limits, with the commas between them.
const MAX_LIMITS_BYTES: usize = 512;
/// Characters of a word that an error repeats.
const SHOWN_WORD: usize = 40;

/// Why a request is refused before anybody is asked.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Fault {
    code: &'static str,
    text: String,
}

impl Fault {
    fn new(code: &'static str, text: impl fmt::Display) -> Self {
        let text = text.to_string();
        Self { code, text }
    }

    pub(in super::super) fn write(&self, out: &mut Vec<u8>) {
        reply::error(out, self.code, &self.text);
    }
}

/// What `RATE.CHECK limit[,limit…] subject [COST n] [ID id]` asks for; `RATE.PEEK` takes no `ID`.
pub(in super::super) fn asked<'a>(
    verb: Verb,
    limits: &[u8],
    subject: &[u8],
    mut options: impl Iterator<Item = &'a [u8]>,
) -> Result<Asked, Fault> {
    let (mut cost, mut id) = (None, None);
    while let Some(option) = options.next() {
        let (name, known) = if option.eq_ignore_ascii_case(b"COST") {
            ("COST", cost.is_some())
        } else if option.eq_ignore_ascii_case(b"ID") && verb == Verb::RateCheck {
            ("ID", id.is_some())
        } else {
            return Err(unknown_option(verb, option));
        };
        let Some(value) = options.next() else {
            let text = format_args!("syntax error: nothing stands behind {name}");
            return Err(Fault::new("ERR", text));
        };
        if known {
            let text = format_args!("syntax error: {name} is given twice; leave one of them out");
            return Err(Fault::new("ERR", text));
        }
        match name {
            "COST" => cost = Some(number("COST", value, 1, MAX_AMOUNT)?),
            _ => id = Some(name_of("id", value)?),
        }
    }
    Ok(Asked {
        limits: limits_of(limits)?,
        subject: name_of("subject", subject)?,
        cost: cost.unwrap_or(1),
        id,
        ask: match verb {
            Verb::RatePeek => Ask::Peek,
            _ => Ask::Take,
        },
    })
}

fn unknown_option(verb: Verb, option: &[u8]) -> Fault {
    let takes = match verb {
        Verb::RatePeek => "RATE.PEEK takes COST n",
        _ => "RATE.CHECK takes COST n and ID id",
    };
    let option = shown(option);
    Fault::new(
        "ERR",
        format_args!("syntax error: unknown option '{option}'; {takes}"),
    )
}

/// `[allowed, limit, remaining, retry_after_ms, reset_ms, limit that refused]`, and the id of what is in flight, if anything
/// counts that.
pub(in super::super) fn decision(out: &mut Vec<u8>, decision: &Decision) {
    let retry_after = match decision.retry_after {
        _ if decision.allowed => 0,
        Some(time) => whole_millis(time),
        None => -1,
    };
    let refused_by: &str = match decision.allowed {
        true => "",
        false => &decision.policy.name,
    };
    reply::array(out, 6 + usize::from(decision.id.is_some()));
    reply::integer(out, i64::from(decision.allowed));
    count(out, decision.policy.limit);
    count(out, decision.remaining);
    reply::integer(out, retry_after);
    reply::integer(out, whole_millis(decision.reset_after));
    reply::bulk(out, refused_by.as_bytes());
    if let Some(id) = &decision.id {
        reply::bulk(out, id);
    }
}

/// Up to the next one: who comes back earlier is refused again.
fn whole_millis(time: Duration) -> i64 {
    let begun = !time.subsec_nanos().is_multiple_of(1_000_000);
    millis(time).saturating_add(i64::from(begun))
}

/// `RATE.FIXED subject limit window_seconds`
pub(super) async fn fixed(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let parsed = || {
        Ok(Fixed {
            subject: name_of("subject", args[0])?,
            limit: number("limit", args[1], 1, MAX_AMOUNT)?,
            window: Duration::from_secs(number("window", args[2], 1, MAX_SECONDS)?),
        })
    };
    let Some(ask) = or_refused(parsed(), out) else {
        return;
    };
    let answer = Ok(door.rate_limits.actor.decide_fixed(ask).await);
    if let Some(answer) = answered(door, (b"RATE.FIXED", args[0]), answer, out) {
        decision(out, &answer);
    }
}

/// `CL.THROTTLE key max_burst count_per_period period_seconds [quantity]`
pub(super) async fn throttle(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let parsed = || {
        if args.len() > 5 {
            return Err(Fault::new("ERR", WrongArity("cl.throttle")));
        }
        let quantity = args
            .get(4)
            .map(|word| number("quantity", word, 0, MAX_AMOUNT));
        Ok(Throttle {
            key: name_of("key", args[0])?,
            max_burst: number("max_burst", args[1], 0, MAX_AMOUNT)?,
            count: number("count", args[2], 1, MAX_AMOUNT)?,
            period: Duration::from_secs(number("period", args[3], 1, MAX_SECONDS)?),
            quantity: quantity.transpose()?.unwrap_or(1),
        })
    };
    let Some(ask) = or_refused(parsed(), out) else {
        return;
    };
    let answer = Ok(door.rate_limits.actor.decide_throttle(ask).await);
    if let Some(answer) = answered(door, (b"CL.THROTTLE", args[0]), answer, out) {
        throttled(out, &answer);
    }
}

/// `[limited, max_burst + 1, remaining, retry_after, reset_after]`, times in seconds.
fn throttled(out: &mut Vec<u8>, decision: &Decision) {
    // By its source, also who asks for more than there ever is gets -1.
    let retry_after = decision.retry_after.filter(|_| !decision.allowed);
    reply::array(out, 5);
    reply::integer(out, i64::from(!decision.allowed));
    count(out, decision.policy.limit);
    count(out, decision.remaining);
    reply::integer(out, retry_after.map_or(-1, begun_seconds));
    reply::integer(out, begun_seconds(decision.reset_after));
}

/// By its source: up to the next second, but what is less than a millisecond does not count.
fn begun_seconds(time: Duration) -> i64 {
    let begun = time.subsec_millis() > 0;
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    seconds.saturating_add(i64::from(begun))
}

/// `RATE.RESET limit subject`
pub(super) async fn reset(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let parsed = || {
        Ok(Reset {
            limit: limits_of(args[0])?,
            subject: name_of("subject", args[1])?,
        })
    };
    let Some(ask) = or_refused(parsed(), out) else {
        return;
    };
    let answer = door.rate_limits.actor.reset.ask(ask).await;
    if let Some(was_there) = answered(door, (args[0], args[1]), answer, out) {
        reply::integer(out, i64::from(was_there));
    }
}

/// `RATE.REFUND limit subject n`
pub(super) async fn refund(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let parsed = || {
        Ok(Refund {
            limit: limits_of(args[0])?,
            subject: name_of("subject", args[1])?,
            amount: number("n", args[2], 1, MAX_AMOUNT)?,
        })
    };
    let Some(ask) = or_refused(parsed(), out) else {
        return;
    };
    let answer = door.rate_limits.actor.refund.ask(ask).await;
    if let Some(given_back) = answered(door, (args[0], args[1]), answer, out) {
        count(out, given_back);
    }
}

/// `RATE.RELEASE limit subject id`
pub(super) async fn release(door: &Door, args: &[&[u8]], out: &mut Vec<u8>) {
    let parsed = || {
        Ok(Release {
            limit: limits_of(args[0])?,
            subject: name_of("subject", args[1])?,
            id: name_of("id", args[2])?,
        })
    };
    let Some(ask) = or_refused(parsed(), out) else {
        return;
    };
    let answer = door.rate_limits.actor.release.ask(ask).await;
    if let Some(was_there) = answered(door, (args[0], args[1]), answer, out) {
        reply::integer(out, i64::from(was_there));
    }
}

/// What was asked for, or `None` when the refusal is written.
fn or_refused<T>(parsed: Result<T, Fault>, out: &mut Vec<u8>) -> Option<T> {
    parsed.map_err(|fault| fault.write(out)).ok()
}

/// The answer, or `None` when the error is written.
fn answered<T>(
    door: &Door,
    (limit, subject): (&[u8], &[u8]),
    answer: Result<Result<T, LimitError>, AskError>,
    out: &mut Vec<u8>,
) -> Option<T> {
    let answer = answer.unwrap_or_else(|error| Err(LimitError::Actor(error)));
    answer
        .map_err(|error| failure::limit(out, &door.rate_limits, (limit, subject), &error))
        .ok()
}

fn count(out: &mut Vec<u8>, number: u64) {
    reply::integer(out, i64::try_from(number).unwrap_or(i64::MAX));
}

/// Digits only, as Redis counts: no sign, no space, no zero in front.
fn number(what: &str, word: &[u8], least: u64, most: u64) -> Result<u64, Fault> {
    let is_plain = match word {
        [b'0', _, ..] | [] => false,
        digits => digits.iter().all(u8::is_ascii_digit),
    };
    let text = std::str::from_utf8(word).ok().filter(|_| is_plain);
    let number = text.and_then(|text| text.parse().ok());
    number
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| {
            let word = shown(word);
            let text = format_args!("{what} '{word}' is no whole number from {least} to {most}");
            Fault::new("ERR", text)
        })
}

/// A subject, or what else becomes part of a key: 1 to 512 bytes of UTF-8 without control characters.
fn name_of(what: &str, word: &[u8]) -> Result<Bytes, Fault> {
    let bad = |why: &dyn fmt::Display| Err(Fault::new("BADKEY", format_args!("{what} {why}")));
    let length = word.len();
    match std::str::from_utf8(word) {
        _ if word.is_empty() => bad(&"is empty"),
        _ if length > MAX_KEY_BYTES => bad(&format_args!(
            "has {length} bytes, and may have {MAX_KEY_BYTES}"
        )),
        Err(_no_text) => bad(&format_args!("'{}' is not valid UTF-8", shown(word))),
        Ok(text) if text.contains(char::is_control) => {
            bad(&format_args!("'{}' holds a control character", shown(word)))
        }
        Ok(_) => Ok(Bytes::copy_from_slice(word)),
    }
}

/// Names of limits. Whether they are declared, the actor knows.
fn limits_of(word: &[u8]) -> Result<Bytes, Fault> {
    let length = word.len();
    if length > MAX_LIMITS_BYTES {
        let text = format_args!(
            "the names of limits have {length} bytes, and may have {MAX_LIMITS_BYTES}; name fewer"
        );
        return Err(Fault::new("ERR", text));
    }
    Ok(Bytes::copy_from_slice(word))
}

/// The beginning of a word, for an error; control characters are escaped where it is written.
fn shown(word: &[u8]) -> String {
    // A character has at most four bytes.
    let text = String::from_utf8_lossy(&word[..word.len().min(4 * SHOWN_WORD)]);
    let mut shown: String = text.chars().take(SHOWN_WORD).collect();
    if shown.len() < word.len() && text.chars().count() > SHOWN_WORD {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
#[path = "limits_tests.rs"]
mod tests;
