//! S17: what the daemon costs that nobody asks anything, and how long it takes to be there.
//!
//! Work: the binary on the demo's shop (its caches, both servers up) is started ten times. Time from before the process is
//! made to the READY it sends to its service manager; resident memory half a second later.

use std::time::{Duration, Instant};

use cachewarden::cli::demo::Shop;
use cachewarden::cli::demo::servers::Folder;

use crate::support::process::Daemon;
use crate::support::rounds::Spread;
use crate::support::table::{Limits, Report, Row, Side, Unit, mebibytes};
use crate::support::{Bench, BenchError, usage};

const STARTS: usize = 10;

/// After this nothing moves any more that belongs to a start.
const REST: Duration = Duration::from_millis(500);

pub fn run(_bench: &Bench) -> Result<Report, BenchError> {
    let shop = Shop::open()?;
    // The shop's own folder is not ours to write to.
    let folder = Folder::new()?;
    let (mut starts, mut resident, mut anonymous) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let daemon = Daemon::start(&folder, shop.config())?;
        rest(REST);
        let memory = usage::memory(daemon.pid())?;
        starts.push(daemon.start.as_secs_f64() * 1e3);
        resident.push(mebibytes(memory.resident));
        anonymous.push(mebibytes(memory.anonymous));
    }
    let anonymous = Spread::of(anonymous).median;
    let rows = vec![
        row(
            "memory at rest, the demo's caches",
            Spread::of(resident),
            Unit::Mebibytes,
            Limits::at_most(40.0, 15.0),
        ),
        row(
            "start to READY, both servers up",
            Spread::of(starts),
            Unit::Millis,
            Limits::at_most(300.0, 60.0),
        ),
    ];
    let notes = vec![format!(
        "S17: {anonymous:.1} MiB of the memory are heap and stacks; the rest are pages of the binary and of libraries"
    )];
    Ok(Report { rows, notes })
}

/// Waits in vain.
pub fn rest(time: Duration) {
    let end = Instant::now() + time;
    // Parking may end early.
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        std::thread::park_timeout(left);
    }
}

fn row(work: &str, figure: Spread, unit: Unit, limits: Limits) -> Row {
    Row {
        target: "S17",
        work: work.to_owned(),
        against: String::new(),
        figure,
        unit,
        ours: Side::default(),
        theirs: Side::default(),
        limits,
    }
}
