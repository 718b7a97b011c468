//! What a process has used, as the kernel counts it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::BenchError;

/// The unit of times in `/proc/PID/stat`: Linux reports them in hundredths of a second, whatever its own clock.
const TICK: Duration = Duration::from_millis(10);

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// All of it.
    pub resident: u64,
    /// The part that is no file: heap and stacks.
    pub anonymous: u64,
}

/// Time on a core of all threads of a process, in nanoseconds' resolution. A thread that has ended is not counted.
pub fn cpu(pid: u32) -> Result<Duration, BenchError> {
    let dir = PathBuf::from(format!("/proc/{pid}/task"));
    let threads = fs::read_dir(&dir).map_err(BenchError::io(format!("list {}", dir.display())))?;
    let mut total = Duration::ZERO;
    for thread in threads.flatten() {
        let path = thread.path().join("schedstat");
        // Ended between the listing and this.
        let Ok(text) = fs::read_to_string(&path) else {
            continue;
        };
        let nanos = first_number(&text).ok_or(BenchError::Format { path })?;
        total += Duration::from_nanos(nanos);
    }
    Ok(total)
}

/// The same for a process, its children that live and those that it has waited for (these in ticks of 10 ms):
/// Postgres has a process for each connection.
pub fn family_cpu(pid: u32) -> Result<Duration, BenchError> {
    let mut total = cpu(pid)? + waited_for(pid)?;
    for child in children(pid)? {
        total += cpu(child).unwrap_or_default();
    }
    Ok(total)
}

/// Time on a core of our own children that have ended and were waited for.
pub fn children_cpu() -> Result<Duration, BenchError> {
    waited_for(std::process::id())
}

/// The time of a process' ended children: the 16th and 17th number of its `stat`.
fn waited_for(pid: u32) -> Result<Duration, BenchError> {
    let path = PathBuf::from(format!("/proc/{pid}/stat"));
    let text = read(&path)?;
    let parse = || {
        // `pid (name) state parent …`, and a name may hold spaces and brackets.
        let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace().skip(13);
        let user: u32 = fields.next()?.parse().ok()?;
        let system: u32 = fields.next()?.parse().ok()?;
        Some(TICK * (user + system))
    };
    parse().ok_or(BenchError::Format { path })
}

fn children(pid: u32) -> Result<Vec<u32>, BenchError> {
    let text = read(Path::new(&format!("/proc/{pid}/task/{pid}/children")))?;
    Ok(text
        .split_ascii_whitespace()
        .filter_map(|child| child.parse().ok())
        .collect())
}

/// What a process holds in memory now.
pub fn memory(pid: u32) -> Result<Memory, BenchError> {
    let path = PathBuf::from(format!("/proc/{pid}/status"));
    let text = read(&path)?;
    let kibibytes = |field: &str| {
        text.lines()
            .find_map(|line| first_number(line.strip_prefix(field)?))
    };
    let parse = || {
        Some(Memory {
            resident: kibibytes("VmRSS:")? * 1024,
            anonymous: kibibytes("RssAnon:")? * 1024,
        })
    };
    parse().ok_or(BenchError::Format { path })
}

fn read(path: &Path) -> Result<String, BenchError> {
    fs::read_to_string(path).map_err(BenchError::io(format!("read {}", path.display())))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_ascii_whitespace().next()?.parse().ok()
}
