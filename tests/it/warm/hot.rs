//! The keys that are asked for most: remembered in Postgres, whatever happens to daemons and to Redis, and warmed first.

use super::super::support::daemon::Spawned;
use super::super::support::world::get;
use super::*;

/// Some that come last in the order of the others.
const HOT: [u32; 5] = [90, 91, 92, 93, 94];

/// Warmed a few keys a second, so that it is seen in which order.
const SLOWLY: &str = "on_start = false\nhot = 5\nrate = 5";

/// Only what is hot, at no other time than on command.
fn only_hot(most: usize) -> String {
    course(&format!("on_start = false\nhot = {most}"))
        .replace("keys = \"SELECT id FROM courses\"", "")
}

async fn ask(client: &mut Client, id: u32, times: usize) {
    for _ in 0..times {
        get(client, &format!("courses:{id}")).await;
    }
}

async fn ask_for_hot_ones(client: &mut Client) {
    for id in 1..=100 {
        ask(client, id, 1).await;
    }
    for id in HOT {
        ask(client, id, 20).await;
    }
}

/// The ids that are cached.
async fn ids(raw: &mut Client) -> Vec<u32> {
    let Value::Array(keys) = raw.command(&["KEYS", "courses:*"]).await else {
        panic!("no keys")
    };
    let id = |key: &Value| key.text()["courses:".len()..].parse().unwrap();
    let mut ids: Vec<u32> = keys.iter().map(id).collect();
    ids.sort_unstable();
    ids
}

/// Waits until Postgres knows so many rows of hot keys.
async fn until_remembered(world: &World, wanted: usize) {
    eventually(2 * DEADLINE, async || {
        let rows = "SELECT 1 FROM cachewarden.hot_keys";
        match world.watched.client.query(rows, &[]).await.unwrap().len() {
            seen if seen == wanted => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
}

#[tokio::test]
async fn after_a_restart_and_a_flush_they_are_warmed_before_the_others() {
    let world = World::start(COURSES, &course(SLOWLY)).await;
    let mut raw = world.raw().await;
    let daemon = world.daemon().await;
    ask_for_hot_ones(&mut daemon.client().await).await;
    daemon.stop().await;
    raw.command(&["FLUSHALL"]).await;
    let daemon = world.daemon().await;
    let first = async {
        eventually(DEADLINE, async || match ids(&mut raw).await {
            some if some.len() >= HOT.len() => Ok(some),
            few => Err(few),
        })
        .await
    };
    let (first, outcome) = tokio::join!(first, warm_one(&daemon, false));
    for id in HOT {
        assert!(first.contains(&id), "{first:?}");
    }
    assert!(
        first.len() < 50,
        "it is not seen what came first: {first:?}"
    );
    // Each key once, however often it is named.
    assert_eq!(outcome, (100, 0, 0));
    daemon.stop().await;
}

#[tokio::test]
async fn what_a_killed_daemon_has_counted_is_known() {
    let world = World::start(COURSES, &only_hot(5)).await;
    let (url, redis) = (world.watched.database.url(), world.redis.redis_url());
    let killed = Spawned::start(url, &redis, &world.sections).await;
    ask_for_hot_ones(&mut killed.client().await).await;
    until_remembered(&world, 1).await;
    drop(killed);
    let mut raw = world.raw().await;
    raw.command(&["FLUSHALL"]).await;
    let daemon = world.daemon().await;
    assert_eq!(warm_one(&daemon, false).await, (5, 0, 0));
    assert_eq!(ids(&mut raw).await, HOT);
    daemon.stop().await;
}

#[tokio::test]
async fn what_two_daemons_have_counted_is_added_up() {
    let world = World::start(COURSES, &only_hot(2)).await;
    for counts in [[(1, 30), (2, 40)], [(1, 30), (3, 45)]] {
        let daemon = world.daemon().await;
        let mut client = daemon.client().await;
        for (id, times) in counts {
            ask(&mut client, id, times).await;
        }
        daemon.stop().await;
    }
    let mut raw = world.raw().await;
    raw.command(&["FLUSHALL"]).await;
    let daemon = world.daemon().await;
    assert_eq!(warm_one(&daemon, false).await, (2, 0, 0));
    assert_eq!(ids(&mut raw).await, [1, 3]);
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_no_key_any_more_or_cannot_be_known_fails_no_run() {
    let world = World::start(COURSES, &course("on_start = false\nhot = 10")).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    world
        .watched
        .execute(
            "INSERT INTO cachewarden.hot_keys (cache, daemon, keys, requests, at) VALUES
             ('course', gen_random_uuid(), '{courses:x,users:1,courses:,\"\",NULL,courses:100}', '{9,9,9,9,9}', now()),
             ('course', gen_random_uuid(), '{courses:99}', '{9,9}', now() + interval '1000 years')",
        )
        .await;
    assert_eq!(warm_one(&daemon, false).await, (100, 0, 0));
    raw.command(&["FLUSHALL"]).await;
    world
        .watched
        .execute("DROP TABLE cachewarden.hot_keys")
        .await;
    assert_eq!(warm_one(&daemon, false).await, (100, 0, 0));
    daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_comes_back_empty_is_warmed_again() {
    let world = World::start(COURSES, &course("hot = 5")).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    until_cached(&mut raw, 100).await;
    let mut client = daemon.client().await;
    until_run_once(&mut client).await;
    raw.command(&["FLUSHALL"]).await;
    until_cached(&mut raw, 100).await;
    daemon.stop().await;
}

#[tokio::test]
async fn rows_of_daemons_that_are_gone_do_not_pile_up() {
    let world = World::start(COURSES, &only_hot(5)).await;
    world
        .watched
        .execute(
            "INSERT INTO cachewarden.hot_keys (cache, daemon, keys, requests, at)
             SELECT 'course', gen_random_uuid(), '{courses:1}', '{1}', now() - n * interval '1 minute'
             FROM generate_series(1, 100) n",
        )
        .await;
    let daemon = world.daemon().await;
    ask(&mut daemon.client().await, 7, 1).await;
    daemon.stop().await;
    until_remembered(&world, 64).await;
}

#[tokio::test]
async fn a_key_that_is_no_text_of_postgres_keeps_no_other_from_being_remembered() {
    let sections = only_hot(5)
        .replace("id:bigint", "id:text")
        .replace("id = :id", "id::text = :id")
        .replace("params = { id = { min = 1 } }", "");
    let world = World::start(COURSES, &sections).await;
    let daemon = world.daemon().await;
    let mut client = daemon.client().await;
    ask(&mut client, 7, 1).await;
    for key in ["courses:a\0b", "courses:\u{fffd}"] {
        client.command(&["GET", key]).await;
    }
    daemon.stop().await;
    let keys = "SELECT unnest(keys) FROM cachewarden.hot_keys ORDER BY 1";
    let keys = world.watched.client.query(keys, &[]).await.unwrap();
    let keys: Vec<String> = keys.iter().map(|row| row.get(0)).collect();
    assert_eq!(keys, ["courses:7", "courses:\u{fffd}"]);
}
