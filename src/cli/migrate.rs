//! `cachewarden migrate`: the daemon's own schema and the triggers of watched tables.

use std::path::Path;
use std::sync::Arc;

use super::{check, exit};
use crate::config::{Cache, Config};
use crate::daemon::waiting_writes;
use crate::repository::{Installer, RepositoryError, Step, WatchProblem};

/// Install the daemon's schema and the triggers of watched tables.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Print the SQL that would run, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take away all that was ever installed, unless acknowledged writes still need it
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
    if args.uninstall {
        runtime.block_on(see_that_nothing_waits(config))?;
    }
    let failed = |error: RepositoryError| failed(&error, args.uninstall);
    let handle = runtime.handle().clone();
    let installer = Installer::new(postgres, &config.invalidation, handle);
    let installer = installer.map_err(failed)?;
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
    let (steps, problems) = done.map_err(failed)?;
    if problems.is_empty() {
        return Ok(steps);
    }
    let reports = WatchProblem::report(&problems, config);
    Err((exit::CONFIG, format!("{reports}\n\nnothing was changed")))
}

/// Without what is installed no daemon can save what others were told is written.
async fn see_that_nothing_waits(config: &Config) -> Result<(), (u8, String)> {
    match waiting_writes(config).await {
        Ok(0) => Ok(()),
        Ok(count) => {
            let report = format!(
                "redis holds {count} acknowledged writes that are not in postgres yet; nothing was changed\n\
                 hint: `cachewarden run` saves them: wait until `cachewarden_journal_rows` is 0"
            );
            Err((exit::FAILED, report))
        }
        Err(error) => {
            let report = format!(
                "redis cannot be asked whether acknowledged writes wait there that are not in postgres yet: {error}"
            );
            if config.caches.iter().any(Cache::is_journaled) {
                let hint = "try again when redis is back; if it is gone for good, so are they: take `mode = \"behind\"` out of the configuration first";
                let report = format!("{report}; nothing was changed\nhint: {hint}");
                return Err((exit::UNAVAILABLE, report));
            }
            exit::tell(format_args!("warning: {report}"));
            Ok(())
        }
    }
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

fn failed(error: &RepositoryError, uninstalls: bool) -> (u8, String) {
    let (code, hint) = match error {
        RepositoryError::Url(_) => (exit::CONFIG, ""),
        RepositoryError::Step { .. } if uninstalls => (
            exit::FAILED,
            "\nnothing was changed; `cachewarden migrate --uninstall --dry-run` prints what would run",
        ),
        RepositoryError::Step { message, .. } => (exit::FAILED, step_hint(message)),
        RepositoryError::DeadWrites { .. } => (
            exit::FAILED,
            ", and they would go with it; nothing was changed\n\
             hint: save or give up each of them, and delete it there",
        ),
        RepositoryError::Connect(_)
        | RepositoryError::Queue { .. }
        | RepositoryError::Fence { .. }
        | RepositoryError::WarmKeys { .. }
        | RepositoryError::HotKeys { .. }
        | RepositoryError::Stopped => (exit::UNAVAILABLE, ""),
    };
    (code, format!("{error}{hint}"))
}
