//! The Redis protocol door: whatever a client sends, it gets answers in the order it asked, and
//! nothing it sends costs more than a bounded amount.
//!
//! No logic lives here: a command becomes messages to actors, and their answers become replies.
//!
//! Invariants
//! 1. Replies come in the order of the requests, also in a pipeline. Reads that follow one another go out as one message, and
//!    so do checks of limits; anything else is done when its turn comes, so a `GET` behind a `DEL` sees the `DEL`.
//! 2. An error answers one request and leaves the connection as it was. A broken frame ends it.
//! 3. A connection holds no buffer while nothing is half-received or half-sent; it reads no further while its answers
//!    wait to be sent.
//! 4. After the stop is announced, what has been read is answered, then the connection closes; who has only just come is
//!    heard once.
//!
//! ```text
//!  listener ─accepts, deals out─▶ connection (one task, on one core)
//!                                   decode every complete request ─▶ commands/ ─▶ batch of reads ─▶ actor of the same core
//!                                   replies, in order ◀───────────────────────────────────────────────┘
//! ```
//!
//! Faults survived: frames cut, broken, huge, nested, never finished; other protocols on the port; clients that do not read,
//! that vanish, that guess passwords; more clients than allowed; an actor that restarts.

mod batch;
mod checks;
pub mod codec;
mod commands;
mod connection;
mod door;
mod failure;
mod listener;
mod lock_session;
mod passed;
mod patience;
mod plain;
mod socket;
mod waiting;

pub use commands::COMMANDS;
pub use door::{Asked, Door, InfoSource, RateLimits};
pub use listener::{Listening, OpenError, Server, open};
pub use passed::Passed;
