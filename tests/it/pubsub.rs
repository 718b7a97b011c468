//! Published invalidations: messages, events, deafness, and daemons that share the work.

use cachewarden::cli::demo::servers::Redis;
use serde_json::Value as Json;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config_without_postgres};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::{count, figure, raw};

const CALC: &str = r#"
    [namespaces.calc]
    prefix = "calc:"
    ttl = "5m"

    [invalidation]
    prefixes = ["legacy:"]

    [[invalidation.event]]
    channel = "events"
    event = "order.updated"
    invalidate = ["calc:order:{orderId}", "legacy:{customer}:*"]
"#;

pub async fn daemon(redis: &Redis, more: &str) -> InProcess {
    let text = config_without_postgres(&redis.redis_url(), &format!("{CALC}{more}"));
    InProcess::start(&text).await
}

/// A connection that hears acknowledgements.
pub async fn acks(redis: &Redis) -> Client {
    let mut client = raw(redis).await;
    client.command(&["SUBSCRIBE", "cache:invalidated"]).await;
    client
}

/// The next acknowledgement.
pub async fn ack(acks: &mut Client) -> Json {
    let Value::Array(message) = acks.read().await.unwrap() else {
        panic!("no message")
    };
    serde_json::from_str(message[2].text()).unwrap()
}

pub async fn set(raw: &mut Client, keys: &[&str]) {
    for key in keys {
        raw.command(&["SET", key, "1"]).await;
    }
}

pub async fn there(raw: &mut Client, keys: &[&str]) -> Value {
    raw.command(&[&["EXISTS"], keys].concat()).await
}

async fn refused(client: &mut Client) -> u64 {
    figure(client, "cachewarden_messages_refused_total", "").await
}

/// How long nobody heard, in seconds.
pub async fn deaf(client: &mut Client) -> f64 {
    let info = client.command(&["INFO", "cachewarden"]).await;
    let mut lines = info.text().lines();
    let line =
        lines.find_map(|line| line.strip_prefix("cachewarden_subscriber_deaf_seconds_total:"));
    line.and_then(|seconds| seconds.parse().ok()).unwrap()
}

/// Waits until `count` connections hear the channel.
pub async fn heard_by(raw: &mut Client, count: i64) {
    eventually(DEADLINE, async || {
        let heard = raw.command(&["PUBSUB", "NUMSUB", "cache:invalidate"]).await;
        let Value::Array(heard) = heard else {
            panic!("{heard:?}")
        };
        (heard[1] == Value::Int(count)).then_some(()).ok_or(heard)
    })
    .await;
}

