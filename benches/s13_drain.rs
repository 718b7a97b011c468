//! S13: how fast one daemon empties the queue.
//!
//! Work: 100,000 rows of one key each, committed at once; each key has a value in Redis. The time runs from the commit until the
//! queue is empty, which is when all of it was acknowledged by Redis.

use std::time::{Duration, Instant};

use crate::support::rounds::Spread;
use crate::support::table::{Limits, Report, Row, Side, Unit, rate};
use crate::support::watched::Watched;
use crate::support::{Bench, BenchError};

const ROWS: u32 = 100_000;
/// A look is a psql of its own, whose work counts against us.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const DEADLINE: Duration = Duration::from_secs(120);

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let watched = Watched::open(ROWS)?;
    let mut rates = Vec::new();
    for round in 0..bench.rounds {
        if round > 0 {
            watched.refill()?;
        }
        rates.push(f64::from(ROWS) / drain(&watched)?.as_secs_f64());
    }
    let middle = Spread::of(rates.iter().copied());
    let thousands = Spread::of(rates.iter().map(|rate| rate / 1e3));
    let mut report = Report::default();
    report.rows.push(Row {
        target: "S13",
        work: "queued rows applied and removed, in thousands a second".to_owned(),
        against: String::new(),
        figure: thousands,
        unit: Unit::Count,
        ours: Side {
            rate: rate(middle.median),
            cpu: String::new(),
        },
        theirs: Side::default(),
        limits: Limits::at_least(20.0, 60.0),
    });
    Ok(report)
}

/// Queues a row a key, and waits until none is left.
fn drain(watched: &Watched) -> Result<Duration, BenchError> {
    let ids = watched.ids();
    let backends = &watched.backends;
    backends.sql(&format!(
        "INSERT INTO cachewarden.outbox (source, keys)
         SELECT 'public.bench', ARRAY['bench:' || id] FROM generate_series({}, {}) AS id",
        ids.start,
        ids.end - 1
    ))?;
    let begun = Instant::now();
    while backends.sql("SELECT EXISTS (SELECT FROM cachewarden.outbox)")? != "f" {
        if begun.elapsed() > DEADLINE {
            return Err(BenchError::Helper {
                program: "cachewarden",
                message: format!("the queue is not empty after {DEADLINE:?}"),
            });
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    Ok(begun.elapsed())
}
