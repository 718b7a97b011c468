//! The world of the model: Postgres, Redis, two loaders, two writers, and whoever applies what they change.
//!
//! - A **loader** runs the acquire script, reads the row in a statement that begins after it, and runs the fill script. It
//!   may die, at any point.
//! - A **writer** commits a change, of one key's row or of all. What it changed is queued in the same transaction, and
//!   applied: one script for a key; for a pattern leases first, a key at a time, then values, a key at a time. Patterns
//!   that wait are swept by one pass. Whoever applies may die too; the change is then applied from its beginning.
//! - **Redis** runs a script in one step. It may lose any value, any lease, and the whole index, at any time: what expires
//!   and what is evicted is the same to us.
//!
//! Time has no length: whatever can happen may happen next, so no rule leans on one thing being quicker than another, and a
//! request on its way is the same as one that is not sent yet.

use stateright::{Model, Property};

use crate::search::World;
use crate::steps::Step;

/// Keys at most; a world may have fewer.
pub const KEYS: usize = 2;
/// Loaders, and writers.
pub const TWO: usize = 2;

/// A row's version: how often it was changed.
pub type Version = u8;
/// Whose load.
pub type Token = u8;

/// What a change invalidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Key(usize),
    /// All keys.
    Pattern,
}

impl Target {
    pub fn holds(self, key: usize) -> bool {
        self == Self::Pattern || self == Self::Key(key)
    }
}

/// A rule that may be dropped, to see what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Else a fill stores whatever has become of its lease.
    FillNeedsItsLease,
    /// Else a fill looks at its lease alone.
    FillNeedsItsIndexEntry,
    /// Else the lease comes first, its index entry some time later.
    EntryComesWithItsLease,
    /// Else all loads use the same token.
    EveryLoadHasItsToken,
    /// Else the row is read first, the lease taken afterwards.
    StatementAfterLease,
    /// Else an invalidation of what is not there does nothing.
    AbsentValuesLoseTheirLease,
    /// Else a sweep removes the values, then the leases.
    LeasesBeforeValues,
    /// Else a pattern that comes during a pass is done when that pass is.
    PatternsWaitForAWholePass,
    /// Else a hit is a hit, whatever is being swept.
    AnnouncedSweepsHold,
    /// Else a change leaves the queue when somebody begins to apply it.
    ChangesStayUntilApplied,
}

/// A world: how much may happen in it, and which of the rules does not hold.
#[derive(Clone, Copy, Debug)]
pub struct Protocol {
    pub keys: usize,
    /// Loads of each loader.
    pub loads: u8,
    /// What each writer changes, once.
    pub writers: [Target; TWO],
    pub dropped: Option<Rule>,
}

/// What Redis has of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    pub value: Option<Version>,
    pub lease: Option<Token>,
    /// The lease index has an entry.
    pub listed: bool,
}

/// Where a loader is. `floor`: what it may not fall below, from when its read began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Loader {
    #[default]
    Idle,
    /// About to run the acquire script. `early`: what it has read already, where that is not forbidden.
    Asking {
        key: usize,
        floor: Version,
        early: Option<Version>,
    },
    /// It holds, or believes to hold, the lease. `row`: what it has read. `unlisted`: its index entry is still to come.
    Loading {
        key: usize,
        floor: Version,
        row: Option<Version>,
        unlisted: bool,
    },
}

/// Where a writer's change is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Change {
    #[default]
    None,
    /// Committed and queued.
    Queued,
    /// Its leases are being deleted; this key is next.
    Revoking(usize),
    /// A pattern that waits for the next pass.
    Waiting,
    /// A pattern that the running pass serves.
    Passing,
    /// Acknowledged, or lost.
    Over,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    /// What is committed, a row a key.
    pub rows: [Version; KEYS],
    pub cells: [Cell; KEYS],
    pub loaders: [Loader; TWO],
    /// Loads that each loader may still begin.
    pub loads_left: [u8; TWO],
    pub changes: [Change; TWO],
    /// What each writer has committed.
    pub committed: [[Version; KEYS]; TWO],
    /// The pattern of this writer is announced as being swept.
    pub announced: [bool; TWO],
    /// The pass through all keys: which is next.
    pub pass: Option<usize>,
    /// The newest version of each key whose invalidation was acknowledged.
    pub acknowledged: [Version; KEYS],
    /// Somebody was given less than it may be given.
    pub answered_outdated: bool,
    /// What the last step has shown.
    pub seen: Seen,
}

