//! The index of a cache's keys: two keys, daemons that keep the index and one that does not, one who sweeps, and Redis.
//!
//! - A **fill** is one script: the value, and its entry where the daemon keeps an index, or else the end of the whole index.
//!   It stores what was read of late: an older load has lost its lease, which is the matter of the first model.
//! - The **sweeper** removes all by the index if that is whole; otherwise it looks at every key, a key at a time, unlinks what
//!   it finds, or (for a pattern that matches nothing of these) lists it, and then says that the index is whole.
//! - **Redis** may lose any value, or the index with its marks, at any time. `SCAN` brings what was there from its beginning to
//!   its end; of what came meanwhile, it may bring what it has not passed yet.
//!
//! The daemon without an index runs all the time, as one of an older configuration does while a fleet is renewed; it also
//! removes the index when it starts.

use crate::search::{World, is_right, needed};
use stateright::{Model, Property};

const KEYS: usize = 2;

type Version = u8;

/// A rule that may be dropped, to see what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Else the entry is added some time after the value.
    EntryComesWithItsValue,
    /// Else a daemon that keeps no index removes it when it starts, and not with each value it stores.
    StoredUnlistedEndsIt,
    /// Else an index is called whole although its own build's mark is gone.
    BuildHoldsItsMark,
    /// Else it is called whole when the last page is still to be looked at.
    WholeAfterAllPages,
    /// Else the sweep goes on with another index, or with none, than it began with.
    SweepHoldsItsMark,
    /// Else an entry goes before its value: the one who sweeps may die in between.
    EntryGoesWithItsValue,
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
struct Index {
    fills: u8,
    /// Fills by the daemon that keeps no index.
    unlisted: u8,
    starts: u8,
    /// Passes that build.
    passes: u8,
    sweeps: u8,
    losses: u8,
    dropped: Option<Rule>,
}

const WORLD: Index = Index {
    fills: 2,
    unlisted: 1,
    starts: 1,
    passes: 2,
    sweeps: 2,
    losses: 1,
    dropped: None,
};

/// What stands in the index beside the keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Marks {
    build: Option<u8>,
    whole: Option<u8>,
}

/// One pass through all keys, which builds the index. `found`: read and not listed yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Pass {
    number: u8,
    next: usize,
    found: bool,
}

/// One sweep by index, of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Sweep {
    /// What was invalidated when it was asked for.
    version: Version,
    /// The mark that it began with.
    mark: Option<u8>,
    next: usize,
    /// An entry of which the value is still there.
    torn: Option<usize>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    values: [Option<Version>; KEYS],
    listed: [bool; KEYS],
    marks: Marks,
    /// Entries that should have come with their values.
    late: [bool; KEYS],
    pass: Option<Pass>,
    sweep: Option<Sweep>,
    fills_left: u8,
    unlisted_left: u8,
    starts_left: u8,
    passes_left: u8,
    sweeps_left: u8,
    losses_left: u8,
    /// How often everything was changed.
    newest: Version,
    /// What the last acknowledged sweep was for.
    acknowledged: Version,
    swept_by_index: bool,
    left_to_a_pass: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Fill(usize),
    /// The entry that should have come with its value.
    List(usize),
    /// By the daemon that keeps no index.
    FillUnlisted(usize),
    /// It starts.
    Start,
    BeginPass,
    /// The pass reads the next key.
    Scan,
    /// It lists what it has read.
    Extend,
    Conclude,
    /// Everything is changed, and asked to be invalidated.
    Ask,
    /// The next entry goes, with its value.
    Remove,
    /// The value of an entry that went before.
    RemoveTorn,
    /// Whoever sweeps, or builds, dies.
    Die,
    LoseValue(usize),
    LoseIndex,
}

const GONE: &str = "after an acknowledged sweep nothing that matches is there from before";

impl State {
    fn end_index(&mut self) {
        self.listed = [false; KEYS];
        self.marks = Marks::default();
    }

