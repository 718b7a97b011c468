//! The keys of one cache that are asked for most, in bounded memory: heavy hitters by a count-min sketch and the few keys that
//! may be among them (Cormode and Muthukrishnan, "An improved data stream summary", 2005, section 4).
//!
//! A key is looked at when its count reaches the least that one of the hottest has, and each time it doubles: the many requests of
//! what is known to be hot cost a comparison each.

use super::requests::Requests;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// So many times more keys are looked at than are asked for, so that those are chosen once for many that come.
const CANDIDATES: usize = 2;

/// The hottest keys of one cache. Shared by all threads.
#[derive(Debug)]
pub(super) struct Hottest {
    most: usize,
    /// A key with fewer requests is none of them.
    least: AtomicU32,
    candidates: Mutex<HashSet<Bytes>>,
}

impl Hottest {
    /// `most` of them.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            least: AtomicU32::new(1),
            candidates: Mutex::default(),
        }
    }

    /// `key` was asked for, which makes `count` times.
    pub(super) fn note(&self, requests: &Requests, key: &[u8], count: u32) {
        let least = self.least.load(Relaxed);
        if count < least || (count > least && !count.is_power_of_two()) {
            return;
        }
        let mut candidates = self.candidates.lock();
        if candidates.contains(key) {
            return;
        }
        // A copy: the key may be part of a large read buffer.
        candidates.insert(Bytes::copy_from_slice(key));
        if candidates.len() > CANDIDATES * self.most {
            let _chosen = self.choose(&mut candidates, requests);
        }
    }

    /// The hottest by now, the most asked for first, with how often that was.
    pub(super) fn choose_now(&self, requests: &Requests) -> Vec<(u32, Bytes)> {
        self.choose(&mut self.candidates.lock(), requests)
    }

    fn choose(&self, candidates: &mut HashSet<Bytes>, requests: &Requests) -> Vec<(u32, Bytes)> {
        let counted = candidates
            .drain()
            .map(|key| (requests.of_key(&key), key))
            .filter(|(count, _)| *count > 0);
        let mut counted: Vec<(u32, Bytes)> = counted.collect();
        counted.sort_unstable_by(|one, other| other.cmp(one));
        counted.truncate(self.most);
        let is_full = counted.len() == self.most;
        let least = counted.last().filter(|_| is_full);
        let least = least.map_or(1, |(count, _)| count.saturating_add(1));
        self.least.store(least, Relaxed);
        candidates.extend(counted.iter().map(|(_, key)| key.clone()));
        counted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(hottest: &Hottest, requests: &Requests, key: &str, times: u32) {
        for _ in 0..times {
            let count = requests.count(key.as_bytes());
            hottest.note(requests, key.as_bytes(), count);
        }
    }

    fn names(chosen: Vec<(u32, Bytes)>) -> Vec<String> {
        let name = |(_, key): (u32, Bytes)| String::from_utf8(key.to_vec()).unwrap();
        chosen.into_iter().map(name).collect()
    }

    #[test]
    fn among_many_that_are_asked_for_once_the_hot_ones_are_found_in_bounded_memory() {
        let (hottest, requests) = (Hottest::new(10), Requests::used());
        for round in 0..50 {
            for n in 0..100 {
                asked(&hottest, &requests, &format!("cold:{round}:{n}"), 1);
            }
            for n in 0..10 {
                asked(&hottest, &requests, &format!("hot:{n}"), n + 1);
            }
            assert!(hottest.candidates.lock().len() <= 20);
        }
        let chosen = names(hottest.choose_now(&requests));
        // The two coldest of them were asked for 50 and 100 times.
        let expected: Vec<String> = (0..10).rev().map(|n| format!("hot:{n}")).collect();
        assert_eq!(chosen, expected);
    }

    #[test]
    fn who_was_hot_once_makes_room() {
        let (hottest, requests) = (Hottest::new(1), Requests::used());
        asked(&hottest, &requests, "once", 1000);
        assert_eq!(names(hottest.choose_now(&requests)), ["once"]);
        // Until the sketch has forgotten it.
        for n in 0..2_000_000_u32 {
            requests.count(&(n % 50).to_be_bytes());
        }
        hottest.choose_now(&requests);
        asked(&hottest, &requests, "now", 100);
        assert_eq!(names(hottest.choose_now(&requests)), ["now"]);
    }

    #[test]
    fn of_few_keys_all_are_told() {
        let (hottest, requests) = (Hottest::new(10), Requests::used());
        asked(&hottest, &requests, "a", 1);
        asked(&hottest, &requests, "b", 3);
        assert_eq!(names(hottest.choose_now(&requests)), ["b", "a"]);
    }
}
