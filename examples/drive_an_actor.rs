//! Drives a single cache actor through its handles, without a daemon around it.
//!
//! A handle outlives the actor's restarts and never leaves the asker waiting: `ask` gives the answer, or says *overloaded*,
//! *unavailable* or *timed out*. `cargo run --example drive_an_actor` uses `$REDIS_URL`, or a private server.

#![allow(clippy::print_stdout, reason = "an example shows what it got")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use actix_rt::Arbiter;
use bytes::Bytes;
use cachewarden::cache::{
    CacheActor, CacheHandle, CacheParts, Inspect, Invalidate, Means, Put, Read, Scripts, Spaces,
};
use cachewarden::config::Config;
use cachewarden::store::Store;
use cachewarden::supervisor::{ChildSpec, RestartPolicy, Supervisor};
use cachewarden::telemetry::Metrics;
use tokio::runtime::Handle;

#[actix_rt::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (url, _redis) = support::redis()?;
    let text = format!("redis.url = {url:?}\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"");
    let config = Config::from_toml(&text)?;

    // A connection to Redis, and its keeper, which connects and reconnects.
    let store = Store::siblings(&config.redis, 1)?.remove(0);
    let mut up = store.up();
    actix_rt::spawn(store.clone().keep());
    up.wait_for(|up| *up).await?;

    // First the handle, which nobody answers yet; then the actor, started and kept running by the supervisor.
    let cache = CacheHandle::unbound(Duration::from_secs(5));
    let spaces = Spaces::of(&config.caches, &config.namespaces);
    let (scripts, metrics) = (Arc::new(Scripts::default()), Metrics::new());
    let parts = CacheParts {
        means: Means::new(spaces, store, scripts, None, Handle::current(), metrics),
        shard: 0,
        shards: Arc::from([cache.clone()]),
    };
    let bound = cache.clone();
    let mut supervisor = Supervisor::new();
    supervisor.start(ChildSpec::new(
        "cache",
        Arbiter::current(),
        RestartPolicy::default(),
        move || CacheActor::new(parts.clone()),
        move |address| CacheActor::bind(&bound, address),
    ));
    supervisor.all_up().await?;

    // Messages are public types. A key is routed first: messages carry it with its space.
    let key = config.router().route(b"calc:answer")?;
    let key = key.with_key(Bytes::from_static(b"calc:answer"));
    let values = vec![(key.clone(), Bytes::from_static(b"42"), None)];
    cache.put.ask(Put { values }).await??;
    let keys = vec![key];
    let left = cache.inspect.ask(Inspect { keys: keys.clone() }).await??;
    let read = Read {
        keys: keys.clone().into(),
        with_age: true,
    };
    println!("{left:?}, {:?}", cache.read.ask(read).await?);
    let removed = cache.invalidate.ask(Invalidate::keys(keys)).await??;
    println!("{removed} removed");

    supervisor.stop(Duration::from_secs(5)).await;
    Ok(())
}
