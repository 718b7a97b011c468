//! S1, S2, S3: `GET` of keys that lie in the daemon's own memory, beside Redis itself.
//!
//! Work: 50 connections, 100,000 keys drawn at random, values of 256 bytes, pipelines of 1, 16 and 64. Redis answers the same keys.
//! Entries live 30 s, as users find it: some reads of every run go to Redis again.

use crate::support::load::Until;
use crate::support::request::{Draw, FIRST_ID, Template, VALUE_BYTES};
use crate::support::rounds::{Measured, medians, take_turns};
use crate::support::table::{Limits, Report, Row, rate};
use crate::support::world::{World, ask};
use crate::support::{Bench, BenchError, Watched};

const CONNECTIONS: usize = 50;
pub const KEYS: u32 = 100_000;

/// The pipelines, with what each must reach.
const DEPTHS: [(&str, usize, f64, f64); 3] = [
    ("S1", 1, 0.9, 1.05),
    ("S2", 16, 1.15, 1.5),
    ("S3", 64, 1.5, 2.2),
];

/// The first time a key is loaded, the second time it is found in Redis and kept, and the third makes up for what was evicted
/// or heard of meanwhile.
const WARM_TURNS: usize = 3;
const WARM_CONNECTIONS: usize = 8;
const WARM_KEYS: usize = 32;

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let world = World::open_in_memory("64MiB")?;
    let mut report = Report::default();
    for (target, depth, floor, goal) in DEPTHS {
        warm(bench, &world)?;
        let before = figure(&world, "cachewarden_l1_bytes")?;
        if before < u64::from(KEYS) * VALUE_BYTES as u64 {
            return Err(BenchError::Reply {
                port: world.port,
                reply: format!("{before} bytes in memory"),
                expected: format!("{KEYS} values"),
            });
        }
        let [redis, ours] = measure(bench, &world, depth)?;
        report.rows.push(Row::of_rates(
            target,
            format!("GET, hit in memory, 50 clients, {depth} at a time"),
            "Redis itself".to_owned(),
            &ours,
            &redis,
            Limits::at_least(floor, goal),
        ));
        report.notes.push(beside(target, depth, &redis, &ours));
    }
    Ok(report)
}

/// The CPU of both, as a ratio too.
pub fn beside(target: &str, depth: usize, redis: &[Measured], ours: &[Measured]) -> String {
    let [redis, ours] = [redis, ours].map(medians);
    format!(
        "{target}, {depth} at a time: Redis {} with {:.2} µs of CPU a request, we {} with {:.2} µs ({:.2}x), and {:.2} µs of \
         Redis; the generator {:.2} µs",
        rate(redis.rate),
        redis.cpu_us,
        rate(ours.rate),
        ours.cpu_us,
        ours.cpu_us / redis.cpu_us,
        ours.redis_us,
        ours.generator_us
    )
}

/// Reads every key until it lies in memory.
pub fn warm(bench: &Bench, world: &World) -> Result<(), BenchError> {
    let template = Template::mget(WARM_KEYS);
    let mut clients = bench.connect(world.port, WARM_CONNECTIONS, &template)?;
    for _ in 0..WARM_TURNS {
        bench.run(&mut clients, &Draw::Each(keys()), Until::NoneLeft)?;
    }
    Ok(())
}

/// Redis itself and the daemon in turn.
pub fn measure(
    bench: &Bench,
    world: &World,
    depth: usize,
) -> Result<[Vec<Measured>; 2], BenchError> {
    let redis = world.redis.pid().unwrap_or_default();
    let watched = |server| Watched {
        server,
        redis: (server != redis).then_some(redis),
        postgres: None,
    };
    let servers = [
        (world.redis.port(), watched(redis)),
        (world.port, watched(world.daemon.pid())),
    ];
    let template = Template::get(depth);
    let mut clients = Vec::new();
    for (port, _) in servers {
        clients.push(bench.connect(port, CONNECTIONS, &template)?);
    }
    take_turns(bench.rounds, |side| {
        let (_, watched) = servers[side];
        bench.measure(&mut clients[side], &Draw::Any(keys()), watched)
    })
}

/// The sum of a metric over its labels that hold `name`, as the daemon's `INFO` tells it.
pub fn figure(world: &World, name: &str) -> Result<u64, BenchError> {
    let info = ask(world.port, "INFO cachewarden")?;
    let lines = info.lines().filter(|line| line.contains(name));
    let values = lines.filter_map(|line| line.rsplit_once(':')?.1.trim().parse::<u64>().ok());
    Ok(values.sum())
}

fn keys() -> std::ops::Range<u32> {
    FIRST_ID..FIRST_ID + KEYS
}
