//! Keeps true that a cached value which is wrong is found: events are hints, the database is the truth.
//!
//! Invariants
//! 1. Nothing is called wrong whose invalidation could be under way: a lease, an announced sweep, a row of the queue that
//!    could concern it ([`check`](Checker)).
//! 2. A value of a watched cache that is wrong all the same is an *inconsistency*: counted, told with all that is known of
//!    its key, and invalidated, unconditionally. Where no watch would tell, it is *drift*: counted, and left to its `ttl`.
//! 3. Values are neither logged nor kept: hashes tell them apart.
//! 4. Nobody waits for an audit: it has a connection to Postgres of its own, and few keys at a time.
//!
//! ```text
//!  invalidated of late ─┐
//!  a walk through all ──┴▶ Redis: V, expires at E ─▶ Postgres: D ─▶ D = V: equal
//!                              └─ D ≠ V ─▶ what is queued was applied ─▶ Redis: still V and E? ─▶ wrong
//! ```
//!
//! Faults survived: Redis or Postgres away, the queue stuck, writers at full speed; this actor's own panic. What it cannot
//! judge is counted as *undecided*.

mod actor;
mod check;
mod compare;
mod drifting;
mod explain;
mod look;
mod messages;
mod origins;
mod pass;
mod sampler;
mod story;

pub use actor::{AuditActor, AuditParts};
pub use check::{Checked, Checker, Verdict, Wrong};
pub use explain::Explanation;
pub use look::HeldLease;
pub use messages::{AuditHandle, Explain};
pub use origins::Origins;
pub use pass::{Example, Findings, Pass, PassError, PassOptions, Progress, Tally};
pub use story::{Told, token};
