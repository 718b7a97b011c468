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
//! 10. No Redis is read before it is known whose data it holds, and what may be outdated in them is in doubt ([`Gatekeeper`]).
//! 11. After a return watched caches are read from the database until nothing of before is left in the queue ([`Barrier`]); a
//!     look at the queue is the proof that hits are fresh ([`Prover`]).
//! 12. What is invalidated without the queue is noted where the queue notes its own ([`Noter`]).
//! 13. Nothing depends on that the database's doorbell is heard; while it is proven to be, fewer looks are needed ([`Doorbell`]).
//! 14. An empty queue proves nothing while a watched table may lack its triggers ([`Inspector`]).
//! 15. An announced sweep whose daemon is gone is swept by another, and doubted until it is ([`others`]).
//!
//! ```text
//!  CACHE.INVALIDATE, Warden ─┬▶ keys ─────▶ cache actors, by name ──────────────────────────────▶ acknowledged
//!  Subscriber: messages,      └▶ patterns ─▶ Queue ─▶ Sweeper: end leases ─▶ announce ─▶ pass ──▶ acknowledged
//!              events                                                      (SCAN + UNLINK)
//!  Drain: the database's queue
//! ```
//!
//! Faults survived: the connection lost in the middle; Redis restarted, emptied, replaced, back with data of earlier; the queue,
//! Redis or the daemon out of reach while the database goes on; the subscription cut or
//! dead, or held by a server of before; messages and queued
//! changes that are broken, huge, foreign, too wide; a daemon that dies with changes claimed, or in the middle of a sweep; patterns that never stop coming; this actor's own panic.

mod actor;
mod backlog;
mod barrier;
mod changes;
mod count;
mod doorbell;
mod doubts;
mod drain;
mod error;
mod events;
mod gatekeeper;
mod hearing;
mod heartbeat;
mod in_hand;
mod indexed;
mod indexes;
mod inspector;
mod invalidate;
mod late;
mod message;
mod messages;
mod noter;
mod others;
mod pace;
mod pending;
mod prover;
mod queue;
mod scripts;
mod subscriber;
mod sweeper;
mod walk;

pub use actor::{InvalidationActor, InvalidationParts};
pub use barrier::Barrier;
pub use doorbell::{Bell, Doorbell};
pub use drain::Drain;
pub use error::InvalidationError;
pub use gatekeeper::{Gatekeeper, QueueSide};
pub use in_hand::Applying;
pub use indexes::Indexes;
pub use inspector::Inspector;
pub use messages::{
    CancelSweeps, CountTargets, InvalidateTargets, InvalidationHandle, OnSwept, Publish,
};
pub use noter::Noter;
pub use prover::{LookedAt, Prover};
