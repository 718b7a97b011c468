//! redis-benchmark: one command again and again, against Redis or against us.

use std::process::Command;
use std::time::Duration;

use super::load::Sample;
use super::rounds::{Cpu, Measured};
use super::{BenchError, Watched, usage};

const PROGRAM: &str = "redis-benchmark";
/// What it replaces by a random number below [`SUBJECTS`], in twelve digits.
pub const RANDOM: &str = "__rand_int__";
const SUBJECTS: &str = "100000";

/// So many requests over so many connections, each with a pipeline.
#[derive(Clone, Copy)]
pub struct Load {
    pub connections: usize,
    pub pipeline: usize,
    pub requests: u64,
}

/// Runs it once. The rate is its own; an answer that is an error ends it.
pub fn run(
    port: u16,
    load: Load,
    words: &[&str],
    watched: Watched,
) -> Result<Measured, BenchError> {
    let cpu = || -> Result<Cpu, BenchError> {
        let redis = watched.redis.map(usage::cpu).transpose()?;
        Ok(Cpu {
            server: usage::cpu(watched.server)?,
            redis: redis.unwrap_or_default(),
            postgres: Duration::ZERO,
            generator: usage::children_cpu()?,
        })
    };
    let before = cpu()?;
    let output = Command::new(PROGRAM)
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "--csv"])
        .args(["-c", &load.connections.to_string()])
        .args(["-P", &load.pipeline.to_string()])
        .args(["-n", &load.requests.to_string(), "-r", SUBJECTS])
        .args(words)
        .output();
    let output = output.map_err(BenchError::io(format!("start {PROGRAM}")))?;
    let after = cpu()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // The name of the command, its rate, then latencies; each in quotes.
    let row = text.lines().last().unwrap_or_default();
    let rate = row.rsplit("\",\"").nth(6);
    let rate = rate.and_then(|rate| rate.parse::<f64>().ok());
    let rate = rate.filter(|rate| output.status.success() && *rate > 0.0);
    let rate = rate.ok_or_else(|| BenchError::Helper {
        program: PROGRAM,
        message: format!("{text}{}", String::from_utf8_lossy(&output.stderr)),
    })?;
    let sample = Sample {
        units: load.requests,
        elapsed: Duration::from_secs_f64(load.requests as f64 / rate),
    };
    Ok(Measured::new(sample, after - before))
}
