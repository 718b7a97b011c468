//! Every command: the shape of its answers in both protocols, and its refusals.

use std::collections::HashSet;

use cachewarden::resp::COMMANDS;

use super::super::support::resp::{Client, Value};
use super::super::support::world::count;
use super::{Shop, course};

/// `reply` is `expected`, or begins like it when that ends with an ellipsis.
fn assert_reply(line: &str, reply: &str, expected: &str) {
    match expected.strip_suffix('…') {
        Some(start) => assert!(reply.starts_with(start), "{line}: {reply:?}, not {start:?}"),
        None => assert_eq!(reply, expected, "{line}"),
    }
}

fn bulk(text: &str) -> String {
    format!("${}\r\n{text}\r\n", text.len())
}

/// A line of words: the reply of RESP2, and of RESP3 where it is another.
fn shapes() -> Vec<(&'static str, String, Option<String>)> {
    let same = |line, reply: &str| (line, reply.to_owned(), None);
    let each = |line, two: &str, three: &str| (line, two.to_owned(), Some(three.to_owned()));
    let (two, count) = (bulk(&course(2)), COMMANDS.len());
    let arity = |name: &str| format!("-ERR wrong number of arguments for '{name}' command\r\n");
    vec![
        same("GET courses:2", &two),
        each("GET courses:999", "$-1\r\n", "_\r\n"),
        same("GET courses:count", &bulk("100")),
        same(
            "GET courses:above:98",
            &bulk("[{\"id\":99}, \n {\"id\":100}]"),
        ),
        same("GET courses:above:100", &bulk("[]")),
        same("get titled:course-7", &bulk("7")),
        each("GET calc:nothing", "$-1\r\n", "_\r\n"),
        each(
            "MGET courses:2 courses:999 courses:2",
            &format!("*3\r\n{two}$-1\r\n{two}"),
            &format!("*3\r\n{two}_\r\n{two}"),
        ),
        same("EXISTS courses:2 courses:2 courses:999 courses:5", ":2\r\n"),
        same("TTL courses:999", ":-2\r\n"),
        same("TTL courses:5", ":-2\r\n"),
        same("PTTL courses:5", ":-2\r\n"),
        each(
            "CACHE.GET courses:2",
            "*8\r\n$5\r\nvalue\r\n…",
            "%4\r\n$5\r\nvalue\r\n…",
        ),
        same("DEL courses:2 courses:5", ":1\r\n"),
        same("UNLINK courses:2 courses:count", ":1\r\n"),
        same("CACHE.INVALIDATE courses:count titled:course-7", ":1\r\n"),
        same("CACHE.COUNT courses:2 titled:course-7", ":0\r\n"),
        same("CACHE.INVALIDATE courses:zz*", ":0\r\n"),
        same("CACHE.CANCEL *", ":0\r\n"),
        same(
            "CACHE.INVALIDATE *",
            "-BADPATTERN '*' is too wide; begin with a declared prefix…",
        ),
        same("PUBLISH cache:invalidate courses:zz*", ":1\r\n"),
        same(
            "PUBLISH news x",
            "-ERR this door publishes on channels for invalidations only (cache:invalidate)\r\n",
        ),
        same(
            "SET courses:2 {}",
            "-READONLY cache 'course' declares no write\r\n",
        ),
        same(
            "SET courses:2 {} EX 10",
            "-ERR SET takes a key and a value here; leave its options out\r\n",
        ),
        same(
            "SET calc:x 1",
            "-READONLY namespace 'calc' is filled by its programs, not by SET\r\n",
        ),
        same(
            "SET nothing:x 1",
            "-ERR no cache is declared for key 'nothing:x'…",
        ),
        same("PING", "+PONG\r\n"),
        same("PING hello", &bulk("hello")),
        same("PING a b", &arity("ping")),
        same("ECHO hello", &bulk("hello")),
        same("SELECT 0", "+OK\r\n"),
        same("SELECT 1", "-ERR DB index is out of range\r\n"),
        same(
            "SELECT zero",
            "-ERR value is not an integer or out of range\r\n",
        ),
        same(
            "AUTH secret",
            "-ERR AUTH <password> called without any password configured for the default user…",
        ),
        same("AUTH default secret", "+OK\r\n"),
        same("AUTH somebody secret", "-WRONGPASS …"),
        same("AUTH a b c", "-ERR syntax error\r\n"),
        same("CLIENT ID", ":…"),
        each("CLIENT GETNAME", "$-1\r\n", "_\r\n"),
        same("CLIENT SETNAME teller", "+OK\r\n"),
        same("CLIENT GETNAME", &bulk("teller")),
        same("CLIENT SETINFO LIB-NAME redis-tests", "+OK\r\n"),
        same("CLIENT SETINFO LIB-VER 1.0", "+OK\r\n"),
        same(
            "CLIENT SETINFO LIB-COLOUR red",
            "-ERR Unrecognized option 'LIB-COLOUR'\r\n",
        ),
        same(
            "CLIENT SETNAME two\u{a0}words",
            "-ERR Client names cannot contain spaces…",
        ),
        each("CLIENT INFO", "$…", "=…"),
        same("CLIENT NO-EVICT on", "+OK\r\n"),
        same("CLIENT NO-TOUCH off", "+OK\r\n"),
        same("CLIENT ID x", &arity("client|id")),
        same(
            "CLIENT KILL 1",
            "-ERR unknown subcommand 'KILL' of CLIENT: not supported by this daemon\r\n",
        ),
        same("CLIENT SETNAME", &arity("client|setname")),
        same(
            "COMMAND",
            &format!(
                "*{count}\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n…"
            ),
        ),
        same("COMMAND COUNT", &format!(":{count}\r\n")),
        same("COMMAND LIST", &format!("*{count}\r\n$3\r\nget\r\n…")),
        each(
            "COMMAND INFO get nothing",
            "*2\r\n*10\r\n…",
            "*2\r\n*10\r\n…",
        ),
        each(
            "COMMAND DOCS get",
            "*2\r\n$3\r\nget\r\n*6\r\n…",
            "%1\r\n$3\r\nget\r\n%3\r\n…",
        ),
        each("COMMAND DOCS nothing", "*0\r\n", "%0\r\n"),
        same(
            "COMMAND EVERYTHING",
            "-ERR unknown subcommand 'EVERYTHING' of COMMAND…",
        ),
        each("INFO", "$…", "=…"),
        each("INFO server clients", "$…", "=…"),
        each("INFO nothing", "$0\r\n\r\n", "=4\r\ntxt:\r\n"),
        same("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        same(
            "HELLO three",
            "-ERR Protocol version is not an integer or out of range\r\n",
        ),
        same(
            "HELLO 3 AUTH default",
            "-ERR Syntax error in HELLO option 'AUTH'\r\n",
        ),
        each(
            "HELLO",
            "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n…",
            "%7\r\n$6\r\nserver\r\n$5\r\nredis\r\n…",
        ),
        same(
            "FLUSHALL",
            "-ERR unknown command 'FLUSHALL': not supported by this daemon; COMMAND LIST names those that are\r\n",
        ),
    ]
}

