//! S7: `MGET` of 32 keys that are nowhere but in Postgres, in keys a second against pgbench's selects a second.
//!
//! Both at their best: pgbench and we are given the client count that is fastest for each.

use crate::s06_cold_reads::{against, cold, whole_cost};
use crate::support::pgbench::Pgbench;
use crate::support::request::Template;
use crate::support::rounds::{Best, best_of};
use crate::support::table::{Limits, Report, Row};
use crate::support::world::World;
use crate::support::{Bench, BenchError};

const KEYS: usize = 32;
const CONNECTIONS: [usize; 4] = [8, 16, 32, 64];

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let world = World::open()?;
    let pgbench = Pgbench::best(&world, bench.sample)?;
    let template = Template::mget(KEYS);
    let Best {
        choice: connections,
        ..
    } = best_of(CONNECTIONS, |connections| {
        let mut clients = bench.connect(world.port, connections, &template)?;
        Ok(cold(bench, &world, &mut clients)?.rate)
    })?;
    let mut clients = bench.connect(world.port, connections, &template)?;
    let [theirs, ours] = against(bench, &world, &pgbench, &mut clients)?;
    let mut report = Report::default();
    report.rows.push(Row::of_rates(
        "S7",
        format!("cold MGET of {KEYS}, {connections} clients, in keys"),
        format!("pgbench -M prepared -c {}", pgbench.clients),
        &ours,
        &theirs,
        Limits::at_least(3.0, 6.0),
    ));
    report.notes.push(whole_cost("S7", &world, &ours, &theirs)?);
    Ok(report)
}
