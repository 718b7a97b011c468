//! The servers of a target: a private Postgres with one table, a private Redis, and the daemon in front of them.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::ops::Range;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::{
    Folder, Postgres, PostgresOptions, Redis, RedisOptions, free_port,
};

use super::BenchError;
use super::process::Daemon;
use super::request::{FIRST_ID, VALUE_BYTES};

/// Enough that no run of a few seconds asks for a row twice.
pub const ROWS: u32 = 500_000;

/// The query of the declared cache. pgbench runs the same, as a client would: see [`SELECT`].
const QUERY: &str = "SELECT id, payload FROM bench WHERE id = :id";

/// What a program without a cache would send for one key: the same row, rendered by Postgres in the same way.
pub const SELECT: &str =
    "SELECT row_to_json(t)::text FROM (SELECT id, payload FROM bench WHERE id = :id) t";

/// What `row_to_json` puts around the payload of a row with an id of seven digits.
const AROUND_PAYLOAD: usize = r#"{"id":1000000,"payload":""}"#.len();

/// The whole table fits, so that nobody is measured against a disk.
const SHARED_BUFFERS: &str = "512MB";

const REDIS_DEADLINE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The servers, ended in this order when dropped.
pub struct World {
    pub daemon: Daemon,
    /// The daemon's port on 127.0.0.1.
    pub port: u16,
    pub redis: Redis,
    pub postgres: Postgres,
    pub folder: Folder,
}

impl World {
    /// Starts all three and fills the table: some five seconds.
    pub fn open() -> Result<Self, BenchError> {
        Self::open_with("")
    }

    /// The same, with the cache also in a memory of this size.
    pub fn open_in_memory(capacity: &str) -> Result<Self, BenchError> {
        Self::open_with(&format!("l1 = true\n[l1]\ncapacity = \"{capacity}\"\n"))
    }

    /// The same, with keys that follow the declaration of the cache.
    pub fn open_with(more: &str) -> Result<Self, BenchError> {
        let backends = Backends::open(ROWS, &[])?;
        let port = free_port()?;
        let config = backends.write_config("cachewarden.toml", port)?;
        let written = OpenOptions::new().append(true).open(&config);
        let appended = written.and_then(|mut file| file.write_all(more.as_bytes()));
        appended.map_err(BenchError::io(format!("write {}", config.display())))?;
        let daemon = Daemon::start(&backends.folder, &config)?;
        let Backends {
            folder,
            postgres,
            redis,
        } = backends;
        Ok(Self {
            daemon,
            port,
            redis,
            postgres,
            folder,
        })
    }

    /// All ids of the table.
    pub fn ids() -> Range<u32> {
        FIRST_ID..FIRST_ID + ROWS
    }

    /// Empties Redis, and waits until the memory is free again: freeing would compete with what is measured next.
    /// Not `FLUSHALL SYNC`: that blocks Redis for longer than the daemon waits for it, and the next run would begin with
    /// a daemon that believes it away.
    pub fn flush_redis(&self) -> Result<(), BenchError> {
        flush(self.redis.port())
    }
}

/// What stands behind a daemon.
pub struct Backends {
    pub redis: Redis,
    pub postgres: Postgres,
    pub folder: Folder,
}

impl Backends {
    /// Starts both and makes the table `bench` with `rows` rows; `settings` are Postgres' own.
    pub fn open(rows: u32, settings: &[(&str, &str)]) -> Result<Self, BenchError> {
        let folder = Folder::new()?;
        let redis = Redis::start(&folder, &RedisOptions::default())?;
        let own = [("shared_buffers", SHARED_BUFFERS)];
        let settings = own.iter().chain(settings);
        let options = PostgresOptions {
            settings: settings
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        };
        let postgres = Postgres::start(&folder, &options)?;
        let payload = VALUE_BYTES - AROUND_PAYLOAD;
        let (first, last) = (FIRST_ID, FIRST_ID + rows - 1);
        let backends = Self {
            redis,
            postgres,
            folder,
        };
        // Rows that are inserted stay in shared buffers; the vacuum keeps it from running during a measurement.
        backends.sql(&format!(
            "CREATE TABLE bench (id bigint PRIMARY KEY, payload text NOT NULL);
             INSERT INTO bench SELECT id, left(repeat(md5(id::text), 8), {payload})
             FROM generate_series({first}, {last}) AS id;
             VACUUM (FREEZE, ANALYZE) bench;
             CHECKPOINT;"
        ))?;
        Ok(backends)
    }

    /// Writes a configuration for a daemon that listens on `port`: one cache, everything else as users find it.
    pub fn write_config(&self, name: &str, port: u16) -> Result<PathBuf, BenchError> {
        self.write_config_with(name, port, "")
    }

    /// The same with `more` behind it.
    pub fn write_config_with(
        &self,
        name: &str,
        port: u16,
        more: &str,
    ) -> Result<PathBuf, BenchError> {
        let path = self.folder.path().join(name);
        let (postgres, redis) = (
            self.postgres.postgres_url("postgres"),
            self.redis.redis_url(),
        );
        let text = format!(
            r#"[postgres]
url = "{postgres}"

[redis]
url = "{redis}"

[resp]
listen = ["127.0.0.1:{port}"]
max_connections = 12000 # a target opens 10,000

[log]
level = "error"

[audit]
rate = 0 # its statements would be counted as ours

[caches.bench]
key = "bench:{{id:bigint}}"
query = "{QUERY}"
shape = "object"
ttl = "1h"
{more}"#
        );
        fs::write(&path, text).map_err(BenchError::io(format!("write {}", path.display())))?;
        Ok(path)
    }

    /// Runs statements one by one, and gives what they print.
    pub fn sql(&self, statements: &str) -> Result<String, BenchError> {
        let mut psql = self.postgres.psql("postgres");
        for statement in statements.split_inclusive(';') {
            psql.args(["-c", statement]);
        }
        let output = psql.output().map_err(BenchError::io("start psql"))?;
        if !output.status.success() {
            return Err(BenchError::Helper {
                program: "psql",
                message: String::from_utf8_lossy(&output.stderr).into_owned(),
            });
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }
}

/// See [`World::flush_redis`].
pub fn flush(port: u16) -> Result<(), BenchError> {
    ask(port, "FLUSHALL ASYNC")?;
    let begun = Instant::now();
    while !ask(port, "INFO memory")?.contains("lazyfree_pending_objects:0") {
        if begun.elapsed() > REDIS_DEADLINE {
            return Err(BenchError::Reply {
                port,
                reply: format!("still busy after {REDIS_DEADLINE:?}"),
                expected: "an empty Redis".to_owned(),
            });
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
    Ok(())
}

/// Sends one inline command and gives the first piece of the answer; an error is an error.
pub fn ask(port: u16, command: &str) -> Result<String, BenchError> {
    let exchange = || {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
        stream.set_read_timeout(Some(REDIS_DEADLINE))?;
        stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut answer = vec![0; 1 << 16];
        let length = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
    };
    let answer = exchange().map_err(BenchError::io(format!("ask port {port} `{command}`")))?;
    if answer.is_empty() || answer.starts_with('-') {
        return Err(BenchError::Reply {
            port,
            reply: answer.trim().to_owned(),
            expected: format!("an answer to {command}"),
        });
    }
    Ok(answer)
}
