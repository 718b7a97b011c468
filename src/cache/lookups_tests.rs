//! Look-ups without a Redis: the tests take the parts that would be sent, and bring what would have been found.

use super::*;
use crate::cache::collect::ReplyTo;
use crate::cache::messages::Answer;
use crate::cache::spaces::Spaces;
use crate::config::Config;
use crate::keyspace::{RoutedKey, Router};
use crate::supervisor::Later;
use bytes::Bytes;

const MIB: usize = 1 << 20;

/// Two namespaces, whose values may have 1 MiB: of `small:` it is known that they have little.
struct Stage {
    router: Router,
    sizes: Sizes,
    lookups: Lookups,
    answers: Vec<Later<Vec<Answer>>>,
}

impl Stage {
    fn set() -> Self {
        let text = "
            redis.url = 'redis://localhost'
            [namespaces]
            huge = { prefix = 'huge:', ttl = '1m' }
            small = { prefix = 'small:', ttl = '1m' }";
        let config = Config::from_toml(text).unwrap();
        let sizes = Spaces::of(&config.caches, &config.namespaces)
            .sizes()
            .clone();
        let stage = Self {
            router: config.router(),
            lookups: Lookups::new(sizes.clone()),
            sizes,
            answers: Vec::new(),
        };
        let small = stage.key("small:1").space;
        for _ in 0..100 {
            stage.sizes.seen(small, 100, 100 * 100);
        }
        stage
    }

    fn key(&self, key: &str) -> RoutedKey {
        let route = self.router.route(key.as_bytes()).unwrap();
        route.with_key(Bytes::copy_from_slice(key.as_bytes()))
    }

    /// A read of the keys of a namespace with these numbers.
    fn read(&mut self, space: &str, ids: impl Iterator<Item = usize>) {
        let keys = ids.map(|id| self.key(&format!("{space}:{id}"))).collect();
        let (later, promise) = Later::new();
        self.answers.push(later);
        let read = Pending {
            keys,
            places: Vec::new(),
            loader: None,
            reply: ReplyTo::Many(promise),
            timer: None,
        };
        self.lookups.add(read, false, None);
    }

    /// All that goes now.
    fn sent(&mut self) -> Vec<Sent> {
        std::iter::from_fn(|| self.lookups.next(true)).collect()
    }

    /// A part comes back with values of so many bytes, one a key.
    fn found(&mut self, sent: Sent, bytes: usize) -> Option<Over> {
        let value = Bytes::from(vec![0; bytes]);
        let held = Held { value, left: None };
        let found = vec![Some(held); sent.part.keys];
        self.lookups.came_back(sent, Ok(found))
    }

    /// A part comes back with an error.
    fn failed(&mut self, sent: Sent, error: StoreError) -> Option<Over> {
        self.lookups.came_back(sent, Err(error))
    }
}

fn keys(sent: &[Sent]) -> Vec<usize> {
    sent.iter().map(|sent| sent.part.keys).collect()
}

#[test]
fn small_values_are_asked_for_at_once_however_many() {
    let mut stage = Stage::set();
    stage.read("small", 0..100);
    stage.read("small", 100..200);
    let first = stage.sent();
    assert_eq!(keys(&first), [100, 100]);
    stage.read("small", 0..600);
    stage.read("small", 0..300);
    assert_eq!(keys(&stage.sent()), [256, 256]);
    for sent in first {
        assert_eq!(stage.found(sent, 100).unwrap().0.len(), 1);
    }
}

#[test]
fn reads_of_few_keys_go_together_until_there_are_enough() {
    let mut stage = Stage::set();
    for from in (0..200).step_by(20) {
        stage.read("small", from..from + 20);
    }
    assert_eq!(keys(&stage.sent()), [40, 80, 80]);
}

#[test]
fn what_comes_while_two_are_out_is_gathered() {
    let mut stage = Stage::set();
    for id in 0..10 {
        stage.read("small", id..=id);
        assert_eq!(stage.sent().len(), usize::from(id < 2));
    }
    assert!(!stage.lookups.is_idle());
}

