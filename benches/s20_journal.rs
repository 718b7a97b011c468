//! S20: writes that are acknowledged before Postgres has them (`mode = "behind"`), beside `XADD` of what the journal holds of one.
//!
//! redis-benchmark asks both: 50 connections, pipelines of 1 and 16, a `SET` of 256 bytes of JSON to one of 100,000 keys. `XADD` has
//! the journal's own fields and lengths, and no limit of the stream either. It is less than we do: an acknowledged write is also
//! what its key says from then on, and no load that is under way fills what was there before.
//!
//! Nothing is on disk: the Redis of both writes no append-only file. The next turn begins when all of the last is in Postgres.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::free_port;
use redis::Connection;

use crate::support::filled::{connect, failed};
use crate::support::process::Daemon;
use crate::support::redis_benchmark::{Load, run as benchmark};
use crate::support::request::VALUE_BYTES;
use crate::support::rounds::{Measured, Spread, medians, take_turns};
use crate::support::table::{Limits, Report, Row, rate};
use crate::support::watched::migrate;
use crate::support::world::Backends;
use crate::support::{Bench, BenchError, Watched};

/// A turn's writes, by their pipeline: seconds of ours, and many more until they are saved.
const LOADS: [Load; 2] = [
    Load {
        connections: 50,
        pipeline: 1,
        requests: 60_000,
    },
    Load {
        connections: 50,
        pipeline: 16,
        requests: 150_000,
    },
];
const MAX_JOURNAL: &str = "10000000";

/// A text, because redis-benchmark fills its random number up with zeros, which no bigint of a key has.
const CACHE: &str = r#"
[caches.note]
key = "note:{id:text}"
query = "SELECT value FROM note WHERE id = :id"
shape = "scalar"
ttl = "1h"
[caches.note.write]
mode = "behind"
save = "INSERT INTO note (id, value) VALUES (:id, :value) ON CONFLICT (id) DO UPDATE SET value = excluded.value"
"#;
const TABLE: &str = "CREATE TABLE note (id text PRIMARY KEY, value jsonb NOT NULL);";
/// With redis-benchmark's random number.
const KEY: &str = "note:__rand_int__";

const JOURNAL: &str = "cachewarden:journal";
const PLAIN: &str = "bench:stream";
/// As long as the ids of writes.
const ID: &str = "00000000-0000-4000-8000-000000000000";

const LOOK_EVERY: Duration = Duration::from_millis(5);
const DEADLINE: Duration = Duration::from_secs(120);

struct World {
    backends: Backends,
    daemon: Daemon,
    port: u16,
    redis: Connection,
    value: String,
    /// Writes a second that went to Postgres when no more came.
    saved: Vec<f64>,
}

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let mut world = World::open()?;
    let mut report = Report::default();
    for load in LOADS {
        let [theirs, ours] = take_turns(bench.rounds, |side| match side {
            0 => world.add(load),
            _ => world.write(load),
        })?;
        report.rows.push(Row::of_rates(
            "S20",
            format!(
                "SET, written behind, 50 clients, {} at a time",
                load.pipeline
            ),
            "redis-benchmark, XADD of the same".to_owned(),
            &ours,
            &theirs,
            Limits::at_least(0.3, 0.6),
        ));
        report.notes.push(told(load, &theirs, &ours));
    }
    world.check()?;
    let saved = Spread::of(world.saved);
    report.notes.push(format!(
        "S20: what a turn left in the journal was saved at {} ({}–{}), a row each",
        rate(saved.median),
        rate(saved.min),
        rate(saved.max)
    ));
    Ok(report)
}

fn told(load: Load, theirs: &[Measured], ours: &[Measured]) -> String {
    let [theirs, ours] = [theirs, ours].map(medians);
    format!(
        "S20, {} at a time: XADD {} with {:.1} µs of Redis; we acknowledge {} with {:.1} µs of our own and {:.1} µs of Redis, \
         saving included, which goes on beside it",
        load.pipeline,
        rate(theirs.rate),
        theirs.cpu_us,
        rate(ours.rate),
        ours.cpu_us,
        ours.redis_us
    )
}

