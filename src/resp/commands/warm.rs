//! `CACHE.WARM`, `CACHE.WARMING`.

use super::super::batch::millis;
use super::super::codec::{Protocol, reply};
use super::super::door::Door;
use super::super::failure;
use crate::warmup::{LookAtRuns, Outcome, Report, Warm, WarmError};

/// `CACHE.WARM [FORCE] [cache…]`: answered when all of them are done.
pub(super) async fn warm(door: &Door, args: &[&[u8]], protocol: Protocol, out: &mut Vec<u8>) {
    let (force, names) = match args {
        [first, names @ ..] if first.eq_ignore_ascii_case(b"FORCE") => (true, names),
        names => (false, names),
    };
    let names = names.iter().map(|name| String::from_utf8_lossy(name));
    let caches: Vec<String> = names.map(std::borrow::Cow::into_owned).collect();
    let Some(warmup) = &door.warmup else {
        return match caches.into_iter().next() {
            Some(name) => reply::error(out, "ERR", WarmError::Unknown { name }),
            None => reply::map(out, protocol, 0),
        };
    };
    match warmup.warm.ask(Warm { caches, force }).await {
        Ok(Ok(outcomes)) => {
            reply::map(out, protocol, outcomes.len());
            for (cache, outcome) in outcomes {
                reply::bulk(out, cache.as_bytes());
                reply::map(out, protocol, 5);
                write(out, protocol, &outcome);
            }
        }
        Ok(Err(error)) => reply::error(out, "ERR", error),
        Err(error) => failure::ask(out, error),
    }
}

/// `CACHE.WARMING`: where the warmup of each cache stands.
pub(super) async fn warming(door: &Door, protocol: Protocol, out: &mut Vec<u8>) {
    let Some(warmup) = &door.warmup else {
        return reply::map(out, protocol, 0);
    };
    match warmup.look.ask(LookAtRuns).await {
        Ok(reports) => {
            reply::map(out, protocol, reports.len());
            for report in &reports {
                reply::bulk(out, report.cache.as_bytes());
                write_report(out, protocol, report);
            }
        }
        Err(error) => failure::ask(out, error),
    }
}

/// Of the run that goes on, so far; else of the last.
fn write_report(out: &mut Vec<u8>, protocol: Protocol, report: &Report) {
    reply::map(out, protocol, 9);
    reply::bulk(out, b"running");
    reply::integer(out, i64::from(report.running.is_some()));
    reply::bulk(out, b"keys");
    match &report.running {
        Some((_, of)) => count(out, *of),
        None => reply::null(out, protocol),
    }
    let last = report.last.as_ref();
    reply::bulk(out, b"last_cause");
    match last {
        Some((_, why, _)) => reply::bulk(out, why.as_bytes()),
        None => reply::null(out, protocol),
    }
    reply::bulk(out, b"last_ago_ms");
    match last {
        Some((.., at)) => reply::integer(out, millis(at.elapsed())),
        None => reply::null(out, protocol),
    }
    let running = report.running.as_ref().map(|(outcome, _)| outcome);
    let shown = running.or(last.map(|(outcome, ..)| outcome));
    write(out, protocol, shown.unwrap_or(&Outcome::default()));
}

/// Five names and values.
fn write(out: &mut Vec<u8>, protocol: Protocol, outcome: &Outcome) {
    for (name, number) in [
        ("loaded", outcome.loaded),
        ("failed", outcome.failed),
        ("skipped", outcome.skipped),
    ] {
        reply::bulk(out, name.as_bytes());
        count(out, number);
    }
    reply::bulk(out, b"took_ms");
    reply::integer(out, millis(outcome.took));
    reply::bulk(out, b"error");
    match &outcome.error {
        Some(error) => reply::bulk(out, error.as_bytes()),
        None => reply::null(out, protocol),
    }
}

fn count(out: &mut Vec<u8>, number: u64) {
    reply::integer(out, i64::try_from(number).unwrap_or(i64::MAX));
}
