//! The whole protocol, checked over interleavings: every one of a small world, and many of a larger.
//!
//! The flights are the real ones; Postgres, Redis and the driver are simulated ([`world`]). What must hold:
//! 1. a read that starts after an invalidation was acknowledged never gets a version from before it;
//! 2. once nothing is under way, Redis holds no outdated value;
//! 3. every read is answered, exactly once;
//! 4. and it is worth it: in calm lives most reads are hits or joined.
//!
//! A check that never failed proves nothing: each rule of the protocol is also dropped, one at a time, and that must be noticed.

mod world;

use std::collections::HashSet;
use std::rc::Rc;
use world::{Flaw, Setup, Step, Tally, World};

/// Lives tried at random.
const LIVES: u64 = 4_000;
/// More states than any exhaustive search here has: a bound for a search that has gone astray.
const MOST_STATES: usize = 500_000;
/// No life takes so many steps.
const MOST_STEPS: usize = 10_000;

const EVERY_WAY: Setup = Setup {
    daemons: 2,
    keys: 1,
    reads: 2,
    writes: 2,
    faults: 0,
    patterns: false,
};
const ONE_READ: Setup = Setup {
    daemons: 1,
    reads: 1,
    writes: 1,
    ..EVERY_WAY
};

/// How a world was reached.
struct Trail {
    step: Step,
    before: Option<Rc<Trail>>,
}

/// Takes every way through a small world. How many states it has, or what broke and how.
fn try_all(setup: Setup, flaw: Option<Flaw>) -> Result<usize, String> {
    let mut seen = HashSet::new();
    let mut open: Vec<(World, Option<Rc<Trail>>)> = vec![(World::new(setup, flaw), None)];
    while let Some((world, trail)) = open.pop() {
        for step in world.steps() {
            let mut next = world.clone();
            let before = trail.clone();
            let broken = next.take(step);
            let trail = Rc::new(Trail { step, before });
            if let Err(broken) = broken {
                return Err(format!("{broken}, after {:?}", steps(Some(&trail))));
            }
            if seen.insert(next.portrait()) {
                assert!(seen.len() < MOST_STATES, "too large a world to try all of");
                open.push((next, Some(trail)));
            }
        }
    }
    Ok(seen.len())
}

fn steps(trail: Option<&Rc<Trail>>) -> Vec<Step> {
    let mut steps: Vec<_> = std::iter::successors(trail, |trail| trail.before.as_ref())
        .map(|trail| trail.step)
        .collect();
    steps.reverse();
    steps
}

/// One life, its steps chosen by `seed`. Each seed has its own likings, so that some lives are all rush, some all faults.
fn live(setup: Setup, seed: u64) -> Result<Tally, String> {
    let mut random = fastrand::Rng::with_seed(seed);
    let likings: [u32; 4] = std::array::from_fn(|_| random.u32(1..=12));
    let mut world = World::new(setup, None);
    let mut taken: Vec<Step> = Vec::new();
    loop {
        let steps = world.steps();
        let weight = |step: &Step| match step {
            Step::Arrive { .. } => likings[0],
            Step::Write { .. } => likings[1],
            Step::Deliver(_) | Step::Pump(_) => 2 * likings[2],
            _ => likings[3],
        };
        let total = steps.iter().map(weight).sum();
        if total == 0 {
            return Ok(world.tally);
        }
        let mut left = random.u32(0..total);
        let chosen = steps.iter().find(|step| {
            let found = left < weight(step);
            left = left.saturating_sub(weight(step));
            found
        });
        taken.extend(chosen);
        if let Some(step) = chosen
            && let Err(broken) = world.take(*step)
        {
            return Err(format!("seed {seed}: {broken}, after {taken:?}"));
        }
        if taken.len() > MOST_STEPS {
            return Err(format!("seed {seed}: goes round in circles"));
        }
    }
}

/// Many lives; what they came to.
fn live_often(setup: Setup) -> Tally {
    let mut sum = Tally::default();
    for seed in 0..LIVES {
        let tally = live(setup, seed).unwrap_or_else(|broken| panic!("{broken}"));
        sum.reads += tally.reads;
        sum.hits += tally.hits;
        sum.joined += tally.joined;
        sum.fills += tally.fills;
        sum.refused += tally.refused;
    }
    sum
}

