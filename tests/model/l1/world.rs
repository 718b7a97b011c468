//! What can happen next, what must never, and the worlds that are searched.

use super::{BOUND, Certain, L1, Line, Lookup, Rule, State, Step, TOLD};
use crate::search::{World, is_right, needed};
use stateright::{Model, Property};

const HEARING: L1 = L1 {
    changes: 1,
    own: 1,
    lookups: 2,
    proofs: 1,
    losses: 0,
    dropped: None,
};
const LOSING: L1 = L1 {
    changes: 1,
    own: 0,
    lookups: 3,
    proofs: 2,
    losses: 1,
    dropped: None,
};

impl World for L1 {
    type Rule = Rule;

    const PROMISES: &'static [&'static str] = &[TOLD, BOUND];
    const LEAST_STATES: usize = 20_000;

    fn without(self, rule: Rule) -> Self {
        let dropped = Some(rule);
        Self { dropped, ..self }
    }
}

impl Model for L1 {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            held: true,
            changes_left: self.changes,
            own_left: self.own,
            lookups_left: self.lookups,
            proofs_left: self.proofs,
            losses_left: self.losses,
            line: Line::Told,
            ..State::default()
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        let mut may = |is_possible: bool, step| steps.extend(is_possible.then_some(step));
        let is_open = matches!(state.line, Line::Told | Line::Untold);
        may(state.changes_left > 0, Step::Change);
        may(!state.held, Step::Refill);
        let is_change_told = state.change_told || state.newest != state.turn_began;
        may(
            is_change_told || state.proof_told.is_some(),
            Step::Tell { proof_first: false },
        );
        may(
            state.change_told && state.proof_told.is_some(),
            Step::Tell { proof_first: true },
        );
        may(!state.wire.is_empty(), Step::Arrive);
        for (number, lookup) in state.lookups.iter().enumerate() {
            match lookup {
                Lookup::Idle => may(is_open && state.lookups_left > 0, Step::Send(number)),
                Lookup::Sent { .. } => may(is_open, Step::Look(number)),
                Lookup::Answered { .. } => {}
                Lookup::InHand { .. } => may(true, Step::Keep(number)),
            }
        }
        let is_proving = state.proving.is_some();
        may(
            state.line == Line::Told && !is_proving && state.proofs_left > 0,
            Step::BeginProof,
        );
        let unwritten = state.proving.is_some_and(|proof| !proof.written);
        may(is_open && unwritten, Step::WriteProof);
        may(is_proving, Step::ProofFails);
        may(state.certain == Certain::On, Step::ProofEnds);
        may(is_open && state.losses_left > 0, Step::GoDead);
        may(state.line == Line::Dead, Step::FindDead);
        for told in [true, false] {
            may(state.line == Line::Down, Step::Connect { told });
        }
        // One that tells nothing is replaced by one that does.
        may(state.line == Line::Untold, Step::FindDead);
        may(
            is_open && state.own_left > 0 && state.own.is_none(),
            Step::OwnInvalidate,
        );
        may(state.own.is_some(), Step::OwnAcknowledge);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        next.refused = false;
        self.take(&mut next, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(TOLD, |world: &Self, state: &State| {
                state.given(world).is_none_or(|given| given >= state.told)
            }),
            Property::always(BOUND, |world: &Self, state: &State| {
                state
                    .given(world)
                    .is_none_or(|given| given >= state.bound())
            }),
            // A memory that never has anything would keep all of this.
            Property::sometimes("a read is a hit", |world: &Self, state: &State| {
                state.given(world).is_some()
            }),
            Property::sometimes(
                "a read is a hit that nobody could know to be outdated",
                |world: &Self, state: &State| {
                    state.given(world).is_some_and(|given| given < state.newest)
                },
            ),
            Property::sometimes("an answer is not kept", |_, state: &State| state.refused),
            Property::sometimes(
                "the newest is kept in the end",
                |world: &Self, state: &State| {
                    let over =
                        state.changes_left == 0 && state.own_left == 0 && state.losses_left == 0;
                    over && state.given(world) == Some(state.newest)
                },
            ),
        ]
    }
}

#[test]
fn what_is_heard_late_is_given_no_longer_than_until_it_is_heard() {
    is_right(HEARING);
}

#[test]
fn what_is_lost_with_a_connection_is_given_no_longer_than_a_proof_is_good() {
    is_right(LOSING);
}

needed! { Rule;
    an_answer_that_is_kept_whatever_was_heard_since_stays:
        KeptOnlyIfNothingWasHeard in HEARING breaks TOLD;
    what_was_heard_before_the_answer_came_is_missed_by_who_notes_it_then:
        NotedBeforeItIsSent in HEARING breaks TOLD;
    an_invalidation_through_this_daemon_is_acknowledged_before_it_is_told:
        ForgottenBeforeAcknowledged in HEARING breaks TOLD;
    what_outlives_its_connection_is_never_told_of:
        LossForgets in LOSING breaks BOUND;
    an_answer_of_a_lost_connection_is_never_told_of:
        LossIsHeard in LOSING breaks BOUND;
    a_new_connection_that_is_not_proven_says_nothing_of_what_was_kept:
        OffUntilProven in LOSING breaks BOUND;
    without_an_end_of_proofs_a_dead_connection_is_believed_for_ever:
        ProofsEnd in LOSING breaks BOUND;
}
