//! Keys, each once: their bytes lie one behind the other, so that adding one allocates nothing of its own.

use hashbrown::HashTable;
use std::hash::BuildHasher;

/// Keys in the order in which they were added.
#[derive(Default)]
pub(super) struct Distinct {
    row: Row,
    places: HashTable<u32>,
    hasher: foldhash::fast::RandomState,
}

#[derive(Default)]
struct Row {
    text: Vec<u8>,
    /// Where each key ends in `text`.
    ends: Vec<usize>,
}

impl Row {
    /// The key at `place`; empty past the last.
    fn get(&self, place: usize) -> &[u8] {
        let end = self.ends.get(place).copied().unwrap_or_default();
        let begin = place
            .checked_sub(1)
            .and_then(|before| self.ends.get(before));
        let key = self.text.get(begin.copied().unwrap_or_default()..end);
        key.unwrap_or_default()
    }
}

impl Distinct {
    /// Makes room for so many more keys.
    pub(super) fn reserve(&mut self, keys: usize) {
        let Self {
            row,
            hasher,
            places,
        } = self;
        let hash = |place: &u32| hasher.hash_one(row.get(*place as usize));
        places.reserve(keys, hash);
    }

    /// The place of `key`, and whether it is new there.
    pub(super) fn insert(&mut self, key: &[u8]) -> (u32, bool) {
        let hash = self.hasher.hash_one(key);
        if let Some(place) = self.find(hash, key) {
            return (place, false);
        }
        let place = u32::try_from(self.row.ends.len()).unwrap_or(u32::MAX);
        self.row.text.extend_from_slice(key);
        self.row.ends.push(self.row.text.len());
        let Self {
            row,
            hasher,
            places,
        } = self;
        let hash_of = |place: &u32| hasher.hash_one(row.get(*place as usize));
        places.insert_unique(hash, place, hash_of);
        (place, true)
    }

    /// Whether `key` was added.
    pub(super) fn contains(&self, key: &[u8]) -> bool {
        self.find(self.hasher.hash_one(key), key).is_some()
    }

    /// The key at `place`; empty past the last.
    pub(super) fn get(&self, place: usize) -> &[u8] {
        self.row.get(place)
    }

    fn find(&self, hash: u64, key: &[u8]) -> Option<u32> {
        let same = |place: &u32| self.row.get(*place as usize) == key;
        self.places.find(hash, same).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_key_has_one_place_in_order_of_arrival(keys in vec(vec(0u8..3, 0..4), 0..200)) {
            let mut distinct = Distinct::default();
            distinct.reserve(3);
            let mut seen: Vec<&[u8]> = Vec::new();
            for key in &keys {
                let before = seen.iter().position(|one| one == key);
                prop_assert_eq!(distinct.contains(key), before.is_some());
                let place = before.unwrap_or(seen.len());
                let expected = u32::try_from(place).expect("few keys");
                prop_assert_eq!(distinct.insert(key), (expected, before.is_none()));
                if before.is_none() {
                    seen.push(key);
                }
            }
            for (place, key) in seen.iter().enumerate() {
                prop_assert_eq!(distinct.get(place), *key);
            }
            prop_assert_eq!(distinct.get(seen.len()), b"");
        }
    }
}