/// Drops a rule in a world just large enough for it to matter, and sees what breaks.
fn drop_rule(flaw: Flaw, setup: Setup) -> String {
    let broken = try_all(setup, Some(flaw)).expect_err("a dropped rule must be noticed");
    println!("{flaw:?}: {broken}");
    broken
}

#[test]
fn every_way_of_two_reads_and_two_writes_through_two_daemons_is_right() {
    let states = try_all(EVERY_WAY, None).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(states > 10_000, "only {states} states: what was not tried?");
}

#[test]
fn every_way_of_two_reads_and_a_write_with_a_fault_is_right() {
    for patterns in [false, true] {
        let setup = Setup {
            writes: 1,
            faults: 1,
            patterns,
            ..EVERY_WAY
        };
        let states = try_all(setup, None).unwrap_or_else(|broken| panic!("{broken}"));
        assert!(states > 10_000, "only {states} states: what was not tried?");
    }
}

#[test]
fn every_way_of_three_reads_and_a_write_with_a_fault_through_one_daemon_is_right() {
    let setup = Setup {
        daemons: 1,
        reads: 3,
        writes: 1,
        faults: 1,
        ..EVERY_WAY
    };
    let states = try_all(setup, None).unwrap_or_else(|broken| panic!("{broken}"));
    assert!(states > 10_000, "only {states} states: what was not tried?");
}

#[test]
fn many_larger_lives_full_of_faults_are_right() {
    for patterns in [false, true] {
        let tally = live_often(Setup {
            keys: 2,
            reads: 8,
            writes: 4,
            faults: 3,
            patterns,
            ..EVERY_WAY
        });
        assert!(tally.fills > 0 && tally.refused > 0, "{tally:?}");
    }
}

#[test]
fn most_reads_of_calm_lives_are_hits_or_joined() {
    let tally = live_often(Setup {
        reads: 12,
        writes: 2,
        ..EVERY_WAY
    });
    assert!(2 * (tally.hits + tally.joined) > tally.reads, "{tally:?}");
    assert!(tally.hits > 0 && tally.joined > 0, "{tally:?}");
}

#[test]
fn a_fill_that_does_not_check_its_lease_leaves_an_outdated_value() {
    assert!(drop_rule(Flaw::EndWithoutLease, ONE_READ).contains("stays"));
}

#[test]
fn a_fill_that_does_not_check_its_index_entry_leaves_an_outdated_value() {
    let setup = Setup {
        faults: 1,
        patterns: true,
        ..ONE_READ
    };
    assert!(drop_rule(Flaw::EndWithoutIndexEntry, setup).contains("stays"));
}

#[test]
fn an_invalidation_that_skips_absent_values_leaves_an_outdated_one() {
    assert!(drop_rule(Flaw::AbsentValueKeepsLease, ONE_READ).contains("stays"));
}

#[test]
fn a_sweep_of_values_before_leases_leaves_an_outdated_value() {
    let setup = Setup {
        patterns: true,
        ..ONE_READ
    };
    assert!(drop_rule(Flaw::ValuesBeforeLeases, setup).contains("stays"));
}

#[test]
fn one_token_for_all_loads_of_a_daemon_lets_an_older_fill_through() {
    let setup = Setup {
        reads: 2,
        faults: 1,
        ..ONE_READ
    };
    assert!(drop_rule(Flaw::OneTokenPerDaemon, setup).contains("stays"));
}

#[test]
fn joining_a_look_up_that_was_sent_gives_an_outdated_answer() {
    let setup = Setup {
        reads: 3,
        ..ONE_READ
    };
    assert!(drop_rule(Flaw::JoinLookUpsSent, setup).contains("acknowledged"));
}

#[test]
fn joining_a_load_without_a_lease_gives_an_outdated_answer() {
    let setup = Setup {
        reads: 2,
        faults: 1,
        ..ONE_READ
    };
    assert!(drop_rule(Flaw::JoinBareLoads, setup).contains("acknowledged"));
}

#[test]
fn giving_what_was_not_filled_to_late_joiners_gives_an_outdated_answer() {
    let setup = Setup {
        reads: 2,
        ..ONE_READ
    };
    assert!(drop_rule(Flaw::UnfilledToLate, setup).contains("acknowledged"));
}
