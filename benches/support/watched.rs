//! A watched table behind a daemon that empties the queue, and values in Redis to be invalidated.

use std::ops::Range;
use std::process::Command;

use cachewarden::cli::demo::servers::free_port;

use super::BenchError;
use super::filled::{connect, failed};
use super::process::Daemon;
use super::request::{FIRST_ID, VALUE_BYTES};
use super::world::Backends;

const WATCH: &str = r#"
[[invalidation.watch]]
table = "public.bench"
invalidate = ["bench:{id}"]
"#;

/// Keys one script sets.
const A_CALL: u32 = 5_000;

/// The servers.
pub struct Watched {
    _daemon: Daemon,
    pub backends: Backends,
    rows: u32,
}

impl Watched {
    /// Starts them, with so many rows, installs the triggers, and puts a value of each row into Redis.
    pub fn open(rows: u32) -> Result<Self, BenchError> {
        let backends = Backends::open(rows, &[])?;
        let config = backends.write_config_with("cachewarden.toml", free_port()?, WATCH)?;
        migrate(&config)?;
        let watched = Self {
            _daemon: Daemon::start(&backends.folder, &config)?,
            backends,
            rows,
        };
        watched.refill()?;
        Ok(watched)
    }

    /// The ids of all rows.
    pub fn ids(&self) -> Range<u32> {
        FIRST_ID..FIRST_ID + self.rows
    }

    /// Puts back what was invalidated.
    pub fn refill(&self) -> Result<(), BenchError> {
        const SCRIPT: &str =
            "for i = ARGV[1], ARGV[2] do redis.call('SET', 'bench:' .. i, ARGV[3], 'EX', 3600) end";
        let mut redis = connect(self.backends.redis.port())?;
        let value = "x".repeat(VALUE_BYTES);
        for first in self.ids().step_by(A_CALL as usize) {
            let last = (first + A_CALL).min(self.ids().end) - 1;
            redis::cmd("EVAL")
                .arg(SCRIPT)
                .arg(0)
                .arg(first)
                .arg(last)
                .arg(&value)
                .exec(&mut redis)
                .map_err(failed)?;
        }
        Ok(())
    }
}

/// Runs `cachewarden migrate`.
pub fn migrate(config: &std::path::Path) -> Result<(), BenchError> {
    let output = Command::new(env!("CARGO_BIN_EXE_cachewarden"))
        .arg("migrate")
        .arg("--config")
        .arg(config)
        .output()
        .map_err(BenchError::io("start cachewarden migrate"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(BenchError::Helper {
        program: "cachewarden migrate",
        message: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}
