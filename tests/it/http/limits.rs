//! Limits over HTTP.

use super::super::support::daemon::config_without_postgres;
use super::super::support::servers::redis;
use super::*;

const LIMITS: &str = r#"
http.listen = "127.0.0.1:0"
[limits.api]
algorithm = "fixed_window"
limit = 2
window = "1h"
[limits.jobs]
algorithm = "concurrency"
limit = 1
"#;

#[tokio::test]
async fn who_has_had_enough_is_refused_and_told_when_to_come_back() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), LIMITS)).await;
    let me = r#"{"limits": "api", "subject": "me"}"#;
    for remaining in ["1", "0"] {
        let checked = post(&daemon, "/api/v1/limits/check", me).await;
        assert_eq!(
            (checked.status, &checked.json()["allowed"]),
            (200, &true.into())
        );
        assert_eq!(checked.header("x-ratelimit-limit"), Some("2"));
        assert_eq!(checked.header("x-ratelimit-remaining"), Some(remaining));
        assert_eq!(
            checked.header("ratelimit-policy"),
            Some("\"api\";q=2;w=3600")
        );
        let state = checked.header("ratelimit").unwrap();
        assert!(
            state.starts_with(&format!("\"api\";r={remaining};t=")),
            "{state}"
        );
        assert_eq!(checked.header("retry-after"), None);
    }
    let peeked = post(&daemon, "/api/v1/limits/peek", me).await;
    assert_eq!(
        (peeked.status, &peeked.json()["allowed"]),
        (200, &false.into())
    );
    let refused = post(&daemon, "/api/v1/limits/check", me).await;
    assert_eq!(refused.status, 429);
    assert_eq!(
        refused.header("content-type"),
        Some("application/problem+json")
    );
    assert_eq!(refused.json()["violated-policies"][0], "api");
    let retry_s: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=3600).contains(&retry_s), "{refused:?}");
    let one = r#"{"limit": "api", "subject": "me", "amount": 5}"#;
    assert_eq!(
        post(&daemon, "/api/v1/limits/refund", one).await.json()["refunded"],
        2
    );
    assert_eq!(post(&daemon, "/api/v1/limits/check", me).await.status, 200);
    let me = r#"{"limit": "api", "subject": "me"}"#;
    for reset in [true, false] {
        assert_eq!(
            post(&daemon, "/api/v1/limits/reset", me).await.json()["reset"],
            reset
        );
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_in_flight_has_an_id_by_which_it_ends() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), LIMITS)).await;
    let both = r#"{"limits": "api,jobs", "subject": "me"}"#;
    let taken = post(&daemon, "/api/v1/limits/check", both).await.json();
    let id = taken["id"].as_str().unwrap();
    assert_eq!(
        post(&daemon, "/api/v1/limits/check", both).await.status,
        429
    );
    let end = format!(r#"{{"limit": "jobs", "subject": "me", "id": "{id}"}}"#);
    for released in [true, false] {
        assert_eq!(
            post(&daemon, "/api/v1/limits/release", &end).await.json()["released"],
            released
        );
    }
    assert_eq!(
        post(&daemon, "/api/v1/limits/check", both).await.status,
        200
    );
    daemon.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), LIMITS)).await;
    let long = format!(r#"{{"limits": "api", "subject": "{}"}}"#, "x".repeat(513));
    for (verb, body, status, code) in [
        (
            "check",
            r#"{"limits": "nothing", "subject": "me"}"#,
            404,
            "ERR",
        ),
        ("check", r#"{"limits": "", "subject": "me"}"#, 400, "ERR"),
        (
            "check",
            r#"{"limits": "api,api", "subject": "me"}"#,
            400,
            "ERR",
        ),
        (
            "check",
            r#"{"limits": "api", "subject": ""}"#,
            400,
            "BADKEY",
        ),
        (
            "check",
            r#"{"limits": "api", "subject": "a\nb"}"#,
            400,
            "BADKEY",
        ),
        ("check", &long, 400, "BADKEY"),
        (
            "check",
            r#"{"limits": "api", "subject": "me", "cost": 0}"#,
            400,
            "ERR",
        ),
        (
            "check",
            r#"{"limits": "api", "subject": "me", "cost": 1.5}"#,
            400,
            "ERR",
        ),
        (
            "peek",
            r#"{"limits": "api", "subject": "me", "id": "x"}"#,
            400,
            "ERR",
        ),
        (
            "refund",
            r#"{"limit": "jobs", "subject": "me", "amount": 1}"#,
            400,
            "ERR",
        ),
        (
            "release",
            r#"{"limit": "api", "subject": "me", "id": "x"}"#,
            400,
            "ERR",
        ),
    ] {
        let refused = post(&daemon, &format!("/api/v1/limits/{verb}"), body).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{verb} {body}"
        );
    }
    daemon.stop().await;
}
