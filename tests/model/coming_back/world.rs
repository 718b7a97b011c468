//! What can happen next, what must never, and the worlds that are searched.

use super::{COMMANDED, Daemon, QUEUED, RETURNED, Return, Rule, Seen, State, Step, TWO};
use crate::search::{World, is_right, needed};
use stateright::{Model, Property};

const QUEUE: Return = Return {
    changes: 1,
    commands: 0,
    restarts: 1,
    deaths: 1,
    windows: 0,
    dropped: None,
};
const AGED: Return = Return {
    deaths: 0,
    windows: 1,
    ..QUEUE
};
const TWICE: Return = Return {
    restarts: 2,
    deaths: 0,
    ..QUEUE
};
const COMMANDS: Return = Return {
    changes: 0,
    commands: 1,
    ..QUEUE
};

impl World for Return {
    type Rule = Rule;

    const PROMISES: &'static [&'static str] = &[QUEUED, RETURNED, COMMANDED];
    const LEAST_STATES: usize = 20_000;

    fn without(self, rule: Rule) -> Self {
        let dropped = Some(rule);
        Self { dropped, ..self }
    }
}

impl Model for Return {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        // Both have come to an empty Redis.
        let daemon = Daemon {
            serves: true,
            sound: true,
            ..Daemon::default()
        };
        vec![State {
            daemons: [daemon; TWO],
            changes_left: self.changes,
            commands_left: self.commands,
            restarts_left: self.restarts,
            deaths_left: self.deaths,
            windows_left: self.windows,
            ..State::default()
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        for daemon in 0..TWO {
            self.daemon(state, daemon, steps);
        }
        for (number, daemon) in state.daemons.iter().enumerate() {
            let lives = daemon.note && self.keeps(Rule::NobodyDiesUnnoted);
            let dies = state.deaths_left > 0 && !lives;
            steps.extend(dies.then_some(Step::Die(number)));
        }
        let mut may = |is_possible: bool, step| steps.extend(is_possible.then_some(step));
        may(state.changes_left > 0, Step::Commit);
        may(state.restarts_left > 0, Step::Save);
        may(state.restarts_left > 0, Step::Restart);
        may(state.windows_left > 0 && state.noted > 0, Step::Forget);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        next.seen = Seen::Nothing;
        self.take(&mut next, step);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always(QUEUED, |world: &Self, state: &State| {
                state.all_given(world, |_, given| given >= state.acknowledged)
            }),
            Property::always(RETURNED, |world: &Self, state: &State| {
                state.all_given(world, |daemon, given| given >= daemon.returned)
            }),
            Property::always(COMMANDED, |world: &Self, state: &State| {
                state.all_given(world, |_, given| given >= state.commanded)
            }),
            // Who invalidates everything, or reads nothing, would keep all of this.
            Property::sometimes(
                "a value of before is read after a restart",
                |world: &Self, state: &State| {
                    let settled = state
                        .daemons
                        .iter()
                        .all(|d| d.sound && d.barrier.is_none() && !d.renewed);
                    state.run > 0 && settled && state.given(world, 0).is_some()
                },
            ),
            Property::sometimes("a restart has lost nothing", |_, state: &State| {
                state.seen == Seen::NothingToReplay
            }),
            Property::sometimes(
                "what was noted is invalidated once more",
                |_, state: &State| state.seen == Seen::Replayed,
            ),
            Property::sometimes(
                "a daemon relies on another's heartbeat",
                |_, state: &State| state.seen == Seen::Known,
            ),
        ];
        if self.windows > 0 {
            let everything = |_: &Self, state: &State| state.seen == Seen::Everything;
            properties.push(Property::sometimes("a snapshot is too old", everything));
        }
        properties
    }
}

#[test]
fn what_was_applied_before_a_restart_is_never_read_after_it() {
    is_right(QUEUE);
}

#[test]
fn what_was_applied_longer_ago_than_is_remembered_is_never_read_after_a_restart() {
    is_right(AGED);
}

#[test]
fn a_restart_while_another_is_made_good_brings_nothing_back() {
    is_right(TWICE);
}

#[test]
fn a_command_whose_daemon_lives_to_note_it_is_not_undone_by_a_restart() {
    is_right(COMMANDS);
}

needed! { Rule;
    what_is_not_invalidated_once_more_is_back:
        Replay in QUEUE breaks QUEUED;
    what_is_read_before_it_is_invalidated_once_more_is_outdated:
        DoubtUntilReplayed in QUEUE breaks QUEUED;
    notes_that_are_read_before_the_barrier_is_down_lack_what_was_being_applied:
        ReplayAfterTheBarrier in QUEUE breaks QUEUED;
    without_a_barrier_what_waits_is_read_outdated:
        Barrier in QUEUE breaks RETURNED;
    a_heartbeat_older_than_the_notes_says_nothing:
        AgeIsJudged in AGED breaks QUEUED;
    a_row_that_is_gone_before_it_is_noted_is_lost_by_a_restart:
        NotedWithTheRemoval in QUEUE breaks QUEUED;
    a_heartbeat_that_is_left_too_soon_deceives_the_other_daemon:
        VouchedWhenItIsDone in QUEUE breaks QUEUED;
    what_is_applied_to_the_redis_of_before_is_missing_in_the_one_that_took_over:
        OneRedisAtATime in QUEUE breaks QUEUED;
    notes_that_are_read_before_others_have_written_theirs_lack_a_command:
        ReplayAfterOthersNotes in COMMANDS breaks COMMANDED;
    a_command_whose_daemon_dies_before_it_is_noted_is_undone_by_a_restart:
        NobodyDiesUnnoted in COMMANDS breaks COMMANDED;
}
