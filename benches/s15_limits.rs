//! S15: decisions of limits, 256 requests in flight, beside the same script given to Redis itself; and refusals that stand, beside
//! our own hits in memory.
//!
//! redis-benchmark asks both: 16 connections with 16 requests each, of 100,000 subjects. We send Redis many requests in one call of
//! the script; redis-benchmark sends one a call, as every client does that has no daemon.

use std::path::Path;

use cachewarden::cli::demo::servers::free_port;

use crate::support::filled::{connect, failed};
use crate::support::process::Daemon;
use crate::support::redis_benchmark::{Load, RANDOM, run as benchmark};
use crate::support::rounds::{Measured, medians, take_turns};
use crate::support::table::{Limits, Report, Row, rate};
use crate::support::world::Backends;
use crate::support::{Bench, BenchError, Watched};

/// Nobody is refused but who is to be.
const SECTIONS: &str = r#"
[limits.fixed_window]
algorithm = "fixed_window"
limit = 100000000
window = "1h"
[limits.sliding_window]
algorithm = "sliding_window"
limit = 100000000
window = "1h"
[limits.token_bucket]
algorithm = "token_bucket"
limit = 100000000
window = "1h"
[limits.full]
algorithm = "fixed_window"
limit = 1
window = "365d"
[caches.hit]
key = "hit:{id:bigint}"
query = "SELECT id, payload FROM bench WHERE id = :id"
shape = "object"
ttl = "1h"
l1 = true
"#;
const ALGORITHMS: [&str; 3] = ["fixed_window", "sliding_window", "token_bucket"];

const IN_FLIGHT: Load = Load {
    connections: 16,
    pipeline: 16,
    requests: 150_000,
};
/// As S2 has it.
const STANDING: Load = Load {
    connections: 50,
    pipeline: 16,
    requests: 1_000_000,
};

/// As everybody writes it: a counter that is given an expiry with its first request.
const PLAIN: &str = "local n = redis.call('INCR', KEYS[1]) if n == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end return n";

struct World {
    backends: Backends,
    daemon: Daemon,
    port: u16,
    serve: String,
    plain: String,
}

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let world = World::open()?;
    let mut report = Report::default();
    for algorithm in ALGORITHMS {
        let words = ["RATE.CHECK", algorithm, RANDOM];
        let [theirs, plain, ours] = take_turns(bench.rounds, |side| match side {
            0 => world.redis(IN_FLIGHT, &world.bare(algorithm)),
            1 => world.redis(IN_FLIGHT, &world.plainly()),
            _ => world.daemon(IN_FLIGHT, &words),
        })?;
        report.rows.push(Row::of_rates(
            "S15",
            format!("decisions of a {algorithm}, 256 in flight"),
            "redis-benchmark -P 16, the same script".to_owned(),
            &ours,
            &theirs,
            Limits::at_least(0.55, 1.0),
        ));
        report.notes.push(told(algorithm, &theirs, &plain, &ours));
    }
    report.rows.push(refused(bench, &world)?);
    Ok(report)
}

/// Beside our own hits in memory, asked in the same way: both are told by the connection's own thread.
fn refused(bench: &Bench, world: &World) -> Result<Row, BenchError> {
    let words = ["RATE.CHECK", "full", "user:1"];
    let hit = ["GET", "hit:1000000"];
    // The first is let through, the second is told by Redis; a value is kept when it is found there.
    let begin = Load {
        requests: 10_000,
        ..STANDING
    };
    for words in [&words[..], &hit[..]] {
        world.daemon(begin, words)?;
    }
    let [hits, ours] = take_turns(bench.rounds, |side| match side {
        0 => world.daemon(STANDING, &hit),
        _ => world.daemon(STANDING, &words),
    })?;
    Ok(Row::of_rates(
        "S15",
        "refusals that stand, 50 clients, 16 at a time".to_owned(),
        "our own hits in memory (S2)".to_owned(),
        &ours,
        &hits,
        Limits::at_least(1.0, 1.0),
    ))
}

fn told(algorithm: &str, theirs: &[Measured], plain: &[Measured], ours: &[Measured]) -> String {
    let [theirs, plain, ours] = [theirs, plain, ours].map(medians);
    format!(
        "S15, {algorithm}: one a call {} with {:.1} µs of Redis; the script that everybody writes (INCR, and PEXPIRE of the first) {} \
         with {:.1} µs; we {} with {:.1} µs of our own and {:.1} µs of Redis",
        rate(theirs.rate),
        theirs.cpu_us,
        rate(plain.rate),
        plain.cpu_us,
        rate(ours.rate),
        ours.cpu_us,
        ours.redis_us
    )
}

impl World {
    fn open() -> Result<Self, BenchError> {
        let backends = Backends::open(1, &[])?;
        let port = free_port()?;
        let config = backends.write_config_with("limits.toml", port, SECTIONS)?;
        let daemon = Daemon::start(&backends.folder, Path::new(&config))?;
        let mut redis = connect(backends.redis.port())?;
        let mut load = |text: &str| {
            let script = redis::Script::new(text);
            script.prepare_invoke().load(&mut redis).map_err(failed)
        };
        let serve = load(concat!(
            include_str!("../src/rate_limit/scripts/read_clock.lua"),
            include_str!("../src/rate_limit/scripts/divide_product.lua"),
            include_str!("../src/rate_limit/scripts/keep_counts.lua"),
            include_str!("../src/rate_limit/scripts/count_fixed.lua"),
            include_str!("../src/rate_limit/scripts/count_plainly.lua"),
            include_str!("../src/rate_limit/scripts/count_sliding.lua"),
            include_str!("../src/rate_limit/scripts/fill_bucket.lua"),
            include_str!("../src/rate_limit/scripts/count_in_flight.lua"),
            include_str!("../src/rate_limit/scripts/serve_requests.lua"),
        ))?;
        let plain = load(PLAIN)?;
        Ok(Self {
            backends,
            daemon,
            port,
            serve,
            plain,
        })
    }

    /// One request of one limit, as the daemon puts it.
    fn bare<'a>(&'a self, algorithm: &'a str) -> [&'a str; 17] {
        const KEY: &str = "cachewarden:limit:bare:__rand_int__";
        let span_us = "3600000000";
        let (rate, capacity) = ("100000000", "100000000");
        [
            "EVALSHA",
            &self.serve,
            "1",
            KEY,
            "1",
            "cachewarden:limits",
            // One limit, which refuses what does not fit.
            "1",
            algorithm,
            rate,
            span_us,
            capacity,
            "1",
            // One request, of the first limit.
            "take",
            "1",
            "",
            "1",
            "1",
        ]
    }

    fn plainly(&self) -> [&str; 5] {
        ["EVALSHA", &self.plain, "1", "plain:__rand_int__", "3600000"]
    }

    fn redis(&self, load: Load, words: &[&str]) -> Result<Measured, BenchError> {
        let server = self.backends.redis.pid().unwrap_or_default();
        let watched = Watched {
            server,
            redis: None,
            postgres: None,
        };
        benchmark(self.backends.redis.port(), load, words, watched)
    }

    fn daemon(&self, load: Load, words: &[&str]) -> Result<Measured, BenchError> {
        let watched = Watched {
            server: self.daemon.pid(),
            redis: self.backends.redis.pid(),
            postgres: None,
        };
        benchmark(self.port, load, words, watched)
    }
}
