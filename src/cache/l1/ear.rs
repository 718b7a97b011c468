//! Remembers what was heard, and when: in an order of its own, for no clock is that exact.
//!
//! Not a number a key but one for each of a fixed number of parts of the keys: that two keys share one costs a needless
//! refusal now and then, and bounds the memory.

/// Parts: 32 KiB a shard. While look-ups are under way some hundred keys are heard at most, so few are refused for another's sake.
const PARTS: usize = 4096;

/// A moment in the order of what was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cache) struct Moment(u64);

/// What was heard last of every key.
#[derive(Debug)]
pub(super) struct Ear {
    last: Moment,
    /// When everything was meant.
    everything: Moment,
    parts: Box<[Moment]>,
}

impl Ear {
    pub(super) fn new() -> Self {
        Self {
            last: Moment(0),
            everything: Moment(0),
            parts: vec![Moment(0); PARTS].into(),
        }
    }

    /// Now.
    pub(super) fn last(&self) -> Moment {
        self.last
    }

    /// Something was heard of the key with this hash.
    pub(super) fn hear(&mut self, hash: u64) {
        self.last.0 += 1;
        self.parts[part(hash)] = self.last;
    }

    /// Something was heard of all keys.
    pub(super) fn hear_of_all(&mut self) {
        self.last.0 += 1;
        self.everything = self.last;
    }

    /// Whether anything was heard of this key after `moment`.
    pub(super) fn has_heard_since(&self, hash: u64, moment: Moment) -> bool {
        self.everything.max(self.parts[part(hash)]) > moment
    }
}

/// Not by the bits that place an entry in its table.
fn part(hash: u64) -> usize {
    (hash >> 32) as usize % PARTS
}
