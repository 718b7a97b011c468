//! Each algorithm through the library's handle, and what requests may not ask for.

use std::time::Duration;

use bytes::Bytes;
use cachewarden::rate_limit::{Ask, Fixed, Throttle};

use super::super::support::resp::{Client, Value};
use super::super::support::servers::redis;
use super::super::support::world::{keys_with_life, raw};
use super::{allowed, ask, asked, check, daemon, peek, refund, release, reset};

/// Windows so long that no test meets the end of one.
const LIMITS: &str = r#"
    [limits.fixed]
    algorithm = "fixed_window"
    limit = 5
    window = "365d"

    [limits.sliding]
    algorithm = "sliding_window"
    limit = 5
    window = "365d"

    [limits.bucket]
    algorithm = "token_bucket"
    limit = 5
    window = "365d"

    [limits.wide]
    algorithm = "fixed_window"
    limit = 1000
    window = "365d"

    [limits.flights]
    algorithm = "concurrency"
    limit = 5
    lease = "1h"
"#;

#[tokio::test]
async fn every_algorithm_lets_through_what_was_declared_and_no_more() {
    let redis = redis();
    let daemon = daemon(&redis, LIMITS).await;
    for limit in ["fixed", "sliding", "bucket", "flights"] {
        for left in [4, 3, 2, 1, 0] {
            let decision = check(&daemon.warden, limit, "ann", 1).await;
            assert!(decision.allowed, "{limit}");
            assert_eq!(decision.remaining, left, "{limit}");
            assert_eq!(decision.retry_after, Some(Duration::ZERO));
            assert!(decision.reset_after > Duration::ZERO);
            assert_eq!(decision.id.is_some(), limit == "flights");
        }
        let refused = check(&daemon.warden, limit, "ann", 1).await;
        assert!(!refused.allowed, "{limit}");
        assert_eq!((refused.remaining, refused.policy.limit), (0, 5));
        assert_eq!(refused.policy.name, limit);
        assert!(refused.retry_after > Some(Duration::ZERO), "{refused:?}");
        // Somebody else has it all.
        assert_eq!(allowed(&daemon.warden, limit, "bob", 6).await, 5, "{limit}");
    }
    let lives = keys_with_life(&mut raw(&redis).await).await;
    let own: Vec<_> = lives
        .iter()
        .filter(|(key, _)| key.contains("limit:"))
        .collect();
    assert_eq!(own.len(), 8, "{lives:?}");
    assert!(lives.iter().all(|(_, life)| *life > 0), "{lives:?}");
    daemon.stop().await;
}

/// What Redis keeps under a key, and when that ends.
async fn digest(raw: &mut Client, key: &str) -> (Value, Value) {
    let digest = raw.command(&["DEBUG", "DIGEST-VALUE", key]).await;
    (digest, raw.command(&["PEXPIRETIME", key]).await)
}

#[tokio::test]
async fn a_refused_request_leaves_every_key_as_it_was() {
    let redis = redis();
    let (daemon, mut raw) = (daemon(&redis, LIMITS).await, raw(&redis).await);
    for limit in ["fixed", "sliding", "bucket", "flights"] {
        let key = format!("cachewarden:limit:{limit}:ann");
        let cost = if limit == "flights" { 1 } else { 3 };
        let taken = if limit == "flights" { 5 } else { 4 };
        assert_eq!(allowed(&daemon.warden, limit, "ann", taken).await, taken);
        let before = digest(&mut raw, &key).await;
        let refused = check(&daemon.warden, limit, "ann", cost).await;
        assert!(!refused.allowed);
        assert_eq!(digest(&mut raw, &key).await, before, "{limit}");
        // What it has of another one is left, too; and neither looking nor asking for too much writes.
        let several = format!("wide,{limit}");
        assert!(!check(&daemon.warden, &several, "ann", cost).await.allowed);
        peek(&daemon.warden, &several, "ann").await;
        if limit != "flights" {
            let never = check(&daemon.warden, limit, "ann", 6).await;
            assert_eq!((never.allowed, never.remaining), (false, 1), "{limit}");
        }
        assert_eq!(digest(&mut raw, &key).await, before, "{limit}");
    }
    let wide = raw.command(&["EXISTS", "cachewarden:limit:wide:ann"]).await;
    assert_eq!(wide, Value::Int(0));
    daemon.stop().await;
}

#[tokio::test]
async fn several_limits_let_a_request_through_together_or_not_at_all() {
    let redis = redis();
    let daemon = daemon(&redis, LIMITS).await;
    let warden = &daemon.warden;
    for left in [4, 3, 2, 1, 0] {
        let decision = check(warden, "wide,fixed,flights", "ann", 1).await;
        // Of the one with least left; it has an id, for one of them counts what is in flight.
        assert_eq!((decision.allowed, decision.remaining), (true, left));
        assert_eq!(decision.policy.name, "fixed");
        assert!(decision.id.is_some());
    }
    for limits in ["wide,fixed,sliding", "wide,sliding,flights,fixed"] {
        let refused = check(warden, limits, "ann", 1).await;
        assert!(!refused.allowed);
        assert_eq!(refused.id, None, "it is not in flight");
        let first = if limits.contains("flights") {
            ["flights", "fixed"]
        } else {
            ["fixed"; 2]
        };
        // The first that refuses, but for one that is remembered to.
        assert!(first.contains(&refused.policy.name.as_str()), "{refused:?}");
    }
    assert_eq!(peek(warden, "wide", "ann").await.remaining, 995);
    assert_eq!(peek(warden, "sliding", "ann").await.remaining, 5);
    daemon.stop().await;
}

