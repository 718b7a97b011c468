//! S9: fifty thousand of a million keys by pattern, and what a neighbour on the same Redis notices.
//!
//! Work: `CACHE.INVALIDATE bench:0:*` until it is acknowledged. Peer: a loop of `SCAN MATCH COUNT 100` and one `DEL` a page, as
//! everybody writes it, over a connection of its own. A second daemon does the same with an index of the keys. Meanwhile somebody else sends Redis a `GET` every 50 µs.

use crate::support::filled::{Filled, Neighbour};
use crate::support::rounds::Spread;
use crate::support::table::{Limits, Report, Row, Side, Unit};
use crate::support::{Bench, BenchError};

const PATTERN: &str = "bench:0:*";

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let filled = Filled::open()?;
    let indexed = filled.indexed()?;
    let mut sides: [Vec<Run>; 3] = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..bench.rounds {
        for turn in 0..3 {
            let side = (round + turn) % 3;
            filled.refill()?;
            filled.list(0)?;
            let neighbour = Neighbour::of(filled.redis_port(), "others:1".to_owned())?;
            let taken = match side {
                0 => filled.invalidate(PATTERN),
                1 => indexed.invalidate(PATTERN),
                _ => filled.by_hand(PATTERN),
            };
            let waits = Spread::of(neighbour.stop()?);
            sides[side].push(Run {
                millis: taken?.as_secs_f64() * 1e3,
                waits,
            });
        }
    }
    let [ours, indexed, theirs] = &sides;
    let mut report = Report::default();
    report.rows.push(row(
        "50,000 of 1,000,000 keys by pattern: time",
        "SCAN 100 + DEL",
        Spread::of_ratio(&millis(ours), &millis(theirs)),
        Unit::Times,
        Limits::at_most(0.5, 0.35),
        (ours, theirs),
    ));
    report.rows.push(row(
        "the same: a neighbour's longest wait",
        "",
        Spread::of(ours.iter().map(|run| run.waits.max)),
        Unit::Millis,
        Limits::at_most(10.0, 5.0),
        (&[], &[]),
    ));
    report.rows.push(row(
        "the same with an index of the cache's keys: time",
        "SCAN 100 + DEL",
        Spread::of_ratio(&millis(indexed), &millis(theirs)),
        Unit::Times,
        Limits::at_most(0.05, 0.05),
        (indexed, theirs),
    ));
    report.rows.push(row(
        "the same: a neighbour's longest wait",
        "",
        Spread::of(indexed.iter().map(|run| run.waits.max)),
        Unit::Millis,
        Limits::at_most(10.0, 5.0),
        (&[], &[]),
    ));
    report.notes.push(format!(
        "S9, the neighbour's waits: median {:.2} ms and longest {:.1} ms beside ours, {:.2} and {:.1} beside theirs, \
         {:.2} and {:.1} beside a sweep by an index",
        middle(ours, |run| run.waits.median),
        middle(ours, |run| run.waits.max),
        middle(theirs, |run| run.waits.median),
        middle(theirs, |run| run.waits.max),
        middle(indexed, |run| run.waits.median),
        middle(indexed, |run| run.waits.max),
    ));
    Ok(report)
}

/// One sweep.
struct Run {
    millis: f64,
    /// What the neighbour waited, in milliseconds.
    waits: Spread,
}

fn millis(runs: &[Run]) -> Vec<f64> {
    runs.iter().map(|run| run.millis).collect()
}

fn middle(runs: &[Run], figure: fn(&Run) -> f64) -> f64 {
    Spread::of(runs.iter().map(figure)).median
}

fn row(
    work: &str,
    against: &str,
    figure: Spread,
    unit: Unit,
    limits: Limits,
    (ours, theirs): (&[Run], &[Run]),
) -> Row {
    let side = |runs: &[Run]| match runs {
        [] => Side::default(),
        runs => Side {
            rate: format!("{:.0} ms", middle(runs, |run| run.millis)),
            cpu: String::new(),
        },
    };
    Row {
        target: "S9",
        work: work.to_owned(),
        against: against.to_owned(),
        figure,
        unit,
        ours: side(ours),
        theirs: side(theirs),
        limits,
    }
}
