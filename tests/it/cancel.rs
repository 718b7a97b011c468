//! A sweep can be given up: by an operator, and by the end of its daemon.

use cachewarden::Ended;
use cachewarden::cli::demo::servers::Redis;

use std::time::Duration;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config_without_postgres};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::{count, figure, raw};
use super::sweeps::{fill, sweeping_client};

const KEYS: u32 = 1_000_000;
/// With this after each exchange, a pass through so many keys takes minutes.
const DELAY: Duration = Duration::from_millis(20);

/// A daemon whose sweeps are slow while the proxy says so.
pub(super) async fn slow(redis: &Redis, index: bool) -> (InProcess, Proxy) {
    let proxy = Proxy::before_port(redis.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let more = format!(
        "redis.timeout = \"5s\"\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"\nindex = {index}\n"
    );
    let daemon = InProcess::start(&config_without_postgres(&url, &more)).await;
    proxy.delay(DELAY);
    (daemon, proxy)
}

pub(super) async fn announced(raw: &mut Client) -> Value {
    raw.command(&["ZCARD", "cachewarden:sweeps"]).await
}

async fn left(raw: &mut Client) -> i64 {
    count(raw).await
}

/// Waits until a sweep has removed something.
pub(super) async fn under_way(raw: &mut Client, of: i64) {
    eventually(DEADLINE, async || {
        let left = left(raw).await;
        // Announcements are keys, too.
        (left < of).then_some(()).ok_or(left)
    })
    .await;
}

#[tokio::test]
async fn a_sweep_of_a_million_keys_is_cancelled_in_the_middle_and_others_go_on() {
    let redis = redis();
    let (daemon, proxy) = slow(&redis, false).await;
    let mut raw = raw(&redis).await;
    fill(&mut raw, "calc:", KEYS).await;
    let (mut first, mut second) = (daemon.client().await, daemon.client().await);
    first.send(b"CACHE.INVALIDATE calc:?*\r\n").await.unwrap();
    second.send(b"CACHE.INVALIDATE calc:77*\r\n").await.unwrap();
    under_way(&mut raw, i64::from(KEYS)).await;
    let mut operator = daemon.client().await;
    for (pattern, cancelled) in [("calc:1*", 0), ("other:*", 0), ("calc:\\?*", 1)] {
        let reply = operator.command(&["CACHE.CANCEL", pattern]).await;
        assert_eq!(reply, Value::Int(cancelled), "{pattern}");
    }
    let told = first.read().await.unwrap();
    let line = told.error();
    assert!(
        line.starts_with("UNAVAILABLE the sweep was cancelled"),
        "{line}"
    );
    // The other one is served to its end, and only what it matches is removed from now on.
    proxy.delay(Duration::ZERO);
    let removed = second.read().await.unwrap();
    assert!(matches!(removed, Value::Int(1..=11_111)), "{removed:?}");
    let left = left(&mut raw).await;
    assert!(left > i64::from(KEYS) / 2, "{left}");
    assert_eq!(announced(&mut raw).await, Value::Int(0));
    let pending = figure(&mut operator, "cachewarden_sweeps_pending", "").await;
    assert_eq!(pending, 0);
    daemon.stop().await;
}

#[tokio::test]
async fn a_cancelled_pass_ends_and_withdraws_its_announcement() {
    let redis = redis();
    let (daemon, proxy) = slow(&redis, false).await;
    let mut raw = raw(&redis).await;
    fill(&mut raw, "calc:", 100_000).await;
    let mut client = daemon.client().await;
    client.send(b"CACHE.INVALIDATE calc:*\r\n").await.unwrap();
    under_way(&mut raw, 100_000).await;
    assert_eq!(announced(&mut raw).await, Value::Int(1));
    let mut operator = daemon.client().await;
    assert_eq!(
        operator.command(&["CACHE.CANCEL", "*"]).await,
        Value::Int(1)
    );
    assert!(client.read().await.unwrap().error().contains("cancelled"));
    eventually(DEADLINE, async || {
        let announced = announced(&mut raw).await;
        (announced == Value::Int(0)).then_some(()).ok_or(announced)
    })
    .await;
    eventually(DEADLINE, async || {
        let passes = "cachewarden_sweep_passes_total";
        let cancelled = figure(&mut operator, passes, "cancelled").await;
        (cancelled == 1).then_some(()).ok_or(cancelled)
    })
    .await;
    let kept = left(&mut raw).await;
    assert!(kept > 10_000, "{kept}");
    // Asked for again, it is swept whole.
    proxy.delay(Duration::ZERO);
    let removed = client.command(&["CACHE.INVALIDATE", "calc:*"]).await;
    assert_eq!(removed, Value::Int(kept));
    assert_eq!(left(&mut raw).await, 0);
    let broken = operator.command(&["CACHE.CANCEL", "calc:["]).await;
    assert!(broken.error().starts_with("BADPATTERN"), "{broken:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_sweep_by_an_index_is_cancelled_and_its_index_stays_true() {
    let redis = redis();
    let (daemon, proxy) = slow(&redis, true).await;
    let mut raw = raw(&redis).await;
    fill(&mut raw, "calc:", 100_000).await;
    proxy.delay(Duration::ZERO);
    // Builds the index.
    daemon.warden.invalidate(&["calc:none:*"]).await.unwrap();
    proxy.delay(DELAY);
    let mut client = daemon.client().await;
    client.send(b"CACHE.INVALIDATE calc:*\r\n").await.unwrap();
    under_way(&mut raw, 99_000).await;
    let mut operator = daemon.client().await;
    assert_eq!(
        operator.command(&["CACHE.CANCEL", "calc:*"]).await,
        Value::Int(1)
    );
    assert!(client.read().await.unwrap().error().contains("cancelled"));
    proxy.delay(Duration::ZERO);
    // Each key that is left is still listed.
    let removed = daemon.warden.invalidate(&["calc:*"]).await.unwrap();
    assert!(removed > 10_000, "{removed}");
    let index = "cachewarden:index:calc:";
    assert_eq!(left(&mut raw).await, 1, "the index itself");
    assert_eq!(raw.command(&["ZCARD", index]).await, Value::Int(1));
    let swept = figure(&mut operator, "cachewarden_indexed_sweeps_total", "swept").await;
    assert_eq!(swept, 2);
    daemon.stop().await;
}

#[tokio::test]
async fn an_index_that_is_built_while_a_sweep_is_cancelled_lists_what_that_leaves() {
    let redis = redis();
    let (daemon, proxy) = slow(&redis, true).await;
    let mut raw = raw(&redis).await;
    fill(&mut raw, "calc:1:", 10_000).await;
    fill(&mut raw, "calc:2:", 10_000).await;
    let mut client = daemon.client().await;
    let sweep = b"CACHE.INVALIDATE calc:1:* calc:2:*\r\n";
    client.send(sweep).await.unwrap();
    // Some are removed: with the next page, others that match are on their way.
    under_way(&mut raw, 19_900).await;
    let mut operator = daemon.client().await;
    let cancelled = operator.command(&["CACHE.CANCEL", "calc:1:\\*"]).await;
    assert_eq!(cancelled, Value::Int(1));
    proxy.delay(Duration::ZERO);
    eventually(DEADLINE, async || {
        let built = figure(&mut operator, "cachewarden_indexes_built_total", "").await;
        let announced = announced(&mut raw).await;
        let is_over = built == 1 && announced == Value::Int(0);
        is_over.then_some(()).ok_or((built, announced))
    })
    .await;
    let kept = left(&mut raw).await - 1;
    assert!(kept > 5_000, "{kept}");
    let removed = daemon.warden.invalidate(&["calc:1:*"]).await.unwrap();
    assert_eq!(i64::try_from(removed).unwrap(), kept);
    assert_eq!(left(&mut raw).await, 1, "the index itself");
    let swept = figure(&mut operator, "cachewarden_indexed_sweeps_total", "swept").await;
    assert_eq!(swept, 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_stop_gives_up_a_sweep_of_a_million_keys_tells_who_waits_and_leaves_it_announced() {
    let redis = redis();
    let (daemon, _proxy) = slow(&redis, false).await;
    let mut raw = raw(&redis).await;
    fill(&mut raw, "calc:", KEYS).await;
    let warden = daemon.warden.clone();
    let waiting = tokio::spawn(async move { warden.invalidate(&["calc:*"]).await });
    sweeping_client(&mut raw).await;
    let ended = daemon.warden.stop().await;
    assert!(matches!(ended, Ended::Stopped), "{ended:?}");
    assert!(waiting.await.unwrap().is_err());
    assert!(left(&mut raw).await > i64::from(KEYS) / 2);
    // Other daemons do not give out what is left, until somebody has asked one of them.
    assert_eq!(announced(&mut raw).await, Value::Int(1));
}
