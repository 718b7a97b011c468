//! One file a subcommand; results go to stdout, messages to stderr, exit codes are sysexits'.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the only room that talks to whoever typed the command"
)]

mod activation;
mod ask;
mod audit;
pub mod check;
mod client;
pub mod demo;
mod exit;
mod invalidate;
mod limit;
mod lock;
mod migrate;
mod open_files;
mod run;
mod status_line;
mod systemd;
mod table;
mod waiting;
mod warm;

use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Keeps a Redis cache true to a Postgres database.
///
/// Declare caches in one TOML file, start `cachewarden run`, and point any Redis client at it.
#[derive(Debug, Parser)]
#[command(version, after_help = AFTER_HELP)]
pub struct Cli {
    /// The configuration; without it, /etc/cachewarden/cachewarden.toml is read
    #[arg(long, global = true, env = "CACHEWARDEN_CONFIG", value_name = "PATH")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 something is wrong (a stop that was late, a tour step that failed, a pattern that is refused, a value \
that is inconsistent, a cache that could not be warmed, a request that a limit refuses), 64 usage, \
69 a server or address is unavailable, 70 an actor could not be kept running, 71 the system refused, \
78 the configuration is wrong.

Passwords are never given on the command line, where everybody on the machine could read them: \
use `password_file` or `url_file` in the configuration.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run(run::Args),
    /// Check the configuration and print every mistake with its place and the mend
    Check(check::Args),
    /// Install the daemon's schema and the triggers of watched tables, or take them away
    Migrate(migrate::Args),
    /// Remove keys, or what matches patterns, through the running daemon
    Invalidate(invalidate::Args),
    /// Load caches before they are read, through the running daemon
    Warm(warm::Args),
    /// Ask the running daemon what a limit lets through, or give back what was taken
    Limit(limit::Args),
    /// Tell who holds which lock, or take one away from its holder
    Lock(lock::Args),
    /// Compare every cached value with Postgres
    Audit(audit::Args),
    /// Try it: private Postgres and Redis, a sample shop, and the daemon in front of them
    Demo(demo::Args),
}

impl Cli {
    /// Does what the command line says.
    pub fn run(self) -> ExitCode {
        let config = crate::config::Config::find(self.config.as_deref());
        let code = match self.command {
            Command::Run(args) => run::run(&config, &args),
            Command::Check(args) => check::run(&config, &args),
            Command::Migrate(args) => migrate::run(&config, &args),
            Command::Invalidate(args) => invalidate::run(&config, args),
            Command::Warm(args) => warm::run(&config, args),
            Command::Limit(args) => limit::run(&config, args),
            Command::Lock(args) => lock::run(&config, args),
            Command::Audit(args) => audit::run(&config, &args),
            Command::Demo(args) => demo::run(&args),
        };
        ExitCode::from(code)
    }
}
