//! `cachewarden migrate`: the daemon's own schema and the triggers of watched tables.

use std::path::Path;
use std::sync::Arc;

use super::{check, exit};
use crate::config::Config;
use crate::repository::{Installer, RepositoryError, Step, WatchProblem};

/// Install the daemon's schema and the triggers of watched tables.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Print the SQL that would run, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take away all that was ever installed
    #[arg(long)]
    pub uninstall: bool,
}

pub(super) fn run(path: &Path, args: &Args) -> u8 {
    let config = match check::offline_or_told(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match migrate(&config, args) {
        Ok(steps) if steps.is_empty() => {
            // What is printed in a dry run is SQL, and nothing else.
            let quiet = if args.dry_run { "-- " } else { "" };
            println!("{quiet}nothing to do");
            0
        }
        Ok(steps) => {
            for step in &steps {
                if args.dry_run {
                    println!("-- {}\n{}\n", step.title, step.sql);
                } else {
                    println!("done: {}", step.title);
                }
            }
            0
        }
        Err((code, report)) => {
            exit::tell(report);
            code
        }
    }
}

/// Installs what the configuration needs.
///
/// # Errors
/// What to say.
pub(super) fn install(config: &Config) -> Result<(), String> {
    let args = Args {
        dry_run: false,
        uninstall: false,
    };
    let done = migrate(config, &args).map_err(|(_code, report)| report);
    done.map(drop)
}

/// The steps that were taken, or would be. Err: the exit code and what to say.
fn migrate(config: &Config, args: &Args) -> Result<Vec<Step>, (u8, String)> {
    let Some(postgres) = &config.postgres else {
        return Ok(Vec::new());
    };
    let runtime = check::runtime()?;
    let handle = runtime.handle().clone();
    let installer = Installer::new(postgres, &config.invalidation, handle);
    let installer = installer.map_err(|error| failed(&error))?;
    let installer = installer.with_fences(config.needs_fences());
    let installer = Arc::new(installer.with_writes(config.declares_writes()));
    let done = runtime.block_on(async {
        let plan = match (args.uninstall, args.dry_run) {
            (true, true) => return Ok((installer.plan_uninstall().await?, Vec::new())),
            (true, false) => return Ok((installer.uninstall().await?, Vec::new())),
            (false, true) => installer.plan().await?,
            (false, false) => installer.migrate().await?,
        };
        Ok((plan.steps, plan.problems))
    });
    let (steps, problems) = done.map_err(|error: RepositoryError| failed(&error))?;
    if problems.is_empty() {
        return Ok(steps);
    }
    let reports = WatchProblem::report(&problems, config);
    Err((exit::CONFIG, format!("{reports}\n\nnothing was changed")))
}

/// What to do about a step that Postgres refused, by its SQLSTATE.
fn step_hint(message: &str) -> &'static str {
    if message.contains("(SQLSTATE 42501)") {
        "\nsteps before it were taken; `cachewarden migrate --dry-run` prints the rest, to be run by a role with more rights"
    } else if message.contains("(SQLSTATE 55P03)") {
        "\nsomebody holds the table; steps before it were taken, and `cachewarden migrate` takes the rest once it is let go of"
    } else {
        "\nsteps before it were taken; `cachewarden migrate --dry-run` prints the rest"
    }
}

fn failed(error: &RepositoryError) -> (u8, String) {
    let (code, hint) = match error {
        RepositoryError::Url(_) => (exit::CONFIG, ""),
        RepositoryError::Step { message, .. } => (exit::FAILED, step_hint(message)),
        RepositoryError::Connect(_)
        | RepositoryError::Queue { .. }
        | RepositoryError::Fence { .. }
        | RepositoryError::WarmKeys { .. }
        | RepositoryError::HotKeys { .. }
        | RepositoryError::Stopped => (exit::UNAVAILABLE, ""),
    };
    (code, format!("{error}{hint}"))
}
