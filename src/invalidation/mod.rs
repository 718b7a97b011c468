//! Keeps true that what is said to be outdated is gone from Redis, for good, before that is acknowledged.
//!
//! Invariants
//! 1. Leases first, values second: no load that began before an invalidation fills after it ([`sweeper`]).
//! 2. A sweep runs over one connection to one server. If that is lost, or the server or its role changes, it begins again
//!    with the leases.
//! 3. Every pattern is served by one whole pass that begins after its leases were ended; one pass serves all that wait.
//! 4. From its announcement on, no daemon that hears of it gives out what a sweep is about to remove.
//! 5. Only keys under declared prefixes are removed; plain keys that are passed on, and our own, are out of reach
//!    ([`Reach`](crate::keyspace::Reach)).
//! 6. Whatever is published, it can only make values be read again; a message that makes no sense costs nothing else. Data in
//!    an event never widens a pattern.
//! 7. What waits is bounded: too many patterns of a prefix become everything under it.
//! 8. What a committed change names leaves the database's queue when it was acknowledged, and no sooner ([`Drain`]).
//! 9. An index serves a sweep only while it is certain to list every value that daemons have stored under its segment
//!    ([`indexes`]).
//!
//! ```text
//!  CACHE.INVALIDATE, Warden ─┬▶ keys ─────▶ cache actors, by name ──────────────────────────────▶ acknowledged
//!  Subscriber: messages,      └▶ patterns ─▶ Queue ─▶ Sweeper: end leases ─▶ announce ─▶ pass ──▶ acknowledged
//!              events                                                      (SCAN + UNLINK)
//!  Drain: the database's queue
//! ```
//!
//! Faults survived: the connection lost in the middle; Redis restarted, emptied, replaced; the subscription cut or
//! dead; messages and queued
//! changes that are broken, huge, foreign, too wide; a daemon that dies with changes claimed; patterns that never stop coming; this actor's own panic.

mod actor;
mod changes;
mod count;
mod drain;
mod error;
mod events;
mod indexed;
mod indexes;
mod invalidate;
mod message;
mod messages;
mod pace;
mod pending;
mod queue;
mod scripts;
mod subscriber;
mod sweeper;
mod walk;

pub use actor::{InvalidationActor, InvalidationParts};
pub use drain::Drain;
pub use error::InvalidationError;
pub use indexes::Indexes;
pub use messages::{CancelSweeps, CountTargets, InvalidateTargets, InvalidationHandle, Publish};
