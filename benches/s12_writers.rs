//! S12: what a watched table costs those who write to it.
//!
//! Work: pgbench's own transactions on two databases of one server. In one of them `pgbench_accounts` is watched: each
//! transaction queues one row. Nobody empties the queue meanwhile, for on two cores a daemon's work would be counted as the
//! trigger's.
//!
//! Without fsync, 8 clients: two cores have nothing to wait for, and what the trigger costs them is what writers lose. With
//! fsync, as on a server, 4 clients: they wait for the disk, and cores have time. With 8 a quick disk's group commit lets them
//! fill the cores again. That is told below the table, and what it is over the socket, which leaves more of the cores than TCP.
//!
//! Rounds are many and short: on a machine that is shared, one round's rate says little (those of one and the same database were
//! 0.7 to 1.4 times their median), and what is sought is a few per cent.

use cachewarden::cli::demo::servers::Postgres;

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
const SECONDS: u64 = 2;
/// As many rounds as the others' one.
const MORE_ROUNDS: usize = 4;
/// So that no checkpoint falls into a round and none is paid for by the other database's.
const MAX_WAL_SIZE: &str = "8GB";

pub fn run(bench: &Bench) -> Result<Report, BenchError> {
    let mut report = Report::default();
    let against = "the same, not watched".to_owned();
    for (fsync, clients, floor, goal) in [
        ("off", CLIENTS, 0.75, 0.95),
        ("on", CLIENTS_OF_A_DISK, 0.93, 0.95),
    ] {
        let backends = backends(fsync)?;
        let rounds = bench.rounds * MORE_ROUNDS;
        let [plain, watched] = measure(&backends, Postgres::postgres_url, clients, rounds)?;
        report.rows.push(Row::of_rates(
            "S12",
            format!("pgbench's transactions on a watched table, {clients} clients, fsync {fsync}"),
            against.clone(),
            &watched,
            &plain,
            Limits::at_least(floor, goal),
        ));
        if fsync == "on" {
            let socket = Postgres::postgres_socket_url;
            let pairs = [
                (
                    "the socket, 4",
                    measure(&backends, socket, CLIENTS_OF_A_DISK, rounds)?,
                ),
                (
                    "TCP, 8",
                    measure(&backends, Postgres::postgres_url, CLIENTS, bench.rounds)?,
                ),
            ];
            for (way, pair) in pairs {
                let [plain, watched] = pair.map(|of| medians(&of));
                report.notes.push(format!(
                    "S12, fsync on, over {way} clients: {} instead of {} ({:.2}x)",
                    rate(watched.rate),
                    rate(plain.rate),
                    watched.rate / plain.rate
                ));
            }
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
        ("max_wal_size", MAX_WAL_SIZE),
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
    backends: &Backends,
    url: impl Fn(&Postgres, &str) -> String,
    clients: usize,
    rounds: usize,
) -> Result<[Vec<Measured>; 2], BenchError> {
    let postgres = &backends.postgres;
    take_turns(rounds, |side| {
        let url = url(postgres, DATABASES[side]);
        transactions(postgres, &url, clients, SECONDS, None)
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
