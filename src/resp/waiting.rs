//! What of a pipeline waits to be asked together: reads, checks of limits or commands on plain keys, never two of them, so that
//! everything keeps its turn.

use super::batch::{Batch, is_parted};
use super::checks::Checks;
use super::commands::Verb;
use super::door::Door;
use super::plain::{Plain, verb_of};
use crate::plain;

/// What a request is asked together with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Reads of cached keys; and of plain ones, where they come among these.
    Read,
    /// Checks of limits.
    Check,
    /// What is passed on to Redis.
    Plain(plain::Verb),
    /// Nothing.
    Alone,
}

/// Requests that are not asked yet.
#[derive(Default)]
pub(super) struct Waiting<'a> {
    pub(super) reads: Batch<'a>,
    pub(super) checks: Checks<'a>,
    pub(super) plain: Plain,
}

impl<'a> Waiting<'a> {
    /// The kind of a request of these words.
    pub(super) fn kind_of<'b>(
        &self,
        door: &Door,
        verb: Verb,
        words: impl ExactSizeIterator<Item = &'b [u8]>,
    ) -> Kind {
        if is_check(verb) {
            return Kind::Check;
        }
        // Of very many keys: Redis' answer would be held as a whole.
        let is_long = verb == Verb::Mget && is_parted(words.len());
        if is_long || (is_read(verb) && !self.reads.is_empty()) {
            return Kind::Read;
        }
        match verb_of(verb) {
            Some(passed) if door.passes(passed, words) => Kind::Plain(passed),
            _ if is_read(verb) => Kind::Read,
            _ => Kind::Alone,
        }
    }

    /// Whether what waits has to be asked before the turn of this kind comes.
    pub(super) fn is_another(&self, kind: Kind) -> bool {
        (kind != Kind::Read && !self.reads.is_empty())
            || (kind != Kind::Check && !self.checks.is_empty())
            || (!matches!(kind, Kind::Plain(_)) && !self.plain.is_empty())
    }

    pub(super) fn is_full(&self) -> bool {
        self.reads.is_full() || self.checks.is_full() || self.plain.is_full()
    }
}

fn is_read(verb: Verb) -> bool {
    matches!(verb, Verb::Get | Verb::Mget | Verb::CacheGet)
}

fn is_check(verb: Verb) -> bool {
    matches!(verb, Verb::RateCheck | Verb::RatePeek)
}