    fn conclude_sweep(&mut self) {
        if let Some(sweep) = self.sweep.take() {
            self.acknowledged = sweep.version;
            self.swept_by_index = true;
        }
    }
}

impl Index {
    fn keeps(&self, rule: Rule) -> bool {
        self.dropped != Some(rule)
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Fill(key) => {
                state.fills_left -= 1;
                state.values[key] = Some(state.newest);
                match self.keeps(Rule::EntryComesWithItsValue) {
                    true => state.listed[key] = true,
                    false => state.late[key] = true,
                }
            }
            Step::List(key) => {
                state.late[key] = false;
                state.listed[key] = true;
            }
            Step::FillUnlisted(key) => {
                state.unlisted_left -= 1;
                state.values[key] = Some(state.newest);
                if self.keeps(Rule::StoredUnlistedEndsIt) {
                    state.end_index();
                }
            }
            Step::Start => {
                state.starts_left -= 1;
                state.end_index();
            }
            Step::BeginPass => {
                let number = state.passes_left;
                state.passes_left -= 1;
                state.marks.build = Some(number);
                state.pass = Some(Pass {
                    number,
                    next: 0,
                    found: false,
                });
            }
            Step::Scan => {
                if let Some(pass) = &mut state.pass {
                    pass.found = state.values[pass.next].is_some();
                    pass.next += 1;
                }
            }
            Step::Extend => self.extend(state),
            Step::Conclude => {
                let Some(pass) = state.pass.take() else {
                    return;
                };
                if self.stands(state, pass) {
                    state.marks = Marks {
                        build: None,
                        whole: Some(pass.number),
                    };
                }
            }
            Step::Ask => {
                state.sweeps_left -= 1;
                state.newest += 1;
                state.sweep = Some(Sweep {
                    version: state.newest,
                    mark: None,
                    next: 0,
                    torn: None,
                });
            }
            Step::Remove => self.remove(state),
            Step::RemoveTorn => {
                if let Some(sweep) = &mut state.sweep
                    && let Some(key) = sweep.torn.take()
                {
                    state.values[key] = None;
                }
            }
            Step::Die => (state.pass, state.sweep) = (None, None),
            Step::LoseValue(key) => {
                state.losses_left -= 1;
                state.values[key] = None;
            }
            Step::LoseIndex => {
                state.losses_left -= 1;
                state.end_index();
            }
        }
    }

    /// The build may go on.
    fn stands(&self, state: &State, pass: Pass) -> bool {
        state.marks.build == Some(pass.number) || !self.keeps(Rule::BuildHoldsItsMark)
    }

    fn extend(&self, state: &mut State) {
        let Some(mut pass) = state.pass else { return };
        pass.found = false;
        if self.stands(state, pass) {
            state.listed[pass.next - 1] = true;
            state.pass = Some(pass);
        } else {
            state.pass = None;
        }
    }

    /// The script that sweeps by the index, of a page of one entry.
    fn remove(&self, state: &mut State) {
        let Some(mut sweep) = state.sweep else { return };
        let first = sweep.next == 0;
        let holds = state.marks.whole.is_some() && (first || sweep.mark == state.marks.whole);
        if !holds && (first || self.keeps(Rule::SweepHoldsItsMark)) {
            // By a pass: that is the matter of the first model.
            state.sweep = None;
            state.left_to_a_pass = true;
            return;
        }
        if first {
            sweep.mark = state.marks.whole;
        }
        let key = sweep.next;
        sweep.next += 1;
        if state.listed[key] {
            state.listed[key] = false;
            match self.keeps(Rule::EntryGoesWithItsValue) {
                true => state.values[key] = None,
                false => sweep.torn = Some(key),
            }
        }
        state.sweep = Some(sweep);
        if sweep.next == KEYS && sweep.torn.is_none() {
            state.conclude_sweep();
        }
    }
}

impl World for Index {
    type Rule = Rule;

    const PROMISES: &'static [&'static str] = &[GONE];
    const LEAST_STATES: usize = 20_000;

    fn without(self, rule: Rule) -> Self {
        let dropped = Some(rule);
        Self { dropped, ..self }
    }
}

