//! S7: `MGET` of 32 keys that are nowhere but in Postgres, in keys a second against pgbench's selects a second.
//!
//! Both at their best: pgbench and we are given the client count that is fastest for each.
//!
//! Beside it, what this Redis does when it is given nothing but the scripts of these reads: it works on one core, and no
//! daemon in front of it can be quicker.

use crate::s06_cold_reads::{against, cold, whole_cost};
use crate::support::load::Until;
use crate::support::pgbench::Pgbench;
use crate::support::request::Draw;
use crate::support::request::Template;
use crate::support::rounds::{Best, best_of, medians};
use crate::support::table::{Limits, Report, Row, rate};
use crate::support::world::World;
use crate::support::{Bench, BenchError};

const KEYS: usize = 32;
const CONNECTIONS: [usize; 4] = [8, 16, 32, 64];

/// For Redis alone: calls as large as the daemon's mostly are, and so many at a time that it never waits.
const KEYS_A_CALL: usize = 64;
const CALLERS: [usize; 3] = [2, 4, 8];

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
    let alone = scripts_alone(bench, &world)?;
    report.notes.push(format!(
        "S7: given nothing but the two scripts of these reads, {KEYS_A_CALL} keys a call, Redis alone does {} keys, {:.1}x \
         of what pgbench reads",
        rate(alone),
        alone / medians(&theirs).rate
    ));
    Ok(report)
}

/// Keys a second that Redis leases and fills, at the number of connections that is best for it.
fn scripts_alone(bench: &Bench, world: &World) -> Result<f64, BenchError> {
    // The daemon's own; it has loaded them by now.
    let [acquire, end] = [
        include_str!("../src/cache/scripts/acquire_leases.lua"),
        concat!(
            include_str!("../src/cache/scripts/list_values.lua"),
            include_str!("../src/cache/scripts/end_leases.lua")
        ),
    ]
    .map(|text| redis::Script::new(text).get_hash().to_owned());
    let template = Template::lease_and_fill(KEYS_A_CALL, &acquire, &end);
    let best = best_of(CALLERS, |callers| {
        world.flush_redis()?;
        let mut clients = bench.connect(world.redis.port(), callers, &template)?;
        let each = Draw::Each(World::ids());
        let until = Until::Elapsed(bench.sample);
        Ok(bench.run(&mut clients, &each, until)?.rate())
    })?;
    Ok(best.rate)
}
