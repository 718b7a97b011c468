//! The storm that sweeps are for: six readers that never pause fill keys while all rows change and their pattern is
//! invalidated, again and again.
//!
//! The same storm with a fill that does not look at its lease must show outdated reads: else it proved nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use cachewarden::Warden;
use cachewarden::cache::Scripts;
use cachewarden::config::Config;
use tokio::task::JoinSet;

use super::support::DEADLINE;
use super::support::daemon::config;
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::{database, redis};
use super::support::world::{figure, raw};
use super::sweeps::fill;

const KEYS: u64 = 200;
const WRITES: u64 = 40;
const READS_A_WRITE: u64 = 100;
/// Loads pause for so long that many sweeps pass between a row's being read and its fill, also on a quick machine.
const COUNTERS: &str = r#"
    postgres.pool_size = 16

    [caches.counter]
    key = "counters:{id:bigint}"
    query = "SELECT version || left(pg_sleep(random() * 0.02)::text, 0) FROM counters WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "30s"
"#;

const INDEX: &str = "cachewarden:index:counters:";

/// What came of fillers at full speed while patterns fire.
#[derive(Debug, Default)]
struct Outcome {
    reads: u64,
    /// Reads of a version older than one whose invalidation was acknowledged before they began.
    stale_reads: u64,
    /// Keys that held an outdated value in the end.
    stale_keys: u64,
    refused: u64,
    filled: u64,
    /// Sweeps by an index.
    indexed: u64,
    /// Values that stood in no index although it was whole.
    unlisted: u64,
}

/// Two daemons; a writer that changes all rows and then invalidates them by pattern, through either daemon in turn; readers
/// of both that never pause.
async fn storm(more: &str, scripts: impl Fn() -> Scripts) -> Outcome {
    let (database, redis) = (database().await, redis());
    let create = format!(
        "CREATE TABLE counters (id bigint PRIMARY KEY, version bigint);
         INSERT INTO counters SELECT g, 0 FROM generate_series(1, {KEYS}) g"
    );
    database.execute(&create).await;
    let start = async || {
        let more = [COUNTERS, more].concat();
        let text = config(database.url(), &redis.redis_url(), &more);
        let config = Config::from_toml(&text).unwrap();
        Warden::start_with_scripts(config, scripts()).await.unwrap()
    };
    let daemons = [start().await, start().await];
    let mut raw = raw(&redis).await;
    fill(&mut raw, "other:", 3_000).await;
    let acknowledged = Arc::new(AtomicU64::new(0));
    let reads = Arc::new(AtomicU64::new(0));
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for reader in 0..6 {
        let mut client = Client::connect(daemons[reader % 2].resp_addr().unwrap()).await;
        let (acknowledged, over) = (Arc::clone(&acknowledged), Arc::clone(&over));
        let reads = Arc::clone(&reads);
        readers.spawn(async move {
            let mut stale = 0;
            while !over.load(SeqCst) {
                let key = format!("counters:{}", fastrand::u64(1..=KEYS));
                let least = acknowledged.load(SeqCst);
                let value = client.command(&["GET", &key]).await;
                let version: u64 = value.text().trim_matches('"').parse().unwrap();
                reads.fetch_add(1, SeqCst);
                stale += u64::from(version < least);
            }
            stale
        });
    }
    let session = database.client().await;
    for version in 1..=WRITES {
        let update = format!("UPDATE counters SET version = {version}");
        session.batch_execute(&update).await.unwrap();
        let daemon = &daemons[usize::try_from(version % 2).unwrap()];
        daemon.invalidate(&["counters:*"]).await.unwrap();
        acknowledged.store(version, SeqCst);
        // Sweeps that never pause leave nobody time to fill.
        let enough = version * READS_A_WRITE;
        eventually(DEADLINE, async || {
            let seen = reads.load(SeqCst);
            (seen >= enough).then_some(()).ok_or(seen)
        })
        .await;
    }
    over.store(true, SeqCst);
    let stale_reads = readers.join_all().await.into_iter().sum();
    let mut outcome = Outcome {
        reads: reads.load(SeqCst),
        stale_reads,
        ..Outcome::default()
    };
    // All reads were answered, so all fills have run: this is what stays.
    for id in 1..=KEYS {
        let left = raw.command(&["GET", &format!("counters:{id}")]).await;
        let truth = Value::bulk(format!("\"{WRITES}\""));
        outcome.stale_keys += u64::from(left != truth && left != Value::Nil);
        let entry = ["ZSCORE", INDEX, &format!("counters:{id}")];
        let is_listed = raw.command(&entry).await != Value::Nil;
        outcome.unlisted += u64::from(left != Value::Nil && !is_listed);
    }
    for daemon in &daemons {
        let mut client = Client::connect(daemon.resp_addr().unwrap()).await;
        outcome.refused += figure(&mut client, "cachewarden_fills_total", "refused").await;
        outcome.filled += figure(&mut client, "cachewarden_fills_total", "filled").await;
        outcome.indexed += figure(&mut client, "cachewarden_indexed_sweeps_total", "swept").await;
        daemon.stop().await;
    }
    outcome
}

#[tokio::test]
async fn keys_that_are_filled_during_sweeps_are_never_left_outdated() {
    let outcome = storm("", Scripts::default).await;
    println!("with leases: {outcome:?}");
    let sound = outcome.stale_reads == 0 && outcome.stale_keys == 0;
    let lively = outcome.reads >= WRITES * READS_A_WRITE
        && outcome.refused > WRITES
        && outcome.filled > 10 * WRITES;
    assert!(sound && lively, "{outcome:?}");
}

#[tokio::test]
async fn sweeps_leave_outdated_keys_when_fills_do_not_look_at_their_lease() {
    let unchecked = include_str!("scripts/end_leases_unchecked.lua");
    let outcome = storm("", || Scripts::with_end(unchecked)).await;
    println!("without: {outcome:?}");
    assert!(outcome.stale_reads > 0, "{outcome:?}");
}

#[tokio::test]
async fn keys_that_are_filled_during_sweeps_by_an_index_are_never_left_outdated() {
    let outcome = storm("index = true", Scripts::default).await;
    println!("by the index: {outcome:?}");
    let sound = outcome.stale_reads == 0 && outcome.stale_keys == 0 && outcome.unlisted == 0;
    let lively = outcome.indexed >= WRITES / 2 && outcome.filled > 10 * WRITES;
    assert!(sound && lively, "{outcome:?}");
}

#[tokio::test]
async fn sweeps_by_an_index_leave_outdated_keys_when_fills_are_not_listed() {
    let unlisted = include_str!("scripts/end_leases_unlisted.lua");
    let outcome = storm("index = true", || Scripts::with_end(unlisted)).await;
    println!("without entries: {outcome:?}");
    assert!(
        outcome.stale_reads > 0 && outcome.unlisted > 0,
        "{outcome:?}"
    );
}
