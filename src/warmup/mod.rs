//! Keeps true that what is declared to be warm is loaded before the first reader asks for it, at nobody's expense.
//!
//! Invariants
//! 1. A warm load is a load like any other: lease, one statement, fill under that lease. What is invalidated meanwhile is
//!    refused ([`Warming`](crate::cache::Warming)).
//! 2. A slot is run by one daemon of the fleet, once: under a lock, and noted in Redis with its fence. Who dies on the way is
//!    followed by another. What nobody ran is made up for by one run; what comes while one goes on is skipped, and told
//!    ([`due`]).
//! 3. All daemons go by one clock, Redis' own: no clock that jumps makes a run, or keeps one from being made ([`runs`]).
//! 4. A run gives way to reads ([`courtesy`]), has connections of its own, and loads no more keys a second than declared
//!    ([`pace`]).
//! 5. Of any number of keys a page is in memory; more of them than may be are left out, and told ([`keys`]).
//! 6. The keys that are asked for most are remembered in Postgres, and warmed first ([`hot`], [`keys`]).
//! 7. A cache that fails stops no other; a run that loads nothing is given up, and tried again later.
//!
//! ```text
//!  start · slot · sweep · command ─▶ keeper: one a cache ─▶ still due? ─▶ lock ─▶ still due? ─▶ run ─▶ noted
//!                                                                                           │
//!                     keys: a page ─▶ acquire ─▶ load ─▶ fill: three batches under way ◀────┘
//! ```
//!
//! Faults survived: Redis or Postgres away before and in a run; a daemon killed in a run; a lock that is lost; keys that are
//! none, a query that never ends; a panic of this actor, of a run, of a batch.

mod actor;
mod board;
mod courtesy;
mod due;
mod error;
mod fleet;
mod hot;
mod keeper;
mod keys;
mod messages;
mod pace;
mod plan;
mod run;
mod runs;

pub use actor::{WarmupActor, WarmupParts};
pub use board::{Board, Outcome, Report};
pub use error::WarmError;
pub use messages::{LONGEST_RUN, LookAtRuns, Swept, Warm, WarmupHandle};
