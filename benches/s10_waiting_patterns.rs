//! S10: five patterns that wait share one pass through a million keys.
//!
//! Work: five connections send a `CACHE.INVALIDATE` each, at once; time until the last is acknowledged. Peer: the same five,
//! each after the one before.

use std::time::Instant;

use crate::support::filled::{Filled, MATCHING, PATTERNS, connect, failed};
use crate::support::rounds::Spread;
use crate::support::table::{Limits, Report, Row, Side, Unit};
use crate::support::{Bench, BenchError};

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let filled = Filled::open()?;
    let (mut together, mut apart) = (Vec::new(), Vec::new());
    for _ in 0..bench.rounds {
        filled.refill()?;
        together.push(at_once(&filled)?);
        filled.refill()?;
        let begun = Instant::now();
        for pattern in patterns() {
            filled.invalidate(&pattern)?;
        }
        apart.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let side = |millis: &[f64]| Side {
        rate: format!("{:.0} ms", Spread::of(millis.iter().copied()).median),
        cpu: String::new(),
    };
    let mut report = Report::default();
    report.rows.push(Row {
        target: "S10",
        work: "five patterns at once: time".to_owned(),
        against: "five passes".to_owned(),
        figure: Spread::of_ratio(&together, &apart),
        unit: Unit::Times,
        ours: side(&together),
        theirs: side(&apart),
        limits: Limits::at_most(0.5, 0.3),
    });
    Ok(report)
}

fn patterns() -> impl Iterator<Item = String> {
    (0..PATTERNS).map(|pattern| format!("bench:{pattern}:*"))
}

/// Milliseconds until all five are acknowledged.
fn at_once(filled: &Filled) -> Result<f64, BenchError> {
    let begun = Instant::now();
    let mut asking = Vec::new();
    for pattern in patterns() {
        let mut daemon = connect(filled.port)?;
        asking.push(std::thread::spawn(move || {
            let mut ask = redis::cmd("CACHE.INVALIDATE");
            ask.arg(&pattern).query::<usize>(&mut daemon)
        }));
    }
    for asking in asking {
        let removed = asking.join().map_err(|_panicked| BenchError::Helper {
            program: "sweep",
            message: "panicked".to_owned(),
        })?;
        let removed = removed.map_err(failed)?;
        if removed != MATCHING {
            return Err(BenchError::Helper {
                program: "sweep",
                message: format!("{removed} of {MATCHING} keys were removed"),
            });
        }
    }
    Ok(begun.elapsed().as_secs_f64() * 1e3)
}