#[test]
fn long_look_ups_go_in_parts_by_turns() {
    let mut stage = Stage::set();
    stage.read("huge", 0..14);
    stage.read("huge", 20..31);
    let mut order = Vec::new();
    loop {
        let sent = stage.sent();
        if sent.is_empty() {
            break;
        }
        // One of which more is left, and perhaps the last part of another.
        assert!(sent.len() <= 2);
        for sent in sent {
            let asked = sent.part.keys;
            let over = stage.found(sent, MIB);
            order.push((asked, over.map(|(reads, _)| reads[0].keys.len())));
        }
    }
    let parts = order.iter().map(|(keys, _)| *keys).collect::<Vec<_>>();
    assert_eq!(parts, [4, 4, 4, 4, 3, 4, 2]);
    let over: Vec<_> = order.iter().filter_map(|(_, over)| *over).collect();
    assert_eq!(over, [11, 14]);
    assert!(stage.lookups.is_idle());
}

#[test]
fn small_reads_go_in_between_the_parts_of_long_look_ups() {
    let mut stage = Stage::set();
    stage.read("huge", 0..100);
    stage.read("huge", 100..200);
    let mut long = stage.sent();
    for id in 0..10 {
        stage.read("small", id..=id);
        let [small] = <[Sent; 1]>::try_from(stage.sent()).ok().unwrap();
        assert!(stage.found(small, 100).is_some());
        let [part] = <[Sent; 1]>::try_from(long).ok().unwrap();
        assert!(stage.found(part, MIB).is_none());
        long = stage.sent();
    }
}

#[test]
fn what_a_long_look_up_found_stands_where_it_was_asked_for() {
    let mut stage = Stage::set();
    stage.read("huge", 0..9);
    let mut over = None;
    for part in 0.. {
        let Some(sent) = stage.lookups.next(true) else {
            break;
        };
        over = stage.found(sent, MIB - part);
    }
    let (reads, found) = over.unwrap();
    let mut found = found.unwrap();
    let held = reads[0].places.iter().map(|place| found.take(*place));
    let parts: Vec<_> = held.map(|held| MIB - held.unwrap().value.len()).collect();
    assert_eq!(parts, [0, 0, 0, 0, 1, 1, 1, 1, 2]);
}

#[test]
fn many_reads_of_one_huge_key_ask_for_it_once() {
    let mut stage = Stage::set();
    for _ in 0..100 {
        stage.read("huge", 0..=0);
    }
    assert_eq!(keys(&stage.sent()), [1]);
}

#[test]
fn single_reads_of_huge_values_go_as_many_as_one_part_has() {
    let mut stage = Stage::set();
    for id in 0..10 {
        stage.read("huge", id..=id);
    }
    // What is gathered, and one part beside it.
    assert_eq!(keys(&stage.sent()), [2, 4]);
}

#[test]
fn values_larger_than_expected_are_asked_for_in_smaller_parts_from_the_second_try_on() {
    let late = StoreError::TimedOut { timeout_ms: 500 };
    let mut stage = Stage::set();
    stage.read("small", 0..200);
    let [sent] = <[Sent; 1]>::try_from(stage.sent()).ok().unwrap();
    assert_eq!(sent.part.keys, 200);
    let (reads, found) = stage.failed(sent, late.clone()).unwrap();
    assert_eq!(reads.len(), 1);
    assert_eq!(found.err(), Some(late.clone()));
    stage.read("small", 0..200);
    assert_eq!(keys(&stage.sent()), [4]);
}

#[test]
fn a_redis_that_is_away_or_slow_with_a_single_key_says_nothing_of_sizes() {
    let mut stage = Stage::set();
    stage.read("small", 0..200);
    let sent = stage.sent().remove(0);
    stage.failed(sent, StoreError::Away);
    stage.read("small", 0..=0);
    let sent = stage.sent().remove(0);
    stage.failed(sent, StoreError::TimedOut { timeout_ms: 500 });
    stage.read("small", 0..200);
    assert_eq!(keys(&stage.sent()), [200]);
}

#[test]
fn what_nobody_waits_for_any_more_is_not_asked_for_to_its_end() {
    let mut stage = Stage::set();
    stage.read("huge", 0..8);
    let sent = stage.sent().remove(0);
    stage.answers.clear();
    assert!(stage.found(sent, MIB).is_none());
    assert!(stage.lookups.is_idle());
}
