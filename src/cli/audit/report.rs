//! What an audit has found: a table for people, JSON for programs.

use super::super::table::table as columns;
use super::trace::{Traced, told};
use crate::audit::{Example, Findings, Tally};
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

const HEAD: [&str; 9] = [
    "cache",
    "checked",
    "equal",
    "inconsistent",
    "drift",
    "gone",
    "undecided",
    "repaired",
    "took",
];

/// A table of all caches, and what is known of a few wrong keys.
pub(super) fn table(found: &Findings, traced: &Traced) -> String {
    let total = found.total();
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(found.caches.iter().chain([&total]).map(row));
    let mut out = columns(&rows);
    let _infallible = writeln!(out, "\n{}", verdict(&total));
    for (why, count) in &found.reasons {
        let _infallible = writeln!(out, "{count} undecided: {why}");
    }
    for (at, example) in found.examples.iter().enumerate() {
        let known = traced.as_ref().ok().and_then(|known| known.get(at));
        let _infallible = write!(out, "\n{}", described(example, known));
    }
    if let Err(why) = traced {
        let _infallible = writeln!(out, "\nwhat happened to them is not known: {why}");
    }
    out
}

fn row(tally: &Tally) -> [String; 9] {
    [
        tally.cache.clone(),
        tally.checked.to_string(),
        tally.equal.to_string(),
        tally.inconsistent.to_string(),
        tally.drift.to_string(),
        tally.gone.to_string(),
        tally.undecided.to_string(),
        tally.repaired.to_string(),
        format!("{:.1?}", tally.took),
    ]
}

fn verdict(total: &Tally) -> String {
    match (total.checked, total.inconsistent) {
        (0, _) => "nothing was compared".to_owned(),
        (checked, 0) => format!("consistent: 0 of {checked} compared values are inconsistent"),
        (checked, wrong) => format!(
            "INCONSISTENT: {wrong} of {checked} compared values; consistency {}",
            consistency(total)
        ),
    }
}

fn consistency(total: &Tally) -> f64 {
    1.0 - total.inconsistent as f64 / total.checked.max(1) as f64
}

fn described(example: &Example, known: Option<&Value>) -> String {
    let wrong = &example.wrong;
    let kind = if wrong.watched {
        "inconsistent"
    } else {
        "drift"
    };
    let ms =
        |time: Option<Duration>| time.map_or("?".to_owned(), |time| time.as_millis().to_string());
    let stored = wrong
        .stored
        .map_or("no row".to_owned(), |hash| format!("{hash:016x}"));
    let key = String::from_utf8_lossy(&example.key);
    let mut text = format!(
        "{key} ({}): {kind}; cached {:016x}, in postgres {stored}; {} ms old, {} ms left\n",
        example.cache,
        wrong.cached,
        ms(wrong.age),
        ms(wrong.left)
    );
    if let Some(known) = known {
        let _infallible = writeln!(text, "    {}", told(known));
    }
    text
}

/// The same for programs.
pub(super) fn json(found: &Findings, traced: &Traced) -> Value {
    let examples = found.examples.iter().enumerate().map(|(at, example)| {
        let wrong = &example.wrong;
        let ms = |time: Option<Duration>| time.map(millis);
        json!({
            "key": String::from_utf8_lossy(&example.key),
            "cache": example.cache,
            "kind": if wrong.watched { "inconsistent" } else { "drift" },
            "cached": format!("{:016x}", wrong.cached),
            "stored": wrong.stored.map(|hash| format!("{hash:016x}")),
            "age_ms": ms(wrong.age),
            "ttl_ms": ms(wrong.left),
            "trace": traced.as_ref().ok().and_then(|known| known.get(at)),
        })
    });
    let total = found.total();
    json!({
        "caches": found.caches.iter().map(counts).collect::<Value>(),
        "total": counts(&total),
        "consistency": consistency(&total),
        "undecided": found.reasons,
        "examples": examples.collect::<Value>(),
        "trace_error": traced.as_ref().err(),
    })
}

fn counts(tally: &Tally) -> Value {
    json!({
        "cache": tally.cache,
        "checked": tally.checked,
        "equal": tally.equal,
        "inconsistent": tally.inconsistent,
        "drift": tally.drift,
        "gone": tally.gone,
        "undecided": tally.undecided,
        "repaired": tally.repaired,
        "took_ms": millis(tally.took),
    })
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
