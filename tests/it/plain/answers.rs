//! Each command, its reply byte for byte as Redis gives it, and what it leaves of a key's life.

use super::{CART_S, PASSTHROUGHS, Plain, SESSION_S, assert_life};
use crate::support::daemon::{InProcess, config_without_postgres};
use crate::support::monitor::Monitor;
use crate::support::resp::Value;
use crate::support::servers::redis;

/// Commands of which each gives the same bytes on Redis itself, in this order.
const SAME: &[&[&str]] = &[
    &["GET", "sess:none"],
    &["SET", "sess:a", "1"],
    &["GET", "sess:a"],
    &["get", "sess:a"],
    &["SET", "sess:a", "two words\r\n", "GET"],
    &["SET", "sess:b", "x", "GET"],
    &["SET", "sess:b", "y", "NX"],
    &["SET", "sess:b", "y", "xx", "Ex", "100"],
    &["SET", "sess:none", "y", "XX"],
    &["SET", "sess:b", "z", "KEEPTTL", "GET"],
    &["SET", "sess:c", "z", "KEEPTTL"],
    &["SET", "sess:c", "z", "KEEPTTL", "NX"],
    &["SET", "sess:c", "z", "EX", "0"],
    &["SET", "sess:c", "z", "EX", "x"],
    &["SET", "sess:c", "z", "EX"],
    &["SET", "sess:c", "z", "NX", "XX"],
    &["SET", "sess:c", "z", "KEEPTTL", "EX", "5"],
    &["SET", "sess:c", "z", "KEEPTTL", "NX", "XX"],
    &["SET", "sess:c", "z", "EX", "5", "PX", "5"],
    &["SET", "sess:c", "z", "FOREVER"],
    &["SETNX", "sess:d", "1"],
    &["SETNX", "sess:d", "2"],
    &["SETEX", "sess:e", "100", "1"],
    &["SETEX", "sess:e", "0", "1"],
    &["PSETEX", "sess:e", "-1", "1"],
    &["PSETEX", "sess:e", "100000", "1"],
    &["GETEX", "sess:e"],
    &["GETEX", "sess:e", "EX", "200"],
    &["GETEX", "sess:e", "EX", "nothing"],
    &["GETEX", "sess:e", "PERSIST", "EX", "1"],
    &["GETEX", "sess:e", "PERSIST"],
    &["GETEX", "sess:none", "PERSIST"],
    &["GETDEL", "sess:e"],
    &["GETDEL", "sess:e"],
    &["MSET", "sess:m1", "1", "shop:cart:m2", "2", "sess:m1", "3"],
    &["MSET", "sess:m1", "1", "sess:m2"],
    &[
        "MGET",
        "sess:m1",
        "sess:none",
        "shop:cart:m2",
        "sess:list",
        "sess:m1",
    ],
    &["GET", "sess:list"],
    &["INCR", "sess:list"],
    &["SET", "sess:list", "KEEPTTL", "GET"],
    &["GETEX", "sess:list", "PERSIST"],
    &["SETNX", "sess:list", "1"],
    &["EXISTS", "sess:m1", "sess:m1", "sess:none", "shop:cart:m2"],
    &["EXPIRE", "sess:m1", "100"],
    &["EXPIRE", "sess:m1", "50", "GT"],
    &["EXPIRE", "sess:m1", "50", "LT"],
    &["EXPIRE", "sess:m1", "50", "NX"],
    &["EXPIRE", "sess:m1", "50", "NX", "XX"],
    &["EXPIRE", "sess:m1", "much"],
    &["EXPIRE", "sess:none", "50"],
    &["PEXPIRE", "sess:m1", "50000", "XX"],
    &["PEXPIRE", "sess:m1", "-1"],
    &["EXISTS", "sess:m1"],
    &["TTL", "sess:none"],
    &["PTTL", "sess:none"],
    &["INCR", "sess:n"],
    &["INCRBY", "sess:n", "41"],
    &["INCRBY", "sess:n", "-2"],
    &["INCRBY", "sess:n", "9007199254740953"],
    &["DECR", "sess:n"],
    &["INCRBY", "sess:n", "9223372036854775807"],
    &["INCRBY", "sess:n", "one"],
    &["INCRBY", "sess:fresh", "one"],
    &["EXISTS", "sess:fresh"],
    &["INCR", "sess:a"],
    &["UNLINK", "sess:n", "sess:none"],
    &["DEL", "sess:a", "sess:a", "shop:cart:m2"],
    &[
        "SCAN",
        "0",
        "MATCH",
        "sess:d*",
        "COUNT",
        "1000000000",
        "TYPE",
        "string",
    ],
    &[
        "SCAN", "0", "MATCH", "sess:l*", "count", "100", "TYPE", "string",
    ],
    &["SCAN", "x", "MATCH", "sess:d*"],
    &["SCAN", "0", "MATCH", "sess:d*", "COUNT", "0"],
    &["SCAN", "0", "MATCH", "sess:d*", "COUNT", "many"],
    &["SCAN", "0", "MATCH", "sess:d*", "COUNT"],
    &["SCAN", "0", "MATCH", "sess:d*", "NOVALUES", "1"],
];

