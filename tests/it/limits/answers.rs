//! Each algorithm through the library's handle, and what requests may not ask for.

use std::time::Duration;

use super::super::support::servers::redis;
use super::super::support::world::{keys_with_life, raw};
use super::{allowed, check, daemon};

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
