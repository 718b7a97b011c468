//! What can happen next, and what it does.

use crate::protocol::{Cell, Change, Loader, Protocol, Rule, Seen, State, TWO, Target, Token};

/// One thing that happens. A number is a loader, a writer or a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A loader is asked for a key.
    Begin {
        loader: usize,
        key: usize,
    },
    /// It reads the row before it has asked for a lease: forbidden.
    ReadEarly(usize),
    /// The acquire script: a hit, a lease, or neither because another holds it.
    Acquire(usize),
    /// The index entry that should have come with the lease.
    List(usize),
    /// The statement that reads the row.
    Read(usize),
    /// The fill script.
    Fill(usize),
    /// Tired of waiting for another's lease, it reads the row and caches nothing.
    ReadUncached(usize),
    /// A loader dies; its lease stays behind.
    Die(usize),
    Commit(usize),
    /// The script that invalidates a key by name, and the acknowledgement.
    Invalidate(usize),
    /// The next lease of a pattern goes, if the index knows of it.
    Revoke(usize),
    /// A pass begins, for all patterns that wait.
    BeginPass,
    /// The pass removes the next value.
    Sweep,
    /// Whoever sweeps dies.
    DieSweeping,
    LoseValue(usize),
    LoseLease(usize),
    LoseIndex,
}

impl Step {
    /// All that can happen next.
    pub fn possible(world: &Protocol, state: &State, steps: &mut Vec<Self>) {
        for loader in 0..TWO {
            loads(world, state, loader, steps);
        }
        for writer in 0..TWO {
            match (state.changes[writer], world.writers[writer]) {
                (Change::None, _) => steps.push(Self::Commit(writer)),
                (Change::Queued, Target::Key(_)) => steps.push(Self::Invalidate(writer)),
                (Change::Queued, Target::Pattern) | (Change::Revoking(_), _) => {
                    steps.push(Self::Revoke(writer));
                }
                (Change::Waiting | Change::Passing | Change::Over, _) => {}
            }
        }
        match state.pass {
            Some(_) => steps.push(Self::Sweep),
            None if state.changes.contains(&Change::Waiting) => steps.push(Self::BeginPass),
            None => {}
        }
        let is_begun =
            |change: &Change| !matches!(change, Change::None | Change::Queued | Change::Over);
        if state.changes.iter().any(is_begun) {
            steps.push(Self::DieSweeping);
        }
        for key in 0..world.keys {
            let Cell { value, lease, .. } = state.cells[key];
            steps.extend(value.map(|_| Self::LoseValue(key)));
            steps.extend(lease.map(|_| Self::LoseLease(key)));
        }
        if state.cells.iter().any(|cell| cell.listed) {
            steps.push(Self::LoseIndex);
        }
    }

    /// Does it.
    pub fn take(self, world: &Protocol, state: &mut State) {
        match self {
            Self::Begin { loader, key } => {
                let floor = state.floor(world, key);
                state.loads_left[loader] -= 1;
                state.loaders[loader] = Loader::Asking {
                    key,
                    floor,
                    early: None,
                };
            }
            Self::ReadEarly(loader) => {
                if let Loader::Asking { key, early, .. } = &mut state.loaders[loader] {
                    *early = Some(state.rows[*key]);
                }
            }
            Self::Acquire(loader) => acquire(world, state, loader),
            Self::List(loader) => {
                if let Loader::Loading { key, unlisted, .. } = &mut state.loaders[loader] {
                    *unlisted = false;
                    state.cells[*key].listed = true;
                }
            }
            Self::Read(loader) => {
                if let Loader::Loading { key, row, .. } = &mut state.loaders[loader] {
                    *row = Some(state.rows[*key]);
                }
            }
            Self::Fill(loader) => fill(world, state, loader),
            Self::ReadUncached(loader) => {
                if let Loader::Asking { key, floor, .. } = state.loaders[loader] {
                    state.answered_outdated |= state.rows[key] < floor;
                    state.seen = Seen::Waited;
                }
                state.loaders[loader] = Loader::Idle;
            }
            Self::Die(loader) => state.loaders[loader] = Loader::Idle,
            Self::Commit(writer) => {
                for key in (0..world.keys).filter(|key| world.writers[writer].holds(*key)) {
                    state.rows[key] += 1;
                    state.committed[writer][key] = state.rows[key];
                }
                state.changes[writer] = Change::Queued;
            }
            Self::Invalidate(writer) => {
                if let Target::Key(key) = world.writers[writer] {
                    let keeps = world.keeps(Rule::AbsentValuesLoseTheirLease);
                    if keeps || state.cells[key].value.is_some() {
                        state.cells[key] = Cell::default();
                    }
                }
                acknowledge(state, writer);
            }
            Self::Revoke(writer) => revoke(world, state, writer),
            Self::BeginPass => {
                state.pass = Some(0);
                promote_waiting(state);
            }
            Self::Sweep => sweep(world, state),
            Self::DieSweeping => die_sweeping(world, state),
            Self::LoseValue(key) => state.cells[key].value = None,
            Self::LoseLease(key) => state.cells[key].lease = None,
            Self::LoseIndex => state.cells.iter_mut().for_each(|cell| cell.listed = false),
        }
    }
}

