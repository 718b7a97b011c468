//! pgbench: what a program gets that asks Postgres itself, one prepared select a key.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::load::Sample;
use super::request::FIRST_ID;
use super::rounds::{Best, Cpu, Measured, best_of};
use super::world::{ROWS, SELECT, World};
use super::{BenchError, usage};

/// The client counts to choose from: which is best depends on the machine.
const CLIENTS: [usize; 3] = [8, 16, 32];

/// pgbench's own threads, as many as two cores have use for.
const THREADS: &str = "2";

/// One client count's pgbench on a world.
pub struct Pgbench<'a> {
    world: &'a World,
    pub clients: usize,
    seconds: u64,
}

impl<'a> Pgbench<'a> {
    /// Tries each client count, and keeps the best.
    pub fn best(world: &'a World, seconds: Duration) -> Result<Self, BenchError> {
        let path = script_path(world);
        let last = FIRST_ID + ROWS - 1;
        let script = format!("\\set id random({FIRST_ID}, {last})\n{SELECT}\n");
        fs::write(&path, script).map_err(BenchError::io(format!("write {}", path.display())))?;
        let with = |clients| Self {
            world,
            clients,
            // It counts in whole seconds.
            seconds: seconds.as_secs().max(1),
        };
        let Best { choice, .. } = best_of(CLIENTS, |clients| Ok(with(clients).run()?.rate))?;
        Ok(with(choice))
    }

    /// Runs once. The rate is pgbench's own, without the time it took to connect.
    /// Postgres is the server, pgbench the generator.
    pub fn run(&self) -> Result<Measured, BenchError> {
        let before = self.cpu()?;
        let program = self.world.postgres.program("pgbench");
        let output = Command::new(program)
            .args(["-n", "-M", "prepared", "-j", THREADS])
            .args(["-c", &self.clients.to_string()])
            .args(["-T", &self.seconds.to_string(), "-f"])
            .arg(script_path(self.world))
            .arg(self.world.postgres.postgres_url("postgres"))
            .output()
            .map_err(|_missing| BenchError::NotInstalled {
                program: "pgbench",
                package: "postgresql",
            })?;
        let after = self.cpu()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let number = |label: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(label))?;
            line.split_ascii_whitespace().next()?.parse::<f64>().ok()
        };
        let figures = number("tps = ").zip(number("number of transactions actually processed: "));
        let (rate, transactions) = figures.ok_or_else(|| BenchError::Helper {
            program: "pgbench",
            message: String::from_utf8_lossy(&output.stderr).into_owned(),
        })?;
        let sample = Sample {
            units: transactions as u64,
            elapsed: Duration::from_secs_f64(transactions / rate),
        };
        Ok(Measured::new(sample, after - before))
    }

    fn cpu(&self) -> Result<Cpu, BenchError> {
        let server = self.world.postgres.pid().unwrap_or_default();
        Ok(Cpu {
            server: usage::family_cpu(server)?,
            redis: Duration::ZERO,
            postgres: Duration::ZERO,
            generator: usage::children_cpu()?,
        })
    }
}

fn script_path(world: &World) -> std::path::PathBuf {
    world.folder.path().join("select.sql")
}
