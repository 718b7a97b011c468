//! Arithmetic on lifetimes.

use std::time::Duration;

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Keeps the jitter of keys independent of the shard they fall on, which the same hash decides.
const JITTER_SEED: u64 = 0x6a69_7474_6572;

/// The life of `key`: `ttl` shortened by up to the fraction `jitter` (0.0 to 1.0), in whole
/// milliseconds, at least one. It only shortens, so `ttl` stays a promise; and it is a function of
/// the key alone, so any daemon can tell a value's age from its `PTTL` (see [`age`]).
pub fn jittered(ttl: Duration, jitter: f64, key: &[u8]) -> Duration {
    let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
    // 53 bits are what an f64 holds exactly: a fraction in 0.0..1.0.
    let fraction = (xxh3_64_with_seed(key, JITTER_SEED) >> 11) as f64 / (1u64 << 53) as f64;
    let cut_ms = ttl_ms as f64 * jitter.clamp(0.0, 1.0) * fraction;
    Duration::from_millis(ttl_ms.saturating_sub(cut_ms as u64).max(1))
}

/// The age of a value that was given `life` and has `pttl` left. Zero for a value that has more left
/// than it was given, which a change of the declared `ttl` brings about.
pub fn age(life: Duration, pttl: Duration) -> Duration {
    life.saturating_sub(pttl)
}

/// How long a lease must live: it covers the load, and the two exchanges with Redis around it
/// (the answer to acquiring it, and the fill).
pub fn lease_life(load_timeout: Duration, redis_timeout: Duration) -> Duration {
    load_timeout.saturating_add(redis_timeout.saturating_mul(2))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn keys_spread_over_the_whole_jitter() {
        let ttl = Duration::from_secs(600);
        let lives: Vec<u128> = (0..10_000)
            .map(|n| jittered(ttl, 0.1, format!("courses:{n}").as_bytes()).as_millis())
            .collect();
        for tenth in 0..10 {
            let from = 540_000 + tenth * 6_000;
            let here = lives
                .iter()
                .filter(|ms| (from..from + 6_000).contains(*ms))
                .count();
            assert!((800..1_200).contains(&here), "{here} keys in tenth {tenth}");
        }
    }

    #[test]
    fn a_lease_covers_the_load_and_both_exchanges() {
        let life = lease_life(Duration::from_secs(2), Duration::from_millis(500));
        assert_eq!(life, Duration::from_secs(3));
    }

    #[test]
    fn a_value_with_more_left_than_its_life_has_no_age() {
        let second = Duration::from_secs(1);
        assert_eq!(age(second * 10, second * 4), second * 6);
        assert_eq!(age(second, second * 4), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn jitter_only_shortens_within_its_fraction_and_is_the_same_every_time(
            ttl_us in 1_000u64..31_536_000_000_000, jitter in 0.0f64..=1.0, key: Vec<u8>
        ) {
            let ttl = Duration::from_micros(ttl_us);
            let life = jittered(ttl, jitter, &key);
            prop_assert_eq!(life, jittered(ttl, jitter, &key));
            prop_assert!(life <= ttl);
            prop_assert_eq!(life.subsec_nanos() % 1_000_000, 0);
            prop_assert!(life >= Duration::from_millis(1));
            let least_ms = (ttl_us / 1000) as f64 * (1.0 - jitter);
            prop_assert!(life.as_millis() as f64 >= least_ms.floor());
        }

        #[test]
        fn a_strange_jitter_is_harmless(jitter: f64) {
            let ttl = Duration::from_secs(1);
            let life = jittered(ttl, jitter, b"k");
            prop_assert!(life <= ttl && life >= Duration::from_millis(1));
        }
    }
}