impl Model for Index {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            // What lies there has been stored before anybody kept an index.
            values: [Some(0), None],
            fills_left: self.fills,
            unlisted_left: self.unlisted,
            starts_left: self.starts,
            passes_left: self.passes,
            sweeps_left: self.sweeps,
            losses_left: self.losses,
            ..State::default()
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let mut may = |is_possible: bool, step| steps.extend(is_possible.then_some(step));
        for key in 0..KEYS {
            may(state.fills_left > 0, Step::Fill(key));
            may(state.late[key], Step::List(key));
            may(state.unlisted_left > 0, Step::FillUnlisted(key));
            let is_there = state.values[key].is_some();
            may(state.losses_left > 0 && is_there, Step::LoseValue(key));
        }
        let has_marks = state.marks != Marks::default();
        may(state.losses_left > 0 && has_marks, Step::LoseIndex);
        may(state.starts_left > 0, Step::Start);
        let begins = state.passes_left > 0 && state.marks.whole.is_none();
        may(begins && state.pass.is_none(), Step::BeginPass);
        if let Some(pass) = state.pass {
            let looked = pass.next == KEYS;
            may(pass.found, Step::Extend);
            may(!pass.found && !looked, Step::Scan);
            let early = !self.keeps(Rule::WholeAfterAllPages) && pass.next + 1 == KEYS;
            may(!pass.found && (looked || early), Step::Conclude);
        }
        may(state.sweeps_left > 0 && state.sweep.is_none(), Step::Ask);
        if let Some(sweep) = state.sweep {
            may(sweep.torn.is_some(), Step::RemoveTorn);
            may(sweep.torn.is_none() && sweep.next < KEYS, Step::Remove);
        }
        may(state.pass.is_some() || state.sweep.is_some(), Step::Die);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        (next.swept_by_index, next.left_to_a_pass) = (false, false);
        self.take(&mut next, step);
        let over = |sweep: Sweep| sweep.next == KEYS && sweep.torn.is_none();
        if step == Step::RemoveTorn && next.sweep.is_some_and(over) {
            next.conclude_sweep();
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(GONE, |_, state: &State| {
                let old = |value: &Option<Version>| value.is_some_and(|v| v < state.acknowledged);
                !state.values.iter().any(old)
            }),
            // Who never has a whole index would keep all of this.
            Property::sometimes("all is removed by the index", |_, state: &State| {
                state.swept_by_index
            }),
            Property::sometimes("a sweep is left to a pass", |_, state: &State| {
                state.left_to_a_pass
            }),
            Property::sometimes(
                "an index is whole that was built beside fills",
                |world: &Self, state: &State| {
                    state.marks.whole.is_some() && state.fills_left < world.fills
                },
            ),
            Property::sometimes(
                "a second index stands in the place of the first",
                |_, state: &State| state.marks.whole == Some(1) && state.values[0].is_some(),
            ),
        ]
    }
}

#[test]
fn a_sweep_by_the_index_leaves_nothing_of_before() {
    is_right(WORLD);
}

needed! { Rule;
    a_value_before_its_entry_is_missed_by_a_sweep:
        EntryComesWithItsValue in WORLD breaks GONE;
    a_value_that_is_stored_without_the_index_is_missed_by_a_sweep:
        StoredUnlistedEndsIt in WORLD breaks GONE;
    what_is_left_of_a_removed_index_is_not_made_whole:
        BuildHoldsItsMark in WORLD breaks GONE;
    an_index_that_is_whole_before_all_keys_were_looked_at_lacks_some:
        WholeAfterAllPages in WORLD breaks GONE;
    a_sweep_that_goes_on_when_its_index_is_gone_misses_what_was_listed:
        SweepHoldsItsMark in WORLD breaks GONE;
    an_entry_that_goes_before_its_value_hides_it_from_the_next_sweep:
        EntryGoesWithItsValue in WORLD breaks GONE;
}
