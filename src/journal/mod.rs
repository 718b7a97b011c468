//! Keeps true that an acknowledged write reaches Postgres: once, and in the order of its key's writes.
//!
//! A write of a cache with `mode = "behind"` is acknowledged when it stands in a stream of Redis, together with what its key
//! says from then on ([`crate::cache`] does both in one script). From there:
//! 1. One daemon of the fleet saves, the leader of a lock. Every transaction shows the number of its term first, so who was
//!    replaced commits nothing any more, however late it wakes ([`crate::repository`]).
//! 2. Writes are saved in the order of the stream, many in one transaction; of one key only the newest among them.
//! 3. The transaction enters the writes' ids. One that is handed out twice, because its daemon was killed after the commit or
//!    Redis came back with less, is not saved twice.
//! 4. Only after the commit a write leaves the stream, and the key its pending value, unless a newer write is pending.
//! 5. A write that Postgres refuses holds up its own key, and nobody else; it is tried again, and then put aside in
//!    `cachewarden.dead_writes`, where people look for it. What waits for a lock is tried for ever, what waits for a deploy for
//!    ten minutes.
//! 6. At a stop what stands in the stream is saved first, as far as the time allows. The rest stays there.
//!
//! It is as durable as Redis is: a Redis that writes no append-only file, or may evict what never expires, is refused unless
//! that is allowed. A cache's writes may be declared otherwise only when nothing of it is left in the journal: what saves
//! at once would be overwritten by what was to be saved before.
//!
//! ```text
//!  SET ─▶ journal + pending ─▶ answered
//!            └─▶ leader: read ─▶ fence, ids, statements, what is outdated: one commit ─▶ removed
//!                                        └─ refused ─▶ aside ─▶ saved, or dead_writes
//! ```
//!
//! Faults survived, each with a test in `tests/it/behind/`: a daemon that is killed or paused, a Postgres that is away or
//! locked, a Redis that is killed, a write that can never be saved.

mod actor;
mod entry;
mod error;
mod flusher;
mod line;
mod scripts;
mod terms;

pub use actor::{JournalActor, JournalParts};
pub use entry::{Entry, Place};
pub use scripts::{Journal, Page};
pub use terms::Stop;
