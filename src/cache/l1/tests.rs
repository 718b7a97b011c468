//! The level against a Redis that is a map, in every order in which things can happen.

use super::kept::{Entry, Kept, OVERHEAD};
use super::*;
use crate::config::Config;
use crate::keyspace::SpaceId;
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};

const MINUTE: Duration = Duration::from_secs(60);
const SPACES: &str = r#"
    redis.url = "redis://127.0.0.1:1"
    postgres.url = "postgres://u@h/d"
    l1.capacity = "1MiB"
    [caches.a]
    key = "a:{id:int}"
    query = "SELECT :id"
    shape = "scalar"
    ttl = "10m"
    l1 = true
"#;

fn l1() -> (L1, Config) {
    let config = Config::from_toml(SPACES).expect("a sound configuration");
    let spaces = Spaces::of(&config.caches, &config.namespaces);
    let judges = Default::default();
    let l1 = L1::new(&config.l1, 1, &spaces, judges, &Metrics::new());
    (l1, config)
}

fn routed(config: &Config, id: u8) -> RoutedKey {
    let key = Bytes::from(format!("a:{id}"));
    let route = config.router().route(&key).expect("a key");
    route.with_key(key)
}

fn read(l1: &L1, key: &RoutedKey) -> Option<Bytes> {
    let value = |hit: &Hit<'_>| hit.value().map(Bytes::copy_from_slice);
    l1.hit(0, &key.key, Instant::now(), value).flatten()
}

fn keep(l1: &L1, key: &RoutedKey, value: &str, heard: Moment) {
    let value = Bytes::copy_from_slice(value.as_bytes());
    l1.keep(0, key, (&value, MINUTE), Instant::now(), heard);
}

#[test]
fn nothing_is_kept_or_read_before_it_is_certain_that_redis_is_heard() {
    let (l1, config) = l1();
    let key = routed(&config, 1);
    assert_eq!(l1.heard(0), None);
    let redis = l1.listener(0);
    redis.certain(Instant::now() + MINUTE);
    let heard = l1.heard(0).expect("certain");
    keep(&l1, &key, "x", heard);
    assert_eq!(read(&l1, &key), Some(Bytes::from("x")));
    redis.lost();
    assert_eq!((read(&l1, &key), l1.heard(0)), (None, None));
    redis.certain(Instant::now() + MINUTE);
    keep(&l1, &key, "x", heard);
    assert_eq!(read(&l1, &key), None, "asked for before the doubt");
}

#[test]
fn certainty_ends_by_itself_and_what_was_kept_does_not_come_back() {
    let (l1, config) = l1();
    let (key, redis) = (routed(&config, 1), l1.listener(0));
    let end = Instant::now() + MINUTE / 6;
    redis.certain(end);
    keep(&l1, &key, "x", l1.heard(0).expect("certain"));
    let at = |now| l1.hit(0, &key.key, now, |_| ());
    assert_eq!(at(end - Duration::from_millis(1)), Some(()));
    assert_eq!(at(end), None);
    redis.certain(Instant::now());
    redis.certain(Instant::now() + MINUTE);
    assert_eq!(read(&l1, &key), None);
}

#[test]
fn an_entry_ends_with_its_value_in_redis_and_after_its_own_time() {
    for (left, ends) in [(5, 5), (600, 30)] {
        let (l1, config) = l1();
        let key = routed(&config, 1);
        l1.listener(0).certain(Instant::now() + 100 * MINUTE);
        let (asked, left) = (Instant::now(), Duration::from_secs(left));
        let heard = l1.heard(0).expect("certain");
        l1.keep(0, &key, (&Bytes::from("x"), left), asked, heard);
        let at = |seconds| {
            let now = asked + Duration::from_secs(seconds);
            l1.hit(0, &key.key, now, |hit| hit.found())
        };
        let found = at(ends - 1).expect("alive");
        let rest = left - Duration::from_secs(ends - 1);
        assert_eq!((found.state, found.left), (State::HitL1, rest));
        assert!(at(ends).is_none());
    }
}

/// What can happen between one reader, one writer and Redis.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A look-up is sent.
    Send(u8),
    /// Redis reads for the look-up that was sent first.
    Answer,
    /// The answer that came first is handled.
    Handle,
    /// Somebody writes.
    Write(u8),
    /// Redis loses everything.
    Flush,
    /// What Redis has told longest ago is heard.
    Hear,
    /// This daemon invalidates.
    Invalidate(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3u8).prop_map(Step::Send),
        3 => Just(Step::Answer),
        3 => Just(Step::Handle),
        3 => (0..3u8).prop_map(Step::Write),
        3 => Just(Step::Hear),
        1 => Just(Step::Flush),
        1 => (0..3u8).prop_map(Step::Invalidate),
    ]
}

struct Lookup {
    key: u8,
    heard: Moment,
    answer: Option<String>,
}

