//! Any sequence of commands, through the daemon and on a Redis of its own: the same replies, the same keys; and never a key
//! without an end. What Redis itself leaves without one, the test gives the declared life there.

use std::time::{SystemTime, UNIX_EPOCH};

use cachewarden::cli::demo::servers::Redis;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use tokio::runtime::Runtime;

use super::{CART_S, Plain, SESSION_S};
use crate::support::resp::{Client, Value};
use crate::support::servers::redis;
use crate::support::world::{HEARTBEAT, keys_with_life, raw};

const SEQUENCES: u32 = 150;
const COMMANDS: usize = 40;

/// Lives in seconds, so far apart that no pause of the machine makes one look like another.
const LIVES_S: [i64; 4] = [1_000, CART_S, 60_000, SESSION_S];

type Words = Vec<String>;

fn words(text: &[&str]) -> Words {
    text.iter().map(|word| (*word).to_owned()).collect()
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => (0..4_u8).prop_map(|n| format!("sess:{n}")),
        2 => (0..2_u8).prop_map(|n| format!("shop:cart:{n}")),
        1 => Just("sess:list".to_owned()),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => (-5..100_i64).prop_map(|n| n.to_string()),
        1 => Just("9223372036854775807".to_owned()),
        1 => Just("9007199254740993".to_owned()),
        2 => "[a-z \u{e4}\r\n]{0,12}",
        1 => prop_oneof![Just("EX"), Just("KEEPTTL"), Just("NX"), Just("PERSIST")].prop_map(str::to_owned),
    ]
}

/// An expiry of `SET` and `GETEX`; now and then one that Redis refuses.
fn expiry(now_s: i64) -> impl Strategy<Value = Words> {
    prop_oneof![
        4 => prop_oneof![Just(1_000), Just(60_000)].prop_flat_map(move |life: i64| prop_oneof![
            Just(words(&["EX", &life.to_string()])),
            Just(words(&["px", &(1000 * life).to_string()])),
            Just(words(&["EXAT", &(now_s + life).to_string()])),
            Just(words(&["PXAT", &(1000 * (now_s + life)).to_string()])),
        ]),
        1 => Just(words(&["EX", "0"])),
        1 => Just(words(&["PX", "soon"])),
        1 => Just(words(&["EX"])),
    ]
}

fn options(now_s: i64) -> impl Strategy<Value = Words> {
    let one = prop_oneof![
        3 => expiry(now_s),
        2 => Just(words(&["KEEPTTL"])),
        1 => Just(words(&["NX"])),
        1 => Just(words(&["XX"])),
        1 => Just(words(&["GET"])),
        1 => Just(words(&["get"])),
        1 => Just(words(&["OTHER"])),
    ];
    prop::collection::vec(one, 0..4).prop_map(|options| options.concat())
}

fn command(now_s: i64) -> impl Strategy<Value = Words> {
    let on_a_key = prop_oneof![
        Just("GET"),
        Just("GETDEL"),
        Just("GETEX"),
        Just("TTL"),
        Just("PTTL"),
        Just("INCR"),
        Just("DECR"),
        Just("INCR"),
    ];
    let on_keys = prop_oneof![Just("MGET"), Just("EXISTS"), Just("DEL"), Just("UNLINK")];
    let life = prop_oneof![
        Just("1000"),
        Just("60000"),
        Just("-1"),
        Just("0"),
        Just("long")
    ];
    let when = prop_oneof![3 => Just(vec![]), 1 => Just(words(&["NX"])), 1 => Just(words(&["XX"])), 1 => Just(words(&["YY"]))];
    prop_oneof![
        4 => (key(), value(), options(now_s)).prop_map(|(key, value, options)| [words(&["SET", &key, &value]), options].concat()),
        3 => (on_a_key, key()).prop_map(|(name, key)| words(&[name, &key])),
        2 => (on_keys, prop::collection::vec(key(), 1..4)).prop_map(|(name, keys)| [words(&[name]), keys].concat()),
        1 => (key(), value()).prop_map(|(key, by)| words(&["INCRBY", &key, &by])),
        1 => (key(), value()).prop_map(|(key, value)| words(&["SETNX", &key, &value])),
        1 => (key(), life.clone(), value()).prop_map(|(key, life, value)| words(&["SETEX", &key, life, &value])),
        1 => (key(), life.clone(), when.clone()).prop_map(|(key, life, when)| [words(&["EXPIRE", &key, life]), when].concat()),
        1 => (key(), life, when).prop_map(|(key, life, when)| {
            let ms = if life.len() > 3 && life != "long" { format!("{life}000") } else { life.to_owned() };
            [words(&["PEXPIRE", &key, &ms]), when].concat()
        }),
        1 => prop::collection::vec((key(), value()), 1..4).prop_map(|pairs| {
            let pairs = pairs.into_iter().flat_map(|(key, value)| [key, value]);
            words(&["MSET"]).into_iter().chain(pairs).collect()
        }),
        2 => (key(), prop_oneof![expiry(now_s), Just(words(&["PERSIST"])), Just(words(&["PERSIST", "EX", "5"]))])
            .prop_map(|(key, options)| [words(&["GETEX", &key]), options].concat()),
    ]
}

