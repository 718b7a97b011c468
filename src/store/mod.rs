//! Redis, behind the few verbs the domains need. The only room that knows the redis crate.
//!
//! Invariants
//! 1. A command is sent once. Nothing is retried behind the caller's back (but for a script that Redis has
//!    forgotten, which by then has not run), so the caller knows what may have happened.
//! 2. A Redis that hangs costs whoever asks at most `redis.timeout`, once: the first command that is not answered opens
//!    the breaker, for the connections of all cores, and until a probe succeeds every further one fails at once.
//! 3. Nothing is queued for a Redis that is away.
//! 4. What must be one piece of work on one server has a connection of its own that is never replaced behind its back
//!    ([`Pinned`]), and what is heard is heard on another ([`Subscription`]): each ends with its connection.
//! 5. Who is told of changes ([`Listener`]) is told in order with the replies of the same connection, and told when that ends.
//!
//! ```text
//!  command ─▶ up? ──no──▶ Unavailable, at once
//!               └─yes─▶ sent ──answered──▶ reply
//!                         └─timeout, broken line─▶ breaker opens ─▶ keeper reconnects, probes, closes it
//! ```
//!
//! Faults survived: killed, frozen, restarted empty, refusing writes (`OOM`, `READONLY`, `MISCONF`: told as *refused*, the
//! breaker stays closed, the log has a line a minute), loading its data, a script cache that was flushed.

mod connection;
mod durability;
mod error;
mod gate;
mod pass;
mod pinned;
mod refusals;
mod reply;
mod scan;
mod script;
mod stream;
mod subscription;
mod tracking;

pub use connection::Store;
pub use durability::Durability;
pub use error::StoreError;
pub use gate::Guard;
pub use pass::{Call, Passed};
pub use pinned::{Identity, Page, Pinned};
pub use reply::Reply;
pub use script::Script;
pub use subscription::{Heard, Subscription};
pub use tracking::{Listener, PROOF_HOLDS};