impl World {
    fn open() -> Result<Self, BenchError> {
        let backends = Backends::open(1, &[])?;
        backends.sql(TABLE)?;
        let port = free_port()?;
        let config = backends.write_config_with("journal.toml", port, CACHE)?;
        allow_volatile_journal(&config)?;
        migrate(&config)?;
        let daemon = Daemon::start(&backends.folder, &config)?;
        let redis = connect(backends.redis.port())?;
        // A JSON text of as many bytes as other values have.
        let value = format!("\"{}\"", "x".repeat(VALUE_BYTES - 2));
        Ok(Self {
            backends,
            daemon,
            port,
            redis,
            value,
            saved: Vec::new(),
        })
    }

    /// One turn of ours, and the saving of what it left.
    fn write(&mut self, load: Load) -> Result<Measured, BenchError> {
        let watched = Watched {
            server: self.daemon.pid(),
            redis: self.backends.redis.pid(),
            postgres: None,
        };
        let measured = benchmark(self.port, load, &["SET", KEY, &self.value], watched)?;
        self.drain()?;
        Ok(measured)
    }

    /// One turn of theirs.
    fn add(&mut self, load: Load) -> Result<Measured, BenchError> {
        let watched = Watched {
            server: self.backends.redis.pid().unwrap_or_default(),
            redis: None,
            postgres: None,
        };
        let fields = [
            "id",
            ID,
            "cache",
            "note",
            "key",
            KEY,
            "op",
            "set",
            "value",
            &self.value,
        ];
        let words = [&["XADD", PLAIN, "*"], &fields[..]].concat();
        let measured = benchmark(self.backends.redis.port(), load, &words, watched)?;
        let length = self.length(PLAIN)?;
        match length == load.requests {
            true => redis::cmd("DEL")
                .arg(PLAIN)
                .exec(&mut self.redis)
                .map_err(failed)?,
            false => return Err(unexpected(format!("{length} entries in the stream"))),
        }
        Ok(measured)
    }

    /// Waits until the journal is empty; else it would be saved in the next turn.
    fn drain(&mut self) -> Result<(), BenchError> {
        let begun = Instant::now();
        let left = self.length(JOURNAL)?;
        while self.length(JOURNAL)? > 0 {
            if begun.elapsed() > DEADLINE {
                return Err(unexpected(format!(
                    "a journal that is not empty after {DEADLINE:?}"
                )));
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
        if left > 0 {
            self.saved.push(left as f64 / begun.elapsed().as_secs_f64());
        }
        Ok(())
    }

    fn length(&mut self, stream: &str) -> Result<u64, BenchError> {
        redis::cmd("XLEN")
            .arg(stream)
            .query(&mut self.redis)
            .map_err(failed)
    }

    /// What was acknowledged is in Postgres, and nothing was given up.
    fn check(&self) -> Result<(), BenchError> {
        let value = &self.value;
        let found = self.backends.sql(&format!(
            "SELECT count(*) > 0 AND bool_and(value = '{value}'::jsonb) AND NOT EXISTS (SELECT FROM cachewarden.dead_writes) FROM note"
        ))?;
        match found == "t" {
            true => Ok(()),
            false => Err(unexpected("rows that are not what was written".to_owned())),
        }
    }
}

/// The journal has a limit, and is to lie in a Redis that keeps it on disk.
fn allow_volatile_journal(config: &Path) -> Result<(), BenchError> {
    let action = || format!("change {}", config.display());
    let text = fs::read_to_string(config).map_err(BenchError::io(action()))?;
    let redis = format!("[redis]\nmax_journal = {MAX_JOURNAL}\nallow_volatile_journal = true");
    let text = text.replacen("[redis]", &redis, 1);
    fs::write(config, text).map_err(BenchError::io(action()))
}

fn unexpected(found: String) -> BenchError {
    BenchError::Helper {
        program: "cachewarden",
        message: format!("there are {found}"),
    }
}
