//! S11: how long after a commit its value is gone from Redis.
//!
//! Work: a writer updates a row of a watched table every 5 ms, each row once. Redis itself tells when a key is removed
//! (keyspace notifications), so nothing is polled; the time runs from the return of the commit.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::support::filled::{connect, failed};
use crate::support::rounds::{Spread, quantile};
use crate::support::table::{Limits, Report, Row, Side, Unit};
use crate::support::watched::Watched;
use crate::support::{Bench, BenchError};

/// Between two commits.
const PACE: Duration = Duration::from_millis(5);
/// The first commits wake a daemon that had nothing to do for a while.
const WARM_COMMITS: usize = 50;
const COMMITS: usize = 1_000;
/// What is not gone by then is lost.
const LOST: Duration = Duration::from_secs(10);
const UPDATE: &str = "UPDATE bench SET payload = payload WHERE id = $1";

pub fn run(_bench: &Bench) -> Result<Report, BenchError> {
    let all = WARM_COMMITS + COMMITS;
    let watched = Watched::open(u32::try_from(all).unwrap_or(u32::MAX))?;
    let port = watched.backends.redis.port();
    let mut redis = connect(port)?;
    redis::cmd("CONFIG")
        .arg("SET")
        .arg("notify-keyspace-events")
        .arg("Kg")
        .exec(&mut redis)
        .map_err(failed)?;
    let gone = std::thread::spawn(move || hear(port, all));
    let committed = write(&watched)?;
    let gone = gone.join().map_err(|_panicked| BenchError::Helper {
        program: "subscriber",
        message: "panicked".to_owned(),
    })??;
    let millis: Vec<f64> = committed[WARM_COMMITS..]
        .iter()
        .filter_map(|(key, at)| Some(gone.get(key)?.saturating_duration_since(*at)))
        .map(|waited| waited.as_secs_f64() * 1e3)
        .collect();
    if millis.len() < COMMITS {
        return Err(BenchError::Helper {
            program: "invalidation",
            message: format!(
                "{} of {COMMITS} values are still there",
                COMMITS - millis.len()
            ),
        });
    }
    let at = |share: f64| quantile(millis.clone(), share);
    let mut report = Report::default();
    report.rows.push(Row {
        target: "S11",
        work: "commit to gone from Redis, 200 commits a second: 99th percentile".to_owned(),
        against: String::new(),
        figure: Spread {
            median: at(0.99),
            min: at(0.0),
            max: at(1.0),
        },
        unit: Unit::Millis,
        ours: Side::default(),
        theirs: Side::default(),
        limits: Limits::at_most(50.0, 10.0),
    });
    report.notes.push(format!(
        "S11: median {:.1} ms over {COMMITS} commits",
        at(0.5)
    ));
    Ok(report)
}

/// Commits at the pace, and tells when each was committed.
fn write(watched: &Watched) -> Result<Vec<(String, Instant)>, BenchError> {
    let broken = |error: tokio_postgres::Error| BenchError::Helper {
        program: "postgres",
        message: error.to_string(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("make a runtime"))?;
    runtime.block_on(async {
        let url = watched.backends.postgres.postgres_url("postgres");
        let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
        let (client, connection) = connected.map_err(broken)?;
        tokio::spawn(connection);
        let update = client.prepare(UPDATE).await.map_err(broken)?;
        let mut pace = tokio::time::interval(PACE);
        let mut committed = Vec::new();
        for id in watched.ids() {
            pace.tick().await;
            let id = i64::from(id);
            client.execute(&update, &[&id]).await.map_err(broken)?;
            committed.push((format!("bench:{id}"), Instant::now()));
        }
        Ok(committed)
    })
}

/// Hears of so many removed keys, and tells when each was removed.
fn hear(port: u16, all: usize) -> Result<HashMap<String, Instant>, BenchError> {
    let mut redis = connect(port)?;
    let mut subscribed = redis.as_pubsub();
    subscribed
        .psubscribe("__keyspace@0__:bench:*")
        .map_err(failed)?;
    subscribed.set_read_timeout(Some(LOST)).map_err(failed)?;
    let mut gone = HashMap::new();
    while gone.len() < all {
        let Ok(message) = subscribed.get_message() else {
            break;
        };
        let at = Instant::now();
        let channel = message.get_channel_name();
        if let Some((_, key)) = channel.split_once(':') {
            gone.entry(key.to_owned()).or_insert(at);
        }
    }
    Ok(gone)
}
