//! S5: the same when 19 of 20 reads are answered from memory, and the others from Redis.
//!
//! The memory is made so small that about so many of the 100,000 keys fit: what is not there is looked up, kept, and pushes
//! something else out, as it does wherever memory is smaller than what is read.

use crate::s01_l1_hits::{beside, figure, measure, warm};
use crate::support::table::{Limits, Report, Row};
use crate::support::world::World;
use crate::support::{Bench, BenchError};

/// Room for 95,000 entries.
const CAPACITY: &str = "43MiB";

/// The pipelines, with what each must reach.
const DEPTHS: [(usize, f64, f64); 2] = [(16, 1.1, 1.3), (64, 1.4, 1.9)];

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let world = World::open_in_memory(CAPACITY)?;
    let mut report = Report::default();
    for (depth, floor, goal) in DEPTHS {
        warm(bench, &world)?;
        let before = reads(&world)?;
        let [redis, ours] = measure(bench, &world, depth)?;
        let after = reads(&world)?;
        let (memory, redis_hits) = (after.0 - before.0, after.1 - before.1);
        report.rows.push(Row::of_rates(
            "S5",
            format!("GET, 95 % hits in memory, 50 clients, {depth} at a time"),
            "Redis itself".to_owned(),
            &ours,
            &redis,
            Limits::at_least(floor, goal),
        ));
        let share = 100.0 * memory as f64 / (memory + redis_hits) as f64;
        let told = beside("S5", depth, &redis, &ours);
        report
            .notes
            .push(format!("{told}; {share:.1} % from memory"));
    }
    Ok(report)
}

/// Reads answered from memory, and from Redis.
fn reads(world: &World) -> Result<(u64, u64), BenchError> {
    let memory = figure(world, "state=\"hit-l1\"")?;
    Ok((memory, figure(world, "state=\"hit\"")?))
}
