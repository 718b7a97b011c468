//! What requests may not ask for.

use std::time::Duration;

use bytes::Bytes;
use cachewarden::rate_limit::{Ask, Class, Fixed, LimitError, Throttle};

use super::super::support::servers::redis;
use super::{ask, asked, daemon, refund, release, reset};

const LIMITS: &str = r#"
    [limits.one]
    algorithm = "fixed_window"
    limit = 5
    window = "1m"

    [limits.flights]
    algorithm = "concurrency"
    limit = 5
"#;

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_reason() {
    let redis = redis();
    let limits: String = (2..=9)
        .map(|n| {
            format!("[limits.l{n}]\nalgorithm = \"fixed_window\"\nlimit = 1\nwindow = \"1m\"\n")
        })
        .collect();
    let daemon = daemon(&redis, &format!("{LIMITS}{limits}")).await;
    let warden = &daemon.warden;
    let long = "s".repeat(513);
    let nine = "one,l2,l3,l4,l5,l6,l7,l8,l9";
    let wrong = [
        ("one,one", "ann", 1, None, "named twice"),
        ("", "ann", 1, None, "name is empty"),
        ("one,", "ann", 1, None, "name is empty"),
        (nine, "ann", 1, None, "at most 8"),
        ("one", "ann", 0, None, "at least 1"),
        ("one", "", 1, None, "1 to 512"),
        ("one", &long, 1, None, "1 to 512"),
        ("flights", "ann", 1, Some(""), "1 to 512"),
        ("one,flights", "ann", 2, None, "in flight is 1"),
    ];
    for (limits, subject, cost, id, why) in wrong {
        let error = ask(warden, asked(limits, subject, cost, id, Ask::Take))
            .await
            .unwrap_err();
        assert_eq!(error.class(), Class::Invalid);
        assert!(error.to_string().contains(why), "{error}");
    }
    // Control: eight are fine, and so are 512 bytes.
    let eight = ask(warden, asked(&nine[..24], &long[..512], 1, None, Ask::Take))
        .await
        .unwrap();
    assert!(eight.allowed);
    let unknown = LimitError::Undeclared {
        name: "two".to_owned(),
    };
    let name = ask(warden, asked("one,two", "ann", 1, None, Ask::Take)).await;
    assert_eq!(name.unwrap_err(), unknown);
    assert_eq!(reset(warden, "two", "ann").await.unwrap_err(), unknown);
    let flights = refund(warden, "flights", "ann", 1).await.unwrap_err();
    assert!(flights.to_string().contains("release them"), "{flights}");
    let id = Bytes::from_static(b"id");
    let window = release(warden, "one", "ann", &id).await.unwrap_err();
    assert!(window.to_string().contains("refund"), "{window}");
    daemon.stop().await;
}

#[tokio::test]
async fn limits_that_commands_bring_with_them_have_bounds() {
    let redis = redis();
    let daemon = daemon(&redis, "").await;
    let limits = daemon.warden.rate_limit();
    let year = Duration::from_secs(365 * 24 * 60 * 60);
    let second = Duration::from_secs(1);
    for (limit, window) in [
        (0, second),
        (1_000_000_001, second),
        (1, Duration::ZERO),
        (1, year + second),
        (1, Duration::from_millis(1500)),
    ] {
        let subject = Bytes::from_static(b"ann");
        let fixed = limits
            .fixed
            .ask(Fixed {
                subject,
                limit,
                window,
            })
            .await
            .unwrap();
        assert_eq!(
            fixed.unwrap_err().class(),
            Class::Invalid,
            "{limit} {window:?}"
        );
    }
    for (max_burst, count, period) in [
        (u64::MAX, 1, second),
        (1, 0, second),
        (1, u64::MAX, second),
        (1, 1, Duration::ZERO),
        // It would take two years to fill.
        (1, 1, year),
    ] {
        let throttle = Throttle {
            key: Bytes::from_static(b"ann"),
            max_burst,
            count,
            period,
            quantity: 1,
        };
        let throttled = limits.throttle.ask(throttle).await.unwrap();
        assert_eq!(
            throttled.unwrap_err().class(),
            Class::Invalid,
            "{max_burst} {count} {period:?}"
        );
    }
    daemon.stop().await;
}