#[tokio::test]
async fn what_is_published_is_removed_and_acknowledged() {
    let redis = redis();
    let daemon = daemon(&redis, "").await;
    let (mut raw, mut acks) = (raw(&redis).await, acks(&redis).await);
    let all = [
        "calc:1", "calc:2", "calc:a:1", "calc:a:2", "legacy:x", "sess:1",
    ];
    for (message, id, removed, left) in [
        ("calc:1", Json::Null, 1, 5),
        ("calc:none", Json::Null, 0, 6),
        ("legacy:x", Json::Null, 1, 5),
        ("calc:*", Json::Null, 4, 2),
        ("calc:[12]", Json::Null, 2, 4),
        (
            r#"{"id":"x-1","keys":["calc:1","calc:a:1"]}"#,
            "x-1".into(),
            2,
            4,
        ),
        (
            r#"{"id":"x-2","keys":["legacy:x"],"patterns":["calc:a:*","calc:2"],"reason":"import"}"#,
            "x-2".into(),
            4,
            2,
        ),
        (r#"{"id":7,"caches":["calc"]}"#, 7.into(), 4, 2),
    ] {
        set(&mut raw, &all).await;
        raw.command(&["PUBLISH", "cache:invalidate", message]).await;
        let ack = ack(&mut acks).await;
        assert_eq!(ack["id"], id, "{message}: {ack}");
        assert_eq!(ack["removed"], removed, "{message}: {ack}");
        assert!(ack["took_ms"].is_u64() && ack["by"].as_str().unwrap().len() == 36);
        assert_eq!(ack.get("error"), None);
        assert_eq!(there(&mut raw, &all).await, Value::Int(left), "{message}");
    }
    // Through the daemon's own door it is the same.
    let mut client = daemon.client().await;
    set(&mut raw, &all).await;
    let heard = client
        .command(&["PUBLISH", "cache:invalidate", "calc:*"])
        .await;
    assert_eq!(heard, Value::Int(1));
    assert_eq!(ack(&mut acks).await["removed"], 4);
    daemon.stop().await;
}

#[tokio::test]
async fn no_message_harms_the_subscriber_and_each_is_refused_counted_and_answered() {
    let redis = redis();
    let daemon = daemon(&redis, "").await;
    let (mut raw, mut acks) = (raw(&redis).await, acks(&redis).await);
    let mut client = daemon.client().await;
    set(&mut raw, &["calc:1", "sess:1", "cachewarden:x"]).await;
    let deep = format!(
        "{{\"keys\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let many = format!(
        "{{\"id\":1,\"keys\":[{}\"a\"]}}",
        "\"calc:1\",".repeat(1000)
    );
    let (huge, wild) = ("x".repeat(10 << 20), "*".repeat(100_000));
    let classes = format!("calc:{}", "[".repeat(50_000));
    let messages: &[(&str, &str)] = &[
        ("", "key is empty"),
        ("*", "is too wide"),
        ("?*", "is too wide"),
        ("calc*", "is too wide"),
        ("*:user", "is too wide"),
        ("sess:*", "begins with no declared prefix"),
        ("sess:1", "no cache is declared"),
        ("cachewarden:*", "is reserved"),
        ("cachewarden:x", "is reserved"),
        ("{calc:1}:lease", "not a message"),
        ("calc:[", "unclosed '['"),
        ("calc:\\", "ends in '\\'"),
        ("calc:*********", "more than 8 wildcards"),
        ("calc:\u{1}", "control character"),
        ("null", "no cache is declared"),
        ("[\"calc:*\"]", "begins with no declared prefix"),
        ("{", "not a message"),
        ("{}", "names no `keys`"),
        (r#"{"keys":{}}"#, "not a message"),
        (r#"{"key":["calc:1"]}"#, "unknown field `key`"),
        (r#"{"v":99,"keys":["calc:1"]}"#, "unknown field `v`"),
        (
            r#"{"keys":["calc:1"],"keys":["calc:1"]}"#,
            "duplicate field",
        ),
        (r#"{"patterns":["*"]}"#, "is too wide"),
        (r#"{"caches":["nobody"]}"#, "no cache is named 'nobody'"),
        (&deep, "not a message"),
        (&many, "1001 keys, patterns and caches exceed 1000"),
        (&huge, "10485760 bytes exceed 1048576"),
        (&wild, "length 100000 exceeds 512"),
        (&classes, "length 50005 exceeds 512"),
    ];
    for (count, (message, why)) in (1..).zip(messages) {
        let shown = &message[..message.len().min(40)];
        raw.command(&["PUBLISH", "cache:invalidate", message]).await;
        let ack = ack(&mut acks).await;
        let error = ack["error"].as_str().unwrap_or_default();
        assert!(error.contains(why) && error.len() < 400, "{shown}: {ack}");
        assert_eq!(ack.get("removed"), None, "{shown}");
        assert_eq!(refused(&mut client).await, count, "{shown}");
    }
    let kept = ["calc:1", "sess:1", "cachewarden:x"];
    assert_eq!(there(&mut raw, &kept).await, Value::Int(3));
    // It hears, and what is fine of a message is carried out.
    let half = r#"{"id":"h","keys":["calc:1","sess:1"]}"#;
    raw.command(&["PUBLISH", "cache:invalidate", half]).await;
    let ack = ack(&mut acks).await;
    assert_eq!(ack["removed"], 1, "{ack}");
    assert!(ack["error"].as_str().unwrap().contains("'sess:1'"), "{ack}");
    assert_eq!(deaf(&mut client).await, 0.0);
    daemon.stop().await;
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused_like_any_message() {
    let redis = redis();
    let daemon = daemon(&redis, "").await;
    let (mut raw, mut acks) = (raw(&redis).await, acks(&redis).await);
    let message = b"*3\r\n$7\r\nPUBLISH\r\n$16\r\ncache:invalidate\r\n$7\r\ncalc:\xff\x00\r\n";
    raw.send(message).await.unwrap();
    assert_eq!(raw.read().await.unwrap(), Value::Int(1));
    let ack = ack(&mut acks).await;
    assert!(
        ack["error"].as_str().unwrap().contains("not valid UTF-8"),
        "{ack}"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn events_remove_what_their_fields_name() {
    let redis = redis();
    let daemon = daemon(&redis, "").await;
    let mut raw = raw(&redis).await;
    let mut client = daemon.client().await;
    let all = [
        "calc:order:7",
        "legacy:c1:a",
        "legacy:c1:b",
        "legacy:*:a",
        "legacy:c2:a",
    ];
    for (event, left) in [
        (
            r#"{"event":"order.updated","orderId":7,"customer":"c1"}"#,
            2,
        ),
        (
            r#"{"type":"order.updated","data":{"orderId":"7","customer":"c2"}}"#,
            3,
        ),
        // A field's wildcard is a character like any other.
        (r#"{"event":"order.updated","orderId":8,"customer":"*"}"#, 4),
    ] {
        set(&mut raw, &all).await;
        raw.command(&["PUBLISH", "events", event]).await;
        eventually(DEADLINE, async || {
            let seen = there(&mut raw, &all).await;
            (seen == Value::Int(left)).then_some(()).ok_or(seen)
        })
        .await;
    }
    assert_eq!(refused(&mut client).await, 0);
    // One field cannot be used: that template is left out, and the other is not.
    set(&mut raw, &all).await;
    let half = r#"{"event":"order.updated","orderId":7,"customer":null}"#;
    raw.command(&["PUBLISH", "events", half]).await;
    eventually(DEADLINE, async || {
        let seen = there(&mut raw, &all).await;
        (seen == Value::Int(4)).then_some(()).ok_or(seen)
    })
    .await;
    raw.command(&["PUBLISH", "events", "no event"]).await;
    raw.command(&["PUBLISH", "events", r#"{"event":"others"}"#])
        .await;
    eventually(DEADLINE, async || {
        let seen = refused(&mut client).await;
        (seen == 2).then_some(()).ok_or(seen)
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_killed_subscription_is_counted_as_deafness_and_heard_again() {
    let redis = redis();
    let daemon = daemon(&redis, "").await;
    let mut raw = raw(&redis).await;
    let mut client = daemon.client().await;
    assert_eq!(deaf(&mut client).await, 0.0);
    let mut before = 0.0;
    for _ in 0..3 {
        heard_by(&mut raw, 1).await;
        set(&mut raw, &["calc:1"]).await;
        let killed = raw.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        assert_ne!(killed, Value::Int(0));
        eventually(DEADLINE, async || {
            let now = deaf(&mut client).await;
            (now > before).then(|| before = now).ok_or(now)
        })
        .await;
        heard_by(&mut raw, 1).await;
        // `on_deaf` is `ignore`: what was there is there.
        assert_eq!(there(&mut raw, &["calc:1"]).await, Value::Int(1));
        let mut acks = acks(&redis).await;
        raw.command(&["PUBLISH", "cache:invalidate", "calc:1"])
            .await;
        assert_eq!(ack(&mut acks).await["removed"], 1);
        drop(acks);
        before = deaf(&mut client).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn after_deafness_everything_is_invalidated_where_that_is_wanted() {
    let redis = redis();
    let text = config_without_postgres(
        &redis.redis_url(),
        &CALC.replace("[invalidation]", "[invalidation]\non_deaf = \"invalidate\""),
    );
    let daemon = InProcess::start(&text).await;
    let mut raw = raw(&redis).await;
    let all = ["calc:1", "legacy:1", "sess:1"];
    set(&mut raw, &all).await;
    heard_by(&mut raw, 1).await;
    raw.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually(DEADLINE, async || {
        let seen = there(&mut raw, &all).await;
        (seen == Value::Int(1)).then_some(()).ok_or(seen)
    })
    .await;
    assert_eq!(there(&mut raw, &["sess:1"]).await, Value::Int(1));
    daemon.stop().await;
}

#[tokio::test]
async fn a_line_that_swallows_everything_is_found_dead_and_replaced() {
    let redis = redis();
    let proxy = Proxy::before_port(redis.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let more = format!("redis.timeout = \"200ms\"\n{CALC}");
    let daemon = InProcess::start(&config_without_postgres(&url, &more)).await;
    let mut proxy = proxy;
    let (mut raw, mut client) = (raw(&redis).await, daemon.client().await);
    heard_by(&mut raw, 1).await;
    proxy.hold();
    eventually(DEADLINE, async || {
        let seconds = deaf(&mut client).await;
        // Since it was last heard alive, not since it was found dead.
        (seconds >= 1.0).then_some(()).ok_or(seconds)
    })
    .await;
    proxy.cut();
    proxy.pass().await;
    set(&mut raw, &["calc:1"]).await;
    eventually(DEADLINE, async || {
        // The server may not have noticed yet that the old line is gone, so nobody is asked who listens.
        raw.command(&["PUBLISH", "cache:invalidate", "calc:1"])
            .await;
        let seen = there(&mut raw, &["calc:1"]).await;
        (seen == Value::Int(0)).then_some(()).ok_or(seen)
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn more_patterns_than_can_be_acknowledged_are_all_swept() {
    let redis = redis();
    let daemon = daemon(&redis, "").await;
    let mut raw = raw(&redis).await;
    let mut client = daemon.client().await;
    let fill = "for i = 1, 10000 do redis.call('SET', 'calc:' .. i .. ':x', 1) end";
    raw.command(&["EVAL", fill, "0"]).await;
    let publish =
        "for i = 1, 10000 do redis.call('PUBLISH', 'cache:invalidate', 'calc:' .. i .. ':*') end";
    raw.command(&["EVAL", publish, "0"]).await;
    eventually(DEADLINE, async || {
        let pending = figure(&mut client, "cachewarden_sweeps_pending", "").await;
        assert!(pending < 100, "{pending}");
        let left = count(&mut raw).await;
        (left == 0).then_some(()).ok_or(left)
    })
    .await;
    daemon.stop().await;
}
