//! S6: reads of keys that are nowhere but in Postgres: miss, lease, load, fill, answer.
//!
//! Work: 64 connections, one `GET` at a time, no key twice, Redis emptied before each run. Against pgbench with the same
//! select as a prepared statement, at the client count that is best for it.

use crate::support::load::Clients;
use crate::support::pgbench::Pgbench;
use crate::support::request::{Draw, Template};
use crate::support::rounds::{Measured, medians, take_turns};
use crate::support::table::{Limits, Report, Row, mebibytes};
use crate::support::world::World;
use crate::support::{Bench, BenchError, usage};

const CONNECTIONS: usize = 64;

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let world = World::open()?;
    let pgbench = Pgbench::best(&world, bench.sample)?;
    let mut clients = bench.connect(world.port, CONNECTIONS, &Template::get(1))?;
    let [theirs, ours] = against(bench, &world, &pgbench, &mut clients)?;
    let mut report = Report::default();
    report.rows.push(Row::of_rates(
        "S6",
        "cold GET, 64 clients, one at a time".to_owned(),
        format!("pgbench -M prepared -c {}", pgbench.clients),
        &ours,
        &theirs,
        Limits::at_least(1.1, 4.0),
    ));
    report.notes.push(whole_cost("S6", &world, &ours, &theirs)?);
    Ok(report)
}

/// pgbench and cold reads by `clients`, in turn.
pub fn against(
    bench: &Bench,
    world: &World,
    pgbench: &Pgbench<'_>,
    clients: &mut Clients,
) -> Result<[Vec<Measured>; 2], BenchError> {
    take_turns(bench.rounds, |side| {
        if side == 0 {
            return pgbench.run();
        }
        cold(bench, world, clients)
    })
}

/// One run of cold reads.
pub fn cold(bench: &Bench, world: &World, clients: &mut Clients) -> Result<Measured, BenchError> {
    world.flush_redis()?;
    let (redis, postgres) = (
        world.redis.pid().unwrap_or_default(),
        world.postgres.pid().unwrap_or_default(),
    );
    bench.measure(
        clients,
        &Draw::Each(World::ids()),
        || usage::cpu(world.daemon.pid()),
        || Ok(usage::cpu(redis)? + usage::family_cpu(postgres)?),
    )
}

/// What all processes used for one key.
pub fn whole_cost(
    target: &str,
    world: &World,
    ours: &[Measured],
    theirs: &[Measured],
) -> Result<String, BenchError> {
    let (ours, theirs) = (medians(ours), medians(theirs));
    let memory = usage::memory(world.daemon.pid())?;
    Ok(format!(
        "{target}: CPU µs a key, all processes: ours {:.1} (daemon {:.1}, Redis and Postgres {:.1}, generator {:.1}), \
         theirs {:.1} (Postgres {:.1}, pgbench {:.1}); afterwards the daemon holds {:.0} MiB",
        ours.cpu_us + ours.others_us + ours.generator_us,
        ours.cpu_us,
        ours.others_us,
        ours.generator_us,
        theirs.cpu_us + theirs.generator_us,
        theirs.cpu_us,
        theirs.generator_us,
        mebibytes(memory.resident),
    ))
}
