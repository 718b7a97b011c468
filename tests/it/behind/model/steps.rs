//! What is done, at random.

use proptest::prelude::*;

use super::expected::{Fill, KEYS};

pub const STEPS: usize = 40;
pub const LOADS: usize = 3;
pub const DAEMONS: usize = 2;
/// Larger than any journal here.
pub const NO_LIMIT: usize = 100_000;

/// What another program may leave where a pending write belongs.
#[derive(Clone, Copy, Debug)]
pub enum Strange {
    Text,
    Hash,
    Expiring,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// `false`: the key is deleted.
    Accept {
        writes: Vec<(usize, bool)>,
        limit: usize,
    },
    /// From the beginning, or behind what this daemon read last.
    Read {
        daemon: usize,
        goes_on: bool,
        limit: usize,
    },
    /// What a daemon read a while ago, but for what it has put aside, a bit a write.
    Complete {
        daemon: usize,
        ago: usize,
        aside: u32,
    },
    Acquire {
        load: usize,
        keys: [bool; KEYS],
        is_aware: bool,
        anew: bool,
    },
    Warm {
        load: usize,
        keys: [bool; KEYS],
        is_aware: bool,
        anew: bool,
    },
    End {
        load: usize,
        fill: Fill,
    },
    /// Rows are changed by others, and their keys invalidated by name.
    Change {
        keys: [bool; KEYS],
    },
    /// Redis evicts the index of leases.
    Evict,
    Disturb {
        key: usize,
        strange: Strange,
    },
    /// Another program adds to the journal.
    Enter {
        key: Option<usize>,
    },
    /// Redis comes back without its last write, and gives its place to another one.
    ComeBack,
}

pub fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (key, load, daemon) = (0..KEYS, 0..LOADS, 0..DAEMONS);
    let keys = any::<[bool; KEYS]>();
    let aware = || prop::bool::weighted(0.6);
    let limit = prop_oneof![8 => Just(NO_LIMIT), 1 => 0..20_usize];
    let writes = prop::collection::vec((key.clone(), prop::bool::weighted(0.8)), 1..6);
    let aside = prop_oneof![2 => Just(0), 1 => any::<u32>()];
    let strange = prop_oneof![
        Just(Strange::Text),
        Just(Strange::Hash),
        Just(Strange::Expiring)
    ];
    let fill = prop_oneof![
        4 => Just(Fill::Store),
        1 => Just(Fill::Remove),
        1 => Just(Fill::Leave)
    ];
    let acquire = (load.clone(), keys, aware(), any::<bool>());
    let warm = acquire.clone();
    let step = prop_oneof![
        8 => (writes, limit).prop_map(|(writes, limit)| Step::Accept { writes, limit }),
        6 => (daemon.clone(), any::<bool>(), 0..24_usize)
            .prop_map(|(daemon, goes_on, limit)| Step::Read { daemon, goes_on, limit }),
        6 => (daemon, 0..3_usize, aside)
            .prop_map(|(daemon, ago, aside)| Step::Complete { daemon, ago, aside }),
        6 => acquire.prop_map(|(load, keys, is_aware, anew)| Step::Acquire { load, keys, is_aware, anew }),
        2 => warm.prop_map(|(load, keys, is_aware, anew)| Step::Warm { load, keys, is_aware, anew }),
        6 => (load, fill).prop_map(|(load, fill)| Step::End { load, fill }),
        2 => keys.prop_map(|keys| Step::Change { keys }),
        1 => Just(Step::Evict),
        2 => (key.clone(), strange).prop_map(|(key, strange)| Step::Disturb { key, strange }),
        2 => prop::option::weighted(0.8, key).prop_map(|key| Step::Enter { key }),
        1 => Just(Step::ComeBack),
    ];
    prop::collection::vec(step, 1..STEPS)
}
