//! `[l1]`: the level in the daemon's own memory.

use super::value::Checked;
use std::time::Duration;

const DEFAULT_CAPACITY: usize = 64 << 20;
const DEFAULT_TTL: Duration = Duration::from_secs(30);

/// `[l1]`. Which caches use it, each of them says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct L1 {
    /// What all entries may take together, in bytes; zero: there are none.
    pub capacity: usize,
    /// An entry lives no longer, whatever its value has left in Redis.
    pub ttl: Duration,
}

pub(super) fn l1(table: &Checked) -> L1 {
    L1 {
        capacity: table.count("capacity").unwrap_or(DEFAULT_CAPACITY),
        ttl: table.duration("ttl").unwrap_or(DEFAULT_TTL),
    }
}
