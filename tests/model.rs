//! The rules of filling and invalidating as an explicit-state model, checked over every order in which things can happen.
//!
//! What is modelled are the rules, not the code: an engine that follows them is right ([`protocol`] says what the steps
//! are). The engine itself is tried in the same way elsewhere, with its own code, beside it: `src/cache/model_tests.rs`.
//!
//! A search that finds nothing proves nothing by itself. So each rule is also dropped, one at a time, and the search must
//! then find the outdated value; the way there is printed.
#![allow(
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and tells what it has searched"
)]

#[path = "model/coming_back/mod.rs"]
mod coming_back;
#[path = "model/index.rs"]
mod index;
#[path = "model/l1/mod.rs"]
mod l1;
#[path = "model/protocol.rs"]
mod protocol;
#[path = "model/search.rs"]
mod search;
#[path = "model/steps.rs"]
mod steps;

use protocol::{Protocol, Rule, Target};
use search::{is_right, needed};

/// One key and two who write it.
const ONE_KEY: Protocol = Protocol {
    keys: 1,
    loads: 3,
    writers: [Target::Key(0), Target::Key(0)],
    dropped: None,
};
/// A pattern over two keys, and a writer of one of them.
const PATTERN_AND_KEY: Protocol = Protocol {
    keys: 2,
    loads: 2,
    writers: [Target::Pattern, Target::Key(0)],
    dropped: None,
};
/// Two patterns over the same two keys: the second may come while the first is swept.
const TWO_PATTERNS: Protocol = Protocol {
    loads: 1,
    writers: [Target::Pattern, Target::Pattern],
    ..PATTERN_AND_KEY
};

#[test]
fn two_loaders_and_two_writers_of_one_key_leave_nothing_outdated() {
    is_right(ONE_KEY);
}

#[test]
fn a_pattern_and_a_key_invalidated_beside_loads_leave_nothing_outdated() {
    is_right(PATTERN_AND_KEY);
}

#[test]
fn two_patterns_swept_in_shared_passes_leave_nothing_outdated() {
    is_right(TWO_PATTERNS);
}

needed! { Rule;
    a_fill_that_does_not_ask_for_its_lease_outlives_its_invalidation:
        FillNeedsItsLease in ONE_KEY breaks protocol::GONE;
    a_fill_that_does_not_ask_for_its_index_entry_outlives_a_sweep:
        FillNeedsItsIndexEntry in PATTERN_AND_KEY breaks protocol::GONE;
    an_index_entry_that_comes_after_its_lease_hides_a_load_from_a_sweep:
        EntryComesWithItsLease in PATTERN_AND_KEY breaks protocol::GONE;
    one_token_for_all_loads_lets_an_older_fill_through:
        EveryLoadHasItsToken in ONE_KEY breaks protocol::GONE;
    a_statement_begun_before_the_lease_fills_what_was_invalidated:
        StatementAfterLease in ONE_KEY breaks protocol::GONE;
    an_invalidation_that_passes_over_absent_values_lets_them_come_back:
        AbsentValuesLoseTheirLease in ONE_KEY breaks protocol::GONE;
    a_sweep_of_values_before_leases_lets_a_fill_land_in_between:
        LeasesBeforeValues in TWO_PATTERNS breaks protocol::GONE;
    a_pattern_that_joins_a_running_pass_misses_what_was_filled_behind_it:
        PatternsWaitForAWholePass in TWO_PATTERNS breaks protocol::GONE;
    a_hit_during_an_announced_sweep_is_outdated:
        AnnouncedSweepsHold in PATTERN_AND_KEY breaks protocol::ANSWERS;
    a_queued_change_that_is_removed_before_it_is_applied_is_lost_with_the_daemon:
        ChangesStayUntilApplied in PATTERN_AND_KEY breaks protocol::REST;
}
