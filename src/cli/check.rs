//! `cachewarden check`: tells every mistake of the configuration at once.

use std::path::Path;
use std::sync::Arc;

use super::exit;
use crate::config::{Cache, Config};
use crate::daemon::volatility;
use crate::repository::{Installer, Repository, RepositoryError, WarmKeys, WatchProblem};

/// Check the configuration and print every mistake with its place and the mend.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Also connect: prepare every query and statement on Postgres, look for what `migrate` installs, and whether Redis keeps a
    /// journal of writes
    #[arg(long)]
    pub connect: bool,
}

/// Checks what can be told without a server.
///
/// # Errors
/// All mistakes, rendered for a terminal.
pub fn offline(path: &Path) -> Result<Config, String> {
    Config::load(path).map_err(|problems| {
        let count = problems.len();
        let noun = if count == 1 { "mistake" } else { "mistakes" };
        format!("{problems}\n\n{count} {noun}")
    })
}

/// The same for a subcommand: the mistakes were told, and there is its exit code.
pub(super) fn offline_or_told(path: &Path) -> Result<Config, u8> {
    offline(path).map_err(|report| {
        exit::tell(report);
        exit::CONFIG
    })
}

pub(super) fn run(path: &Path, args: &Args) -> u8 {
    let config = match offline_or_told(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    for warning in &config.warnings {
        exit::tell(format_args!("warning: {warning}"));
    }
    if !config.unserved.is_empty() {
        let parts = config.unserved.join(", ");
        exit::tell(format_args!(
            "warning: accepted, but not served by this version: {parts}"
        ));
    }
    if args.connect {
        if let Err((code, report)) = online(&config) {
            exit::tell(report);
            return code;
        }
        println!("every query runs on Postgres");
        if !config.invalidation.watches.is_empty() {
            println!("every watched table has its triggers");
        }
        if config.declares_writes() {
            println!("what writes need is installed");
        }
        if config.caches.iter().any(Cache::is_journaled) && !config.redis.allow_volatile_journal {
            println!("redis keeps the journal of writes");
        }
        if config.needs_fences() {
            println!("what locks need is installed");
        }
    }
    println!("configuration ok: {}", contents(&config));
    0
}

/// What is declared, in a few words.
fn contents(config: &Config) -> String {
    let mut parts = vec![
        counted(config.caches.len(), "cache"),
        counted(config.namespaces.len(), "namespace"),
    ];
    if !config.passthroughs.is_empty() {
        parts.push(counted(config.passthroughs.len(), "passthrough"));
    }
    if !config.limits.is_empty() {
        parts.push(counted(config.limits.len(), "limit"));
    }
    if config.locks.is_declared {
        let most = config.locks.max_ttl;
        parts.push(format!("locks of up to {most:?}"));
    }
    parts.join(", ")
}

/// Prepares every query on Postgres and runs it once without keys; looks for the triggers of watched tables. Err: the exit code and what to say.
fn online(config: &Config) -> Result<(), (u8, String)> {
    let Some(postgres) = &config.postgres else {
        return Ok(());
    };
    let unavailable = |error: &dyn std::fmt::Display| (exit::UNAVAILABLE, error.to_string());
    let runtime = runtime()?;
    let handle = || runtime.handle().clone();
    let wrong = |error: RepositoryError| (exit::CONFIG, error.to_string());
    let repository = Repository::new(postgres, &config.caches, handle()).map_err(wrong)?;
    let warm_keys = WarmKeys::new(postgres, &config.caches, handle()).map_err(wrong)?;
    let installer = Installer::new(postgres, &config.invalidation, handle()).map_err(wrong)?;
    let installer = installer.with_fences(config.needs_fences());
    let installer = Arc::new(installer.with_writes(config.declares_writes()));
    let found = runtime.block_on(async {
        let queries = repository.check().await?;
        let warm_keys = warm_keys.check().await?;
        Ok((queries, warm_keys, installer.plan().await?))
    });
    let (queries, warm_keys, plan) = found.map_err(|error: RepositoryError| unavailable(&error))?;
    let volatile = runtime.block_on(volatility(config));
    let volatile = volatile.map_err(|error| unavailable(&error))?;
    let mut reports: Vec<String> = queries
        .iter()
        .chain(&warm_keys)
        .map(|problem| {
            let hint = problem.hint.as_deref();
            config.report_declared(
                problem.cache,
                problem.declared,
                problem.offset,
                &problem.message,
                hint,
            )
        })
        .collect();
    let watches = [plan.problems, plan.flaws].concat();
    if !watches.is_empty() {
        reports.push(WatchProblem::report(&watches, config));
    }
    reports.extend(volatile);
    match reports.as_slice() {
        [] => Ok(()),
        reports => Err((exit::CONFIG, reports.join("\n\n"))),
    }
}

/// Threads for connections to Postgres. Two: one waits for what is done on the other.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, (u8, String)> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| (exit::OS, format!("cannot start: {error}")))
}

fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mistake_of_a_file_is_rendered_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.toml");
        std::fs::write(&path, "[redis]\nurl = 3\n[log]\nlevle = 1\n").unwrap();
        let rendered = offline(&path).unwrap_err();
        assert!(
            rendered.contains("x.toml:2:7") && rendered.contains("x.toml:4:1"),
            "{rendered}"
        );
        assert!(rendered.ends_with("\n\n2 mistakes"), "{rendered}");
        std::fs::write(&path, "[redis]\nurl = \"redis://h\"\n").unwrap();
        assert!(offline(&path).is_ok());
    }
}