/// What a world must also be able to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Seen {
    #[default]
    Nothing,
    Hit,
    Refused,
    Waited,
}

/// Promises.
pub const GONE: &str = "what was acknowledged as invalidated is gone";
pub const ANSWERS: &str =
    "no answer is older than the newest that its reader could know to be outdated";
pub const REST: &str = "when all is over, Redis holds what Postgres says, or nothing";

impl State {
    /// What a read of `key` that begins now may not fall below: what is acknowledged, or announced as being swept.
    pub fn floor(&self, world: &Protocol, key: usize) -> Version {
        let announced = (0..TWO).filter(|writer| self.is_swept_by(world, *writer, key));
        let announced = announced.map(|writer| self.committed[writer][key]).max();
        self.acknowledged[key].max(announced.unwrap_or_default())
    }

    fn is_swept_by(&self, world: &Protocol, writer: usize, key: usize) -> bool {
        self.announced[writer] && world.writers[writer].holds(key)
    }

    /// An announced sweep is about to remove this key.
    pub fn is_swept(&self, world: &Protocol, key: usize) -> bool {
        (0..TWO).any(|writer| self.is_swept_by(world, writer, key))
    }

    fn is_at_rest(&self) -> bool {
        let loaders = self.loaders.iter().all(|loader| *loader == Loader::Idle);
        let over = |change: &Change| matches!(change, Change::None | Change::Over);
        loaders && self.changes.iter().all(over)
    }

    /// Every value passes.
    fn values(&self, passes: impl Fn(usize, Version) -> bool) -> bool {
        let mut cells = self.cells.iter().enumerate();
        cells.all(|(key, cell)| cell.value.is_none_or(|value| passes(key, value)))
    }
}

impl Protocol {
    /// The rule holds in this world.
    pub fn keeps(&self, rule: Rule) -> bool {
        self.dropped != Some(rule)
    }
}

impl World for Protocol {
    type Rule = Rule;

    const PROMISES: &'static [&'static str] = &[GONE, ANSWERS, REST];
    const LEAST_STATES: usize = 50_000;

    fn without(self, rule: Rule) -> Self {
        let dropped = Some(rule);
        Self { dropped, ..self }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            loads_left: [self.loads; TWO],
            ..State::default()
        }]
    }

    fn actions(&self, state: &State, steps: &mut Vec<Step>) {
        Step::possible(self, state, steps);
    }

    fn next_state(&self, state: &State, step: Step) -> Option<State> {
        let mut next = state.clone();
        next.seen = Seen::Nothing;
        step.take(self, &mut next);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(GONE, |_, state: &State| {
                state.values(|key, value| value >= state.acknowledged[key])
            }),
            Property::always(ANSWERS, |_, state: &State| !state.answered_outdated),
            Property::always(REST, |_, state: &State| {
                !state.is_at_rest() || state.values(|key, value| value == state.rows[key])
            }),
            // A cache that never has anything would keep all of this.
            Property::sometimes("a read is a hit", |_, state: &State| {
                state.seen == Seen::Hit
            }),
            Property::sometimes("a fill is refused", |_, state: &State| {
                state.seen == Seen::Refused
            }),
            Property::sometimes(
                "a reader does not wait for another's lease",
                |_, state: &State| state.seen == Seen::Waited,
            ),
            Property::sometimes(
                "the newest rows are cached in the end",
                |_, state: &State| {
                    let over = state.changes.iter().all(|change| *change == Change::Over);
                    over && state.is_at_rest()
                        && state.cells.iter().any(|cell| cell.value.is_some())
                },
            ),
        ]
    }
}
