//! The heartbeat that daemons leave in Redis: of which server, with which data, and what time it was. Pure.
//!
//! It lies among the data, and so is as old as they are: a Redis that starts from an old snapshot has the heartbeat of
//! another run in it; a replica that takes over has that of the server it followed.

use crate::store::Identity;
use std::time::Duration;

/// How old it gets before it is forgotten, beyond the window within which anything can be applied again.
const KEPT_BEYOND: Duration = Duration::from_secs(24 * 60 * 60);
/// The only version so far; what another one means is not known.
const VERSION: &str = "1";

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heartbeat {
    run_id: String,
    replication_id: String,
    /// By Postgres' clock, in microseconds since 1970: what was invalidated before is in this Redis. 0: not known.
    pub(super) at_us: i64,
}

impl Heartbeat {
    /// Of this server, at that time.
    pub(super) fn of(identity: &Identity, at_us: i64) -> Self {
        Self {
            run_id: identity.run_id().to_owned(),
            replication_id: identity.replication_id().to_owned(),
            at_us,
        }
    }

    /// Whether it was left in these very data.
    pub(super) fn is_of(&self, identity: &Identity) -> bool {
        self.run_id == identity.run_id() && self.replication_id == identity.replication_id()
    }

    pub(super) fn write(&self) -> String {
        let (run, replication, at) = (&self.run_id, &self.replication_id, self.at_us);
        format!("{VERSION} {run} {replication} {at}")
    }

    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(text).ok()?.split(' ');
        let version = words.next()?;
        let heartbeat = Self {
            run_id: words.next()?.to_owned(),
            replication_id: words.next()?.to_owned(),
            at_us: words.next()?.parse().ok()?,
        };
        (version == VERSION && words.next().is_none()).then_some(heartbeat)
    }

    /// How long it lies in Redis unless it is written again.
    pub(super) fn life(replay_window: Duration) -> Duration {
        replay_window + KEPT_BEYOND
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        let heartbeat = Heartbeat {
            run_id: "a".to_owned(),
            replication_id: "b".to_owned(),
            at_us: 42,
        };
        assert_eq!(
            Heartbeat::read(heartbeat.write().as_bytes()),
            Some(heartbeat)
        );
        for other in ["", "1 a b", "1 a b x", "1 a b 42 c", "2 a b 42", "\u{0}"] {
            assert_eq!(Heartbeat::read(other.as_bytes()), None, "{other}");
        }
    }
}
