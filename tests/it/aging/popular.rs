//! Keys that few ask for are not cached, and those that many ask for live longer.

use super::super::support::resp::Value;
use super::{left_ms, look, told, world};

#[tokio::test]
async fn a_key_is_cached_from_its_third_request_on() {
    let world = world("admit_after = 3").await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for (state, cached) in [("miss", 0), ("miss", 0), ("miss", 1), ("hit", 1)] {
        assert_eq!(look(&mut client, "items:1").await, told("item 1", state));
        let there = raw.command(&["EXISTS", "items:1"]).await;
        assert_eq!(there, Value::Int(cached));
    }
    // So is a row that is missing.
    for cached in [0, 0, 1] {
        assert_eq!(look(&mut client, "items:7777").await, told("", "missing"));
        let there = raw.command(&["EXISTS", "items:7777"]).await;
        assert_eq!(there, Value::Int(cached));
    }
    // What is not cached leaves no lease behind.
    let lease = raw.command(&["EXISTS", "{items:2}:lease"]).await;
    assert_eq!(lease, Value::Int(0));
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_is_asked_for_more_often_lives_longer() {
    let more = r#"ttl_by_hits = [{ hits = 5, ttl = "20m" }, { hits = 10, ttl = "1h" }]"#;
    let world = world(more).await;
    let mut client = world.client().await;
    for (requests, minutes) in [(1, 10), (3, 10), (1, 20), (4, 20), (1, 60), (5, 60)] {
        for _ in 0..requests {
            let removed = client.command(&["CACHE.INVALIDATE", "items:1"]).await;
            assert!(matches!(removed, Value::Int(0 | 1)));
            assert_eq!(look(&mut client, "items:1").await.1, "miss");
        }
        let left = left_ms(&world.redis, "items:1").await;
        let most = minutes * 60_000;
        assert!((most - 30_000..=most).contains(&left), "{left} of {most}");
    }
    // Hits count as well.
    for _ in 0..20 {
        look(&mut client, "items:2").await;
    }
    client.command(&["CACHE.INVALIDATE", "items:2"]).await;
    look(&mut client, "items:2").await;
    assert!(left_ms(&world.redis, "items:2").await > 3_500_000);
    world.daemon.stop().await;
}
