//! `cachewarden audit`: every cached value against Postgres.
//!
//! It asks both servers itself, so it works without a daemon, too; what has happened to a wrong key only the daemon knows.

mod report;
mod trace;

use super::{check, exit};
use crate::audit::{Findings, Pass, PassError, PassOptions};
use crate::config::Config;
use indicatif::{ProgressBar, ProgressStyle};
use std::path::Path;
use trace::Traced;

/// Compare every cached value with Postgres. Exits with 1 if one is inconsistent.
#[derive(clap::Args, Clone, Debug)]
pub struct Args {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// Invalidate what is wrong, drift included
    #[arg(long)]
    repair: bool,
    /// Keys compared a second, at most
    #[arg(long, default_value_t = 20_000, value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    rate: u32,
}

pub(super) fn run(path: &Path, args: &Args) -> u8 {
    let config = match check::offline_or_told(path) {
        Ok(config) => config,
        Err(code) => return code,
    };
    match audit(&config, args) {
        Ok(None) => {
            exit::tell("no cache is declared: there is nothing to audit");
            0
        }
        Ok(Some(found)) => {
            let traced = trace::ask(&config, &found.examples);
            show(&found, &traced, args.json);
            match found.total().inconsistent {
                0 => 0,
                _ => exit::FAILED,
            }
        }
        Err((code, report)) => {
            exit::tell(report);
            code
        }
    }
}

fn show(found: &Findings, traced: &Traced, json: bool) {
    match json {
        true => println!("{}", report::json(found, traced)),
        false => print!("{}", report::table(found, traced)),
    }
}

/// Err: the exit code and what to say.
fn audit(config: &Config, args: &Args) -> Result<Option<Findings>, (u8, String)> {
    let runtime = check::runtime()?;
    let options = PassOptions {
        rate: args.rate,
        repair: args.repair,
    };
    let found = runtime.block_on(async {
        let Some(pass) = Pass::open(config, runtime.handle().clone()).await? else {
            return Ok(None);
        };
        let bar = bar();
        let found = pass.run(options, |progress| {
            bar.set_length(progress.of.max(progress.looked_at));
            bar.set_position(progress.looked_at);
        });
        let found = found.await;
        bar.finish_and_clear();
        found.map(Some)
    });
    found.map_err(|error: PassError| failed(config, &error))
}

/// Drawn on stderr, and only if that is a terminal.
fn bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} keys, {eta} left");
    let bar = ProgressBar::new(0);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_broken) => bar,
    }
}

fn failed(config: &Config, error: &PassError) -> (u8, String) {
    match error {
        PassError::Queries(problems) => {
            let reports: Vec<String> = problems
                .iter()
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
            (exit::CONFIG, reports.join("\n\n"))
        }
        PassError::Url(_) => (exit::CONFIG, error.to_string()),
        PassError::Redis(_) | PassError::Postgres(_) | PassError::Queue(_) => {
            (exit::UNAVAILABLE, error.to_string())
        }
    }
}
