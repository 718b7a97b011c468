//! Keeps true that no more requests reach a program over HTTP than its limits let through, and that clients are told how
//! much they have left.
//!
//! No logic lives here: a request becomes messages to actors, and their answers become responses.
//!
//! Invariants
//! 1. One question a request, of however many limits. What was answered stands in the headers of the response, whoever
//!    makes it: the handler, an error, or we.
//! 2. A limiter that has no answer stops nobody, unless the program says so ([`OnError`]).
//! 3. What counts as in flight ends with the last byte of the response, or when that cannot be sent any more. If the
//!    limiter cannot be told, its lease ends it.
//!
//! ```text
//!  request ─▶ subject ─▶ Check ─▶ RateLimitActor ─▶ refused ───────────────────▶ 429, problem+json
//!                                     └─▶ allowed ─▶ handler ─▶ body ─▶ end ─▶ Release, if it counts what is in flight
//! ```
//!
//! Faults survived: a limiter that is away, overloaded or silent; clients that vanish before the answer, or in its midst;
//! subjects of any length.

mod fields;
mod problem;
mod rate_limit;
mod slot;
mod subject;

#[cfg(test)]
mod rate_limit_tests;

pub use rate_limit::{Limited, OnError, RateLimit};
pub use subject::{forwarded_for, peer};
