//! Locks over HTTP.

use super::super::support::daemon::config;
use super::super::support::eventually::eventually;
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::*;

const LOCKS: &str = "http.listen = \"127.0.0.1:0\"\n[locks]\nmax_ttl = \"5m\"\n";

async fn daemon() -> (InProcess, impl Sized) {
    let watched = Watched::start("SELECT 1", LOCKS).await;
    let redis = redis();
    let text = config(watched.database.url(), &redis.redis_url(), LOCKS);
    (InProcess::start(&text).await, (watched, redis))
}

#[tokio::test]
async fn a_lock_is_taken_extended_looked_at_and_let_go_and_its_fence_rises() {
    let (daemon, _servers) = daemon().await;
    let path = |verb: &str| format!("/api/v1/locks/report%2F1{verb}");
    let first = post(&daemon, &path("/acquire"), r#"{"ttl_ms": 60000}"#).await;
    assert_eq!(first.status, 200, "{first:?}");
    let first = first.json();
    let token = first["token"].as_str().unwrap().to_owned();
    let held = post(&daemon, &path("/acquire"), r#"{"ttl_ms": 60000}"#).await;
    assert_eq!((held.status, held.code().as_str()), (409, "HELD"));
    let again = format!(r#"{{"ttl_ms": 60000, "token": "{token}"}}"#);
    assert_eq!(post(&daemon, &path("/acquire"), &again).await.json(), first);
    let extended = post(&daemon, &path("/extend"), &again).await.json();
    assert_eq!(extended["extended"], true);
    let info = get(&daemon, &path("")).await.json();
    assert_eq!(
        (&info["name"], &info["held"]),
        (&"report/1".into(), &1.into()),
        "{info}"
    );
    assert_eq!(info["fence"], first["fence"]);
    let listed = get(&daemon, "/api/v1/locks?prefix=report%2F").await.json();
    assert_eq!(listed[0]["name"], "report/1");
    assert_eq!(
        get(&daemon, "/api/v1/locks?prefix=other").await.json(),
        Value::Array(vec![])
    );
    let token = format!(r#"{{"token": "{token}"}}"#);
    for released in [true, false] {
        let answer = post(&daemon, &path("/release"), &token).await.json();
        assert_eq!(answer["released"], released);
    }
    let second = post(&daemon, &path("/acquire"), r#"{"ttl_ms": 60000}"#)
        .await
        .json();
    assert!(second["fence"].as_i64() > first["fence"].as_i64());
    for forced in [true, false] {
        let answer = post(&daemon, &path("/force"), "{}").await.json();
        assert_eq!(answer["forced"], forced);
    }
    daemon.stop().await;
}

#[tokio::test]
async fn who_waits_gets_the_lock_when_it_is_let_go() {
    let (daemon, _servers) = daemon().await;
    let path = "/api/v1/locks/a/acquire";
    let first = post(&daemon, path, r#"{"ttl_ms": 60000}"#).await.json();
    let waiting = post(&daemon, path, r#"{"ttl_ms": 60000, "wait_ms": 20000}"#);
    let letting_go = async {
        until_waiters(&daemon, 1).await;
        let body = format!(r#"{{"token": {}}}"#, first["token"]);
        post(&daemon, "/api/v1/locks/a/release", &body).await
    };
    let (second, released) = tokio::join!(waiting, letting_go);
    assert_eq!(released.json()["released"], true);
    assert_eq!(second.status, 200, "{second:?}");
    assert_ne!(second.json()["token"], first["token"]);
    daemon.stop().await;
}

#[tokio::test]
async fn who_leaves_gives_up_the_place_in_the_line() {
    let (daemon, _servers) = daemon().await;
    let path = "/api/v1/locks/a/acquire";
    let first = post(&daemon, path, r#"{"ttl_ms": 60000}"#).await;
    assert_eq!(first.status, 200);
    let address = daemon.warden.http_addr().unwrap();
    let mut leaving = TcpStream::connect(address).await.unwrap();
    let body = r#"{"ttl_ms": 60000, "wait_ms": 60000}"#;
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{JSON}\r\n");
    let request = format!("{head}Content-Length: {length}\r\n\r\n{body}");
    leaving.write_all(request.as_bytes()).await.unwrap();
    until_waiters(&daemon, 1).await;
    drop(leaving);
    until_waiters(&daemon, 0).await;
    daemon.stop().await;
}

/// Of the lock `a`.
async fn until_waiters(daemon: &InProcess, wanted: u64) {
    eventually(DEADLINE, async || {
        let info = get(daemon, "/api/v1/locks/a").await.json();
        (info["waiters"] == wanted).then_some(()).ok_or(info)
    })
    .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let (daemon, _servers) = daemon().await;
    let uuid = "11111111-1111-4111-8111-111111111111";
    let cases = [
        ("a/acquire", "{}".to_owned(), "ERR"),
        ("a/acquire", r#"{"ttl_ms": 0}"#.to_owned(), "ERR"),
        ("a/acquire", r#"{"ttl_ms": -1}"#.to_owned(), "ERR"),
        ("a/acquire", r#"{"ttl_ms": 999999999}"#.to_owned(), "ERR"),
        (
            "a/acquire",
            r#"{"ttl_ms": 1000, "wait_ms": 60001}"#.to_owned(),
            "ERR",
        ),
        (
            "a/acquire",
            r#"{"ttl_ms": 1000, "shared": true, "permits": 2}"#.to_owned(),
            "ERR",
        ),
        (
            "a/acquire",
            r#"{"ttl_ms": 1000, "permits": 0}"#.to_owned(),
            "ERR",
        ),
        (
            "a/acquire",
            r#"{"ttl_ms": 1000, "token": "mine"}"#.to_owned(),
            "ERR",
        ),
        (
            "a/acquire",
            format!(r#"{{"ttl_ms": 1000, "token": "{{{uuid}}}"}}"#),
            "ERR",
        ),
        ("a%0A/acquire", r#"{"ttl_ms": 1000}"#.to_owned(), "BADKEY"),
        ("a/release", r#"{"token": "x"}"#.to_owned(), "ERR"),
        ("a/force", r#"{"sure": true}"#.to_owned(), "ERR"),
    ];
    for (path, body, code) in cases {
        let refused = post(&daemon, &format!("/api/v1/locks/{path}"), &body).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, code),
            "{path} {body}"
        );
    }
    daemon.stop().await;
}
