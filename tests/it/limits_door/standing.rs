//! Refusals that stand are told at the door: nobody is asked, until they are over or forgotten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cachewarden::config::{Algorithm, Limit, OnRedisError};
use cachewarden::rate_limit::{Rule, Verdict};
use cachewarden::telemetry::Metrics;

use super::scripted::Stage;
use super::typed::LIMITS;
use crate::support::DEADLINE;
use crate::support::daemon::{InProcess, config_without_postgres};
use crate::support::eventually::eventually;
use crate::support::resp::{Client, Value};
use crate::support::servers::redis;
use crate::support::world::figure;

const HOUR: Duration = Duration::from_secs(3600);

/// Of five an hour.
fn declared() -> Rule {
    let limit = Limit {
        name: "api".to_owned(),
        algorithm: Algorithm::FixedWindow { window: HOUR },
        limit: 5,
        on_redis_error: OnRedisError::Allow,
        shadow: false,
    };
    Rule::declared(&limit, &Metrics::new())
}

/// From now on ann is refused what costs so much, or more.
fn refuse(stage: &Stage, rule: Rule, cost: u64) {
    let verdict = Verdict {
        fits: false,
        remaining: 1,
        retry_after: Some(HOUR),
        reset_after: 2 * HOUR,
    };
    let (rule, mark) = (Arc::new(rule.clone()), stage.denied.mark(&rule, b"ann"));
    stage
        .denied
        .remember(mark, &rule, &verdict, cost, Instant::now());
}

#[actix_rt::test]
async fn whom_a_refusal_stands_against_is_told_in_its_place_and_the_actor_is_asked_for_the_others()
{
    let stage = Stage::open();
    stage.denied.hears(true);
    refuse(&stage, declared(), 2);
    let mut client = stage.client("2").await;
    let refused: &[&str] = &["RATE.CHECK", "api", "ann", "COST", "2"];
    let replies = client
        .pipeline(&[
            &["RATE.CHECK", "api", "bob"],
            refused,
            &["RATE.CHECK", "api", "ann"],
            &["RATE.PEEK", "api", "ann", "COST", "2"],
            &["RATE.CHECK", "day", "ann", "COST", "2"],
            &["RATE.CHECK", "day,api", "ann", "COST", "2"],
        ])
        .await;
    for place in [1, 3] {
        let Value::Array(elements) = &replies[place] else {
            panic!("{:?}", replies[place])
        };
        assert_eq!(elements[..3], [Value::Int(0), Value::Int(5), Value::Int(1)]);
        assert!(
            matches!(elements[3], Value::Int(1..=3_600_000)),
            "{elements:?}"
        );
        assert!(
            matches!(elements[4], Value::Int(3_600_000..=7_200_000)),
            "{elements:?}"
        );
        assert_eq!(elements[5..], [Value::bulk("api")]);
    }
    let asked = "take 1 api bob + take 1 api ann + take 2 day ann + take 2 day,api ann";
    assert_eq!(stage.seen(), [asked]);
    // All of a batch is known: there is no message.
    client.pipeline(&[refused, refused]).await;
    assert!(stage.seen().is_empty());
    stage.denied.forget(b"api", b"ann");
    client.command(refused).await;
    assert_eq!(stage.seen(), ["take 2 api ann"]);
    stage.close().await;
}

#[actix_rt::test]
async fn what_a_command_is_refused_for_its_own_numbers_is_no_limit_that_others_may_name() {
    let stage = Stage::open();
    stage.denied.hears(true);
    let fixed = Rule::fixed(5, HOUR, OnRedisError::Allow, &Metrics::new()).unwrap();
    let name = fixed.identity.clone();
    refuse(&stage, fixed, 1);
    let mut client = stage.client("2").await;
    client.command(&["RATE.CHECK", &name, "ann"]).await;
    assert_eq!(stage.seen(), [format!("take 1 {name} ann")]);
    stage.close().await;
}

async fn check(client: &mut Client, limits: &str) -> Vec<Value> {
    match client.command(&["RATE.CHECK", limits, "ann"]).await {
        Value::Array(elements) => elements,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_daemon_tells_at_its_door_what_it_was_told_by_redis_until_something_is_given_back() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), LIMITS)).await;
    let mut client = daemon.client().await;
    for left in [2, 1, 0] {
        assert_eq!(
            check(&mut client, "api").await[..3],
            [Value::Int(1), Value::Int(3), Value::Int(left)]
        );
    }
    const KNOWN: &str = "cachewarden_limit_refusals_known_total";
    let stands = async |client: &mut Client| {
        eventually(DEADLINE, async || {
            let before = figure(client, KNOWN, "").await;
            assert_eq!(check(client, "api").await[0], Value::Int(0));
            match figure(client, KNOWN, "").await {
                known if known > before => Ok(()),
                known => Err(known),
            }
        })
        .await;
    };
    stands(&mut client).await;
    let before = figure(&mut client, KNOWN, "").await;
    for _ in 0..100 {
        let refused = check(&mut client, "api").await;
        assert_eq!(
            (refused.len(), &refused[0], refused[5].text()),
            (6, &Value::Int(0), "api")
        );
    }
    assert_eq!(figure(&mut client, KNOWN, "").await, before + 100);
    // In one pipeline: what is given back is there for the check behind it.
    let replies = client
        .pipeline(&[
            &["RATE.CHECK", "api", "ann"],
            &["RATE.REFUND", "api", "ann", "1"],
            &["RATE.CHECK", "api", "ann"],
        ])
        .await;
    let allowed =
        |reply: &Value| matches!(reply, Value::Array(elements) if elements[0] == Value::Int(1));
    assert!(!allowed(&replies[0]) && allowed(&replies[2]), "{replies:?}");
    // One that is refused is not in flight: no id is told, whether Redis was asked or not.
    stands(&mut client).await;
    assert_eq!(check(&mut client, "api,jobs").await.len(), 6);
    daemon.stop().await;
}
