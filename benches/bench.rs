//! `make bench`: the speed of the daemon beside that of its peers, as one table. See README.md here.
//!
//! `cargo bench --bench bench -- s04 s06 --rounds 9` measures some targets, more often.

#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the table is for whoever runs it"
)]

mod s01_l1_hits;
mod s04_redis_hits;
mod s05_mostly_l1_hits;
mod s06_cold_reads;
mod s07_cold_mget;
mod s08_stampede;
mod s09_sweep;
mod s10_waiting_patterns;
mod s11_commit_to_gone;
mod s12_writers;
mod s13_drain;
mod s14_warmup;
mod s15_limits;
mod s16_locks;
mod s17_at_rest;
mod s18_idle_connections;
mod s19_stale_answers;
mod s20_journal;
mod support;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::table::Report;
use support::{Bench, BenchError, machine};

/// The binary's own: what runs inside this process should run as it does there.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Target = fn(&Bench) -> Result<Report, BenchError>;

const TARGETS: &[(&str, Target)] = &[
    ("s01", s01_l1_hits::run),
    ("s04", s04_redis_hits::run),
    ("s05", s05_mostly_l1_hits::run),
    ("s06", s06_cold_reads::run),
    ("s07", s07_cold_mget::run),
    ("s08", s08_stampede::run),
    ("s09", s09_sweep::run),
    ("s10", s10_waiting_patterns::run),
    ("s11", s11_commit_to_gone::run),
    ("s12", s12_writers::run),
    ("s13", s13_drain::run),
    ("s14", s14_warmup::run),
    ("s15", s15_limits::run),
    ("s16", s16_locks::run),
    ("s17", s17_at_rest::run),
    ("s18", s18_idle_connections::run),
    ("s19", s19_stale_answers::run),
    ("s20", s20_journal::run),
];

/// Measures the daemon against its peers and prints one table.
#[derive(Parser)]
struct Args {
    /// Only these targets, such as `s04`; all by default
    targets: Vec<String>,
    /// How often each side of a comparison runs
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long one run takes
    #[arg(long, default_value_t = 1.5)]
    seconds: f64,
    /// What cargo passes to every bench
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let args = Args::parse();
    allow_many_connections();
    let machine = machine::describe();
    match measure(&args) {
        Ok((report, failed)) => {
            if !report.rows.is_empty() {
                println!("\n{machine}\n\n{}", report.render());
                println!("\nLoad average at the end: {}", machine::load_average());
            }
            if failed {
                ExitCode::FAILURE
            } else {
                ExitCode::SUCCESS
            }
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Every target that was asked for; one that cannot be measured does not keep the others from it.
fn measure(args: &Args) -> Result<(Report, bool), BenchError> {
    let seconds = Duration::try_from_secs_f64(args.seconds).unwrap_or(Duration::from_secs(1));
    let bench = Bench::new(args.rounds.max(1), seconds)?;
    let mut report = Report::default();
    let mut failed = false;
    for (name, run) in TARGETS {
        if !args.targets.is_empty() && !args.targets.iter().any(|target| target == name) {
            continue;
        }
        eprintln!("bench: {name}");
        match run(&bench) {
            Ok(found) => report.append(found),
            Err(error) => {
                eprintln!("bench: {name}: {error}");
                failed = true;
            }
        }
    }
    Ok((report, failed))
}

/// A target opens 10,000 connections, and servers inherit what we may open. Without the right to it, that target says so.
fn allow_many_connections() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    let _ = setrlimit(Resource::Nofile, all);
}
