//! What of a pipeline waits to be asked together: reads or checks of limits, never both, so that everything keeps its turn.

use super::batch::Batch;
use super::checks::Checks;
use super::commands::Verb;
use super::door::Door;

/// Requests that are not asked yet.
#[derive(Default)]
pub(super) struct Waiting<'a> {
    pub(super) reads: Batch<'a>,
    pub(super) checks: Checks<'a>,
}

impl<'a> Waiting<'a> {
    /// Whether what waits has to be asked before this command's turn comes.
    pub(super) fn is_another_kind(&self, verb: Verb) -> bool {
        (!is_read(verb) && !self.reads.is_empty()) || (!is_check(verb) && !self.checks.is_empty())
    }

    pub(super) fn is_full(&self) -> bool {
        self.reads.is_full() || self.checks.is_full()
    }

    /// Adds a read or a check of these words.
    pub(super) fn add(
        &mut self,
        door: &Door,
        verb: Verb,
        words: impl ExactSizeIterator<Item = &'a [u8]>,
    ) {
        if is_check(verb) {
            self.checks.add(door, verb, words);
        } else {
            self.reads.add(verb, words);
        }
    }
}

/// Whether commands of this kind that follow one another are asked together.
pub(super) fn is_batched(verb: Verb) -> bool {
    is_read(verb) || is_check(verb)
}

fn is_read(verb: Verb) -> bool {
    matches!(verb, Verb::Get | Verb::Mget | Verb::CacheGet)
}

fn is_check(verb: Verb) -> bool {
    matches!(verb, Verb::RateCheck | Verb::RatePeek)
}
