//! What is published and not heard: how that is found out, and what follows from it.

use std::sync::Arc;

use actix_rt::Arbiter;
use cachewarden::cache::Sweeps;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::invalidation::{InvalidationActor, InvalidationHandle, InvalidationParts};
use cachewarden::store::Store;
use cachewarden::supervisor::{ChildSpec, RestartPolicy, Supervisor};
use cachewarden::telemetry::Metrics;

use super::pubsub::{deaf, heard_by, set, there};
use super::support::DEADLINE;
use super::support::daemon::{InProcess, config_without_postgres};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::{leave_heartbeat, raw};

const CALC: &str = "
    [namespaces.calc]
    prefix = \"calc:\"
    ttl = \"5m\"
    [invalidation]
    on_deaf = \"invalidate\"
";

async fn until_gone(raw: &mut Client, key: &str) {
    eventually(DEADLINE, async || {
        let seen = there(raw, &[key]).await;
        (seen == Value::Int(0)).then_some(()).ok_or(seen)
    })
    .await;
}

#[tokio::test]
async fn a_subscription_that_the_server_of_before_still_holds_is_found_out_and_replaced() {
    let (before, now) = (redis(), redis());
    let (mut raw_before, mut raw_now) = (raw(&before).await, raw(&now).await);
    let proxy = Proxy::before_port(before.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let daemon = InProcess::start(&config_without_postgres(&url, CALC)).await;
    heard_by(&mut raw_before, 1).await;
    proxy.lead_to(now.port());
    set(&mut raw_now, &["calc:1"]).await;
    // All but the subscription, which answers whatever it is asked.
    let kill = ["CLIENT", "KILL", "TYPE", "normal"];
    assert_ne!(raw_before.command(&kill).await, Value::Int(0));
    eventually(2 * DEADLINE, async || {
        let heard = raw_now
            .command(&["PUBSUB", "NUMSUB", "cache:invalidate"])
            .await;
        let Value::Array(heard) = heard else {
            panic!("{heard:?}")
        };
        (heard[1] == Value::Int(1)).then_some(()).ok_or(heard)
    })
    .await;
    heard_by(&mut raw_before, 0).await;
    // Since something was last known to come back, not since it was given up.
    let mut client = daemon.client().await;
    eventually(DEADLINE, async || {
        let seconds = deaf(&mut client).await;
        (seconds >= 10.0).then_some(()).ok_or(seconds)
    })
    .await;
    until_gone(&mut raw_now, "calc:1").await;
    daemon.stop().await;
}

#[actix_rt::test]
async fn an_actor_that_begins_anew_makes_good_for_what_it_may_have_missed() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let config = Config::from_toml(&config_without_postgres(&redis.redis_url(), CALC)).unwrap();
    let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
    actix_rt::spawn(store.clone().keep());
    let parts = InvalidationParts::new(
        config.invalidation.clone(),
        config.scope(),
        store,
        Arc::from([]),
        Sweeps::default(),
        Metrics::new(),
    );
    let mut listening = parts.listening();
    for life in 1..=2 {
        let (mut supervisor, parts) = (Supervisor::new(), parts.clone());
        let handle = InvalidationHandle::unbound();
        set(&mut raw, &["calc:1"]).await;
        supervisor.start(ChildSpec::new(
            "invalidation",
            Arbiter::current(),
            RestartPolicy::default(),
            move || InvalidationActor::new(parts.clone()),
            move |address| InvalidationActor::bind(&handle, address),
        ));
        heard_by(&mut raw, 1).await;
        listening.wait_for(|listening| *listening).await.unwrap();
        match life {
            // Nobody knows what was before the first.
            1 => assert_eq!(there(&mut raw, &["calc:1"]).await, Value::Int(1)),
            _ => until_gone(&mut raw, "calc:1").await,
        }
        assert_eq!(supervisor.stop(DEADLINE).await, [""; 0]);
        heard_by(&mut raw, 0).await;
    }
}

/// Waits until a daemon other than `those` says that it has missed nothing; gives its name.
async fn sure(redis: &Redis, those: &[String]) -> String {
    let mut words = raw(redis).await;
    words.command(&["SUBSCRIBE", "cachewarden:sweeps"]).await;
    let hearing = async {
        loop {
            let Value::Array(message) = words.read().await.unwrap() else {
                panic!("no message")
            };
            let text: Vec<&str> = message[2].text().split(' ').collect();
            if let ["echo", by, _, covers] = text[..]
                && covers.contains(|digit| digit != '0')
                && !those.iter().any(|other| other == by)
            {
                return by.to_owned();
            }
        }
    };
    tokio::time::timeout(DEADLINE, hearing).await.unwrap()
}

#[tokio::test]
async fn a_daemon_that_starts_alone_invalidates_everything_and_one_beside_others_nothing() {
    let redis = redis();
    let mut raw = raw(&redis).await;
    let config = config_without_postgres(&redis.redis_url(), CALC);
    set(&mut raw, &["calc:1"]).await;
    leave_heartbeat(&mut raw, &["calc:"]).await;
    let alone = InProcess::start(&config).await;
    until_gone(&mut raw, "calc:1").await;
    let first = sure(&redis, &[]).await;
    set(&mut raw, &["calc:1"]).await;
    let beside = InProcess::start(&config).await;
    let second = sure(&redis, std::slice::from_ref(&first)).await;
    assert_eq!(there(&mut raw, &["calc:1"]).await, Value::Int(1));
    // What the others listen to is not what this one does.
    let more = "\n[namespaces.more]\nprefix = \"more:\"\nttl = \"5m\"\n";
    let other = InProcess::start(&format!("{config}{more}")).await;
    sure(&redis, &[first, second]).await;
    assert_eq!(there(&mut raw, &["calc:1"]).await, Value::Int(0));
    for daemon in [alone, beside, other] {
        daemon.stop().await;
    }
}