/// Whether, once all that was told is heard, nothing is read that Redis does not hold.
fn holds(steps: &[Step], is_guarded: bool) -> bool {
    let (l1, config) = l1();
    let redis = l1.listener(0);
    redis.certain(Instant::now() + 100 * MINUTE);
    let mut held: HashMap<u8, String> = HashMap::new();
    let mut told: VecDeque<Option<u8>> = VecDeque::new();
    let (mut sent, mut answered) = (VecDeque::new(), VecDeque::new());
    let hear = |what: Option<u8>| match what {
        Some(key) => redis.changed(format!("a:{key}").as_bytes()),
        None => redis.all_changed(),
    };
    for (number, step) in steps.iter().enumerate() {
        match *step {
            Step::Send(key) => sent.extend(l1.heard(0).map(|heard| Lookup {
                key,
                heard,
                answer: None,
            })),
            Step::Answer => answered.extend(sent.pop_front().map(|lookup: Lookup| Lookup {
                answer: held.get(&lookup.key).cloned(),
                ..lookup
            })),
            Step::Handle => {
                if let Some(lookup) = answered.pop_front()
                    && let Some(answer) = &lookup.answer
                {
                    let now = l1.heard(0).expect("certain");
                    let heard = if is_guarded { lookup.heard } else { now };
                    keep(&l1, &routed(&config, lookup.key), answer, heard);
                }
            }
            Step::Write(key) => {
                held.insert(key, format!("\"{number}\""));
                told.push_back(Some(key));
            }
            Step::Flush => {
                held.clear();
                told.push_back(None);
            }
            Step::Hear => told.pop_front().into_iter().for_each(hear),
            Step::Invalidate(key) => {
                if held.remove(&key).is_some() {
                    told.push_back(Some(key));
                }
                l1.forget(&[routed(&config, key).key]);
                if read(&l1, &routed(&config, key)).is_some() {
                    return false;
                }
            }
        }
    }
    told.into_iter().for_each(hear);
    (0..3).all(|key| {
        let kept = read(&l1, &routed(&config, key));
        kept.is_none_or(|kept| held.get(&key).is_some_and(|held| held.as_bytes() == &*kept))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn in_whatever_order_nothing_outdated_stays(steps in vec(step(), 0..60)) {
        prop_assert!(holds(&steps, true));
    }
}

#[test]
fn what_was_heard_while_a_look_up_was_out_is_what_keeps_it_true() {
    use Step::{Answer, Handle, Hear, Send, Write};
    let race = [Write(0), Hear, Send(0), Answer, Write(0), Hear, Handle];
    assert!(holds(&race, true));
    assert!(!holds(&race, false), "the check finds nothing");
}

/// What is done to a bounded store: insert with so many bytes, remove, or read.
fn deed() -> impl Strategy<Value = (u8, u8, usize)> {
    (0..3u8, 0..40u8, 0..4000usize)
}

fn entry((key, hash): (u8, u64), bytes: usize, number: usize) -> Entry {
    let value = vec![number as u8; bytes];
    let entry = Entry::new((&[key], hash), &value, SpaceId(0), Instant::now(), MINUTE);
    entry.expect("a short key")
}

proptest! {
    #[test]
    fn never_more_than_the_capacity_and_never_anything_but_the_last_value(
        deeds in vec(deed(), 0..400)
    ) {
        let capacity = 20_000;
        let mut kept = Kept::new(capacity, MINUTE);
        let mut last: HashMap<u8, Vec<u8>> = HashMap::new();
        for (number, (what, key, bytes)) in deeds.into_iter().enumerate() {
            let hash = u64::from(key % 7);
            match what {
                0 => {
                    let entry = entry((key, hash), bytes, number);
                    last.insert(key, entry.value().to_vec());
                    kept.insert(entry);
                    let fits = OVERHEAD + 1 + bytes <= capacity / 8;
                    prop_assert_eq!(kept.read(hash, &[key], Instant::now()).is_some(), fits);
                }
                1 => {
                    kept.remove(hash, &[key]);
                    last.remove(&key);
                }
                _ => {}
            }
            let mut sum = 0;
            for key in 0..40u8 {
                if let Some(entry) = kept.peek(u64::from(key % 7), &[key]) {
                    prop_assert_eq!(Some(entry.value()), last.get(&key).map(Vec::as_slice));
                    sum += OVERHEAD + 1 + entry.value().len();
                }
            }
            prop_assert_eq!(sum, kept.bytes());
            prop_assert!(sum <= capacity);
        }
    }
}

#[test]
fn what_is_read_outlives_what_is_not() {
    let mut kept = Kept::new(100 * (OVERHEAD + 1 + 100), MINUTE);
    for key in 0..250u8 {
        let now = Instant::now();
        kept.insert(entry((key, u64::from(key)), 100, 0));
        for hot in 0..10u8.min(key) {
            assert!(
                kept.read(u64::from(hot), &[hot], now).is_some(),
                "{hot} after {key}"
            );
        }
    }
}
