//! Hot keys are refreshed before they expire, with the probability that the time of a load gives.

use super::super::support::DEADLINE;
use super::super::support::eventually::eventually;
use super::super::support::resp::{Client, Value};
use super::super::support::world::{World, figure};
use super::{ITEMS, left_ms};

const KEYS: u64 = 500;
/// So much of each life is left when they are read, of which a load takes about a third.
const LEFT_MS: u64 = 1000;

fn cache(early: bool) -> String {
    format!(
        r#"
        [caches.item]
        key = "items:{{id:bigint}}"
        query = "SELECT name FROM items, pg_sleep(CASE WHEN id = 1 THEN 0.4 ELSE 0 END) WHERE id = :id"
        shape = "scalar"
        ttl = "10m"
        ttl_jitter = "0%"
        load_timeout = "20s"
        early_refresh = {early}
        stale_while_revalidate = "1h"
        "#
    )
}

/// Read with the others when it is old, and so refreshed with those of them that are: when that is done, it is of all.
const MARK: (&str, &str) = ("items:999", "\"old\"");

fn names() -> Vec<String> {
    (2..2 + KEYS).map(|id| format!("items:{id}")).collect()
}

/// How many of [`KEYS`] keys, which all are cached, one read of each refreshes when so much of their fresh life is left.
async fn refreshed_with(left_ms: u64, client: &mut Client, raw: &mut Client) -> u64 {
    let (names, left) = (names(), (3_600_000 + left_ms).to_string());
    let mark = ["SET", MARK.0, MARK.1, "PX", "3599000"];
    let lives = names.iter().map(|key| ["PEXPIRE", key, &left]);
    let lives: Vec<[&str; 3]> = lives.collect();
    let mut commands: Vec<&[&str]> = lives.iter().map(|words| &words[..]).collect();
    commands.push(&mark);
    let mut words = vec!["MGET"];
    words.extend(names.iter().map(String::as_str));
    words.push(MARK.0);
    // Once more, if this machine was so slow that some were stale by then.
    eventually(DEADLINE, async || {
        let (loads, before) = (loaded(client).await, stale(client).await);
        raw.pipeline(&commands).await;
        client.command(&words).await;
        eventually(DEADLINE, async || {
            let seen = raw.command(&["GET", MARK.0]).await;
            (seen != Value::bulk(MARK.1)).then_some(()).ok_or(seen)
        })
        .await;
        let refreshed = loaded(client).await - loads - 1;
        match stale(client).await - before {
            1 => Ok(refreshed),
            late => Err(late),
        }
    })
    .await
}

/// The same in a world of its own, where a load takes 400 ms, and a little less once all the others came at once.
async fn refreshed_by_one_read(early: bool, left_ms: u64) -> u64 {
    let world = World::start(ITEMS, &cache(early)).await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    client.command(&["GET", "items:1"]).await;
    let names = names();
    let words = ["MGET"].into_iter().chain(names.iter().map(String::as_str));
    client.command(&words.collect::<Vec<_>>()).await;
    assert_eq!(loaded(&mut client).await, 1 + KEYS);
    refreshed_with(left_ms, &mut client, &mut raw).await
}

/// The same where nothing was ever missed: one refresh was made, which took two seconds.
async fn refreshed_after_a_slow_refresh(ttl: &str) -> u64 {
    let slow = cache(true).replace("THEN 0.4", "THEN 2");
    let world = World::start(ITEMS, &slow.replace("10m", ttl)).await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    let names = names();
    let old = |key| ["SET", key, MARK.1, "PX", "3599000"];
    let commands: Vec<[&str; 5]> = names.iter().map(|key| old(key)).collect();
    let commands: Vec<&[&str]> = commands.iter().map(|words| &words[..]).collect();
    raw.pipeline(&commands).await;
    raw.command(&old("items:1")).await;
    client.command(&["GET", "items:1"]).await;
    eventually(DEADLINE, async || match loaded(&mut client).await {
        1 => Ok(()),
        seen => Err(seen),
    })
    .await;
    refreshed_with(5000, &mut client, &mut raw).await
}

async fn stale(client: &mut Client) -> u64 {
    figure(client, "cachewarden_reads_total", "stale").await
}

async fn loaded(client: &mut Client) -> u64 {
    figure(client, "cachewarden_loads_total", "loaded").await
}

#[tokio::test]
async fn some_of_the_readers_of_a_value_near_its_end_refresh_it() {
    // exp(-1 s / 0.35 s) = 6 % of 500 are 29; each try of a slow machine has as many.
    let refreshed = refreshed_by_one_read(true, LEFT_MS).await;
    assert!((3..=150).contains(&refreshed), "{refreshed}");
}

#[tokio::test]
async fn far_from_its_end_nobody_does() {
    assert_eq!(refreshed_by_one_read(true, 100_000).await, 0);
}

#[tokio::test]
async fn what_a_refresh_takes_counts_as_what_a_miss_does() {
    // exp(-5 s / 2 s) = 8 % of 500 are 41.
    let refreshed = refreshed_after_a_slow_refresh("10m").await;
    assert!((3..=150).contains(&refreshed), "{refreshed}");
}

#[tokio::test]
async fn however_slow_its_load_is_nobody_refreshes_a_value_early_in_its_life() {
    assert_eq!(refreshed_after_a_slow_refresh("10s").await, 0);
}

#[tokio::test]
async fn nobody_does_unless_the_cache_says_so() {
    assert_eq!(refreshed_by_one_read(false, LEFT_MS).await, 0);
}

#[tokio::test]
async fn a_key_that_is_read_all_the_time_is_never_missed() {
    let cache = cache(true).replace("ttl = \"10m\"", "ttl = \"3s\"");
    let cache = cache.replace("stale_while_revalidate = \"1h\"", "");
    let world = World::start(ITEMS, &cache).await;
    let mut client = world.client().await;
    client.command(&["GET", "items:1"]).await;
    // Until it was refreshed twice, hence over more than one of its lives.
    let mut reads = 0u64;
    eventually(DEADLINE, async || {
        for _ in 0..50 {
            client.command(&["GET", "items:1"]).await;
            reads += 1;
        }
        match loaded(&mut client).await {
            loads if loads >= 3 => Ok(()),
            loads => Err(loads),
        }
    })
    .await;
    assert_eq!(
        figure(&mut client, "cachewarden_reads_total", "miss").await,
        1,
        "{reads} reads"
    );
    assert!(left_ms(&world.redis, "items:1").await > 0);
    world.daemon.stop().await;
}
