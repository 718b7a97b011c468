//! A sweep that breaks off is announced until it is announced anew: nobody is given meanwhile what it is about to remove.

use std::time::Duration;

use super::cancel::{announced, slow, under_way};
use super::support::DEADLINE;
use super::support::daemon::{InProcess, config_without_postgres};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::{figure, raw};
use super::sweeps::{fill, sweeping_client};

const KEYS: u32 = 20_000;
/// Read of each daemon.
const READ: usize = 50;
const CALC: &str = "[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\n";

async fn until_read(client: &mut Client, key: &str, expected: &Value) {
    eventually(DEADLINE, async || {
        let seen = client.command(&["GET", key]).await;
        (seen == *expected).then_some(()).ok_or(seen)
    })
    .await;
}

async fn until_announced(raw: &mut Client, expected: i64) {
    eventually(DEADLINE, async || {
        let seen = announced(raw).await;
        (seen == Value::Int(expected)).then_some(()).ok_or(seen)
    })
    .await;
}

async fn swept_keys(raw: &mut Client) -> Vec<String> {
    match raw.command(&["KEYS", "calc:a:*"]).await {
        Value::Array(keys) => keys.iter().map(|key| key.text().to_owned()).collect(),
        other => panic!("{other:?}"),
    }
}

/// Waits until so many of its passes have broken off.
async fn until_broken(client: &mut Client, tries: u64) {
    eventually(DEADLINE, async || {
        let broken = figure(client, "cachewarden_sweep_passes_total", "broken").await;
        (broken >= tries).then_some(()).ok_or(broken)
    })
    .await;
}

#[tokio::test]
async fn what_a_broken_sweep_has_not_removed_is_given_out_by_no_daemon() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let (sweeping, proxy) = slow(&redis, false).await;
    let other = InProcess::start(&config_without_postgres(&redis.redis_url(), CALC)).await;
    let mut clients = [sweeping.client().await, other.client().await];
    fill(&mut raw, "calc:a:", KEYS).await;
    raw.command(&["SET", "calc:mark", "x"]).await;
    for client in &mut clients {
        until_read(client, "calc:a:1", &Value::bulk("x")).await;
    }
    let warden = sweeping.warden.clone();
    let asked = tokio::spawn(async move { warden.invalidate(&["calc:a:*"]).await });
    under_way(&mut raw, i64::from(KEYS)).await;

    // The sweep loses its connection, and no other can end leases, which comes before it is announced anew.
    raw.command(&["ACL", "SETUSER", "default", "-zscan"]).await;
    let id = sweeping_client(&mut raw).await;
    raw.command(&["CLIENT", "KILL", "ID", &id]).await;
    proxy.delay(Duration::ZERO);
    until_broken(&mut clients[0], 3).await;
    // What was told before this was heard as well.
    let by = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let notice = format!("announce {by} {by} 60000 calc:mark");
    raw.command(&["PUBLISH", "cachewarden:sweeps", &notice])
        .await;
    let left = swept_keys(&mut raw).await;
    assert!(left.len() > READ, "{}", left.len());
    for client in &mut clients {
        until_read(client, "calc:mark", &Value::Nil).await;
        for key in &left[..READ] {
            assert_eq!(client.command(&["GET", key]).await, Value::Nil, "{key}");
        }
    }

    // Announced anew, it comes to its end, and no announcement stands any more.
    raw.command(&["ACL", "SETUSER", "default", "+zscan"]).await;
    until_announced(&mut raw, 0).await;
    assert_eq!(swept_keys(&mut raw).await.len(), 0);
    raw.command(&["SET", "calc:a:1", "new"]).await;
    for client in &mut clients {
        until_read(client, "calc:a:1", &Value::bulk("new")).await;
    }
    // Who waited was told if that took long.
    let _late = asked.await.unwrap();
    sweeping.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_broken_sweep_that_is_cancelled_is_not_announced_any_more() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let (sweeping, proxy) = slow(&redis, false).await;
    let mut client = sweeping.client().await;
    fill(&mut raw, "calc:a:", KEYS).await;
    let warden = sweeping.warden.clone();
    let asked = tokio::spawn(async move { warden.invalidate(&["calc:a:*"]).await });
    under_way(&mut raw, i64::from(KEYS)).await;
    raw.command(&["ACL", "SETUSER", "default", "-zscan"]).await;
    let id = sweeping_client(&mut raw).await;
    raw.command(&["CLIENT", "KILL", "ID", &id]).await;
    proxy.delay(Duration::ZERO);
    until_broken(&mut client, 2).await;
    assert_eq!(announced(&mut raw).await, Value::Int(1));
    // However long that goes on, and whatever Redis loses.
    raw.command(&["DEL", "cachewarden:sweeps"]).await;
    until_announced(&mut raw, 1).await;
    let left = swept_keys(&mut raw).await;
    let cancelled = client.command(&["CACHE.CANCEL", "*"]).await;
    assert_eq!(cancelled, Value::Int(1));
    until_announced(&mut raw, 0).await;
    until_read(&mut client, &left[0], &Value::bulk("x")).await;
    assert!(asked.await.unwrap().is_err());
    sweeping.stop().await;
}
