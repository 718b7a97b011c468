//! The heartbeats that daemons leave in Redis, one a prefix: of which server, with which data, and what time it was; and what
//! is told from them. Pure.
//!
//! They lie among the data, and so are as old as they are: a Redis that starts from an old snapshot has the heartbeats of
//! another run in it; a replica that takes over has those of the server it followed.
//!
//! One a prefix, because a daemon cleans what it declares and nothing else: what others declare stays as it was found, and so
//! does its heartbeat, until one of them has cleaned that.

use crate::keyspace::Pattern;
use crate::store::Identity;
use std::time::Duration;

/// How old they get before they are forgotten, beyond the window within which anything can be applied again.
const KEPT_BEYOND: Duration = Duration::from_secs(24 * 60 * 60);

/// A heartbeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heartbeat {
    /// Which server's, and which of its data.
    data: String,
    /// By Postgres' clock, in microseconds since 1970: what was invalidated before is in this Redis. 0: not known.
    at_us: i64,
}

/// What is to be thought of what lies under our prefixes in a Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Known,
    Empty,
    Earlier(Earlier),
}

/// Data of earlier: under some prefixes, or all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Earlier {
    /// Under these, what was invalidated since then may be lacking.
    pub(super) lacking: Vec<Pattern>,
    /// By Postgres' clock; the earliest, where they differ.
    pub(super) since_us: i64,
    /// Of these nobody knows since when.
    pub(super) unknown: Vec<Pattern>,
}

impl Heartbeat {
    /// Which data these are: two words.
    pub(super) fn data(identity: &Identity) -> String {
        format!("{} {}", identity.run_id(), identity.replication_id())
    }

    /// Reads those two words and the time.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let (data, at) = std::str::from_utf8(text).ok()?.rsplit_once(' ')?;
        Some(Self {
            data: data.to_owned(),
            at_us: at.parse().ok()?,
        })
    }

    /// How long they lie in Redis unless they are written again.
    pub(super) fn life(replay_window: Duration) -> Duration {
        replay_window + KEPT_BEYOND
    }
}

impl Verdict {
    /// Of a Redis with these data, so many keys beside, and these heartbeats, one for each of `prefixes`.
    pub(super) fn of(
        data: &str,
        keys: i64,
        prefixes: &[Pattern],
        heartbeats: &[Option<Heartbeat>],
    ) -> Self {
        let mut earlier = Earlier::default();
        for (prefix, heartbeat) in prefixes.iter().zip(heartbeats) {
            match heartbeat {
                Some(heartbeat) if heartbeat.data == data => {}
                Some(Heartbeat {
                    at_us: at @ 1.., ..
                }) => {
                    let is_first = earlier.lacking.is_empty();
                    earlier.since_us = if is_first {
                        *at
                    } else {
                        earlier.since_us.min(*at)
                    };
                    earlier.lacking.push(prefix.clone());
                }
                _ => earlier.unknown.push(prefix.clone()),
            }
        }
        if earlier.prefixes().next().is_none() {
            Verdict::Known
        } else if keys == 0 {
            Verdict::Empty
        } else {
            Verdict::Earlier(earlier)
        }
    }

    pub(super) fn label(&self) -> &'static str {
        match self {
            Verdict::Known => "known",
            Verdict::Empty => "empty",
            Verdict::Earlier(_) => "earlier",
        }
    }
}

impl Earlier {
    /// All prefixes under which something may be outdated.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = &Pattern> {
        self.lacking.iter().chain(&self.unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data: &str, at_us: i64) -> Option<Heartbeat> {
        let data = data.to_owned();
        Some(Heartbeat { data, at_us })
    }

    fn verdict(keys: i64, heartbeats: &[Option<Heartbeat>]) -> Verdict {
        let prefixes = [prefix("a:"), prefix("b:"), prefix("c:")];
        Verdict::of("now r", keys, &prefixes, heartbeats)
    }

    fn prefix(text: &str) -> Pattern {
        Pattern::all_under(text)
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_is() {
        assert_eq!(Heartbeat::read(b"now r 42"), of("now r", 42));
        for other in ["", "42", "a b ", "a b x", "\u{0}"] {
            assert_eq!(Heartbeat::read(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn only_what_is_vouched_for_in_these_very_data_is_known() {
        let all = [of("now r", 0), of("now r", 7), of("now r", 1)];
        assert_eq!(verdict(9, &all), Verdict::Known);
        let one_is_new = [of("now r", 0), None, of("now r", 1)];
        let earlier = Earlier {
            unknown: vec![prefix("b:")],
            ..Earlier::default()
        };
        assert_eq!(verdict(9, &one_is_new), Verdict::Earlier(earlier));
    }

    #[test]
    fn where_the_time_is_told_only_what_came_since_is_lacking() {
        let earlier = Earlier {
            lacking: vec![prefix("a:"), prefix("b:")],
            since_us: 5,
            unknown: vec![prefix("c:")],
        };
        let found = [of("before r", 7), of("now s", 5), of("before r", 0)];
        assert_eq!(verdict(9, &found), Verdict::Earlier(earlier));
    }

    #[test]
    fn only_without_any_key_nothing_can_be_outdated() {
        let none = [None, None, None];
        assert_eq!(verdict(0, &none), Verdict::Empty);
        let others = [None, of("now r", 7), of("before r", 7)];
        assert_eq!(verdict(0, &others), Verdict::Empty);
        assert!(matches!(verdict(1, &none), Verdict::Earlier(_)));
    }
}
