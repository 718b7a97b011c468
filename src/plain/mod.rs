//! Keeps true that plain keys are Redis' own, and that each of them ends some day.
//!
//! Plain keys lie under the prefixes of `[passthrough.*]`. There is no database behind them: what a client says of them goes to
//! Redis as it was said, and what Redis answers goes back as it was answered, errors included.
//!
//! Invariants
//! 1. After a write no key of it is without an expiry: who does not say how long it lives gets the declared life, in the same
//!    step ([`prepare`], `scripts/`). A life that a key has already is its own.
//! 2. What follows one another on a connection runs in that order, and goes to Redis together; what comes behind a failed
//!    exchange is not sent.
//! 3. No exchange carries more than [`exchange`] allows, as far as the sizes of values are known or can be guessed, and all of
//!    them together no more than one may: reads of the caches go over the same connection.
//! 4. Nothing but these prefixes is reached, `SCAN` included.
//!
//! ```text
//!  door ─▶ Pass (a pipeline's commands in a row) ─▶ prepare: refused, or what Redis is sent
//!                                                      └─▶ exchanges of bounded size ─▶ answers, in order
//! ```
//!
//! Faults survived: Redis killed, frozen, restarted empty, refusing writes; scripts flushed; this actor's own panic.

mod actor;

mod error;
mod exchange;
mod messages;
mod passing;
mod prepare;

pub use crate::store::Passed;
pub use actor::{PlainActor, PlainParts};
pub use error::{Class, PlainError};
pub use messages::{Answer, Command, Pass, PlainHandle, Verb};
