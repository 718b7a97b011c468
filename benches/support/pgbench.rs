//! pgbench: what a program gets that asks Postgres itself, one prepared select a key.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use cachewarden::cli::demo::servers::Postgres;

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

    /// Runs once.
    pub fn run(&self) -> Result<Measured, BenchError> {
        let script = script_path(self.world);
        let postgres = &self.world.postgres;
        transactions(
            postgres,
            &postgres.postgres_url("postgres"),
            self.clients,
            self.seconds,
            Some(&script),
        )
    }
}

/// Runs pgbench once on the database at `url`: a script of its own, or else its own transactions, before which it vacuums the small tables that all of
/// them update, as it does by itself. The rate is pgbench's own, without the time it took to connect. Postgres is the server,
/// pgbench the generator.
pub fn transactions(
    postgres: &Postgres,
    url: &str,
    clients: usize,
    seconds: u64,
    script: Option<&Path>,
) -> Result<Measured, BenchError> {
    let cpu = || -> Result<Cpu, BenchError> {
        Ok(Cpu {
            server: usage::family_cpu(postgres.pid().unwrap_or_default())?,
            redis: Duration::ZERO,
            postgres: Duration::ZERO,
            generator: usage::children_cpu()?,
        })
    };
    let before = cpu()?;
    let mut command = Command::new(postgres.program("pgbench"));
    command.args(["-M", "prepared", "-j", THREADS]).args([
        "-c",
        &clients.to_string(),
        "-T",
        &seconds.to_string(),
    ]);
    if let Some(script) = script {
        command.arg("-n").arg("-f").arg(script);
    }
    let output = said(command.arg(url))?;
    let after = cpu()?;
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

/// Makes pgbench's own tables.
pub fn make_tables(postgres: &Postgres, database: &str, scale: usize) -> Result<(), BenchError> {
    let mut command = Command::new(postgres.program("pgbench"));
    command.args(["-i", "-q", "-s", &scale.to_string()]);
    let output = said(command.arg(postgres.postgres_url(database)))?;
    if output.status.success() {
        return Ok(());
    }
    Err(BenchError::Helper {
        program: "pgbench",
        message: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

fn said(command: &mut Command) -> Result<Output, BenchError> {
    command
        .output()
        .map_err(|_missing| BenchError::NotInstalled {
            program: "pgbench",
            package: "postgresql",
        })
}

fn script_path(world: &World) -> std::path::PathBuf {
    world.folder.path().join("select.sql")
}
