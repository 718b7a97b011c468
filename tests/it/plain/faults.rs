//! Redis killed, frozen, full, and values larger than one exchange may carry.

use bytes::Bytes;
use cachewarden::plain::{Class, Command, Passed, PlainError, Verb};

use super::{Plain, SESSION_S, assert_life};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::monitor::Monitor;
use crate::support::resp::{Client, Value};
use crate::support::servers::redis;

/// Waits until plain keys are served.
async fn until_served(client: &mut Client) {
    eventually(DEADLINE, async || {
        match client.command(&["GET", "sess:none"]).await {
            Value::Nil => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

#[tokio::test]
async fn without_redis_each_command_is_refused_and_with_it_served_again() {
    let mut plain = Plain::start().await;
    let mut client = plain.client().await;
    client.command(&["SET", "sess:1", "x"]).await;
    plain.redis.kill().unwrap();
    for words in [
        &["GET", "sess:1"][..],
        &["SET", "sess:1", "y"],
        &["MSET", "sess:1", "y"],
        &["SCAN", "0", "MATCH", "sess:*"],
    ] {
        let refused = client.command(words).await;
        assert!(
            refused.error().starts_with("UNAVAILABLE "),
            "{words:?}: {refused:?}"
        );
    }
    plain.redis.start_again().unwrap();
    until_served(&mut client).await;
    assert_eq!(client.command(&["INCR", "sess:1"]).await, Value::Int(1));
    assert_life(&mut client, "sess:1", SESSION_S).await;
    plain.daemon.stop().await;
}

#[tokio::test]
async fn what_stands_behind_an_exchange_that_failed_is_not_sent() {
    let mut plain = Plain::start_on(redis(), "redis.timeout = \"100ms\"").await;
    let mut client = plain.client().await;
    until_served(&mut client).await;
    plain.redis.freeze().unwrap();
    let many = [&["INCR", "sess:1"][..]; 512];
    let replies = client.pipeline(&many).await;
    let refused =
        |reply: &Value| matches!(reply, Value::Error(line) if line.starts_with("UNAVAILABLE "));
    assert!(replies.iter().all(refused), "{replies:?}");
    plain.redis.thaw().unwrap();
    until_served(&mut client).await;
    let counted = match plain.raw().await.command(&["GET", "sess:1"]).await {
        Value::Nil => 0,
        some => some.text().parse::<usize>().unwrap(),
    };
    assert!(counted <= 256, "{counted}, more than one exchange has");
    plain.daemon.stop().await;
}

#[tokio::test]
async fn a_full_redis_refuses_writes_in_its_own_words_and_reads_go_on() {
    let plain = Plain::start().await;
    let (mut client, mut raw) = (plain.client().await, plain.raw().await);
    client.command(&["SET", "sess:1", "7"]).await;
    raw.command(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    for words in [
        &["SET", "sess:1", "y"][..],
        &["SET", "sess:1", "y", "KEEPTTL"],
        &["INCR", "sess:1"],
        &["MSET", "sess:1", "y"],
        &["SETNX", "sess:2", "y"],
    ] {
        let refused = client.command(words).await;
        assert!(
            refused.error().starts_with("OOM command not allowed"),
            "{words:?}: {refused:?}"
        );
    }
    assert_eq!(client.command(&["GET", "sess:1"]).await, Value::bulk("7"));
    assert_eq!(client.command(&["DEL", "sess:1"]).await, Value::Int(1));
    plain.daemon.stop().await;
}

#[tokio::test]
async fn large_values_come_in_parts_and_small_ones_together() {
    const KEYS: usize = 16;
    let plain = Plain::start().await;
    let mut client = plain.client().await;
    let keys: Vec<String> = (0..KEYS).map(|key| format!("sess:{key}")).collect();
    let large = "x".repeat(1_000_000);
    for key in &keys {
        assert_eq!(client.command(&["SET", key, &large]).await.text(), "OK");
    }
    let mut monitor = Monitor::start(&plain.redis).await;
    let mut mget = vec!["MGET"];
    mget.extend(keys.iter().map(String::as_str));
    let all = Value::Array(vec![Value::bulk(&large); KEYS]);
    assert!(client.command(&mget).await == all);
    let seen = monitor.commands().await;
    let asked: Vec<usize> = seen
        .iter()
        .filter(|command| command.is("mget"))
        .map(|command| command.words.len() - 1)
        .collect();
    assert_eq!(asked.iter().sum::<usize>(), KEYS);
    assert!(
        asked.iter().all(|keys| *keys <= 4),
        "4 MiB at once: {asked:?}"
    );
    // Small ones go together, as soon as it is known that they are small.
    for key in &keys {
        client.command(&["SET", key, "small"]).await;
    }
    eventually(DEADLINE, async || {
        client.command(&mget).await;
        let seen = monitor.commands().await;
        match seen.iter().filter(|command| command.is("mget")).count() {
            1 => Ok(()),
            more => Err(more),
        }
    })
    .await;
    plain.daemon.stop().await;
}

#[tokio::test]
async fn a_program_that_sends_messages_itself_gets_the_same_answers() {
    let plain = Plain::start().await;
    let [handle, ..] = plain.daemon.warden.plain() else {
        panic!("no handle")
    };
    let command = |verb, words: &[&'static str]| Command {
        verb,
        words: words
            .iter()
            .map(|word| Bytes::from_static(word.as_bytes()))
            .collect(),
    };
    let answers = handle
        .ask(vec![
            command(Verb::Set, &["sess:1", "x"]),
            command(Verb::Get, &["other:1"]),
            command(Verb::Mset, &["sess:1", "y", "other:1", "y"]),
            command(Verb::Del, &[]),
            command(Verb::Scan, &[]),
            command(Verb::Get, &["sess:1"]),
        ])
        .await;
    let undeclared = || Err(PlainError::Undeclared);
    let wanted = [
        Ok(Passed::Okay),
        undeclared(),
        undeclared(),
        undeclared(),
        Err(PlainError::Syntax),
        Ok(Passed::Text(Bytes::from_static(b"x"))),
    ];
    assert_eq!(answers, wanted);
    plain.daemon.warden.clone().stop().await;
    let late = plain.daemon.warden.plain()[0]
        .ask(vec![command(Verb::Get, &["sess:1"])])
        .await;
    assert_eq!(
        late[0].as_ref().map_err(PlainError::class),
        Err(Class::Unavailable)
    );
}
