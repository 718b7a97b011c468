//! Checks of limits in one pipeline that follow one another: against whom a refusal stands is answered from memory, the rest in
//! one message to the actor, replies in order.

use super::commands::{Fault, Verb, limits};
use super::door::Door;
use super::failure;
use crate::rate_limit::{Asked, Decision, LimitError};
use crate::supervisor::AskError;

/// Checks after which a batch is sent although more follow: half of what a connection reads at once.
const FULL: usize = 256;

/// An actor answers everything it was asked; each request gets a reply even if it did not.
const NO_ANSWER: Result<Decision, LimitError> = Err(LimitError::Actor(AskError::Unavailable {
    actor: "rate-limit",
}));

/// What one command's reply comes from.
enum Place<'a> {
    /// The next answer; what was asked, for an error to name it.
    Answer { limits: &'a [u8], subject: &'a [u8] },
    /// A refusal that stands.
    Refused(Decision),
    /// It makes no sense.
    Fault(Fault),
}

/// All `RATE.CHECK` and `RATE.PEEK` in a row.
#[derive(Default)]
pub(super) struct Checks<'a> {
    places: Vec<Place<'a>>,
    asked: Vec<Asked>,
}

impl<'a> Checks<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.places.len() >= FULL
    }

    /// Adds a `RATE.CHECK` or `RATE.PEEK` of these words.
    pub(super) fn add(
        &mut self,
        door: &Door,
        verb: Verb,
        mut words: impl Iterator<Item = &'a [u8]>,
    ) {
        // As many as the command has at least.
        let limits = words.next().unwrap_or_default();
        let subject = words.next().unwrap_or_default();
        let asked = match limits::asked(verb, limits, subject, words) {
            Ok(asked) => asked,
            Err(fault) => return self.places.push(Place::Fault(fault)),
        };
        self.places.push(match door.rate_limits.refusal(&asked) {
            Some(refusal) => Place::Refused(refusal),
            None => {
                self.asked.push(asked);
                Place::Answer { limits, subject }
            }
        });
    }

    /// Asks the actor, writes the replies, and empties the batch.
    pub(super) async fn ask(&mut self, door: &Door, out: &mut Vec<u8>) {
        let asked = std::mem::take(&mut self.asked);
        let answers = if asked.is_empty() {
            Vec::new()
        } else {
            door.rate_limits.actor.decide(asked).await
        };
        let mut answers = answers.into_iter();
        for place in self.places.drain(..) {
            match place {
                Place::Fault(fault) => fault.write(out),
                Place::Refused(refusal) => limits::decision(out, &refusal),
                Place::Answer { limits, subject } => match answers.next().unwrap_or(NO_ANSWER) {
                    Ok(decision) => limits::decision(out, &decision),
                    Err(error) => failure::limit(out, &door.rate_limits, (limits, subject), &error),
                },
            }
        }
    }
}
