//! A sweep whose daemon is killed in the middle is swept to its end by whoever knows of it.

use cachewarden::cli::demo::servers::Redis;
use rustix::process::Signal;

use super::cancel::{announced, under_way};
use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config_without_postgres};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::{figure, leave_heartbeat, raw};
use super::sweeps::fill;
use std::time::Duration;

const KEYS: u32 = 20_000;
const CALC: &str = "redis.timeout = \"5s\"\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\n";
const BY: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

async fn heir(redis: &Redis) -> InProcess {
    InProcess::start(&config_without_postgres(&redis.redis_url(), CALC)).await
}

async fn spawned(redis_url: &str) -> Spawned {
    let config = |address| {
        config_without_postgres(redis_url, CALC).replace("127.0.0.1:0", &format!("{address}"))
    };
    let mut daemon = Spawned::start_with(config, |_| {});
    daemon.notice("READY=1").await;
    daemon
}

/// Kills a daemon in the middle of its sweep of `calc:a:*`; how it was announced: id and pattern.
async fn killed_in_the_middle(redis: &Redis, raw: &mut Client) -> String {
    let proxy = Proxy::before_port(redis.port()).await;
    let mut daemon = spawned(&format!("redis://127.0.0.1:{}", proxy.port())).await;
    fill(raw, "calc:a:", KEYS).await;
    proxy.delay(Duration::from_millis(20));
    let ask = b"CACHE.INVALIDATE calc:a:*\r\n";
    daemon.client().await.send(ask).await.unwrap();
    under_way(raw, i64::from(KEYS)).await;
    daemon.signal(Signal::KILL);
    daemon.exit().await;
    let Value::Array(entries) = raw
        .command(&["ZRANGE", "cachewarden:sweeps", "0", "-1"])
        .await
    else {
        panic!("no announcements")
    };
    assert_eq!(entries.len(), 1);
    entries[0].text().to_owned()
}

