//! S18: ten thousand connections that say nothing, and what they cost in memory beside the same on Redis.
//!
//! Work: a fresh process, 10,000 connections, one `PING` each, then rest. What has grown since a first client was
//! served is what the connections cost. The kernel's own buffers are the same for both and are not counted.
//!
//! Redis gives a connection 32 KiB for its first command and takes them back while it rests; after 12 s it is done.
//! Measured earlier, it would look five times as large: so both rest for longer.

use std::time::Duration;

use cachewarden::cli::demo::servers::{Redis, RedisOptions, free_port};

use crate::s17_at_rest::rest;
use crate::support::load::Until;
use crate::support::process::Daemon;
use crate::support::request::{Draw, FIRST_ID, Template};
use crate::support::rounds::Spread;
use crate::support::table::{Limits, Report, Row, Side, Unit, mebibytes};
use crate::support::world::Backends;
use crate::support::{Bench, BenchError, usage};

const CONNECTIONS: usize = 10_000;

/// Memory hardly varies, and each round rests twice.
const ROUNDS: usize = 2;

const REST: Duration = Duration::from_secs(15);

/// Both are allowed some more connections than come.
const MAX_CONNECTIONS: &str = "12000";

/// How much larger a process became, in MiB.
struct Growth {
    at_once: f64,
    rested: f64,
}

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let backends = Backends::open(1, &[])?;
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let options = RedisOptions {
            args: vec!["--maxclients".to_owned(), MAX_CONNECTIONS.to_owned()],
            ..RedisOptions::default()
        };
        let redis = Redis::start(&backends.folder, &options)?;
        theirs.push(growth(
            bench,
            redis.port(),
            redis.pid().unwrap_or_default(),
        )?);
        drop(redis);

        let port = free_port()?;
        let config = backends.write_config("cachewarden.toml", port)?;
        let daemon = Daemon::start(&backends.folder, &config)?;
        ours.push(growth(bench, port, daemon.pid())?);
    }
    let rested = |side: &[Growth]| side.iter().map(|growth| growth.rested).collect::<Vec<_>>();
    let (our_rest, their_rest) = (rested(&ours), rested(&theirs));
    let side = |figures: &[f64]| Side {
        rate: format!("{:.1} MiB", Spread::of(figures.iter().copied()).median),
        cpu: String::new(),
    };
    let row = Row {
        target: "S18",
        work: "10,000 idle connections, memory".to_owned(),
        against: "Redis itself".to_owned(),
        figure: Spread::of_ratio(&our_rest, &their_rest),
        unit: Unit::Times,
        ours: side(&our_rest),
        theirs: side(&their_rest),
        limits: Limits::at_most(2.0, 1.0),
    };
    let at_once = |side: &[Growth]| Spread::of(side.iter().map(|growth| growth.at_once)).median;
    let notes = vec![format!(
        "S18: before the rest of {} s we had grown by {:.1} MiB, Redis by {:.1} MiB",
        REST.as_secs(),
        at_once(&ours),
        at_once(&theirs)
    )];
    Ok(Report {
        rows: vec![row],
        notes,
    })
}

fn growth(bench: &Bench, port: u16, pid: u32) -> Result<Growth, BenchError> {
    let (template, draw) = (Template::ping(), Draw::One(FIRST_ID));
    let mut first = bench.connect(port, 1, &template)?;
    bench.run(&mut first, &draw, Until::Once)?;
    let before = usage::memory(pid)?.resident;
    let grown = || -> Result<f64, BenchError> {
        let now = usage::memory(pid)?.resident;
        Ok(mebibytes(now.saturating_sub(before)))
    };
    let mut clients = bench.connect(port, CONNECTIONS, &template)?;
    bench.run(&mut clients, &draw, Until::Once)?;
    let at_once = grown()?;
    rest(REST);
    Ok(Growth {
        at_once,
        rested: grown()?,
    })
}
