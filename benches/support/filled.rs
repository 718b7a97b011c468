//! A Redis with a million keys behind a daemon, and a neighbour who goes on asking it.

use std::fs::OpenOptions;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::free_port;
use redis::Connection;

use super::BenchError;
use super::process::Daemon;
use super::request::VALUE_BYTES;
use super::world::Backends;

/// All keys.
pub const KEYS: usize = 1_000_000;
/// Keys of one pattern.
pub const MATCHING: usize = 50_000;
/// Of the cache's keys, so many patterns: `bench:0:*`, `bench:1:*` …
pub const PATTERNS: usize = 5;

/// Keys one script sets.
const A_CALL: usize = 5_000;
/// Between two questions of the neighbour.
const ASK_EVERY: Duration = Duration::from_micros(50);

/// The servers.
pub struct Filled {
    _daemon: Daemon,
    pub port: u16,
    backends: Backends,
}

impl Filled {
    /// Starts them, and fills Redis with [`KEYS`] keys, [`MATCHING`] of each pattern among them.
    pub fn open() -> Result<Self, BenchError> {
        let backends = Backends::open(1, &[])?;
        let port = free_port()?;
        let config = backends.write_config("cachewarden.toml", port)?;
        let daemon = Daemon::start(&backends.folder, &config)?;
        let filled = Self {
            _daemon: daemon,
            port,
            backends,
        };
        filled.set("others:", KEYS - PATTERNS * MATCHING)?;
        filled.refill()?;
        Ok(filled)
    }

    /// Puts back what patterns removed.
    pub fn refill(&self) -> Result<(), BenchError> {
        (0..PATTERNS).try_for_each(|pattern| self.set(&format!("bench:{pattern}:"), MATCHING))
    }

    fn set(&self, prefix: &str, count: usize) -> Result<(), BenchError> {
        const SCRIPT: &str =
            "for i = ARGV[2], ARGV[3] do redis.call('SET', ARGV[1] .. i, ARGV[4]) end";
        let mut redis = connect(self.redis_port())?;
        let value = "x".repeat(VALUE_BYTES);
        for first in (1..=count).step_by(A_CALL) {
            let last = (first + A_CALL - 1).min(count);
            redis::cmd("EVAL")
                .arg(SCRIPT)
                .arg(0)
                .arg(prefix)
                .arg(first)
                .arg(last)
                .arg(&value)
                .exec(&mut redis)
                .map_err(failed)?;
        }
        Ok(())
    }

    pub fn redis_port(&self) -> u16 {
        self.backends.redis.port()
    }

    /// Has the daemon remove what matches, and gives the time until it was acknowledged.
    pub fn invalidate(&self, pattern: &str) -> Result<Duration, BenchError> {
        sweep(self.port, pattern)
    }

    /// A second daemon, which keeps an index of the keys that patterns remove.
    pub fn indexed(&self) -> Result<Indexed, BenchError> {
        let port = free_port()?;
        let config = self.backends.write_config("indexed.toml", port)?;
        // The cache stands at the end.
        let mut file = OpenOptions::new()
            .append(true)
            .open(&config)
            .map_err(BenchError::io(format!("open {}", config.display())))?;
        file.write_all(b"index = true\n")
            .map_err(BenchError::io("write the configuration"))?;
        let indexed = Indexed {
            _daemon: Daemon::start(&self.backends.folder, &config)?,
            port,
        };
        // Builds the index: the keys are there already.
        let mut daemon = connect(port)?;
        let none: usize = redis::cmd("CACHE.INVALIDATE")
            .arg("bench:none:*")
            .query(&mut daemon)
            .map_err(failed)?;
        match none {
            0 => Ok(indexed),
            removed => Err(unexpected(removed, 0)),
        }
    }

