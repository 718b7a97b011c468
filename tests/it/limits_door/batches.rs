//! Checks of one pipeline: one message as long as nothing else comes between them, and answers in order.

use cachewarden::config::Config;
use cachewarden::rate_limit::{Declared, RateLimitHandle};
use cachewarden::supervisor::Handle;
use cachewarden::telemetry::Metrics;

use super::scripted::Stage;
use crate::support::DEADLINE;
use crate::support::daemon::config_without_postgres;
use crate::support::resp::Value;

/// What the scripted actor has told as remaining.
fn place(reply: &Value) -> i64 {
    let Value::Array(elements) = reply else {
        panic!("{reply:?}")
    };
    let Value::Int(place) = elements[2] else {
        panic!("{reply:?}")
    };
    place
}

#[actix_rt::test]
async fn checks_that_follow_one_another_are_one_message_and_anything_else_parts_them() {
    let stage = Stage::open();
    let mut client = stage.client("2").await;
    let replies = client
        .pipeline(&[
            &["RATE.CHECK", "api", "a"],
            &["RATE.CHECK", "api,day", "b", "COST", "3"],
            &["RATE.PEEK", "api", "a"],
            &["PING"],
            &["RATE.CHECK", "api", "c"],
            &["RATE.CHECK", "api", "d"],
            &["RATE.RESET", "api", "a"],
            &["RATE.CHECK", "api", "e"],
            &["GET", "nothing"],
            &["RATE.CHECK", "api", "f"],
        ])
        .await;
    let places = [0, 1, 2, 4, 5, 7, 9].map(|at: usize| place(&replies[at]));
    assert_eq!(places, [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(replies[3].text(), "PONG");
    assert_eq!(replies[6], Value::Int(1));
    assert!(replies[8].error().starts_with("ERR no cache is declared"));
    assert_eq!(
        stage.seen(),
        [
            "take 1 api a + take 3 api,day b + peek 1 api a",
            "take 1 api c + take 1 api d",
            "reset api a",
            "take 1 api e",
            "take 1 api f",
        ]
    );
    stage.close().await;
}

#[actix_rt::test]
async fn a_refusal_among_checks_has_its_place_and_does_not_part_them() {
    let stage = Stage::open();
    let mut client = stage.client("2").await;
    let replies = client
        .pipeline(&[
            &["RATE.CHECK", "api", ""],
            &["RATE.CHECK", "api", "a"],
            &["RATE.CHECK", "api", "a", "COST", "0"],
            &["RATE.CHECK", "away", "a"],
            &["RATE.CHECK", "api", "b"],
        ])
        .await;
    assert_eq!(replies[0].error(), "BADKEY subject is empty");
    assert_eq!(place(&replies[1]), 1);
    assert!(replies[2].error().starts_with("ERR COST '0'"));
    assert!(replies[3].error().starts_with("UNAVAILABLE 'away' of 'a'"));
    assert_eq!(place(&replies[4]), 2);
    assert_eq!(
        stage.seen(),
        ["take 1 api a + take 1 away a + take 1 api b"]
    );
    stage.close().await;
}

#[actix_rt::test]
async fn a_long_pipeline_goes_in_parts_and_each_check_has_its_answer() {
    let stage = Stage::open();
    let mut client = stage.client("3").await;
    let subjects: Vec<String> = (0..2_000).map(|n| format!("user:{n}")).collect();
    let checks: Vec<[&str; 3]> = subjects
        .iter()
        .map(|subject| ["RATE.CHECK", "api", subject.as_str()])
        .collect();
    let checks: Vec<&[&str]> = checks.iter().map(<[&str; 3]>::as_slice).collect();
    let replies = client.pipeline(&checks).await;
    let places: Vec<i64> = replies.iter().map(place).collect();
    assert_eq!(places, (1..=2_000).collect::<Vec<_>>());
    let seen = stage.seen();
    let largest = seen.iter().map(|line| line.matches("take").count()).max();
    assert!(largest <= Some(256), "{largest:?}");
    stage.close().await;
}

#[actix_rt::test]
async fn words_typed_by_hand_are_checks_like_any_other() {
    let stage = Stage::open();
    let mut client = stage.client("2").await;
    let typed = b"rate.check api \"two words\"\r\nRATE.CHECK api b cost 2\r\nPING\r\n";
    client.send(typed).await.unwrap();
    for expected in [1, 2] {
        assert_eq!(place(&client.read().await.unwrap()), expected);
    }
    assert_eq!(client.read().await.unwrap().text(), "PONG");
    assert_eq!(stage.seen(), ["take 1 api two words", "take 2 api b"]);
    stage.close().await;
}

/// Limits that say one thing and the other while nobody can be asked.
const MEANWHILE: &str = r#"
    [limits.api]
    algorithm = "fixed_window"
    limit = 5
    window = "1m"
    on_redis_error = "allow"

    [limits.day]
    algorithm = "fixed_window"
    limit = 5
    window = "1m"
    on_redis_error = "deny"
"#;

#[actix_rt::test]
async fn while_the_actor_restarts_checks_are_answered_as_the_limits_are_declared() {
    let config = config_without_postgres("redis://127.0.0.1:1", MEANWHILE);
    let config = Config::from_toml(&config).unwrap();
    let handle = RateLimitHandle::unbound(Declared::new(&config, Metrics::new()));
    let stage = Stage::before(handle.clone(), &["api", "day"]);
    handle.check.unbind();
    handle.fixed.unbind();
    handle.throttle.unbind();
    let mut client = stage.client("2").await;
    let rows: [(&[&str], i64); 6] = [
        (&["RATE.CHECK", "api", "a"], 1),
        (&["RATE.CHECK", "day", "a"], 0),
        (&["RATE.CHECK", "api,day", "a"], 0),
        (&["RATE.PEEK", "api", "a"], 1),
        (&["RATE.FIXED", "a", "5", "60"], 1),
        // This one says whether it was limited.
        (&["CL.THROTTLE", "a", "5", "5", "60"], 0),
    ];
    let replies = client.pipeline(&rows.map(|(words, _)| words)).await;
    for ((words, first), reply) in rows.iter().zip(replies) {
        let Value::Array(parts) = &reply else {
            panic!("{words:?}: {reply:?}")
        };
        assert_eq!(parts[0], Value::Int(*first), "{words:?}");
    }
    stage.close().await;
}

#[actix_rt::test]
async fn all_checks_of_a_batch_are_told_that_the_actor_is_overloaded() {
    let mut full = RateLimitHandle::unbound(Declared::default());
    full.check = Handle::unbound("rate-limit", 0, DEADLINE);
    let stage = Stage::before(full.clone(), &["api"]);
    let mut client = stage.client("2").await;
    let check: &[&str] = &["RATE.CHECK", "api", "a"];
    for reply in client.pipeline(&[check, check]).await {
        let cause = "`rate-limit` has 0 requests in flight, its limit";
        let expected = format!("BUSY 'api' of 'a': {cause}; ask again");
        assert_eq!(reply, Value::Error(expected));
    }
    stage.close().await;
}
