//! How many loaders of programs run at once.

use cachewarden::Warden;
use cachewarden::cache::CacheError;
use cachewarden::repository::LoadError;
use tokio::task::JoinSet;

use super::library::{Gated, told};
use super::support::DEADLINE;
use super::support::daemon::{InProcess, config_without_postgres};
use super::support::eventually::eventually;
use super::support::servers::redis;

const NAMESPACES: &str = r#"
    [namespaces.calc]
    prefix = "calc:"
    ttl = "5m"
    load_timeout = "20s"
    max_loads = 4

    [namespaces.other]
    prefix = "other:"
    ttl = "5m"
    max_loads = 4
"#;

/// Lets so many loaders run side by side, and finds one more refused at once; afterwards it runs.
async fn assert_most(warden: &Warden, most: u64) {
    let gated = Gated::new();
    let mut callers = JoinSet::new();
    for key in 1..=most {
        let (warden, gated) = (warden.clone(), gated.clone());
        callers.spawn(async move { gated.get(&warden, &format!("calc:{key}")).await });
    }
    gated.until_called(most).await;
    let open = Gated::new();
    open.open();
    for _ in 0..10 {
        let refused = told(open.get(warden, "calc:0").await);
        let busy = CacheError::Load(LoadError::Busy {
            cache: "calc".into(),
            limit: 4,
        });
        assert_eq!(refused, busy);
    }
    // It costs the neighbours nothing.
    assert_eq!(open.get(warden, "other:0").await.unwrap(), Some(1));
    gated.open();
    for loaded in callers.join_all().await {
        assert!(loaded.unwrap().is_some());
    }
    let loaded = eventually(DEADLINE, async || open.get(warden, "calc:0").await).await;
    assert_eq!(loaded, Some(2));
}

#[tokio::test]
async fn without_redis_a_loader_beyond_max_loads_is_refused_at_once() {
    let mut redis = redis();
    let text = config_without_postgres(&redis.redis_url(), NAMESPACES);
    let daemon = InProcess::start(&text).await;
    redis.kill().unwrap();
    // From here on the breaker is open: what follows is about loaders alone.
    let first = Gated::new();
    first.open();
    assert_eq!(first.get(&daemon.warden, "calc:1").await.unwrap(), Some(1));
    assert_most(&daemon.warden, 4).await;
    daemon.stop().await;
}

#[tokio::test]
async fn with_redis_as_many_loaders_run_as_keys_of_a_cache_may_wait() {
    let redis = redis();
    let text = config_without_postgres(&redis.redis_url(), NAMESPACES);
    let daemon = InProcess::start(&text).await;
    assert_most(&daemon.warden, 4 * 64).await;
    daemon.stop().await;
}