    /// Lists the keys of a pattern in the index, as daemons do in the step that fills them.
    pub fn list(&self, pattern: usize) -> Result<(), BenchError> {
        const SCRIPT: &str =
            "for i = ARGV[2], ARGV[3] do redis.call('ZADD', KEYS[1], 0, ARGV[1] .. i) end";
        let mut redis = connect(self.redis_port())?;
        for first in (1..=MATCHING).step_by(A_CALL) {
            redis::cmd("EVAL")
                .arg(SCRIPT)
                .arg(1)
                .arg("cachewarden:index:bench:")
                .arg(format!("bench:{pattern}:"))
                .arg(first)
                .arg((first + A_CALL - 1).min(MATCHING))
                .exec(&mut redis)
                .map_err(failed)?;
        }
        Ok(())
    }
    /// The same as everybody writes it: pages of 100, one `DEL` a page.
    pub fn by_hand(&self, pattern: &str) -> Result<Duration, BenchError> {
        let mut redis = connect(self.redis_port())?;
        let begun = Instant::now();
        let (mut cursor, mut removed) = (0_u64, 0_usize);
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor).arg("MATCH").arg(pattern);
            scan.arg("COUNT").arg(100);
            let (next, keys): (u64, Vec<String>) = scan.query(&mut redis).map_err(failed)?;
            if !keys.is_empty() {
                let deleted: usize = redis::cmd("DEL")
                    .arg(keys)
                    .query(&mut redis)
                    .map_err(failed)?;
                removed += deleted;
            }
            cursor = next;
            if cursor == 0 {
                break;
            }
        }
        let taken = begun.elapsed();
        whole(removed)?;
        Ok(taken)
    }
}

/// A daemon that keeps an index.
pub struct Indexed {
    _daemon: Daemon,
    port: u16,
}

impl Indexed {
    /// Has it remove what matches, and gives the time until it was acknowledged.
    pub fn invalidate(&self, pattern: &str) -> Result<Duration, BenchError> {
        sweep(self.port, pattern)
    }
}

fn sweep(port: u16, pattern: &str) -> Result<Duration, BenchError> {
    let mut daemon = connect(port)?;
    let begun = Instant::now();
    let removed: usize = redis::cmd("CACHE.INVALIDATE")
        .arg(pattern)
        .query(&mut daemon)
        .map_err(failed)?;
    let taken = begun.elapsed();
    whole(removed)?;
    Ok(taken)
}

fn whole(removed: usize) -> Result<(), BenchError> {
    if removed == MATCHING {
        return Ok(());
    }
    Err(unexpected(removed, MATCHING))
}

fn unexpected(removed: usize, expected: usize) -> BenchError {
    BenchError::Helper {
        program: "sweep",
        message: format!("{removed} keys were removed, and not {expected}"),
    }
}

pub fn connect(port: u16) -> Result<Connection, BenchError> {
    let client = redis::Client::open(format!("redis://127.0.0.1:{port}")).map_err(failed)?;
    client.get_connection().map_err(failed)
}

pub fn failed(error: redis::RedisError) -> BenchError {
    BenchError::Helper {
        program: "redis",
        message: error.to_string(),
    }
}

/// Somebody else who asks for a key all the time, and how long each answer took.
pub struct Neighbour {
    over: Arc<AtomicBool>,
    asking: JoinHandle<Result<Vec<f64>, BenchError>>,
}

impl Neighbour {
    /// Of whoever listens there.
    pub fn of(port: u16, key: String) -> Result<Self, BenchError> {
        let mut redis = connect(port)?;
        let over = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&over);
        let asking = std::thread::spawn(move || {
            let mut millis = Vec::new();
            while !until.load(Ordering::Relaxed) {
                let asked = Instant::now();
                redis::cmd("GET")
                    .arg(&key)
                    .exec(&mut redis)
                    .map_err(failed)?;
                millis.push(asked.elapsed().as_secs_f64() * 1e3);
                std::thread::park_timeout(ASK_EVERY);
            }
            Ok(millis)
        });
        Ok(Self { over, asking })
    }

    /// What each answer took, in milliseconds.
    pub fn stop(self) -> Result<Vec<f64>, BenchError> {
        self.over.store(true, Ordering::Relaxed);
        self.asking.join().map_err(|_panicked| BenchError::Helper {
            program: "neighbour",
            message: "panicked".to_owned(),
        })?
    }
}
