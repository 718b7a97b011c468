//! A load that is not ours: pgbench's own tables and transactions, watched, while they are read through two daemons. When it
//! has ended, every cached value is the database's.
//!
//! The same with the triggers disabled must leave outdated values: else nothing that was cached has changed.

use std::collections::HashMap;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use tokio::task::{JoinSet, spawn_blocking};

use super::support::DEADLINE;
use super::support::daemon::{InProcess, cachewarden, config, said};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::{Database, database, redis, shared_postgres};
use super::support::world::{figure, raw};

/// Of a database of scale 1.
const ACCOUNTS: i64 = 100_000;
const TELLERS: i64 = 10;
/// Each client makes so many transactions, of four changes each.
const TRANSACTIONS: &str = "400";
const CLIENTS: &str = "4";
/// Accounts in one `MGET`.
const AT_ONCE: i64 = 500;
const READERS_A_DAEMON: usize = 2;
/// The last one sums up rows: a change of any of them, or a move to another branch, concerns it.
const CACHES: &str = r#"
    [caches.account]
    key = "accounts:{aid:int}"
    query = "SELECT abalance FROM pgbench_accounts WHERE aid = :aid"
    shape = "scalar"
    ttl = "1h"

    [caches.teller]
    key = "tellers:{tid:int}"
    query = "SELECT tbalance FROM pgbench_tellers WHERE tid = :tid"
    shape = "scalar"
    ttl = "1h"

    [caches.branch]
    key = "branches:{bid:int}"
    query = "SELECT bbalance FROM pgbench_branches WHERE bid = :bid"
    shape = "scalar"
    ttl = "1h"

    [caches.total]
    key = "totals:{bid:int}"
    query = "SELECT sum(tbalance) FROM pgbench_tellers WHERE bid = :bid"
    shape = "scalar"
    ttl = "1h"

    [invalidation]
    [[invalidation.watch]]
    table = "pgbench_accounts"
    invalidate = ["accounts:{aid}"]
    [[invalidation.watch]]
    table = "pgbench_tellers"
    invalidate = ["tellers:{tid}", "totals:{bid}"]
    [[invalidation.watch]]
    table = "pgbench_branches"
    invalidate = ["branches:{bid}"]
"#;
/// Each cached key of the database as it is, beside what Redis should hold under it.
const TRUTH: &str = "SELECT 'accounts:' || aid, abalance::text FROM pgbench_accounts
    UNION ALL SELECT 'tellers:' || tid, tbalance::text FROM pgbench_tellers
    UNION ALL SELECT 'totals:' || bid, sum(tbalance)::text FROM pgbench_tellers GROUP BY bid
    UNION ALL SELECT 'branches:' || bid, bbalance::text FROM pgbench_branches";

/// What came of it.
#[derive(Debug, Default)]
struct Outcome {
    /// Keys in Redis when all was over.
    cached: usize,
    /// Of those, with another value than the database's.
    wrong: Vec<String>,
    /// Values that were read while pgbench ran, and of all that were asked for those found in the cache.
    reads: u64,
    hits: u64,
    invalidated: u64,
}

#[tokio::test]
async fn after_pgbench_every_cached_value_is_the_databases() {
    let outcome = outcome(true).await;
    println!("pgbench: {outcome:?}");
    assert!(outcome.wrong.is_empty(), "{outcome:#?}");
    let is_useful = outcome.cached as i64 > ACCOUNTS / 2 && outcome.hits > outcome.reads / 2;
    // Nearly as many accounts as transactions; the few tellers and branches once for many changes.
    let is_tried = outcome.reads > 1_000 && outcome.invalidated > 1_500;
    assert!(is_useful && is_tried, "{outcome:#?}");
}

#[tokio::test]
async fn after_pgbench_with_disabled_triggers_cached_values_are_outdated() {
    let outcome = outcome(false).await;
    println!("pgbench without triggers: {} wrong", outcome.wrong.len());
    assert!(outcome.wrong.len() > 1_000, "{outcome:#?}");
}

