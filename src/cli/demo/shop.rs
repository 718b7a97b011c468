//! The servers of the demo, the shop in them, and a configuration file that fits.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use super::super::migrate;
use super::DemoError;
use super::servers::{Folder, Postgres, PostgresOptions, Redis, RedisOptions, free_port};
use crate::config::Config;

const SCHEMA: &str = include_str!("../../../demo/schema.sql");
const DATA: &str = include_str!("../../../demo/data.sql");
const CONFIG: &str = include_str!("../../../demo/cachewarden.toml");

/// The shop's database.
const DATABASE: &str = "postgres";

/// A private Postgres with the shop in it, a private Redis that keeps what it has, and a configuration for a daemon in front of them.
#[derive(Debug)]
pub struct Shop {
    pub(super) postgres: Postgres,
    pub(super) redis: Redis,
    daemon_port: u16,
    config: PathBuf,
}

impl Shop {
    /// Starts both servers, loads the shop, and installs what its configuration needs: a few seconds. It blocks.
    ///
    /// # Errors
    /// [`DemoError::Server`] when a server is missing or does not start, and what `psql` or `migrate` says when loading fails.
    pub fn open() -> Result<Self, DemoError> {
        let folder = Folder::new()?;
        let redis = Redis::start(&folder, &durable())?;
        let postgres = Postgres::start(&folder, &PostgresOptions::default())?;
        let daemon_port = free_port()?;
        let config = folder.path().join("cachewarden.toml");
        // The file could name the variables as it does for everyone; but then who copies its path could not use it.
        let text = CONFIG
            .replace(
                "${CACHEWARDEN_DEMO_POSTGRES}",
                &postgres.postgres_url(DATABASE),
            )
            .replace("${CACHEWARDEN_DEMO_REDIS}", &redis.redis_url())
            .replace(
                "${CACHEWARDEN_DEMO_LISTEN}",
                &format!("127.0.0.1:{daemon_port}"),
            );
        fs::write(&config, text).map_err(|source| DemoError::Config {
            path: config.clone(),
            source,
        })?;
        let shop = Self {
            postgres,
            redis,
            daemon_port,
            config,
        };
        shop.psql("load the shop", &format!("{SCHEMA}{DATA}"))?;
        let installed = Config::load(&shop.config).map_err(|problems| problems.to_string());
        let installed = installed.and_then(|config| migrate::install(&config));
        installed.map_err(|report| DemoError::Migrate { report })?;
        Ok(shop)
    }

    /// The configuration file for the daemon; it goes with the shop.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The port of 127.0.0.1 where that daemon will listen.
    pub fn daemon_port(&self) -> u16 {
        self.daemon_port
    }

    /// The command that runs one statement in the shop, for people to copy.
    pub(super) fn psql_command(&self, sql: &str) -> String {
        let program = self.postgres.program("psql");
        format!(
            "{} {} -c \"{sql}\"",
            program.display(),
            self.postgres.postgres_url(DATABASE)
        )
    }

    /// Runs statements in the shop and gives what they print.
    pub(super) fn psql(&self, action: &'static str, sql: &str) -> Result<String, DemoError> {
        let failed = |source| DemoError::Psql { action, source };
        let mut psql = self.postgres.psql(DATABASE);
        psql.args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = psql.spawn().map_err(failed)?;
        // It reads and prints a statement at a time, and prints little: neither pipe can fill up against the other.
        // If it ends early, what it said is the better error.
        let fed = running
            .stdin
            .take()
            .map(|mut input| input.write_all(sql.as_bytes()));
        let Output {
            status,
            stdout,
            stderr,
        } = running.wait_with_output().map_err(failed)?;
        if !status.success() {
            let message = String::from_utf8_lossy(&stderr).into_owned();
            return Err(DemoError::Refused { action, message });
        }
        fed.transpose().map_err(failed)?;
        Ok(String::from_utf8_lossy(&stdout).trim().to_owned())
    }
}

/// Redis keeps what it has in a file, as `mode = "behind"` asks for; the file is thrown away, so nothing waits for a disk.
fn durable() -> RedisOptions {
    RedisOptions {
        args: ["--appendonly", "yes", "--appendfsync", "no"]
            .map(String::from)
            .into(),
        ..RedisOptions::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shop_is_the_same_every_time_and_has_over_a_hundred_thousand_rows() {
        let shop = Shop::open().unwrap();
        let tables = [
            "courses",
            "products",
            "events",
            "users",
            "purchases",
            "orders",
            "order_items",
        ];
        let rows: Vec<String> = tables
            .iter()
            .map(|table| format!("SELECT count(*) FROM {table}"))
            .collect();
        let rows = shop.psql("count", &rows.join(" UNION ALL ")).unwrap();
        let total: u64 = rows.lines().map(|line| line.parse::<u64>().unwrap()).sum();
        assert!(total >= 100_000, "{total}");
        let course = shop
            .psql("read", "SELECT * FROM courses WHERE id = 42")
            .unwrap();
        assert_eq!(
            course,
            "42|sql-42|SQL in practice, part 42|first steps|11800|t|2026-01-01 04:54:00+00"
        );
    }

    #[test]
    fn a_statement_that_fails_is_an_error_with_the_words_of_postgres() {
        let postgres = Shop::open().unwrap();
        let error = postgres
            .psql("count", "SELECT * FROM nowhere")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("relation \"nowhere\" does not exist"),
            "{error}"
        );
    }
}