async fn unswept(raw: &mut Client) -> Vec<String> {
    match raw.command(&["KEYS", "calc:a:*"]).await {
        Value::Array(keys) => keys.iter().map(|key| key.text().to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

async fn until_swept(raw: &mut Client) {
    eventually(DEADLINE, async || {
        let seen = (unswept(raw).await.len(), announced(raw).await);
        (seen == (0, Value::Int(0))).then_some(()).ok_or(seen)
    })
    .await;
}

/// As it is when it was last renewed long ago: it will not be for long.
async fn announce_briefly(raw: &mut Client, entry: &str) {
    let (id, pattern) = entry.split_once(' ').unwrap();
    let notice = format!("announce {BY} {id} 400 {pattern}");
    let heard = ["PUBLISH", "cachewarden:sweeps", &notice];
    assert_ne!(raw.command(&heard).await, Value::Int(0));
}

/// Sweeps that were begun again.
async fn adopted(daemon: &InProcess) -> u64 {
    let mut client = daemon.client().await;
    figure(&mut client, "cachewarden_invalidations_total", "\"sweep\"").await
}

#[tokio::test]
async fn what_a_killed_daemon_was_sweeping_is_given_out_by_nobody_and_swept_by_another() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let heir = heir(&redis).await;
    let entry = killed_in_the_middle(&redis, &mut raw).await;
    let left = unswept(&mut raw).await;
    assert!(left.len() > 1000, "{}", left.len());
    // The heir cannot end leases, and so announces nothing of its own.
    raw.command(&["ACL", "SETUSER", "default", "-zscan"]).await;
    announce_briefly(&mut raw, &entry).await;
    let mut client = heir.client().await;
    eventually(DEADLINE, async || {
        let broken = figure(&mut client, "cachewarden_sweep_passes_total", "broken").await;
        (broken >= 4).then_some(()).ok_or(broken)
    })
    .await;
    for key in &left[..100] {
        assert_eq!(client.command(&["GET", key]).await, Value::Nil, "{key}");
    }
    raw.command(&["ACL", "SETUSER", "default", "+zscan"]).await;
    until_swept(&mut raw).await;
    assert_eq!(adopted(&heir).await, 1);
    heir.stop().await;
}

#[tokio::test]
async fn what_a_killed_daemon_was_sweeping_it_sweeps_when_it_is_started_again() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let entry = killed_in_the_middle(&redis, &mut raw).await;
    assert_ne!(unswept(&mut raw).await.len(), 0);
    // Long after it was announced last.
    raw.command(&["ZADD", "cachewarden:sweeps", "1000", &entry])
        .await;
    let life = raw.command(&["PTTL", "cachewarden:sweeps"]).await;
    assert!(matches!(life, Value::Int(3_600_000..)), "{life:?}");
    let again = spawned(&redis.redis_url()).await;
    until_swept(&mut raw).await;
    drop(again);
}

#[tokio::test]
async fn sweeps_that_were_announced_before_are_asked_for_until_they_are_known() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    raw.command(&["SET", "calc:1", "x"]).await;
    leave_heartbeat(&mut raw, &["calc:"]).await;
    let entry = format!("{BY} calc:*");
    raw.command(&["ZADD", "cachewarden:sweeps", "9999999999999", &entry])
        .await;
    let blind = ["ACL", "SETUSER", "default", "-zrevrangebyscore"];
    raw.command(&blind).await;
    let daemon = heir(&redis).await;
    eventually(2 * DEADLINE, async || {
        let refused = raw.command(&["ACL", "LOG"]).await;
        let times = match &refused {
            Value::Array(entries) => entries.first().map(|entry| match entry {
                Value::Array(fields) => fields[1].clone(),
                other => panic!("{other:?}"),
            }),
            other => panic!("{other:?}"),
        };
        let often = matches!(times, Some(Value::Int(13..)));
        often.then_some(()).ok_or(refused)
    })
    .await;
    let mut client = daemon.client().await;
    assert_eq!(client.command(&["GET", "calc:1"]).await, Value::bulk("x"));
    let seeing = ["ACL", "SETUSER", "default", "+zrevrangebyscore"];
    raw.command(&seeing).await;
    eventually(DEADLINE, async || {
        let seen = client.command(&["GET", "calc:1"]).await;
        (seen == Value::Nil).then_some(()).ok_or(seen)
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_was_left_is_doubted_on_when_its_heir_is_gone_as_well() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let daemon = heir(&redis).await;
    super::pubsub::heard_by(&mut raw, 1).await;
    for key in ["calc:a:1", "calc:b:1"] {
        raw.command(&["SET", key, "x"]).await;
    }
    let claim = format!("cachewarden:claim:{}", BY.replace('-', ""));
    raw.command(&["SET", &claim, "1", "EX", "600"]).await;
    announce_briefly(&mut raw, &format!("{BY} calc:a:*")).await;
    // Is begun again when the other one has run out.
    let marker = format!("announce {BY} 6ba7b811-9dad-11d1-80b4-00c04fd430c8 1600 calc:b:*");
    raw.command(&["PUBLISH", "cachewarden:sweeps", &marker])
        .await;
    eventually(DEADLINE, async || {
        let seen = raw.command(&["EXISTS", "calc:b:1"]).await;
        (seen == Value::Int(0)).then_some(()).ok_or(seen)
    })
    .await;
    assert_eq!(adopted(&daemon).await, 1);
    assert_eq!(raw.command(&["EXISTS", "calc:a:1"]).await, Value::Int(1));
    let mut client = daemon.client().await;
    assert_eq!(client.command(&["GET", "calc:a:1"]).await, Value::Nil);
    daemon.stop().await;
}

#[tokio::test]
async fn of_two_heirs_one_sweeps_what_was_left_once() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let heirs = [heir(&redis).await, heir(&redis).await];
    super::pubsub::heard_by(&mut raw, 2).await;
    for (round, id) in [BY, "6ba7b811-9dad-11d1-80b4-00c04fd430c8"]
        .iter()
        .enumerate()
    {
        fill(&mut raw, "calc:a:", 10).await;
        announce_briefly(&mut raw, &format!("{id} calc:a:*")).await;
        until_swept(&mut raw).await;
        let by = adopted(&heirs[0]).await + adopted(&heirs[1]).await;
        assert_eq!(by, round as u64 + 1);
    }
    for heir in heirs {
        heir.stop().await;
    }
}

#[tokio::test]
async fn what_may_not_be_swept_is_not_because_somebody_has_announced_it() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let forged = ["other:*", "*", "cachewarden:*", "{calc:*", "?alc:*"];
    for (number, pattern) in forged.iter().enumerate() {
        let entry = format!("6ba7b81{number}-0000-11d1-80b4-00c04fd430c8 {pattern}");
        raw.command(&["ZADD", "cachewarden:sweeps", "1000", &entry])
            .await;
    }
    let others = ["other:1", "{calc:1}:x", "sess:1"];
    for key in others {
        raw.command(&["SET", key, "x"]).await;
    }
    leave_heartbeat(&mut raw, &["calc:"]).await;
    let heir = heir(&redis).await;
    super::pubsub::heard_by(&mut raw, 1).await;
    for (number, pattern) in forged.iter().enumerate() {
        let entry = format!("6ba7b81{number}-1111-11d1-80b4-00c04fd430c8 {pattern}");
        announce_briefly(&mut raw, &entry).await;
    }
    // Who comes later is begun again later.
    fill(&mut raw, "calc:a:", 10).await;
    announce_briefly(&mut raw, &format!("{BY} calc:a:*")).await;
    eventually(DEADLINE, async || match unswept(&mut raw).await.len() {
        0 => Ok(()),
        left => Err(left),
    })
    .await;
    assert_eq!(adopted(&heir).await, 1);
    let there = raw.command(&[&["EXISTS"], &others[..]].concat()).await;
    assert_eq!(there, Value::Int(3));
    heir.stop().await;
}