async fn outcome(is_watched: bool) -> Outcome {
    let (database, redis) = (database().await, redis());
    pgbench(&database, &["--initialize", "--quiet"]).await;
    let text = config(database.url(), &redis.redis_url(), CACHES);
    let (code, out, errors) = said(&cachewarden(&text, &["migrate"]).await);
    assert_eq!(code, Some(0), "{out}{errors}");
    let daemons = [InProcess::start(&text).await, InProcess::start(&text).await];
    if !is_watched {
        for table in ["accounts", "tellers", "branches"] {
            let off = format!("ALTER TABLE pgbench_{table} DISABLE TRIGGER ALL");
            database.execute(&off).await;
        }
    }
    let mut clients = [daemons[0].client().await, daemons[1].client().await];
    for first in (1..=ACCOUNTS).step_by(AT_ONCE as usize) {
        let client = &mut clients[usize::from(first / AT_ONCE % 2 == 0)];
        mget(client, &accounts(first)).await;
    }

    let over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for daemon in &daemons {
        for _ in 0..READERS_A_DAEMON {
            readers.spawn(read(daemon.client().await, Arc::clone(&over)));
        }
    }
    let load = ["--no-vacuum", "-c", CLIENTS, "-t", TRANSACTIONS];
    pgbench(&database, &load).await;
    over.store(true, SeqCst);
    let reads = readers.join_all().await.into_iter().sum();
    until_applied(&database).await;

    let mut outcome = Outcome {
        reads,
        ..Outcome::default()
    };
    for (daemon, mut client) in daemons.into_iter().zip(clients) {
        outcome.hits += figure(&mut client, "cachewarden_reads_total", "state=\"hit").await;
        outcome.invalidated += figure(&mut client, "cachewarden_invalidations_total", "").await;
        daemon.stop().await;
    }
    compare(&database, raw(&redis).await, &mut outcome).await;
    outcome
}

/// Runs pgbench to its end.
async fn pgbench(database: &Database, args: &[&str]) {
    let mut command = Command::new(shared_postgres().program("pgbench"));
    command.args(args).arg(database.url()).stdin(Stdio::null());
    let done = spawn_blocking(move || command.output()).await.unwrap();
    let done = done.expect("pgbench comes with Postgres: apt-get install postgresql");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
}

/// Accounts that follow one another.
fn accounts(first: i64) -> Vec<String> {
    let ids = first..first + AT_ONCE;
    ids.map(|aid| format!("accounts:{aid}")).collect()
}

async fn mget(client: &mut Client, keys: &[String]) -> Vec<Value> {
    let words = std::iter::once("MGET").chain(keys.iter().map(String::as_str));
    match client.command(&words.collect::<Vec<_>>()).await {
        Value::Array(values) => values,
        other => panic!("{other:?}"),
    }
}

/// Reads what is written often and what is written seldom; how many values.
async fn read(mut client: Client, over: Arc<AtomicBool>) -> u64 {
    let mut reads = 0;
    while !over.load(SeqCst) {
        let mut keys = accounts(fastrand::i64(1..=ACCOUNTS - AT_ONCE));
        keys.truncate(20);
        keys.push(format!("tellers:{}", fastrand::i64(1..=TELLERS)));
        keys.extend(["branches:1".to_owned(), "totals:1".to_owned()]);
        let values = mget(&mut client, &keys).await;
        let is_number = |value: &Value| value.text().parse::<i64>().is_ok();
        assert!(values.iter().all(is_number), "{values:?}");
        reads += values.len() as u64;
    }
    reads
}

async fn until_applied(database: &Database) {
    let session = database.client().await;
    eventually(DEADLINE, async || {
        let left = "SELECT count(*) FROM cachewarden.outbox";
        let row = session.query_one(left, &[]).await.unwrap();
        match row.get::<_, i64>(0) {
            0 => Ok(()),
            left => Err(left),
        }
    })
    .await;
}

/// Holds every key that Redis has against the database.
async fn compare(database: &Database, mut raw: Client, outcome: &mut Outcome) {
    let rows = database.client().await.query(TRUTH, &[]).await.unwrap();
    let rows = rows.iter().map(|row| (row.get(0), row.get(1)));
    let truth: HashMap<String, String> = rows.collect();
    let Value::Array(keys) = raw.command(&["KEYS", "*"]).await else {
        panic!("KEYS gave no array")
    };
    let keys: Vec<String> = keys.iter().map(|key| key.text().to_owned()).collect();
    let ours = |key: &&String| !key.starts_with("cachewarden:");
    let keys: Vec<String> = keys.iter().filter(ours).cloned().collect();
    outcome.cached = keys.len();
    for keys in keys.chunks(1000) {
        for (key, value) in keys.iter().zip(mget(&mut raw, keys).await) {
            if truth.get(key).map(String::as_str) != Some(value.text()) {
                outcome.wrong.push(format!("{key} is {value:?}"));
            }
        }
    }
}