#[tokio::test]
async fn every_command_answers_in_the_shape_of_the_protocol_that_was_chosen() {
    let shop = Shop::open().await;
    for protocol in [2, 3] {
        let mut client = shop.client().await;
        if protocol == 3 {
            client.command(&["HELLO", "3"]).await;
        }
        for (line, resp2, resp3) in shapes() {
            let words: Vec<&str> = line.split(' ').collect();
            let expected = resp3.filter(|_| protocol == 3).unwrap_or(resp2);
            let line = format!("RESP{protocol} {line}");
            assert_reply(&line, &client.raw(&words).await, &expected);
        }
    }
    shop.daemon.stop().await;
}

#[tokio::test]
async fn every_command_with_too_few_or_too_many_words_says_so_and_nothing_else_happens() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let mut names = HashSet::new();
    for command in COMMANDS {
        assert!(
            names.insert(command.name),
            "{} is there twice",
            command.name
        );
        let least = usize::try_from(command.arity.unsigned_abs()).unwrap();
        let mut wrong = vec![least - 1];
        if command.arity > 0 {
            wrong.push(least + 1);
        }
        for count in wrong.into_iter().filter(|count| *count > 0) {
            let mut words = vec!["courses:1"; count];
            words[0] = command.name;
            let name = command.name.to_ascii_lowercase();
            let expected = format!("-ERR wrong number of arguments for '{name}' command\r\n");
            assert_eq!(client.raw(&words).await, expected, "{words:?}");
        }
    }
    let seen = count(&mut shop.behind().await).await;
    assert_eq!(seen, 0, "a refused command reached Redis");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn lives_are_told_in_seconds_and_milliseconds_of_what_is_cached() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let life = |reply: Value, most| match reply {
        Value::Int(life) => assert!((1..=most).contains(&life), "{life}"),
        other => panic!("{other:?}"),
    };
    client.command(&["GET", "courses:2"]).await;
    // Ten minutes and their jitter.
    life(client.command(&["TTL", "courses:2"]).await, 660);
    life(client.command(&["PTTL", "courses:2"]).await, 660_000);
    client.command(&["GET", "courses:999"]).await;
    let missing = client.command(&["PTTL", "courses:999"]).await;
    assert_eq!(missing, Value::Int(-2), "a remembered missing row");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_value_is_described_by_where_it_came_from() {
    let shop = Shop::open().await;
    for protocol in ["2", "3"] {
        let mut client = shop.client().await;
        client.command(&["HELLO", protocol]).await;
        for (key, states) in [
            ("courses:2", ["miss", "hit"]),
            ("courses:999", ["missing", "missing"]),
        ] {
            for state in states {
                let answer = client.command(&["CACHE.GET", key]).await;
                let field = |name: &str| answer.field(name).cloned();
                assert_eq!(field("state"), Some(Value::bulk(state)), "{key} {answer:?}");
                let value = match key {
                    "courses:2" => Value::bulk(course(2)),
                    _ => Value::Nil,
                };
                assert_eq!(field("value"), Some(value));
                for time in ["age_ms", "ttl_ms"] {
                    assert!(matches!(field(time), Some(Value::Int(0..))), "{answer:?}");
                }
            }
        }
        client.command(&["DEL", "courses:2", "courses:999"]).await;
    }
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_reset_connection_is_as_it_began() {
    let shop = Shop::open_with("resp.password = \"correct horse\"").await;
    let mut client = shop.client().await;
    let hello = [
        "HELLO",
        "3",
        "AUTH",
        "default",
        "correct horse",
        "SETNAME",
        "teller",
    ];
    let greeting = client.command(&hello).await;
    assert_eq!(greeting.field("proto"), Some(&Value::Int(3)));
    assert_eq!(
        client.command(&["CLIENT", "GETNAME"]).await.text(),
        "teller"
    );
    assert_eq!(client.command(&["RESET"]).await.text(), "RESET");
    let refused = client.command(&["CLIENT", "GETNAME"]).await;
    assert_eq!(refused.error(), "NOAUTH Authentication required.");
    client.command(&["AUTH", "correct horse"]).await;
    let fresh = client.raw(&["CLIENT", "GETNAME"]).await;
    assert_eq!(fresh, "$-1\r\n", "no name, and RESP2 again");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn quitting_is_answered_and_nothing_behind_it() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    client.send(b"PING\r\nQUIT\r\nPING\r\n").await.unwrap();
    assert_eq!(client.read_to_end().await.unwrap(), b"+PONG\r\n+OK\r\n");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn info_has_what_clients_look_for_and_what_the_daemon_counts() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    client.command(&["GET", "courses:2"]).await;
    let info = client.command(&["INFO"]).await;
    for line in [
        "redis_version:7.2.0",
        "redis_mode:standalone",
        "connected_clients:1",
        "loading:0",
        "role:master",
        "# Cachewarden",
        "cachewarden_reads_total{cache=\"course\",state=\"miss\"}:1",
        "cachewarden_redis_up:1",
        "cachewarden_postgres_up:1",
        "actor_cache-0:up",
        "actor_redis-0:up",
    ] {
        let found = info.text().split("\r\n").any(|has| has == line);
        assert!(found, "{line} is not in\n{}", info.text());
    }
    let server = client.command(&["INFO", "SERVER"]).await;
    assert!(server.text().starts_with("# Server\r\n") && !server.text().contains("# Clients"));
    shop.daemon.stop().await;
}

#[tokio::test]
async fn inline_commands_are_commands() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    client
        .send(b"get courses:2\r\nPING \"two words\"\nEXISTS 'courses:2'\r\nECHO \"\\x41\"\r\n")
        .await
        .unwrap();
    let replies = read_all(&mut client, 4).await;
    let expected = [course(2).as_str(), "two words", "", "A"].map(Value::bulk);
    assert_eq!(replies[..2], expected[..2]);
    assert_eq!(replies[2..], [Value::Int(1), expected[3].clone()]);
    shop.daemon.stop().await;
}

async fn read_all(client: &mut Client, count: usize) -> Vec<Value> {
    let mut replies = Vec::new();
    for _ in 0..count {
        replies.push(client.read().await.unwrap());
    }
    replies
}