/// What a loader can do next.
fn loads(world: &Protocol, state: &State, loader: usize, steps: &mut Vec<Step>) {
    match state.loaders[loader] {
        Loader::Idle if state.loads_left[loader] > 0 => {
            steps.extend((0..world.keys).map(|key| Step::Begin { loader, key }));
        }
        Loader::Idle => {}
        Loader::Asking { early: None, .. } if !world.keeps(Rule::StatementAfterLease) => {
            steps.push(Step::ReadEarly(loader));
        }
        Loader::Asking { key, .. } => {
            let Cell { value, lease, .. } = state.cells[key];
            let is_held = value.is_none() && lease.is_some();
            steps.push(if is_held {
                Step::ReadUncached(loader)
            } else {
                Step::Acquire(loader)
            });
        }
        Loader::Loading { row, unlisted, .. } => {
            steps.push(Step::Die(loader));
            match row {
                None => steps.push(Step::Read(loader)),
                // The entry is late, but there before the fill asks for it.
                Some(_) if unlisted => steps.push(Step::List(loader)),
                Some(_) => steps.push(Step::Fill(loader)),
            }
        }
    }
}

/// The token of a loader's present load.
fn token(world: &Protocol, state: &State, loader: usize) -> Token {
    if world.keeps(Rule::EveryLoadHasItsToken) {
        state.loads_left[loader] * 2 + u8::from(loader == 1)
    } else {
        0
    }
}

fn acquire(world: &Protocol, state: &mut State, loader: usize) {
    let Loader::Asking { key, floor, early } = state.loaders[loader] else {
        return;
    };
    match state.cells[key].value {
        // It takes the value for outdated, and asks again.
        Some(_) if world.keeps(Rule::AnnouncedSweepsHold) && state.is_swept(world, key) => {
            state.cells[key] = Cell::default();
        }
        Some(value) => {
            state.answered_outdated |= value < floor;
            state.seen = Seen::Hit;
            state.loaders[loader] = Loader::Idle;
        }
        None => {
            let unlisted = !world.keeps(Rule::EntryComesWithItsLease);
            state.cells[key].lease = Some(token(world, state, loader));
            state.cells[key].listed |= !unlisted;
            state.loaders[loader] = Loader::Loading {
                key,
                floor,
                row: early,
                unlisted,
            };
        }
    }
}

fn fill(world: &Protocol, state: &mut State, loader: usize) {
    let Loader::Loading {
        key,
        floor,
        row: Some(row),
        ..
    } = state.loaders[loader]
    else {
        return;
    };
    state.answered_outdated |= row < floor;
    let is_ours = state.cells[key].lease == Some(token(world, state, loader));
    let is_listed = state.cells[key].listed;
    if (is_ours || !world.keeps(Rule::FillNeedsItsLease))
        && (is_listed || !world.keeps(Rule::FillNeedsItsIndexEntry))
    {
        state.cells[key] = Cell {
            value: Some(row),
            ..Cell::default()
        };
    } else {
        if is_ours {
            state.cells[key].lease = None;
        }
        state.seen = Seen::Refused;
    }
    state.loaders[loader] = Loader::Idle;
}

/// Deletes the next lease of a pattern. After the last the sweep is announced and waits for a pass.
fn revoke(world: &Protocol, state: &mut State, writer: usize) {
    let key = match state.changes[writer] {
        // In the wrong order the values come first.
        Change::Queued if !world.keeps(Rule::LeasesBeforeValues) => {
            state.changes[writer] = Change::Waiting;
            return;
        }
        Change::Revoking(key) => key,
        _ => 0,
    };
    let cell = &mut state.cells[key];
    if cell.listed {
        (cell.lease, cell.listed) = (None, false);
    }
    if key + 1 < world.keys {
        state.changes[writer] = Change::Revoking(key + 1);
    } else if !world.keeps(Rule::LeasesBeforeValues) {
        acknowledge(state, writer);
    } else {
        state.announced[writer] = true;
        let joins = state.pass.is_some() && !world.keeps(Rule::PatternsWaitForAWholePass);
        state.changes[writer] = if joins {
            Change::Passing
        } else {
            Change::Waiting
        };
    }
}

fn promote_waiting(state: &mut State) {
    for change in state
        .changes
        .iter_mut()
        .filter(|change| **change == Change::Waiting)
    {
        *change = Change::Passing;
    }
}

/// Removes the next value. After the last, all that the pass serves is acknowledged.
fn sweep(world: &Protocol, state: &mut State) {
    let Some(key) = state.pass else { return };
    state.cells[key].value = None;
    state.pass = (key + 1 < world.keys).then_some(key + 1);
    if state.pass.is_some() {
        return;
    }
    for writer in 0..TWO {
        if state.changes[writer] != Change::Passing {
            continue;
        }
        if world.keeps(Rule::LeasesBeforeValues) {
            acknowledge(state, writer);
        } else {
            state.changes[writer] = Change::Revoking(0);
        }
    }
}

/// What was begun begins again, from the queue. What was announced stays announced: that is written in Redis.
fn die_sweeping(world: &Protocol, state: &mut State) {
    state.pass = None;
    for change in &mut state.changes {
        if matches!(
            change,
            Change::Revoking(_) | Change::Waiting | Change::Passing
        ) {
            let stays = world.keeps(Rule::ChangesStayUntilApplied);
            *change = if stays { Change::Queued } else { Change::Over };
        }
    }
}

fn acknowledge(state: &mut State, writer: usize) {
    for (acknowledged, committed) in state.acknowledged.iter_mut().zip(state.committed[writer]) {
        *acknowledged = committed.max(*acknowledged);
    }
    state.announced[writer] = false;
    state.changes[writer] = Change::Over;
}
