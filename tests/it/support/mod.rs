//! What integration tests stand on: servers, clients, a fault proxy, daemons, and waiting that says what it saw.
//!
//! Faults by name, and who makes them: *hold*, *slow*, *disconnect*, *refuse* — [`proxy`]; *kill*, *freeze*,
//! *restart empty* — the servers themselves.

#![allow(dead_code, reason = "a kit lies ready for the next test, too")]

pub mod booted;
pub mod daemon;
pub mod eventually;
pub mod fleet;
pub mod grenade;
pub mod monitor;
pub mod proxy;
pub mod resp;
pub mod servers;
pub mod swallower;
pub mod watched;
pub mod world;

use std::time::Duration;

/// Longer than anything takes that will ever happen. It bounds a failing test; no passing test waits for it.
pub const DEADLINE: Duration = Duration::from_secs(20);