#[tokio::test]
async fn costs_are_taken_at_once_given_back_and_forgotten() {
    let redis = redis();
    let daemon = daemon(&redis, LIMITS).await;
    let warden = &daemon.warden;
    for limit in ["fixed", "sliding", "bucket"] {
        assert_eq!(check(warden, limit, "ann", 4).await.remaining, 1, "{limit}");
        let never = check(warden, limit, "ann", 6).await;
        assert_eq!((never.allowed, never.retry_after), (false, None), "{limit}");
        assert_eq!(refund(warden, limit, "ann", 3).await, Ok(3), "{limit}");
        assert_eq!(peek(warden, limit, "ann").await.remaining, 4, "{limit}");
        // No more than was taken.
        assert_eq!(refund(warden, limit, "ann", 3).await, Ok(1), "{limit}");
        assert_eq!(refund(warden, limit, "ann", 3).await, Ok(0), "{limit}");
        assert_eq!(check(warden, limit, "ann", 5).await.remaining, 0, "{limit}");
        assert_eq!(reset(warden, limit, "ann").await, Ok(true), "{limit}");
        assert_eq!(reset(warden, limit, "ann").await, Ok(false), "{limit}");
        assert_eq!(peek(warden, limit, "ann").await.remaining, 5, "{limit}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn limits_that_commands_bring_with_them_count_under_keys_of_their_own() {
    let redis = redis();
    let (daemon, mut raw) = (daemon(&redis, "").await, raw(&redis).await);
    let limits = daemon.warden.rate_limit();
    let day = Duration::from_secs(24 * 60 * 60);
    let fixed = async |limit| {
        let subject = Bytes::from_static(b"ann");
        let fixed = Fixed {
            subject,
            limit,
            window: 365 * day,
        };
        limits.fixed.ask(fixed).await.unwrap().unwrap()
    };
    for left in [2, 1, 0] {
        let decision = fixed(3).await;
        assert_eq!((decision.allowed, decision.remaining), (true, left));
    }
    for _ in 0..3 {
        assert!(!fixed(3).await.allowed);
    }
    // The same counter, and another limit.
    assert!(fixed(4).await.allowed);
    let throttle = async |quantity| {
        let throttle = Throttle {
            key: Bytes::from_static(b"ann"),
            max_burst: 4,
            count: 5,
            period: day,
            quantity,
        };
        limits.throttle.ask(throttle).await.unwrap().unwrap()
    };
    assert_eq!(throttle(0).await.remaining, 5);
    assert_eq!(throttle(3).await.remaining, 2);
    let refused = throttle(3).await;
    assert!(!refused.allowed && refused.remaining == 2 && refused.policy.limit == 5);
    let looked = throttle(0).await;
    assert!(looked.allowed && looked.remaining == 2, "{looked:?}");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let year = 365 * day.as_secs();
    let counter = format!("ratelimit:ann:{}", now.as_secs() / year * year);
    assert_eq!(raw.command(&["GET", &counter]).await, Value::bulk("4"));
    let lives = keys_with_life(&mut raw).await;
    assert!(
        lives
            .iter()
            .any(|(key, _)| key == "cachewarden:throttle:ann"),
        "{lives:?}"
    );
    assert!(lives.iter().all(|(_, life)| *life > 0), "{lives:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn requests_that_come_together_see_each_other_and_are_answered_in_order() {
    let redis = redis();
    let daemon = daemon(&redis, LIMITS).await;
    let one = |n: usize| asked("fixed", ["ann", "bob"][n % 2], 1, None, Ask::Take);
    let check = cachewarden::rate_limit::Check {
        asked: (0..500).map(one).collect(),
    };
    let answers = daemon.warden.rate_limit().check.ask(check).await.unwrap();
    let allowed: Vec<bool> = answers
        .into_iter()
        .map(|answer| answer.unwrap().allowed)
        .collect();
    let wanted: Vec<bool> = (0..500).map(|n| n < 10).collect();
    assert_eq!(allowed, wanted);
    let peeked = ask(&daemon.warden, asked("fixed", "ann", 1, None, Ask::Peek)).await;
    assert!(!peeked.unwrap().allowed);
    daemon.stop().await;
}

#[tokio::test]
async fn what_somebody_else_left_under_a_key_is_no_count_and_hurts_nobody() {
    let redis = redis();
    let (daemon, mut raw) = (daemon(&redis, LIMITS).await, raw(&redis).await);
    for limit in ["fixed", "sliding", "bucket", "flights"] {
        for plant in [
            &["HSET", "a", "b"][..],
            &["SET", "f x y"],
            &["SET", ""],
            &["ZADD", "1", "x"],
        ] {
            let key = format!("cachewarden:limit:{limit}:ann");
            raw.command(&["DEL", &key]).await;
            let mut command = vec![plant[0], &key];
            command.extend(&plant[1..]);
            raw.command(&command).await;
            if limit == "flights" {
                let id = Bytes::from_static(b"no such id");
                let ended = release(&daemon.warden, limit, "ann", &id).await;
                assert_eq!(ended, Ok(false), "{plant:?}");
            }
            let first = check(&daemon.warden, limit, "ann", 1).await;
            assert!(
                first.allowed && first.remaining == 4,
                "{limit} {plant:?} {first:?}"
            );
        }
    }
    daemon.stop().await;
}
