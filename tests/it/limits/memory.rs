//! Refusals that are remembered, and what undoes them.

use cachewarden::config::{Config, LimitDefaults};
use cachewarden::rate_limit::Reload;

use super::super::support::DEADLINE;
use super::super::support::daemon::{InProcess, config_without_postgres};
use super::super::support::eventually::eventually;
use super::super::support::monitor::Monitor;
use super::super::support::resp::{Client, Value};
use super::super::support::servers::redis;
use super::super::support::world::{figure, raw};
use super::{allowed, ask, asked, check, daemon, peek, refund, release, reset};
use cachewarden::rate_limit::Ask;

const LIMITS: &str = r#"
    [limits.api]
    algorithm = "token_bucket"
    limit = 5
    window = "365d"

    [limits.other]
    algorithm = "sliding_window"
    limit = 100
    window = "365d"

    [limits.window]
    algorithm = "sliding_window"
    limit = 5
    window = "365d"

    [limits.flights]
    algorithm = "concurrency"
    limit = 1
    lease = "1h"

    [limits.shadow]
    algorithm = "fixed_window"
    limit = 1
    window = "365d"
    shadow = true
"#;

const KNOWN: &str = "cachewarden_limit_refusals_known_total";
const REMEMBERED: &str = "cachewarden_limits_remembered";

/// Commands that have named a limit's key since it was asked last.
async fn asked_of_redis(monitor: &mut Monitor) -> usize {
    let commands = monitor.commands().await.into_iter();
    commands
        .filter(|command| command.names("cachewarden:limit:"))
        .count()
}

/// Until a refusal of `subject` by `limit` is answered from memory: from then on what is given back is heard.
async fn until_remembered(daemon: &InProcess, limit: &str, subject: &str) {
    let mut client = daemon.client().await;
    let before = figure(&mut client, KNOWN, "").await;
    eventually(DEADLINE, async || {
        let refused = check(&daemon.warden, limit, subject, 1).await;
        assert!(!refused.allowed);
        match figure(&mut client, KNOWN, "").await {
            known if known > before => Ok(()),
            known => Err(known),
        }
    })
    .await;
}

