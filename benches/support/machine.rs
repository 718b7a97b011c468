//! Where the figures come from: they mean nothing without.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::proxy;

/// Cores, model, kernel and the versions of the peers, on one line.
pub fn describe() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let versions = [
        version_of(Path::new("redis-server"), "redis"),
        version_of(Path::new("psql"), "postgres"),
        proxy::program().map_or_else(
            |_| "no twemproxy".to_owned(),
            |program| version_of(&program, "twemproxy"),
        ),
    ];
    format!(
        "{cores} cores {}, Linux {}, {}; load average {}",
        model().unwrap_or_else(|| "of an unknown model".to_owned()),
        kernel.trim(),
        versions.join(", "),
        load_average()
    )
}

/// How busy the machine was in the last minute: figures from a busy one are worth less.
pub fn load_average() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or("unknown").to_owned()
}

fn model() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(": ")?.1.to_owned())
}

/// The first thing that looks like a version in what `--version` prints, on whichever stream.
fn version_of(program: &Path, name: &str) -> String {
    let Ok(output) = Command::new(program).arg("--version").output() else {
        return format!("no {name}");
    };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let version = text
        .split(|symbol: char| !symbol.is_ascii_digit() && symbol != '.')
        .find(|word| word.contains('.') && word.starts_with(|first: char| first.is_ascii_digit()));
    format!("{name} {}", version.unwrap_or("of an unknown version"))
}
