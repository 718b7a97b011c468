//! S4: `GET` of keys that lie in Redis, through the daemon and through twemproxy.
//!
//! Work: 50 connections, 100,000 keys drawn at random, values of 256 bytes, pipelines of 1, 16 and 64. Both proxies stand
//! before the same Redis. Redis itself runs along for scale.
//!
//! Is the generator the bottleneck? No. Measured once beside `redis-benchmark -c 50 -r 100000 -P N -t get`
//! (its own loop in C) on the same idle servers: see the figures in README.md.

use crate::support::load::Until;
use crate::support::proxy::Proxy;
use crate::support::request::{Draw, FIRST_ID, Template};
use crate::support::rounds::{Measured, medians, take_turns};
use crate::support::table::{Limits, Report, Row, rate};
use crate::support::world::{World, ask};
use crate::support::{Bench, BenchError, Watched};

const CONNECTIONS: usize = 50;
const KEYS: u32 = 100_000;

/// The pipelines, with what each must reach.
const DEPTHS: [(usize, f64, f64); 3] = [(1, 0.8, 1.1), (16, 1.5, 2.5), (64, 2.3, 4.0)];

/// How the values get into Redis: read through the daemon, so that they are what it stores.
const WARM_CONNECTIONS: usize = 8;
const WARM_KEYS: usize = 32;

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let world = World::open()?;
    let proxy = Proxy::start(&world.folder, world.redis.port())?;
    warm(bench, &world)?;
    let mut report = Report::default();
    for (depth, floor, goal) in DEPTHS {
        let [redis, theirs, ours] = measure(bench, &world, &proxy, depth)?;
        report.rows.push(Row::of_rates(
            "S4",
            format!("GET, hit in Redis, 50 clients, {depth} at a time"),
            "twemproxy".to_owned(),
            &ours,
            &theirs,
            Limits::at_least(floor, goal),
        ));
        let [redis, theirs, ours] = [&redis, &theirs, &ours].map(|runs| medians(runs));
        report.notes.push(format!(
            "S4, {depth} at a time: Redis itself {} with {:.2} µs of CPU a request, the generator {:.2} µs; behind \
             twemproxy Redis used {:.2} µs, behind us {:.2} µs",
            rate(redis.rate),
            redis.cpu_us,
            redis.generator_us,
            theirs.redis_us,
            ours.redis_us
        ));
    }
    Ok(report)
}

fn warm(bench: &Bench, world: &World) -> Result<(), BenchError> {
    let template = Template::mget(WARM_KEYS);
    let mut clients = bench.connect(world.port, WARM_CONNECTIONS, &template)?;
    bench.run(&mut clients, &Draw::Each(keys()), Until::NoneLeft)?;
    // Each was asked for once, so each is there: a hit that is none would be measured as a slow one.
    let held = ask(world.redis.port(), "DBSIZE")?;
    let held: u32 = held.trim().trim_start_matches(':').parse().unwrap_or(0);
    if held < KEYS {
        return Err(BenchError::Reply {
            port: world.redis.port(),
            reply: format!("{held} keys"),
            expected: format!("{KEYS} keys"),
        });
    }
    Ok(())
}

/// Redis itself, twemproxy and the daemon in turn.
fn measure(
    bench: &Bench,
    world: &World,
    proxy: &Proxy,
    depth: usize,
) -> Result<[Vec<Measured>; 3], BenchError> {
    let redis = world.redis.pid().unwrap_or_default();
    let behind = |server| Watched {
        server,
        redis: (server != redis).then_some(redis),
        postgres: None,
    };
    let servers = [
        (world.redis.port(), behind(redis)),
        (proxy.port(), behind(proxy.pid())),
        (world.port, behind(world.daemon.pid())),
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

fn keys() -> std::ops::Range<u32> {
    FIRST_ID..FIRST_ID + KEYS
}