#[tokio::test]
async fn each_reply_is_redis_own_byte_for_byte_in_both_protocols() {
    for protocol in ["2", "3"] {
        let (plain, other) = (Plain::start().await, redis());
        let mut daemon = plain.client().await;
        let mut direct = crate::support::world::raw(&other).await;
        for client in [&mut plain.raw().await, &mut direct] {
            client.command(&["RPUSH", "sess:list", "x"]).await;
        }
        for client in [&mut daemon, &mut direct] {
            client.command(&["HELLO", protocol]).await;
        }
        for words in SAME {
            let (through, itself) = (daemon.raw(words).await, direct.raw(words).await);
            assert_eq!(through, itself, "{words:?} in RESP{protocol}");
        }
    }
}

#[tokio::test]
async fn a_write_without_an_expiry_gets_the_declared_one() {
    let plain = Plain::start().await;
    let mut client = plain.client().await;
    let writes: [&[&str]; 9] = [
        &["SET", "sess:1", "x"],
        &["SET", "sess:2", "x", "NX", "GET"],
        &["SET", "sess:3", "x", "KEEPTTL"],
        &["SETNX", "sess:4", "x"],
        &["MSET", "sess:5", "x", "sess:6", "x"],
        &["INCR", "sess:7"],
        &["INCRBY", "sess:8", "7"],
        &["DECR", "sess:9"],
        &["SET", "sess:1", "x", "XX"],
    ];
    client.pipeline(&writes).await;
    for key in 1..=9 {
        assert_life(&mut client, &format!("sess:{key}"), SESSION_S).await;
    }
    client
        .command(&["MSET", "shop:cart:1", "x", "sess:10", "y"])
        .await;
    assert_life(&mut client, "shop:cart:1", CART_S).await;
    assert_life(&mut client, "sess:10", SESSION_S).await;
}

#[tokio::test]
async fn a_life_that_a_key_has_is_its_own() {
    let plain = Plain::start().await;
    let mut client = plain.client().await;
    for (key, write) in [
        ("sess:1", &["SET", "sess:1", "1", "EX", "2000"][..]),
        ("sess:2", &["SETEX", "sess:2", "2000", "1"]),
        ("sess:3", &["PSETEX", "sess:3", "2000000", "1"]),
        ("sess:4", &["SET", "sess:4", "1", "PX", "2000000"]),
    ] {
        let ok = [
            write,
            &["INCR", key],
            &["SET", key, "5", "KEEPTTL"],
            &["DECR", key],
            &["SETNX", key, "1"],
        ];
        for (words, reply) in ok.iter().zip(client.pipeline(&ok).await) {
            assert!(!matches!(reply, Value::Error(_)), "{words:?}: {reply:?}");
        }
        assert_life(&mut client, key, 2000).await;
    }
    // A counter counts down to its end, however often it is counted.
    client.command(&["EXPIRE", "sess:1", "1000"]).await;
    client.command(&["INCR", "sess:1"]).await;
    assert_life(&mut client, "sess:1", 1000).await;
    // To let it live for ever is to let it live as long as declared.
    assert_eq!(
        client
            .command(&["GETEX", "sess:1", "persist", "PERSIST"])
            .await,
        Value::bulk("5")
    );
    assert_life(&mut client, "sess:1", SESSION_S).await;
    assert_eq!(
        client.command(&["GETEX", "sess:2", "EX", "1000"]).await,
        Value::bulk("4")
    );
    assert_life(&mut client, "sess:2", 1000).await;
}

