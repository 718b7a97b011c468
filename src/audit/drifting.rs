//! The drift that was counted already: a value drifts until its life ends, and is met again by every walk.

use std::collections::HashMap;
use xxhash_rust::xxh3::xxh3_64;

/// Keys that are remembered; with more of them, some are counted again.
const MAX_KEYS: usize = 65_536;

/// Drifting values by their keys, both as hashes.
#[derive(Default)]
pub(super) struct Drifting(HashMap<u64, u64>);

impl Drifting {
    /// A key's value drifts (`cached`: a hash of it); whether it was not seen to before.
    pub(super) fn is_news(&mut self, key: &[u8], cached: u64) -> bool {
        let key = xxh3_64(key);
        if self.0.len() >= MAX_KEYS && !self.0.contains_key(&key) {
            self.0.clear();
        }
        // Another value than before was filled in between, and so was right then.
        self.0.insert(key, cached) != Some(cached)
    }

    /// A key's value is right, or gone.
    pub(super) fn forget(&mut self, key: &[u8]) {
        self.0.remove(&xxh3_64(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_drifts_is_news_until_it_was_seen_right_or_replaced() {
        let mut drifting = Drifting::default();
        assert!(drifting.is_news(b"a:1", 7));
        assert!(!drifting.is_news(b"a:1", 7));
        assert!(drifting.is_news(b"a:2", 7));
        assert!(drifting.is_news(b"a:1", 8));
        drifting.forget(b"a:1");
        assert!(drifting.is_news(b"a:1", 8));
    }

    #[test]
    fn no_more_keys_are_remembered_than_there_is_room_for() {
        let mut drifting = Drifting::default();
        for n in 0..2 * MAX_KEYS {
            drifting.is_news(&n.to_le_bytes(), 1);
        }
        assert!(drifting.0.len() <= MAX_KEYS);
    }
}
