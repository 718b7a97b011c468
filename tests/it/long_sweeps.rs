//! A sweep may take longer than it is announced for: it is announced again in time, here and elsewhere, until it is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_rt::Arbiter;
use cachewarden::cache::{Origin, Sweeps};
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::invalidation::{
    Indexes, InvalidateTargets, InvalidationActor, InvalidationHandle, InvalidationParts,
};
use cachewarden::keyspace::{Pattern, Targets};
use cachewarden::store::Store;
use cachewarden::supervisor::{ChildSpec, RestartPolicy, Supervisor};
use cachewarden::telemetry::Metrics;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config_without_postgres};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::raw;

/// With this after each exchange, a sweep of so many keys takes minutes.
const KEYS: usize = 10_000;
const DELAY: Duration = Duration::from_millis(20);
const SWEEPS: &str = "cachewarden:sweeps";
const INDEX: &str = "cachewarden:index:calc:";

/// The one announced sweep: its entry, with its id and pattern.
async fn entry(raw: &mut Client) -> String {
    eventually(DEADLINE, async || {
        match raw.command(&["ZRANGE", SWEEPS, "0", "-1"]).await {
            Value::Array(entries) if entries.len() == 1 => Ok(entries[0].text().to_owned()),
            other => Err(other),
        }
    })
    .await
}

fn settings(url: &str, is_indexed: bool) -> String {
    let more = format!(
        "redis.timeout = \"5s\"\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\nindex = {is_indexed}\n"
    );
    config_without_postgres(url, &more)
}

/// Values, listed in a whole index if there is one.
async fn fill(redis: &Redis, is_indexed: bool) {
    let daemon = InProcess::start(&settings(&redis.redis_url(), is_indexed)).await;
    daemon.warden.invalidate(&["calc:*"]).await.unwrap();
    let keys: Vec<String> = (0..KEYS).map(|n| format!("calc:{n}")).collect();
    let values: Vec<(&str, &usize)> = keys.iter().map(|key| (key.as_str(), &KEYS)).collect();
    daemon.warden.mset(&values, None).await.unwrap();
    daemon.stop().await;
    let indexed = raw(redis).await.command(&["EXISTS", INDEX]).await;
    assert_eq!(indexed, Value::Int(is_indexed.into()));
}

#[actix_rt::test]
async fn a_sweep_that_lasts_is_announced_again_here_and_elsewhere_whether_it_walks_or_has_an_index()
{
    for is_indexed in [false, true] {
        let redis = redis();
        fill(&redis, is_indexed).await;
        let link = Proxy::before_port(redis.port()).await;
        let mut raw = raw(&redis).await;
        let url = format!("redis://{}", link.address());
        let config = Config::from_toml(&settings(&url, is_indexed)).unwrap();
        let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
        actix_rt::spawn(store.clone().keep());
        store.up().wait_for(|up| *up).await.unwrap();
        let sweeps = Sweeps::default();
        let parts = InvalidationParts::new(
            config.invalidation.clone(),
            config.scope(),
            store,
            Arc::new([]),
            sweeps.clone(),
            Metrics::new(),
        )
        .with_indexes(Indexes::of(&config.caches, &config.namespaces))
        .with_announce_every(Duration::ZERO);
        let handle = InvalidationHandle::unbound();
        let (arbiter, bound) = (Arbiter::try_new().expect("a thread"), handle.clone());
        let mut supervisor = Supervisor::new();
        supervisor.start(ChildSpec::new(
            "invalidation",
            arbiter.handle(),
            RestartPolicy::default(),
            move || InvalidationActor::new(parts.clone()),
            move |address| InvalidationActor::bind(&bound, address),
        ));
        supervisor.all_up().await.unwrap();
        link.delay(DELAY);
        let mut targets = Targets::default();
        config.scope().add(b"calc:*", &mut targets).unwrap();
        let origin = Origin::Command;
        let ask = handle.invalidate.clone();
        actix_rt::spawn(async move { ask.ask(InvalidateTargets { targets, origin }).await });

        // As if it had expired elsewhere, and here: it is back, under the same id, while the sweep goes on.
        let announced = entry(&mut raw).await;
        raw.command(&["DEL", SWEEPS]).await;
        assert_eq!(entry(&mut raw).await, announced);
        let id = announced.split(' ').next().unwrap().parse().unwrap();
        let pattern = Pattern::parse(b"calc:*").unwrap();
        sweeps.announce(id, &pattern, Duration::ZERO);
        eventually(DEADLINE, async || {
            let is_doubted = sweeps.doubts(b"calc:1", Instant::now());
            is_doubted.then_some(()).ok_or("it is given out")
        })
        .await;
        let left = raw.command(&["DBSIZE"]).await;
        assert!(matches!(left, Value::Int(1_000..)), "it is over: {left:?}");
        supervisor.stop(DEADLINE).await;
        arbiter.stop();
    }
}
