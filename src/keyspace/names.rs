//! The names of the daemon's own keys in Redis.

/// The sorted set of all live leases: Redis key → end of its lease.
pub const LEASE_INDEX: &str = "cachewarden:leases";

/// The sorted set of announced sweeps: id and pattern → end of the announcement.
pub const SWEEPS: &str = "cachewarden:sweeps";

/// The channel on which daemons tell each other of sweeps, and that they listen.
pub const SWEEPS_CHANNEL: &str = "cachewarden:sweeps";

/// What daemons leave in Redis every second, for each prefix they declare: which server it is, and what time it was.
pub const HEARTBEAT: &str = "cachewarden:heartbeat";

/// The sorted set of locks that are held: name → when it ends at the latest. Also the channel on which daemons are told that a
/// lock is worth another try.
pub const LOCKS: &str = "cachewarden:locks";

/// The key of a lock: a hash of who holds it and of who waits.
pub fn lock_of(name: &[u8]) -> Vec<u8> {
    [b"cachewarden:lock:", name].concat()
}

/// The index of the keys that share their first segment with `key`: a sorted set of keys, with the marker that says that
/// it is whole. Named by the keys and not by who declares them, so that daemons of any configuration agree on it.
pub fn index_of(key: &[u8]) -> Vec<u8> {
    [b"cachewarden:index:", segment_of(key)].concat()
}

/// A key's first segment, colon included; all of it if it has no colon.
pub fn segment_of(key: &[u8]) -> &[u8] {
    let end = memchr::memchr(b':', key).map_or(key.len(), |colon| colon + 1);
    &key[..end]
}

/// The key by which one daemon of a fleet claims a message that all of them heard.
pub fn claim_of(message: u128) -> Vec<u8> {
    format!("cachewarden:claim:{message:032x}").into_bytes()
}

/// What counts of a declared limit are kept under: this, and the subject. A limit's name has no colon.
pub fn limit_prefix(limit: &str) -> String {
    format!("cachewarden:limit:{limit}:")
}

/// What the counters of `RATE.FIXED` are kept under: this, the subject, a colon, the start of the window in seconds.
pub const FIXED_WINDOWS: &str = "ratelimit:";

/// What the buckets of `CL.THROTTLE` are kept under: this, and its key.
pub const THROTTLES: &str = "cachewarden:throttle:";

/// The channel on which daemons tell each other which refusals do not stand any more.
pub const LIMITS_CHANNEL: &str = "cachewarden:limits";

/// The sorted set of daemons that share what limits let through while Redis is away: daemon → end of its registration.
pub const INSTANCES: &str = "cachewarden:instances";

/// Is there while somebody reads from any daemon of the fleet, so that a warmup goes softly.
pub const READERS: &str = "cachewarden:readers";

/// The hash in which the fleet notes the last run of a cache's warmup.
pub fn warmed_of(cache: &str) -> Vec<u8> {
    format!("cachewarden:warmed:{cache}").into_bytes()
}

/// First segments, colon included, that nothing may be declared under.
pub const RESERVED_PREFIXES: [&str; 2] = ["cachewarden:", "ratelimit:"];

/// What follows `{K}` in the keys that belong to a value key `K`.
const COMPANIONS: [&str; 3] = ["}:lease", "}:pending", "}:old"];

/// The key of the lease for `key`: `{key}:lease`. The braces are literal: Redis Cluster hashes what
/// stands in them, so a value and its lease lie in one slot and one script can hold both.
pub fn lease_of(key: &[u8]) -> Vec<u8> {
    [b"{", key, b"}:lease"].concat()
}

/// The stream of writes that were acknowledged and are not in Postgres yet. It never expires.
pub const JOURNAL: &str = "cachewarden:journal";

/// The key of the newest write of `key` that is not in Postgres yet: `{key}:pending`, a hash. It never expires.
pub fn pending_of(key: &[u8]) -> Vec<u8> {
    [b"{", key, b"}:pending"].concat()
}

/// The key of the copy of `key`'s value that outlives its invalidation, for when Postgres is down: `{key}:old`.
pub fn copy_of(key: &[u8]) -> Vec<u8> {
    [b"{", key, b"}:old"].concat()
}

/// Whether `key` is one of the daemon's own, which clients may neither read nor remove.
pub fn is_reserved(key: &[u8]) -> bool {
    RESERVED_PREFIXES
        .iter()
        .any(|prefix| key.starts_with(prefix.as_bytes()))
        || (key.starts_with(b"{") && COMPANIONS.iter().any(|end| key.ends_with(end.as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_stands_beside_its_key_in_braces_and_is_reserved() {
        assert_eq!(lease_of(b"courses:42"), b"{courses:42}:lease");
        assert!(is_reserved(&lease_of(b"")));
    }

    #[test]
    fn keys_of_one_first_segment_have_one_index() {
        assert_eq!(index_of(b"courses:42"), b"cachewarden:index:courses:");
        assert_eq!(index_of(b"courses:list:7"), index_of(b"courses:42"));
        assert_ne!(index_of(b"coursesx:42"), index_of(b"courses:42"));
        assert_eq!(segment_of(b"no colon"), b"no colon");
    }

    #[test]
    fn only_our_own_names_are_reserved() {
        for own in [
            "cachewarden:leases",
            "cachewarden:",
            "ratelimit:x:1",
            "{a:1}:lease",
            "{a}:pending",
            "{a}:old",
        ] {
            assert!(is_reserved(own.as_bytes()), "{own}");
        }
        for foreign in [
            "cachewarden",
            "ratelimits:1",
            "a:lease",
            "{a}:leases",
            "a{b}:lease",
            "{a}",
        ] {
            assert!(!is_reserved(foreign.as_bytes()), "{foreign}");
        }
    }
}
