//! Hot keys are refreshed before they expire, with the probability that the time of a load gives.

use super::super::support::DEADLINE;
use super::super::support::eventually::eventually;
use super::super::support::resp::Client;
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

/// How many of [`KEYS`] keys were refreshed by one read of each; all of them were fresh.
async fn refreshed_by_one_read(early: bool, left_ms: u64) -> u64 {
    let world = World::start(ITEMS, &cache(early)).await;
    let mut client = world.client().await;
    // What a load takes: 400 ms, and a little less once all the others came at once.
    client.command(&["GET", "items:1"]).await;
    let names: Vec<String> = (2..2 + KEYS).map(|id| format!("items:{id}")).collect();
    let mut words = vec!["MGET"];
    words.extend(names.iter().map(String::as_str));
    client.command(&words).await;
    let before = figure(&mut client, "cachewarden_loads_total", "loaded").await;
    assert_eq!(before, 1 + KEYS);

    let mut raw = world.raw().await;
    let left = (3_600_000 + left_ms).to_string();
    let commands: Vec<[&str; 3]> = names.iter().map(|key| ["PEXPIRE", key, &left]).collect();
    let commands: Vec<&[&str]> = commands.iter().map(|words| &words[..]).collect();
    // Once more, if this machine was so slow that some were stale by then.
    let mut cold = 2 + KEYS;
    eventually(DEADLINE, async || {
        let (loads, before) = (settled(&mut client).await, stale(&mut client).await);
        raw.pipeline(&commands).await;
        client.command(&words).await;
        // What is asked for behind it is answered once the refreshes are on their way.
        cold += 1;
        client.command(&["GET", &format!("items:{cold}")]).await;
        let refreshed = settled(&mut client).await - loads - 1;
        match stale(&mut client).await - before {
            0 => Ok(refreshed),
            late => Err(late),
        }
    })
    .await
}

async fn stale(client: &mut Client) -> u64 {
    figure(client, "cachewarden_reads_total", "stale").await
}

/// Loads, when none is under way any more.
async fn settled(client: &mut Client) -> u64 {
    eventually(DEADLINE, async || {
        let seen = figure(client, "cachewarden_loads_total", "loaded").await;
        let filled = figure(client, "cachewarden_fills_total", "filled").await;
        let running = figure(client, "postgres_statements_running", "").await;
        if running == 0 && seen == filled {
            Ok(seen)
        } else {
            Err((seen, filled, running))
        }
    })
    .await
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
        match figure(&mut client, "cachewarden_loads_total", "loaded").await {
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
