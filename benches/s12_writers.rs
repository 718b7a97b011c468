//! S12: what a watched table costs those who write to it.
//!
//! Work: pgbench's own transactions on two databases of one server. In one of them `pgbench_accounts` is watched: each
//! transaction queues one row. Nobody empties the queue meanwhile, for on two cores a daemon's work would be counted as the
//! trigger's.
//!
//! Without fsync, 8 clients: two cores have nothing to wait for, and what the trigger costs them is what writers lose. With
//! fsync, as on a server, 4 clients: they wait for the disk, and cores have time. With 8 a quick disk's group commit lets them
//! fill the cores again, and the figure is nearly that of the first row: it is told below the table.

use crate::support::pgbench::{make_tables, transactions};
use crate::support::rounds::{Measured, medians, take_turns};
use crate::support::table::{Limits, Report, Row, rate};
use crate::support::watched::migrate;
use crate::support::world::Backends;
use crate::support::{Bench, BenchError};

const CLIENTS: usize = 8;
const CLIENTS_OF_A_DISK: usize = 4;
/// A million rows; enough branches that clients seldom wait for one another.
const SCALE: usize = 10;
const SECONDS: u64 = 3;

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let mut report = Report::default();
    let against = "the same, not watched".to_owned();
    for (fsync, clients, floor, goal) in [
        ("off", CLIENTS, 0.75, 0.95),
        ("on", CLIENTS_OF_A_DISK, 0.93, 0.95),
    ] {
        let backends = backends(fsync)?;
        let [plain, watched] = measure(bench, &backends, clients)?;
        report.rows.push(Row::of_rates(
            "S12",
            format!("pgbench's transactions on a watched table, {clients} clients, fsync {fsync}"),
            against.clone(),
            &watched,
            &plain,
            Limits::at_least(floor, goal),
        ));
        if fsync == "on" {
            let [plain, watched] = measure(bench, &backends, CLIENTS)?.map(|of| medians(&of));
            report.notes.push(format!(
                "S12, fsync on with {CLIENTS} clients: {} instead of {} ({:.2}x)",
                rate(watched.rate),
                rate(plain.rate),
                watched.rate / plain.rate
            ));
        }
    }
    Ok(report)
}

const DATABASES: [&str; 2] = ["plain", "watched"];

/// A server with both databases.
fn backends(fsync: &str) -> Result<Backends, BenchError> {
    let settings = [
        ("fsync", fsync),
        ("synchronous_commit", fsync),
        ("full_page_writes", fsync),
    ];
    let backends = Backends::open(1, &settings)?;
    for database in DATABASES {
        backends.sql(&format!("CREATE DATABASE {database}"))?;
        make_tables(&backends.postgres, database, SCALE)?;
    }
    watch(&backends)?;
    Ok(backends)
}

/// Both in turn.
fn measure(
    bench: &Bench,
    backends: &Backends,
    clients: usize,
) -> Result<[Vec<Measured>; 2], BenchError> {
    take_turns(bench.rounds, |side| {
        transactions(&backends.postgres, DATABASES[side], clients, SECONDS, None)
    })
}

fn watch(backends: &Backends) -> Result<(), BenchError> {
    let path = backends.folder.path().join("watched.toml");
    let text = format!(
        r#"[postgres]
url = "{}"
[redis]
url = "{}"
[caches.account]
key = "account:{{aid:int}}"
query = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid"
shape = "scalar"
ttl = "1h"
depends_on = {{ table = "pgbench_accounts", on = {{ aid = "aid" }} }}
"#,
        backends.postgres.postgres_url("watched"),
        backends.redis.redis_url(),
    );
    std::fs::write(&path, text).map_err(BenchError::io(format!("write {}", path.display())))?;
    migrate(&path)
}
