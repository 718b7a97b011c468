//! Keeps every actor running, or ends the process: an actor that panics, stops or gets stuck is replaced
//! by a fresh one after a jittered pause, and callers are told at once in the meantime.
//!
//! A task without mail is kept running alike, but is dropped when it is to stop.
//!
//! Why not `actix::Supervisor`: it does not survive a panic (actor, mailbox and supervisor vanish without a
//! word), it reuses the possibly broken value, and it restarts without a pause or a limit.
//!
//! Invariants
//! 1. Whoever holds a [`Handle`] never waits for an actor that is not there: it answers *unavailable* at once.
//! 2. No mailbox grows without bound: a handle admits a stated number of requests in flight, then answers
//!    *overloaded*. (actix' own mailbox capacity counts per clone of an address and so bounds nothing.)
//! 3. A restart begins from a fresh value. Mail that was queued is lost; its senders are told.
//! 4. Too many restarts within the window give up *upwards*: the process ends with exit 70 and the service
//!    manager starts it clean.
//!
//! ```text
//!  ChildSpec ──start──▶ actor's context as a task on its arbiter ──▶ Handle bound
//!      ▲                        │ panic · stop · no answer to Ping
//!      └── pause (backoff) ◀────┘ Handle unbound; too often within the window ──▶ give up
//! ```
//!
//! Faults survived, each with a test in `tests/it/supervisor.rs`: panic in a handler, an actor that stops by itself, an
//! actor that no longer takes its mail, one that cannot be made, one that blocks its thread (gives up), a flood of requests.

mod child;
mod handle;
mod health;
mod later;
mod restart;

use actix::Message;
use std::time::Duration;

pub use child::{ChildSpec, Exit, Supervisor};
pub use handle::{AskError, Handle};
pub use health::{ActorHealth, ActorState, Health};
pub use later::{Later, Promise};
pub use restart::RestartPolicy;

/// Are you taking your mail? Sent by the supervisor every second; an actor that lets it lie is *stuck*.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Ping;

/// Finish what was accepted within `deadline`, answer, and stop.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown {
    /// How long the actor may take; after it the supervisor drops it and names it in the log.
    pub deadline: Duration,
}
