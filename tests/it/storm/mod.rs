//! The storm: what the cache says is what the database says, whatever goes wrong.
//!
//! Writers change versioned rows of watched tables, remove them and insert them again; others change rows that nobody watches,
//! and say so to the queue, or publish it until that is acknowledged. Readers read them through two daemons and straight from
//! Redis, and every read is held against the instants at which the versions were committed. One of the caches has an index, so
//! that sweeps go both ways. Servers, connections and daemons are broken in turn, in an order drawn from a seed, sometimes two at
//! a time.
//!
//! - No read finds a value that was outdated for longer than a second when the read was sent: not in calm weather, and not
//!   while something is amiss either, unless the daemon says that it may be so.
//! - No read, straight from Redis or through a daemon, finds a value whose invalidation was acknowledged before, whatever
//!   is amiss: [`tally`] has the whole of what is promised to whom.
//! - It is calm from when all that was queued before the last fault ended has been applied, or five seconds after it.
//! - When all is over, every cached value is the database's.
//! - And it is worth it: most reads are hits, and writers are not held up. A daemon that caches nothing is always right.
//!
//! The same storm with the triggers disabled, and with fills that do not look at their lease, must be found out by the same
//! checks.
//!
//! `make storm` runs it for longer; `STORM_SECONDS` and `STORM_SEED` say how long and which; `STORM_FAULT` names a
//! single one of [`faults`], for who works on it, or `None`. `STORM_OTHERS` is how many keys of others every sweep has to pass,
//! `STORM_L1=1` has daemons keep values in memory.

mod acknowledged;
mod course;
mod faults;
mod history;
mod load;
mod pace;
mod tally;
mod tell;
mod world;
mod writers;

use std::env;
use std::time::Duration;

use cachewarden::cache::Scripts;
use fastrand::Rng;

use course::{Plan, storm};
use faults::{FAULTS, Fault};

/// Changes made without a fault, so that a control has something to find.
const CONTROL_WRITES: u64 = 1_500;
/// One is nearly always enough: a late fill stays until the row is written again, and is there at the end or not.
const CONTROL_STORMS: u64 = 5;
/// What a machine manages that does nothing else. On a busy one [`pace`] tells whether writers are held up.
const WRITES_A_SECOND: f64 = 200.0;
/// In a long storm: long enough for every breaker, claim and deadline to run out meanwhile.
const LONG_FAULT: Duration = Duration::from_secs(4);
const UNCHECKED: &str = include_str!("../scripts/end_leases_unchecked.lua");

/// Every fault, or the one that `STORM_FAULT` names.
fn faults_asked() -> Vec<Fault> {
    let Ok(name) = env::var("STORM_FAULT") else {
        return FAULTS.to_vec();
    };
    if name == "None" {
        return Vec::new();
    }
    let mut faults = FAULTS.into_iter();
    let fault = faults.find(|fault| format!("{fault:?}") == name);
    vec![fault.unwrap_or_else(|| panic!("no fault is {name}"))]
}

/// A number from the environment.
fn asked(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_goes_wrong_nothing_is_outdated_for_long_and_nothing_is_wrong_at_rest() {
    let seed = asked("STORM_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let seconds = asked("STORM_SECONDS");
    println!("storm: STORM_SEED={seed}");
    let drawn = faults_asked();
    let mut faults = drawn.clone();
    Rng::with_seed(seed).shuffle(&mut faults);
    let mut plan = Plan {
        seed,
        faults,
        drawn,
        others: asked("STORM_OTHERS").unwrap_or(0) as u32,
        is_l1: asked("STORM_L1").unwrap_or(0) != 0,
        ..Plan::default()
    };
    if let Some(seconds) = seconds {
        plan.lasts = Duration::from_secs(seconds);
        plan.longest_fault = LONG_FAULT;
    }
    let outcome = storm(plan).await;
    println!("storm: {outcome}");
    assert!(outcome.is_true() && outcome.is_of_use(), "{outcome:#?}");
    // Who asks for a long one has the machine to themselves.
    let is_quick = outcome.writes_a_second() >= WRITES_A_SECOND;
    assert!(is_quick || seconds.is_none(), "{outcome:#?}");
}

/// What bears on whether a daemon is told what changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_daemons_keep_in_memory_is_outdated_for_hardly_longer_whatever_keeps_them_from_hearing()
 {
    let outcome = storm(Plan {
        faults: vec![
            Fault::DaemonDeaf,
            Fault::RedisKilled,
            Fault::RedisSlow,
            Fault::RedisFrozen,
            Fault::NetworkCut,
            Fault::RedisFromSnapshot,
            Fault::DaemonFrozen,
            Fault::RedisEmptied,
        ],
        is_l1: true,
        ..Plan::default()
    })
    .await;
    println!("in memory: {outcome}");
    assert!(outcome.is_true() && outcome.is_of_use(), "{outcome:#?}");
    assert!(outcome.tally.memory > 0, "{outcome:#?}");
}

/// The control of "unless it says so": here it has to be said, and had it not been, the same check would have told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_daemons_give_out_while_they_see_no_changes_breaks_the_promise_but_for_its_mark() {
    let outcome = storm(Plan {
        faults: vec![Fault::PostgresOutOfReach],
        // And no other beside it.
        drawn: vec![Fault::PostgresOutOfReach],
        shortest_fault: Duration::from_secs(3),
        longest_fault: Duration::from_secs(3),
        ..Plan::default()
    })
    .await;
    println!("unseen: {outcome}");
    assert!(outcome.is_true() && outcome.tally.said > 0, "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storm_finds_out_a_queue_that_loses_what_it_is_told() {
    let outcome = storm(Plan {
        calm_writes: CONTROL_WRITES,
        is_queue_kept: false,
        ..Plan::default()
    })
    .await;
    println!("without the queue: {outcome}");
    let is_found = outcome.tally.late > 0 && outcome.tally.revived > 0;
    assert!(
        is_found && !outcome.wrong_at_rest.is_empty(),
        "{outcome:#?}"
    );
    assert!(outcome.audited.inconsistent > 0, "{outcome:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_storm_finds_out_fills_that_do_not_look_at_their_lease() {
    for seed in 0..CONTROL_STORMS {
        let outcome = storm(Plan {
            seed,
            calm_writes: CONTROL_WRITES,
            scripts: Some(|| Scripts::with_end(UNCHECKED)),
            ..Plan::default()
        })
        .await;
        println!("without leases: {outcome}");
        if !outcome.is_true() {
            return;
        }
    }
    panic!("{CONTROL_STORMS} storms have not found it out");
}
