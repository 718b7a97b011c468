//! Caches what a program computes itself: a hundred callers, one computation, whichever daemon they ask.
//!
//! `[namespaces.*]` holds keys without a query; the program brings the loader. Two daemons on one Redis stand for two
//! instances of a service.
//!
//! ```text
//! cargo run --example get_or_load        # $REDIS_URL, or a private server
//! ```

#![allow(clippy::print_stdout, reason = "an example shows what it got")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cachewarden::Warden;
use cachewarden::config::Config;
use tokio::task::JoinSet;

const NAMESPACE: &str = r#"
[namespaces.prime]
prefix = "primes:"
ttl = "5m"
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (redis_url, _redis) = support::redis()?;
    let config = format!("redis.url = {redis_url:?}\nresp.listen = [\"127.0.0.1:0\"]\n{NAMESPACE}");
    let wardens = [
        Warden::start(Config::from_toml(&config)?).await?,
        Warden::start(Config::from_toml(&config)?).await?,
    ];
    // A Redis of the environment may hold the value from the last time.
    wardens[0].invalidate(&["primes:below:200000"]).await?;

    let computations = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..100 {
        let (warden, computations) = (wardens[caller % 2].clone(), Arc::clone(&computations));
        callers.spawn(async move {
            // May be called again, if an invalidation outdates its first result: it must begin anew each time.
            let loader = move || {
                computations.fetch_add(1, Ordering::Relaxed);
                async { Ok(Some(primes_below(200_000))) }
            };
            let life = Duration::from_secs(60);
            warden
                .get_or_load("primes:below:200000", life, loader)
                .await
        });
    }
    while let Some(answer) = callers.join_next().await {
        assert_eq!(answer??, Some(17_984));
    }
    let computations = computations.load(Ordering::Relaxed);
    println!("17984 primes: 100 callers of two daemons, {computations} computation");
    for warden in wardens {
        warden.stop().await;
    }
    Ok(())
}

fn primes_below(end: u32) -> usize {
    let is_prime = |n: &u32| {
        (2..)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    (2..end).filter(is_prime).count()
}
