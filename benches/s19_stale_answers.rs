//! S19: `GET` of values whose `ttl` is over, through the daemon, beside `GET` of fresh ones of the same cache.
//!
//! Work: 50 connections, two times 50,000 keys drawn at random, values of 256 bytes, pipelines of 1 and 16. Postgres stands
//! still meanwhile: a value that was refreshed would be a stale one no more. So each answer is the old value, and the
//! refreshes that it asks for fail behind it.

use crate::support::filled::{connect, failed};
use crate::support::load::Until;
use crate::support::request::{Draw, FIRST_ID, Template, key};
use crate::support::rounds::{Measured, medians, take_turns};
use crate::support::table::{Limits, Report, Row, rate};
use crate::support::world::World;
use crate::support::{Bench, BenchError, Watched};
use std::ops::Range;

const CONNECTIONS: usize = 50;
const KEYS: u32 = 50_000;
/// The pipelines.
const DEPTHS: [usize; 2] = [1, 16];

/// What is stale is answered, and refreshed; what cannot be, all the same.
const WINDOWS: &str = "stale_while_revalidate = \"2h\"\n";
/// Within it.
const LEFT_MS: u32 = 3_600_000;
const A_PIPELINE: usize = 1000;

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let mut world = World::open_with(WINDOWS)?;
    fill(bench, &world)?;
    age(&world)?;
    world.postgres.freeze().map_err(BenchError::Server)?;
    let mut report = Report::default();
    for depth in DEPTHS {
        let [fresh, stale] = measure(bench, &world, depth)?;
        report.rows.push(Row::of_rates(
            "S19",
            format!("GET, stale value, 50 clients, {depth} at a time"),
            "fresh ones of the same cache".to_owned(),
            &stale,
            &fresh,
            Limits::at_least(0.9, 1.0),
        ));
        let [fresh, stale] = [&fresh, &stale].map(|runs| medians(runs));
        report.notes.push(format!(
            "S19, {depth} at a time: fresh {} with {:.2} µs of our CPU and {:.2} of Redis a request, stale {} with {:.2} and {:.2}",
            rate(fresh.rate),
            fresh.cpu_us,
            fresh.redis_us,
            rate(stale.rate),
            stale.cpu_us,
            stale.redis_us
        ));
    }
    world.postgres.thaw().map_err(BenchError::Server)?;
    Ok(report)
}

fn fresh() -> Range<u32> {
    FIRST_ID..FIRST_ID + KEYS
}

fn stale() -> Range<u32> {
    FIRST_ID + KEYS..FIRST_ID + 2 * KEYS
}

/// Reads both halves through the daemon, so that they are what it stores.
fn fill(bench: &Bench, world: &World) -> Result<(), BenchError> {
    let mut clients = bench.connect(world.port, 8, &Template::mget(32))?;
    let both = Draw::Each(fresh().start..stale().end);
    bench.run(&mut clients, &both, Until::NoneLeft)?;
    Ok(())
}

/// Lets the second half be past its `ttl`.
fn age(world: &World) -> Result<(), BenchError> {
    let mut connection = connect(world.redis.port())?;
    let ids: Vec<u32> = stale().collect();
    for ids in ids.chunks(A_PIPELINE) {
        let mut pipeline = redis::pipe();
        for id in ids {
            pipeline.cmd("PEXPIRE").arg(key(*id)).arg(LEFT_MS);
        }
        let aged: Vec<u32> = pipeline.query(&mut connection).map_err(failed)?;
        if aged.contains(&0) {
            return Err(BenchError::Reply {
                port: world.redis.port(),
                reply: "a key that is not there".to_owned(),
                expected: "all keys of the bench".to_owned(),
            });
        }
    }
    Ok(())
}

/// Fresh and stale ones in turn.
fn measure(bench: &Bench, world: &World, depth: usize) -> Result<[Vec<Measured>; 2], BenchError> {
    let watched = || Watched {
        server: world.daemon.pid(),
        redis: world.redis.pid(),
        postgres: None,
    };
    let template = Template::get(depth);
    let mut clients = bench.connect(world.port, CONNECTIONS, &template)?;
    take_turns(bench.rounds, |side| {
        let draw = [fresh, stale][side]();
        bench.measure(&mut clients, &Draw::Any(draw), watched())
    })
}
