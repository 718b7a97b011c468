//! The only room that knows every other: what is started, in which order, and how it ends.
//!
//! Invariants
//! 1. All handles exist before any actor starts, so nobody meets another half-made.
//! 2. Doors open last and close first: whoever is let in is served.
//! 3. A stop has a deadline. What is still running when it passes is named, then dropped.
//!
//! ```text
//!  threads: cachewarden (supervisor, doors' accept loops) · one arbiter a core (its connections, its CacheActor, its
//!           connection to Redis) · cachewarden-io (connections to Postgres, loaders of programs)
//!  start:   Postgres' queries checked ─▶ handles ─▶ arbiters, stores ─▶ actors up ─▶ Redis answered, or one timeout ─▶ doors
//!  stop:    doors ─▶ connections ─▶ actors ─▶ Postgres ─▶ arbiters joined
//! ```

mod auditing;
mod database;
mod error;
mod freshness;
mod guarding;
mod info;
mod journaling;
mod limiting;
mod locking;
mod main_thread;
mod memory;
mod passing;
mod readiness;
mod reload;
mod status;
mod stopping;
mod threads;
mod warden;
mod warming;
mod web;
mod wiring;
mod writing;

pub use crate::resp::Passed;
pub use error::{StartError, WardenError};
pub use journaling::{volatility, waiting_writes};
pub use reload::Reloaded;
pub use status::Status;
pub use warden::{Ended, Warden};