#[tokio::test]
async fn a_key_that_somebody_left_without_an_end_gets_one_with_the_next_write() {
    let plain = Plain::start().await;
    let (mut client, mut raw) = (plain.client().await, plain.raw().await);
    let rows: [&[&str]; 4] = [
        &["INCR", "sess:1"],
        &["SET", "sess:2", "x", "KEEPTTL"],
        &["SET", "sess:3", "x", "KEEPTTL", "NX"],
        &["MSET", "sess:4", "x"],
    ];
    for words in rows {
        raw.command(&["SET", words[1], "1"]).await;
        client.command(words).await;
        assert_life(&mut client, words[1], SESSION_S).await;
    }
    // What Redis refuses changes nothing.
    raw.command(&["RPUSH", "sess:list", "x"]).await;
    assert!(
        client
            .command(&["INCR", "sess:list"])
            .await
            .error()
            .starts_with("WRONGTYPE ")
    );
    assert_eq!(client.command(&["TTL", "sess:list"]).await, Value::Int(-1));
}

#[tokio::test]
async fn a_scan_shows_plain_keys_and_no_others() {
    let plain = Plain::start().await;
    let (mut client, mut raw) = (plain.client().await, plain.raw().await);
    raw.command(&[
        "MSET",
        "other:1",
        "x",
        "sess",
        "x",
        "{sess:1}:lease",
        "x",
        "shop:stock:1",
        "x",
    ])
    .await;
    let all: Vec<String> = (0..300).map(|key| format!("sess:{key}")).collect();
    for key in &all {
        client.command(&["SET", key, "x"]).await;
    }
    client.command(&["SET", "shop:cart:1", "x"]).await;
    for (pattern, wanted) in [
        ("sess:*", 300),
        ("sess:1?", 10),
        ("sess:7", 1),
        ("shop:cart:*", 1),
    ] {
        let (mut seen, mut cursor) = (Vec::new(), "0".to_owned());
        loop {
            let Value::Array(mut page) = client
                .command(&["SCAN", &cursor, "MATCH", pattern, "COUNT", "50"])
                .await
            else {
                panic!("SCAN gave no array")
            };
            let Some(Value::Array(keys)) = page.pop() else {
                panic!("SCAN gave no keys")
            };
            seen.extend(keys.iter().map(|key| key.text().to_owned()));
            cursor = page[0].text().to_owned();
            if cursor == "0" {
                break;
            }
        }
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), wanted, "{pattern}: {seen:?}");
        assert!(
            seen.iter()
                .all(|key| key.starts_with("sess:") || key == "shop:cart:1"),
            "{seen:?}"
        );
    }
    for (words, part) in [
        (
            &["SCAN", "0"][..],
            "ERR SCAN is for plain keys only: write MATCH with a pattern that begins with sess:, shop:cart:",
        ),
        (&["SCAN", "0", "COUNT", "5"], "write MATCH"),
        (&["SCAN", "0", "MATCH", "*"], "BADPATTERN '*' is too wide"),
        (&["SCAN", "0", "MATCH", "s*"], "BADPATTERN 's*' is too wide"),
        (&["SCAN", "0", "MATCH", "[s]ess:*"], "BADPATTERN"),
        (
            &["SCAN", "0", "MATCH", "shop:*"],
            "BADPATTERN 'shop:*' begins with no declared prefix",
        ),
        (&["SCAN", "0", "MATCH", "other:*"], "BADPATTERN"),
        (&["SCAN", "0", "MATCH", "cachewarden:*"], "BADPATTERN"),
        (&["SCAN", "0", "MATCH", "{sess:*"], "BADPATTERN"),
        (
            &["SCAN", "0", "MATCH", "sess:*", "MATCH", "*"],
            "BADPATTERN",
        ),
    ] {
        let error = client.command(words).await;
        assert!(error.error().contains(part), "{words:?}: {error:?}");
    }
}

