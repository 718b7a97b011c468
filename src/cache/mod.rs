//! Keeps true that what is read is what the database says, or was, when the read began or later.
//!
//! Invariants
//! 1. A load takes its key's lease, and enters the lease index, in one script *before* the database is read; the read
//!    is a new statement that starts after it (`scripts/acquire_leases.lua`).
//! 2. A value is stored only by a script that finds the load's own lease and a live index entry
//!    (`scripts/end_leases.lua`). An invalidation deletes the lease first, so a load that began before it cannot put the
//!    outdated value back: it is refused, and reads again.
//! 3. Nobody joins what has been sent, but for a load under a lease, until its fill is sent ([`flights`]).
//! 4. A dead or slow holder of a lease fails nobody else: after half of `load_timeout` one flight a daemon reads Postgres
//!    itself, and caches nothing.
//! 5. Every read is answered within its cache's `load_timeout`, if only with an error.
//! 6. Every key written has an expiry.
//! 7. No exchange with Redis carries more values than `parts.rs` allows, as far as their size is known or can be guessed; one
//!    that has to wait for others of its kind does not hold up what is small.
//! 8. A hit that an announced sweep is about to remove is not given out: its key is invalidated by name and loaded ([`Sweeps`]).
//! 9. A value kept in this process' own memory is not older than what was heard from Redis ([`L1`]).
//! 9. A hit of a watched cache says so when nobody could look for changes of late, and is none when its cache wants that
//!    ([`Freshness`]).
//! 10. What is written through us, and all that it makes outdated, is one commit, and invalidated before it is answered
//!     ([`writing`]).
//!
//! ```text
//!  Read ─▶ look-up (one MGET for all that wait) ─▶ hits: answered
//!              └─ not there ─▶ the shard that owns the cache: join a flight, or lead it
//!                                  └─▶ acquire ─▶ load (one query) ─▶ end: fill ─▶ answered
//! ```
//!
//! Faults survived: Redis killed, frozen, empty, refusing writes; Postgres killed, frozen, slow, refusing one key; a
//! holder of a lease that never comes back; a loader that fails, hangs or panics; this actor's own panic.

mod actor;
mod behind;
mod collect;
mod deadlines;
mod distinct;
mod early;
mod engine;
mod error;
mod events;
mod fallback;
pub mod flights;
mod freshness;
mod hottest;
mod l1;
pub mod leases;
mod loaders;
mod lookup;
mod lookups;
mod means;
mod messages;
#[cfg(test)]
mod model_tests;
mod notes;
mod parts;
mod puts;
mod reader;
mod refreshes;
mod renewal;
mod requests;
mod sizes;
mod spaces;
mod sweeps;
mod trace;
mod warming;
mod warmth;
mod windows;
mod writing;

pub use actor::{CacheActor, CacheParts};
pub use error::{CacheError, Class};
pub use freshness::{Freshness, MARKED_AFTER, Standing};
pub use l1::{Hit, L1, Record};
pub use leases::Scripts;
pub use means::Means;
pub use messages::{
    Answer, CacheHandle, Found, GetOrLoad, Inspect, Invalidate, KeysInvalidated, Loader, Origin,
    Put, Read, State,
};
pub use notes::{Noted, Notes};
pub use spaces::{Index, Source, Space, Spaces};
pub use sweeps::Sweeps;
pub use trace::{Invalidated, Leased, Story, Trace};
pub use warming::{MAX_WARM_KEYS, Manner, Warmed, Warming};
pub use writing::{Remove, Save, Told};
