//! Values that are answered, and loaded anew behind that: which of them now. Pure; the actor does what it says.
//!
//! The lease makes one refresh of the whole fleet's. Here only what costs is kept small: of the hits of one key one asks for
//! its lease, and after a failure, or when another has it, nobody does for a while; where nothing can be loaded, nobody does
//! for any key of the space.

use super::CacheError;
use super::renewal::Renewed;
use crate::keyspace::{RoutedKey, SpaceId};
use crate::repository::LoadError;
use bytes::Bytes;
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Keys whose refresh waits, is under way, or was tried just now. A hit of one more is answered, and a later one refreshes it.
const MAX_KEYS: usize = 16_384;
/// Refreshes, of any number of keys that came together, that one shard has under way.
const MAX_OUT: usize = 2;
/// Keys of one refresh.
const MAX_TOGETHER: usize = 256;
/// After a failed load.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// While another daemon loads it.
const PAUSE_WHILE_HELD: Duration = Duration::from_millis(100);

/// When there is no room, pauses that are over are looked for so often at most: that costs what thousands of hits do.
const TIDY_EVERY: Duration = Duration::from_millis(100);

/// One shard's refreshes.
#[derive(Default)]
pub(super) struct Refreshes {
    /// Until when nobody refreshes them; `None`: it waits, or is under way.
    known: HashMap<Bytes, Option<Instant>, foldhash::fast::RandomState>,
    waiting: HashMap<SpaceId, Vec<RoutedKey>>,
    /// Until when nothing is refreshed of spaces of which nothing could be loaded; `None`: it is tried again just now.
    resting: HashMap<SpaceId, Option<Instant>, foldhash::fast::RandomState>,
    out: usize,
    /// When there was no room last.
    tidied: Option<Instant>,
}

impl Refreshes {
    /// A hit of `key` found it worth a refresh.
    pub(super) fn want(&mut self, key: &RoutedKey, now: Instant) {
        let is_paused = |until: Option<&Option<Instant>>| {
            until.is_some_and(|until| until.is_none_or(|until| now < until))
        };
        if is_paused(self.resting.get(&key.space))
            || is_paused(self.known.get(&key.key))
            || !self.has_room(now)
        {
            return;
        }
        self.known.insert(key.key.clone(), None);
        self.waiting.entry(key.space).or_default().push(key.clone());
    }

    /// The keys, of one space, to be refreshed now.
    pub(super) fn next(&mut self) -> Option<(SpaceId, Vec<RoutedKey>)> {
        if self.out >= MAX_OUT {
            return None;
        }
        let space = *self.waiting.keys().next()?;
        let mut keys = self.waiting.remove(&space)?;
        if keys.len() > MAX_TOGETHER {
            let rest = keys.split_off(MAX_TOGETHER);
            self.waiting.insert(space, rest);
        }
        if let Some(until) = self.resting.get_mut(&space) {
            *until = None;
        }
        self.out += 1;
        Some((space, keys))
    }

    /// What became of them.
    pub(super) fn came_back(&mut self, keys: &[RoutedKey], renewed: &[Renewed], now: Instant) {
        self.out = self.out.saturating_sub(1);
        if let Some(key) = keys.first() {
            let is_vain = renewed.iter().all(is_outage);
            // What fails alone may be the only one that does.
            if is_vain && (keys.len() > 1 || self.resting.contains_key(&key.space)) {
                self.rest(key.space, now + PAUSE_AFTER_FAILURE);
            } else {
                self.resting.remove(&key.space);
            }
        }
        for (key, renewed) in keys.iter().zip(renewed) {
            let pause = match renewed {
                Renewed::Failed(_) => PAUSE_AFTER_FAILURE,
                Renewed::Held => PAUSE_WHILE_HELD,
                Renewed::Filled | Renewed::Passed | Renewed::Fresh | Renewed::Refused => {
                    self.known.remove(&key.key);
                    continue;
                }
            };
            self.known.insert(key.key.clone(), Some(now + pause));
        }
    }

    /// Whether none waits or is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.out == 0 && self.waiting.is_empty()
    }

    /// What waits of a space has not been asked for.
    fn rest(&mut self, space: SpaceId, until: Instant) {
        self.resting.insert(space, Some(until));
        for key in self.waiting.remove(&space).into_iter().flatten() {
            self.known.remove(&key.key);
        }
    }

    /// Forgets pauses that are over, if there would be no room otherwise.
    fn has_room(&mut self, now: Instant) -> bool {
        let is_full = self.known.len() >= MAX_KEYS;
        if is_full && self.tidied.is_none_or(|at| now >= at + TIDY_EVERY) {
            self.tidied = Some(now);
            self.known
                .retain(|_, until| until.is_none_or(|until| now < until));
        }
        self.known.len() < MAX_KEYS
    }
}