#[tokio::test]
async fn a_scan_without_a_pattern_is_of_the_only_passthrough_there_is() {
    let redis = redis();
    let only = "[passthrough.s]\nprefix = \"sess:\"\nttl = \"1h\"\n";
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), only)).await;
    let mut client = daemon.client().await;
    crate::support::world::raw(&redis)
        .await
        .command(&["SET", "other:1", "x"])
        .await;
    client.command(&["SET", "sess:1", "x"]).await;
    let page = client.command(&["SCAN", "0", "COUNT", "1000"]).await;
    let keys = Value::Array(vec![Value::bulk("sess:1")]);
    assert_eq!(page, Value::Array(vec![Value::bulk("0"), keys]));
    daemon.stop().await;
}

#[tokio::test]
async fn a_scan_looks_at_so_many_keys_at_once_and_no_more() {
    let plain = Plain::start().await;
    let mut monitor = Monitor::start(&plain.redis).await;
    let mut client = plain.client().await;
    client
        .command(&["SCAN", "0", "MATCH", "sess:*", "COUNT", "4000000000"])
        .await;
    let scans = monitor.commands().await;
    let scan = scans.iter().find(|command| command.is("scan")).unwrap();
    assert!(scan.words.contains(&"10000".to_owned()), "{scan:?}");
}

#[tokio::test]
async fn what_follows_one_another_goes_to_redis_together_and_in_order() {
    let plain = Plain::start().await;
    let mut monitor = Monitor::start(&plain.redis).await;
    let mut client = plain.client().await;
    let replies = client
        .pipeline(&[
            &["SET", "sess:1", "1"],
            &["INCR", "sess:1"],
            &["GET", "sess:1"],
            &["PING"],
            &["EXPIRE", "sess:1", "0"],
            &["GET", "sess:1"],
            &["SET", "sess:2", "x", "BAD"],
            &["EXISTS", "sess:1"],
        ])
        .await;
    let said = [
        Value::Simple("OK".into()),
        Value::Int(2),
        Value::bulk("2"),
        Value::Simple("PONG".into()),
    ];
    assert_eq!(replies[..4], said);
    let said = [
        Value::Int(1),
        Value::Nil,
        Value::Error("ERR syntax error".into()),
        Value::Int(0),
    ];
    assert_eq!(replies[4..], said);
    let seen = monitor.commands().await;
    let ours = seen.iter().filter(|command| command.names("sess:1"));
    let order: Vec<&str> = ours.map(|command| command.words[0].as_str()).collect();
    assert_eq!(
        order,
        [
            "set", "eval", "incr", "pttl", "get", "get", "expire", "get", "exists"
        ]
    );
    assert!(
        !seen.iter().any(|command| command.names("sess:2")),
        "{seen:?}"
    );
}

#[tokio::test]
async fn inline_commands_reach_plain_keys_too() {
    let plain = Plain::start().await;
    let mut client = plain.client().await;
    client
        .send(b"SET sess:1 \"a value\"\r\nGET sess:1\r\nTTL sess:1\r\n")
        .await
        .unwrap();
    assert_eq!(client.read().await.unwrap(), Value::Simple("OK".into()));
    assert_eq!(client.read().await.unwrap(), Value::bulk("a value"));
    assert!(matches!(client.read().await.unwrap(), Value::Int(left) if left > 0));
}

#[tokio::test]
async fn a_declared_life_is_given_to_the_key_of_its_own_passthrough() {
    let text = PASSTHROUGHS.replace("\"3h\"", "\"1500ms\"");
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), &text)).await;
    let mut client = daemon.client().await;
    client.command(&["SET", "shop:cart:1", "x"]).await;
    let left = client.command(&["PTTL", "shop:cart:1"]).await;
    assert!(matches!(left, Value::Int(left) if left <= 1500), "{left:?}");
    daemon.stop().await;
}
