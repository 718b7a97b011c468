//! S6: reads of keys that are nowhere but in Postgres: miss, lease, load, fill, answer.
//!
//! Work: 64 connections, one `GET` at a time, no key twice, Redis emptied before each run. Against pgbench with the same
//! select as a prepared statement, at the client count that is best for it.

use crate::support::load::Clients;
use crate::support::pgbench::Pgbench;
use crate::support::request::{Draw, Template};
use crate::support::rounds::{Measured, medians, take_turns};
use crate::support::table::{Limits, Report, Row, mebibytes};
use crate::support::world::{World, ask};
use crate::support::{Bench, BenchError, Watched, usage};

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
    let watched = Watched {
        server: world.daemon.pid(),
        redis: world.redis.pid(),
        postgres: world.postgres.pid(),
    };
    bench.measure(clients, &Draw::Each(World::ids()), watched)
}

/// What all processes used for one key, and how well loads were joined.
pub fn whole_cost(
    target: &str,
    world: &World,
    ours: &[Measured],
    theirs: &[Measured],
) -> Result<String, BenchError> {
    let (ours, theirs) = (medians(ours), medians(theirs));
    let memory = usage::memory(world.daemon.pid())?;
    Ok(format!(
        "{target}: CPU µs a key, all processes: ours {:.1} (daemon {:.1}, Redis {:.1}, Postgres {:.1}, generator {:.1}), \
         theirs {:.1} (Postgres {:.1}, pgbench {:.1}); {:.1} keys a statement; afterwards the daemon holds {:.0} MiB",
        ours.whole_us(),
        ours.cpu_us,
        ours.redis_us,
        ours.postgres_us,
        ours.generator_us,
        theirs.whole_us(),
        theirs.cpu_us,
        theirs.generator_us,
        keys_a_statement(world)?,
        mebibytes(memory.resident),
    ))
}

/// Over all runs so far, as the daemon counts.
fn keys_a_statement(world: &World) -> Result<f64, BenchError> {
    let info = ask(world.port, "INFO")?;
    // `name:value`, and a name may have labels.
    let number = |name: &str, label: &str| {
        let is_it = |line: &&str| line.starts_with(name) && line.contains(label);
        let line = info.lines().find(is_it)?;
        line.rsplit_once(':')?.1.trim().parse::<f64>().ok()
    };
    let loaded = number("cachewarden_loads_total", "\"loaded\"");
    let figures = loaded.zip(number("postgres_statements:", ""));
    let (loaded, statements) = figures.ok_or_else(|| BenchError::Reply {
        port: world.port,
        reply: info.clone(),
        expected: "INFO with the counts of loads and statements".to_owned(),
    })?;
    Ok(loaded / statements)
}
