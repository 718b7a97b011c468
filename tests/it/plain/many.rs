//! Commands that name thousands of keys, as clients send them that list keys first.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use super::{SESSION_S, assert_life, mixed};
use crate::support::daemon::Spawned;
use crate::support::resp::{Value, frame};
use crate::support::servers::{database, redis};

/// More than any part has, and than Lua takes in one call.
const KEYS: usize = 9_000;

fn sessions() -> Vec<String> {
    (0..KEYS).map(|n| format!("sess:{n}")).collect()
}

fn command<'a>(name: &'a str, keys: &'a [String]) -> Vec<&'a str> {
    [name]
        .into_iter()
        .chain(keys.iter().map(String::as_str))
        .collect()
}

#[tokio::test]
async fn a_command_of_thousands_of_plain_keys_is_answered_as_one_of_few() {
    // One script sets them all, and a laden machine takes its time to encode it, unoptimised.
    let plain = super::Plain::start_on(redis(), "redis.timeout = \"10s\"").await;
    let mut client = plain.client().await;
    let keys = sessions();
    let pairs = keys.iter().flat_map(|key| [key.as_str(), &key[5..]]);
    let mset: Vec<&str> = ["MSET"].into_iter().chain(pairs).collect();
    assert_eq!(client.command(&mset).await.text(), "OK");
    assert_life(&mut client, keys.last().unwrap(), SESSION_S).await;

    let values = keys.iter().map(|key| Value::bulk(&key[5..])).collect();
    let all = client.command(&command("MGET", &keys)).await;
    assert!(all == Value::Array(values), "{all:.200?}");

    let count = Value::Int(KEYS as i64);
    assert_eq!(client.command(&command("EXISTS", &keys)).await, count);
    let (some, rest) = keys.split_at(4_000);
    let deleted = client.command(&command("UNLINK", some)).await;
    assert_eq!(deleted, Value::Int(4_000));
    let left = Value::Int(rest.len() as i64);
    assert_eq!(client.command(&command("EXISTS", &keys)).await, left);
    assert_eq!(client.command(&command("DEL", &keys)).await, left);
    plain.daemon.stop().await;
}

#[tokio::test]
async fn an_mget_of_thousands_of_keys_of_all_kinds_answers_each_in_its_place() {
    let world = mixed::world().await;
    let mut client = world.client().await;
    client.command(&["SET", "sess:1", "one"]).await;
    let kinds = ["courses:1", "sess:1", "kept:2", "courses:007", "sess:2"];
    let keys: Vec<String> = (0..KEYS)
        .map(|n| kinds[n % kinds.len()].to_owned())
        .collect();
    // Twice, because of what is kept in memory from then on.
    for round in 0..2 {
        let Value::Array(values) = client.command(&command("MGET", &keys)).await else {
            panic!("no array")
        };
        assert_eq!(values.len(), KEYS);
        for five in values.chunks(kinds.len()) {
            assert_eq!(five[..2], [mixed::course(1), Value::bulk("one")], "{round}");
            assert_eq!(five[2], mixed::course(2), "{round}");
            assert!(five[3].error().starts_with("BADKEY"), "{five:?}");
            assert_eq!(five[4], Value::Nil, "{round}");
        }
    }
    let there = Value::Int(KEYS as i64 / 5 * 3);
    let known: Vec<String> = keys.into_iter().filter(|key| key != kinds[3]).collect();
    assert_eq!(client.command(&command("EXISTS", &known)).await, there);
    // A key that is named often is there once.
    assert_eq!(client.command(&command("DEL", &known)).await, Value::Int(3));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_command_names_patterns_by_the_thousand_and_no_more() {
    let world = mixed::world().await;
    let mut client = world.client().await;
    let patterns: Vec<String> = (0..1025).map(|n| format!("courses:{n}*")).collect();
    for name in ["CACHE.COUNT", "CACHE.INVALIDATE"] {
        let counted = client.command(&command(name, &patterns[1..])).await;
        assert_eq!(counted, Value::Int(0), "{name}");
        let refused = client.command(&command(name, &patterns)).await;
        let says = refused.error();
        assert!(says.starts_with("ERR 1025 patterns"), "{name}: {says}");
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_mget_of_thousands_of_values_that_nobody_reads_is_held_in_parts() {
    const ASKED: usize = 20_000;
    const VALUE_BYTES: usize = 8 << 10;
    /// A quarter of them; a part is a twentieth.
    const HELD_BYTES: usize = ASKED * VALUE_BYTES / 4;
    let (database, redis) = (database().await, redis());
    let daemon = Spawned::start(database.url(), &redis.redis_url(), super::PASSTHROUGHS).await;
    let mut client = daemon.client().await;
    let value = "x".repeat(VALUE_BYTES);
    client.command(&["SET", "sess:big", &value]).await;
    let before = daemon.resident_bytes();

    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = socket.connect(daemon.address()).await.unwrap();
    let keys = vec!["sess:big".to_owned(); ASKED];
    slow.write_all(&frame(&command("MGET", &keys)))
        .await
        .unwrap();
    let mut begin = [0; 8];
    slow.read_exact(&mut begin).await.unwrap();
    assert_eq!(&begin, format!("*{ASKED}\r\n").as_bytes());
    let grown = daemon.resident_bytes().saturating_sub(before);
    assert!(grown < HELD_BYTES, "it holds {grown} bytes more");

    // Now it reads.
    let a_value = format!("${VALUE_BYTES}\r\n{value}\r\n");
    let mut read = vec![0; a_value.len()];
    for place in 0..ASKED {
        slow.read_exact(&mut read).await.unwrap();
        assert!(read == a_value.as_bytes(), "{place}");
    }
    let grown = daemon.resident_bytes().saturating_sub(before);
    assert!(grown < HELD_BYTES, "it holds {grown} bytes more");
}