/// A remaining life as the one that it is the rest of.
fn life(reply: &Value, words: &[String]) -> Value {
    let unit = match words[0].as_str() {
        "TTL" => 1,
        "PTTL" => 1000,
        _ => return reply.clone(),
    };
    match reply {
        Value::Int(left) if *left >= 0 => {
            let nearest = LIVES_S
                .iter()
                .min_by_key(|life| (**life * unit - left).abs());
            Value::Int(*nearest.unwrap())
        }
        other => other.clone(),
    }
}

struct Stage {
    runtime: Runtime,
    plain: Plain,
    other: Redis,
}

impl Stage {
    async fn play(&self, sequence: &[Words], together: usize) -> Result<(), TestCaseError> {
        let mut daemon = self.plain.client().await;
        let (mut behind, mut direct) = (self.plain.raw().await, raw(&self.other).await);
        for client in [&mut behind, &mut direct] {
            client.command(&["FLUSHALL"]).await;
            client.command(&["RPUSH", "sess:list", "x"]).await;
            give_lives(client).await;
        }
        for chunk in sequence.chunks(together) {
            let chunk: Vec<Vec<&str>> = chunk
                .iter()
                .map(|words| words.iter().map(String::as_str).collect())
                .collect();
            let pipeline: Vec<&[&str]> = chunk.iter().map(Vec::as_slice).collect();
            let replies = daemon.pipeline(&pipeline).await;
            for (words, through) in chunk.iter().zip(replies) {
                let itself = direct.command(words).await;
                give_lives(&mut direct).await;
                let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
                prop_assert_eq!(life(&through, &words), life(&itself, &words), "{:?}", words);
            }
        }
        let ours = contents(&mut behind).await;
        prop_assert!(ours.iter().all(|(_, life, _)| *life > 0), "{:?}", ours);
        prop_assert_eq!(ours, contents(&mut direct).await);
        Ok(())
    }
}

/// Gives the declared life to what Redis has left without an end.
async fn give_lives(client: &mut Client) {
    for (key, left) in keys_with_life(client).await {
        if left == -1 {
            let life = if key.starts_with("sess:") {
                SESSION_S
            } else {
                CART_S
            };
            client.command(&["EXPIRE", &key, &life.to_string()]).await;
        }
    }
}

/// All keys with what they hold, and the lives they have the rest of; without one: -1.
async fn contents(client: &mut Client) -> Vec<(String, i64, String)> {
    let mut all = Vec::new();
    for (key, left) in keys_with_life(client).await {
        if key == HEARTBEAT {
            continue;
        }
        let rest = life(&Value::Int(left), &words(&["PTTL"]));
        let Value::Int(rest) = rest else {
            panic!("no number: {rest:?}")
        };
        let held = format!("{:?}", client.command(&["GET", &key]).await);
        all.push((key, rest, held));
    }
    all.sort();
    all
}

#[test]
fn any_sequence_has_the_replies_of_redis_and_leaves_no_key_without_an_end() {
    let runtime = Runtime::new().unwrap();
    let plain = runtime.block_on(Plain::start());
    let stage = Stage {
        runtime,
        plain,
        other: redis(),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let now_s = i64::try_from(now.as_secs()).unwrap();
    let mut runner = TestRunner::new(Config {
        cases: SEQUENCES,
        failure_persistence: None,
        ..Config::default()
    });
    let sequences = (
        prop::collection::vec(command(now_s), 1..COMMANDS),
        1..12_usize,
    );
    let played = runner.run(&sequences, |(sequence, together)| {
        stage.runtime.block_on(stage.play(&sequence, together))
    });
    if let Err(error) = played {
        panic!("{error}");
    }
}
