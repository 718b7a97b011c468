//! Readers against saves: a read that begins after a save was acknowledged gives what was saved, or what was saved after it.
//!
//! One round is one key. Both daemons are read and saved through; loads pause between their snapshot and their fill. The
//! database's queue is looked at too seldom to mend anything meanwhile: what is tried is the write's own invalidation.
//!
//! The same rounds with a fill that does not look at its lease must end with stale values: else the race was not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use cachewarden::Warden;
use cachewarden::cache::Scripts;
use cachewarden::config::Config;
use tokio::task::JoinSet;

use super::super::support::daemon::{InProcess, config};
use super::super::support::resp::{Client, Value};
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::super::support::world::{figure, raw};
use super::ok;

const ROUNDS: u64 = 200;
const LANES: u64 = 5;
const WRITES_A_ROUND: u64 = 4;
const READERS_A_DAEMON: usize = 2;
const TABLE: &str = "CREATE TABLE counters (id bigint PRIMARY KEY, version bigint);
    INSERT INTO counters SELECT n, 0 FROM generate_series(1, 1000) n";
/// A load that ran past half of its time would read without a lease, and a race without leases proves nothing.
const CACHES: &str = r#"
    postgres.pool_size = 16
    # A machine that is busy is no Redis that is away.
    redis.timeout = "20s"

    [invalidation]
    poll = "1m"

    [caches.counter]
    key = "counters:{id:bigint}"
    query = "SELECT version || left(pg_sleep(random() * 0.004)::text, 0) FROM counters WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "30s"
    [caches.counter.write]
    save = "UPDATE counters SET version = (:value)::bigint WHERE id = :id"
"#;
const UNCHECKED: &str = include_str!("../scripts/end_leases_unchecked.lua");

/// What came of all rounds.
#[derive(Debug, Default)]
struct Outcome {
    reads: u64,
    /// Reads that gave a version older than one that was acknowledged before they began.
    stale_reads: u64,
    /// Rounds after which Redis held an outdated value.
    stale_rounds: u64,
    refused: u64,
}

#[tokio::test]
async fn no_read_after_an_acknowledged_save_is_outdated() {
    let outcome = race(CACHES, Scripts::default).await;
    println!("{ROUNDS} rounds: {outcome:?}");
    assert_sound(&outcome);
}

#[tokio::test]
async fn neither_is_one_where_a_save_loads_anew_itself() {
    let outcome = race(
        &format!("{CACHES}after_save = \"update\"\n"),
        Scripts::default,
    )
    .await;
    println!("update, {ROUNDS} rounds: {outcome:?}");
    assert_sound(&outcome);
}

#[tokio::test]
async fn the_race_finds_stale_values_when_fills_do_not_look_at_their_lease() {
    let outcome = race(CACHES, || Scripts::with_end(UNCHECKED)).await;
    println!("unchecked, {ROUNDS} rounds: {outcome:?}");
    assert!(
        outcome.stale_reads > 5 && outcome.stale_rounds > 5,
        "{outcome:?}"
    );
}

fn assert_sound(outcome: &Outcome) {
    let is_sound = outcome.stale_reads == 0 && outcome.stale_rounds == 0;
    // Really raced, too.
    assert!(is_sound && outcome.refused > ROUNDS / 10, "{outcome:?}");
}

async fn race(caches: &str, scripts: impl Fn() -> Scripts) -> Outcome {
    let watched = Watched::start(TABLE, caches).await;
    let redis = redis();
    let start = async || {
        let text = config(watched.database.url(), &redis.redis_url(), caches);
        let config = Config::from_toml(&text).unwrap();
        let warden = Warden::start_with_scripts(config, scripts()).await;
        InProcess {
            warden: warden.unwrap(),
        }
    };
    let daemons: Arc<[InProcess]> = Arc::from([start().await, start().await]);
    let mut lanes = JoinSet::new();
    for lane in 0..LANES {
        let (daemons, straight) = (Arc::clone(&daemons), raw(&redis).await);
        lanes.spawn(run_lane(daemons, straight, lane));
    }
    let mut outcome = Outcome::default();
    for lane in lanes.join_all().await {
        outcome.reads += lane.reads;
        outcome.stale_reads += lane.stale_reads;
        outcome.stale_rounds += lane.stale_rounds;
    }
    for daemon in daemons.iter() {
        let mut client = daemon.client().await;
        outcome.refused += figure(&mut client, "cachewarden_fills_total", "refused").await;
        daemon.warden.stop().await;
    }
    outcome
}

async fn run_lane(daemons: Arc<[InProcess]>, mut straight: Client, lane: u64) -> Outcome {
    let mut outcome = Outcome::default();
    for round in 0..ROUNDS / LANES {
        let key = format!("counters:{}", 1 + lane + round * LANES);
        run_round(&daemons, &key, &mut outcome).await;
        // All reads were answered, so all fills have run: this is what stays.
        let left = straight.command(&["GET", &key]).await;
        let truth = Value::bulk(format!("\"{WRITES_A_ROUND}\""));
        outcome.stale_rounds += u64::from(left != Value::Nil && left != truth);
    }
    outcome
}

/// Readers against the writer, until the writer is done.
async fn run_round(daemons: &[InProcess], key: &str, outcome: &mut Outcome) {
    let acknowledged = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    let mut writers = Vec::new();
    for daemon in daemons {
        writers.push(daemon.client().await);
        for _ in 0..READERS_A_DAEMON {
            let (acknowledged, done) = (Arc::clone(&acknowledged), Arc::clone(&done));
            readers.spawn(read_on(
                daemon.client().await,
                key.to_owned(),
                acknowledged,
                done,
            ));
        }
    }
    for version in 1..=WRITES_A_ROUND {
        let by = usize::from(version.is_multiple_of(2));
        let saved = writers[by]
            .command(&["SET", key, &version.to_string()])
            .await;
        assert_eq!(saved, ok());
        acknowledged.store(version, SeqCst);
    }
    done.store(true, SeqCst);
    for (reads, stale) in readers.join_all().await {
        outcome.reads += reads;
        outcome.stale_reads += stale;
    }
}

/// How many reads there were, and how many of them were stale.
async fn read_on(
    mut client: Client,
    key: String,
    acknowledged: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
) -> (u64, u64) {
    let (mut reads, mut stale) = (0, 0);
    while !done.load(SeqCst) {
        let least = acknowledged.load(SeqCst);
        let answer = client.command(&["GET", &key]).await;
        let version: u64 = answer.text().trim_matches('"').parse().unwrap();
        reads += 1;
        stale += u64::from(version < least);
    }
    (reads, stale)
}