#[tokio::test]
async fn who_is_over_its_limit_costs_redis_nothing_more() {
    let redis = redis();
    let (daemon, mut monitor) = (daemon(&redis, LIMITS).await, Monitor::start(&redis).await);
    let warden = &daemon.warden;
    assert_eq!(allowed(warden, "api", "ann", 6).await, 5);
    until_remembered(&daemon, "api", "ann").await;
    assert_ne!(asked_of_redis(&mut monitor).await, 0);
    assert_eq!(allowed(warden, "api", "ann", 1000).await, 0);
    // Where it is one of several, too; and who only looks is told.
    assert!(!check(warden, "other,api", "ann", 1).await.allowed);
    let seen = peek(warden, "api", "ann").await;
    assert!(!seen.allowed && seen.remaining == 0, "{seen:?}");
    assert!(seen.retry_after > Some(DEADLINE) && seen.reset_after > DEADLINE);
    assert_eq!(asked_of_redis(&mut monitor).await, 0);
    // Who only looks is not counted as refused, as when Redis is asked.
    let told = async || {
        let label = "limit=\"api\",decision=\"refused\"";
        let mut client = daemon.client().await;
        let told = figure(&mut client, "cachewarden_limit_decisions_total", label);
        told.await
    };
    let before = told().await;
    peek(warden, "api", "ann").await;
    assert_eq!(told().await, before);
    // What asks for another amount has to wait for another time.
    let never = check(warden, "api", "ann", 6).await;
    assert_eq!((never.allowed, never.retry_after), (false, None));
    // Somebody else is asked for.
    assert!(check(warden, "api", "bob", 1).await.allowed);
    assert_ne!(asked_of_redis(&mut monitor).await, 0);
    // Less may fit.
    assert_eq!(refund(warden, "api", "ann", 2).await, Ok(2));
    assert!(!check(warden, "api", "ann", 3).await.allowed);
    assert!(check(warden, "api", "ann", 2).await.allowed);
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_given_back_on_one_daemon_is_heard_on_the_others() {
    let redis = redis();
    let (first, second) = (daemon(&redis, LIMITS).await, daemon(&redis, LIMITS).await);
    assert_eq!(allowed(&first.warden, "api", "ann", 6).await, 5);
    for round in 0..20 {
        until_remembered(&first, "api", "ann").await;
        let given = match round % 2 {
            0 => refund(&second.warden, "api", "ann", 1)
                .await
                .map(|given| given == 1),
            _ => reset(&second.warden, "api", "ann").await,
        };
        assert_eq!(given, Ok(true));
        let taken = eventually(DEADLINE, async || {
            let decision = check(&first.warden, "api", "ann", 1).await;
            if decision.allowed {
                Ok(decision)
            } else {
                Err(decision)
            }
        });
        taken.await;
        allowed(&first.warden, "api", "ann", 5).await;
    }
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn a_daemon_that_cannot_hear_remembers_nothing() {
    let redis = redis();
    let (daemon, mut raw) = (daemon(&redis, LIMITS).await, raw(&redis).await);
    allowed(&daemon.warden, "api", "ann", 5).await;
    let mut client = daemon.client().await;
    for _ in 0..5 {
        until_remembered(&daemon, "api", "ann").await;
        assert_eq!(figure(&mut client, REMEMBERED, "").await, 1);
        let subscribing = async |raw: &mut Client, may: &str| {
            raw.command(&["ACL", "SETUSER", "default", may]).await;
        };
        subscribing(&mut raw, "-subscribe").await;
        raw.command(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
        eventually(DEADLINE, async || {
            match figure(&mut client, REMEMBERED, "").await {
                0 => Ok(()),
                remembered => Err(remembered),
            }
        })
        .await;
        assert_eq!(allowed(&daemon.warden, "api", "ann", 20).await, 0);
        assert_eq!(figure(&mut client, REMEMBERED, "").await, 0);
        subscribing(&mut raw, "+subscribe").await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn requests_in_flight_are_asked_for_each_time_and_what_is_only_counted_too() {
    let redis = redis();
    let (first, second) = (daemon(&redis, LIMITS).await, daemon(&redis, LIMITS).await);
    allowed(&first.warden, "api", "ann", 5).await;
    until_remembered(&first, "api", "ann").await;
    let taken = check(&first.warden, "flights", "ann", 1).await;
    for _ in 0..10 {
        assert!(!check(&first.warden, "flights", "ann", 1).await.allowed);
    }
    let id = taken.id.unwrap();
    assert_eq!(
        release(&second.warden, "flights", "ann", &id).await,
        Ok(true)
    );
    assert_eq!(
        release(&second.warden, "flights", "ann", &id).await,
        Ok(false)
    );
    let own = |id| asked("flights", "ann", 1, Some(id), Ask::Take);
    for id in ["mine", "mine", "mine"] {
        let renewed = ask(&first.warden, own(id)).await.unwrap();
        assert!(renewed.allowed && renewed.id.unwrap() == "mine");
    }
    assert!(!ask(&first.warden, own("yours")).await.unwrap().allowed);
    // Shadow: counted, and never refused.
    assert_eq!(allowed(&first.warden, "shadow", "ann", 10).await, 10);
    let mut client = first.client().await;
    let told = async |client: &mut Client, decision: &str| {
        let label = format!("limit=\"shadow\",decision=\"{decision}\"");
        figure(client, "cachewarden_limit_decisions_total", &label).await
    };
    assert_eq!(told(&mut client, "allowed").await, 1);
    assert_eq!(told(&mut client, "shadowed").await, 9);
    first.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn limits_declared_anew_keep_their_counts_and_forget_what_they_refused() {
    let redis = redis();
    let (daemon, mut raw) = (daemon(&redis, LIMITS).await, raw(&redis).await);
    for limit in ["api", "window", "flights"] {
        allowed(&daemon.warden, limit, "ann", 6).await;
    }
    until_remembered(&daemon, "api", "ann").await;
    until_remembered(&daemon, "window", "ann").await;
    let raised = LIMITS
        .replace("limit = 5\n", "limit = 7\n")
        .replace("\"concurrency\"", "\"fixed_window\"");
    let raised = raised.replace("lease = \"1h\"", "window = \"365d\"");
    let text = config_without_postgres(&redis.redis_url(), &raised);
    let limits = Config::from_toml(&text).unwrap().limits;
    daemon
        .warden
        .rate_limit()
        .reload
        .ask(Reload {
            limits,
            defaults: LimitDefaults::default(),
        })
        .await
        .unwrap();
    assert_eq!(allowed(&daemon.warden, "window", "ann", 10).await, 2);
    // Of a bucket the time is kept at which it is full again: in a year, as before.
    assert_eq!(allowed(&daemon.warden, "api", "ann", 10).await, 0);
    // What another algorithm left is no count of this one, and is replaced.
    assert_eq!(allowed(&daemon.warden, "flights", "ann", 3).await, 1);
    let kind = raw
        .command(&["TYPE", "cachewarden:limit:flights:ann"])
        .await;
    assert_eq!(kind, Value::Simple("string".to_owned()));
    daemon.stop().await;
}
