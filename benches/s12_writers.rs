//! S12: what a watched table costs those who write to it.
//!
//! Work: pgbench's own transactions, 8 clients, on two databases of one server. In one of them `pgbench_accounts` is watched:
//! each transaction queues one row. Nobody empties the queue meanwhile, for on two cores a daemon's work would be counted as
//! the trigger's. With fsync as on a server, and without.

use crate::support::pgbench::{make_tables, transactions};
use crate::support::rounds::take_turns;
use crate::support::table::{Limits, Report, Row};
use crate::support::watched::migrate;
use crate::support::world::Backends;
use crate::support::{Bench, BenchError};

const CLIENTS: usize = 8;
/// A million rows; enough branches that clients seldom wait for one another.
const SCALE: usize = 10;
const SECONDS: u64 = 3;

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let mut report = Report::default();
    for (fsync, floor, goal) in [("off", 0.75, 0.95), ("on", 0.93, 0.95)] {
        let settings = [
            ("fsync", fsync),
            ("synchronous_commit", fsync),
            ("full_page_writes", fsync),
        ];
        let backends = Backends::open(1, &settings)?;
        let databases = ["plain", "watched"];
        for database in databases {
            backends.sql(&format!("CREATE DATABASE {database}"))?;
            make_tables(&backends.postgres, database, SCALE)?;
        }
        watch(&backends)?;
        let [plain, watched] = take_turns(bench.rounds, |side| {
            transactions(&backends.postgres, databases[side], CLIENTS, SECONDS, None)
        })?;
        report.rows.push(Row::of_rates(
            "S12",
            format!("pgbench's transactions on a watched table, fsync {fsync}"),
            "the same, not watched".to_owned(),
            &watched,
            &plain,
            Limits::at_least(floor, goal),
        ));
    }
    Ok(report)
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
