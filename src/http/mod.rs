//! Keeps true that whoever asks over HTTP is answered what the other door would answer, and that no more requests reach a
//! program than its limits let through.
//!
//! No logic lives here: a request becomes messages to actors, and their answers become responses.
//!
//! Invariants
//! 1. Nobody is answered who does not know the token, where there is one, but who asks for health; nor who calls this machine
//!    by a name that is not its own ([`guard`]). What a browser sends for a page of another site changes nothing.
//! 2. What can be asked stands in one table ([`api`]); the description and the paths are made from it.
//! 3. A connection, a head and a body have their limits, of size and of time. What has no answer says why (RFC 9457).
//! 4. Whatever changes something leaves a line in the log: who, what, how much of it.
//! 5. The middleware asks one question a request, of however many limits. What was answered stands in the headers of the
//!    response, whoever makes it: the handler, an error, or we.
//! 6. A limiter that has no answer stops nobody, unless the program says so ([`OnError`]).
//! 7. What counts as in flight ends with the last byte of the response, or when that cannot be sent any more. If the
//!    limiter cannot be told, its lease ends it.
//!
//! ```text
//!  daemon:      request ─▶ guard ─▶ pages: health, metrics
//!                             └───▶ api: route ─▶ message ─▶ actor ─▶ JSON, or problem+json
//!  middleware:  request ─▶ subject ─▶ Check ─▶ RateLimitActor ─▶ refused ───────▶ 429, problem+json
//!                                        └─▶ allowed ─▶ handler ─▶ body ─▶ end ─▶ Release, if it counts what is in flight
//! ```
//!
//! Faults survived: a limiter that is away, overloaded or silent; clients that vanish before the answer, or in its midst;
//! subjects of any length; heads and bodies that are huge, or never end; guessed tokens; names that others gave this machine.

mod api;
mod door;
mod fields;
mod guard;
mod pages;
mod problem;
mod rate_limit;
mod server;
mod slot;
mod subject;

#[cfg(test)]
mod rate_limit_tests;

pub use door::{Asked, Door, Reason, Told};
pub use rate_limit::{Limited, OnError, RateLimit};
pub use server::{Listening, OpenError, Server, open};
pub use subject::{forwarded_for, peer};