/// Whether it tells of more than a key that cannot be loaded.
fn is_outage(renewed: &Renewed) -> bool {
    use LoadError::{Busy, TimedOut, Unavailable};
    match renewed.error() {
        Some(CacheError::Load(error)) => {
            matches!(error, Unavailable { .. } | TimedOut { .. } | Busy { .. })
        }
        Some(error) => matches!(error, CacheError::Store(_)),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn keys(count: usize) -> Vec<RoutedKey> {
        let text = "
            redis.url = 'redis://localhost'
            [namespaces.item]
            prefix = 'items:'
            ttl = '1m'";
        let router = Config::from_toml(text).unwrap().router();
        let key = |id| {
            let name = format!("items:{id}");
            let route = router.route(name.as_bytes()).unwrap();
            route.with_key(Bytes::from(name))
        };
        (0..count).map(key).collect()
    }

    /// Hits of these keys, and how many are refreshed by them.
    fn hit(refreshes: &mut Refreshes, keys: &[RoutedKey], now: Instant) -> usize {
        keys.iter().for_each(|key| refreshes.want(key, now));
        refreshes.next().map_or(0, |(_, keys)| keys.len())
    }

    fn failed() -> Renewed {
        Renewed::Failed(CacheError::Restarted)
    }

    #[test]
    fn of_all_hits_of_a_key_one_refreshes_it() {
        let (mut refreshes, keys, now) = (Refreshes::default(), keys(1), Instant::now());
        let twice = [keys[0].clone(), keys[0].clone()];
        assert_eq!(hit(&mut refreshes, &twice, now), 1);
        assert_eq!(hit(&mut refreshes, &keys, now), 0);
        refreshes.came_back(&keys, &[Renewed::Filled], now);
        assert!(refreshes.is_idle());
        assert_eq!(hit(&mut refreshes, &keys, now), 1);
    }

    #[test]
    fn after_a_failure_or_while_another_loads_it_no_hit_does_for_a_while() {
        for (renewed, pause) in [
            (failed(), PAUSE_AFTER_FAILURE),
            (Renewed::Held, PAUSE_WHILE_HELD),
        ] {
            let (mut refreshes, keys, now) = (Refreshes::default(), keys(1), Instant::now());
            assert_eq!(hit(&mut refreshes, &keys, now), 1);
            refreshes.came_back(&keys, &[renewed], now);
            let shortly_before = now + pause - Duration::from_millis(1);
            assert_eq!(hit(&mut refreshes, &keys, shortly_before), 0);
            assert_eq!(hit(&mut refreshes, &keys, now + pause), 1);
        }
    }

    #[test]
    fn where_nothing_can_be_loaded_no_key_is_refreshed_for_a_while() {
        let (mut refreshes, now) = (Refreshes::default(), Instant::now());
        let keys = keys(2 * MAX_TOGETHER);
        let (first, others) = keys.split_at(MAX_TOGETHER);
        assert_eq!(hit(&mut refreshes, first, now), MAX_TOGETHER);
        others.iter().for_each(|key| refreshes.want(key, now));
        let late = Renewed::Failed(CacheError::Load(LoadError::TimedOut { after_ms: 1 }));
        refreshes.came_back(first, &vec![late.clone(); MAX_TOGETHER], now);
        assert!(refreshes.is_idle(), "what waited is not sent after it");
        let mut later = now + PAUSE_AFTER_FAILURE;
        let shortly_before = later - Duration::from_millis(1);
        assert_eq!(hit(&mut refreshes, others, shortly_before), 0);
        // Then few are tried, and no other until these are back.
        assert_eq!(hit(&mut refreshes, &others[..1], later), 1);
        assert_eq!(hit(&mut refreshes, others, later), 0);
        refreshes.came_back(others, &[late], later);
        assert_eq!(hit(&mut refreshes, &others[1..], later), 0);
        later += PAUSE_AFTER_FAILURE;
        assert_eq!(hit(&mut refreshes, others, later), MAX_TOGETHER);
        // Of one that can be loaded, all are again.
        let mut renewed = vec![failed(); MAX_TOGETHER];
        renewed[0] = Renewed::Filled;
        refreshes.came_back(others, &renewed, later);
        assert_eq!(hit(&mut refreshes, first, later), MAX_TOGETHER);
    }

    #[test]
    fn one_key_that_cannot_be_loaded_keeps_no_other_from_it() {
        let refused = || {
            let message = "no such column".into();
            Renewed::Failed(CacheError::Load(LoadError::Refused { message }))
        };
        let late = || Renewed::Failed(CacheError::Load(LoadError::TimedOut { after_ms: 1 }));
        for renewed in [vec![refused(), refused()], vec![late()]] {
            let (mut refreshes, now) = (Refreshes::default(), Instant::now());
            let keys = keys(3);
            let (failing, other) = keys.split_at(renewed.len());
            assert_eq!(hit(&mut refreshes, failing, now), renewed.len());
            refreshes.came_back(failing, &renewed, now);
            assert_eq!(hit(&mut refreshes, other, now), other.len());
        }
    }

    #[test]
    fn few_go_at_once_and_the_others_when_these_are_back() {
        let (mut refreshes, now) = (Refreshes::default(), Instant::now());
        let keys = keys(MAX_OUT * MAX_TOGETHER + 7);
        for _ in 0..MAX_OUT {
            assert_eq!(hit(&mut refreshes, &keys, now), MAX_TOGETHER);
        }
        assert_eq!(hit(&mut refreshes, &keys, now), 0);
        let back = vec![Renewed::Filled; MAX_TOGETHER];
        refreshes.came_back(&keys[..MAX_TOGETHER], &back, now);
        assert_eq!(refreshes.next().map(|(_, keys)| keys.len()), Some(7));
    }

    #[test]
    fn of_more_keys_than_are_known_no_further_one_is_refreshed_until_pauses_are_over() {
        let (mut refreshes, now) = (Refreshes::default(), Instant::now());
        let keys = keys(MAX_KEYS + 1);
        let (known, further) = keys.split_at(MAX_KEYS);
        for keys in known.chunks(MAX_TOGETHER) {
            assert_eq!(hit(&mut refreshes, keys, now), MAX_TOGETHER);
            let back = vec![failed(); MAX_TOGETHER];
            refreshes.came_back(keys, &back, now);
        }
        // Nor are pauses looked through for every hit.
        let later = now + PAUSE_AFTER_FAILURE;
        for (at, refreshed) in [
            (later - TIDY_EVERY / 2, 0),
            (later, 0),
            (later + TIDY_EVERY / 2, 1),
        ] {
            assert_eq!(hit(&mut refreshes, further, at), refreshed);
        }
    }
}
