//! The old value where the new one cannot be had: Postgres is away, or slower than `soft_timeout`.

use super::super::support::DEADLINE;
use super::super::support::daemon::{InProcess, config};
use super::super::support::eventually::eventually;
use super::super::support::monitor::{Command, Monitor};
use super::super::support::resp::{Client, Value};
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::super::support::world::{raw, release, statements, until};
use super::{HOUR_MS, ITEMS, age, cache, fragile_world, left_ms, look, told, world};

const ON_ERROR: &str = "stale_if_error = \"1h\"";

async fn until_loaded(client: &mut Client) {
    eventually(DEADLINE, async || match look(client, "items:1").await {
        seen if seen == told("item 1", "miss") => Ok(()),
        seen => Err(seen),
    })
    .await;
}

#[tokio::test]
async fn with_postgres_killed_the_old_value_is_answered_and_marked_until_it_is_back() {
    let (mut postgres, world) = fragile_world(ON_ERROR).await;
    let mut client = world.client().await;
    for key in ["items:1", "items:2"] {
        assert_eq!(look(&mut client, key).await.1, "miss");
    }
    age(&world.redis, "items:1", HOUR_MS - 1000).await;
    // While Postgres is there, it is loaded.
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    age(&world.redis, "items:1", HOUR_MS - 1000).await;
    postgres.kill().unwrap();
    for _ in 0..3 {
        assert_eq!(look(&mut client, "items:1").await, told("item 1", "stale"));
        let got = client.command(&["GET", "items:1"]).await;
        assert_eq!(got, Value::bulk("\"item 1\""));
        assert_eq!(look(&mut client, "items:2").await, told("item 2", "hit"));
    }
    // What was never there, and what was invalidated, has no old value.
    let (error, state) = look(&mut client, "items:3").await;
    assert!(state == "error" && error.starts_with("LOADFAIL"), "{error}");
    let removed = client.command(&["CACHE.INVALIDATE", "items:1"]).await;
    assert_eq!(removed, Value::Int(1));
    let (error, state) = look(&mut client, "items:1").await;
    assert!(state == "error" && error.starts_with("LOADFAIL"), "{error}");
    postgres.start_again().unwrap();
    until_loaded(&mut client).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn without_a_window_there_is_no_old_value() {
    let (mut postgres, world) = fragile_world("").await;
    let mut client = world.client().await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    assert!(left_ms(&world.redis, "items:1").await <= 600_000);
    postgres.kill().unwrap();
    age(&world.redis, "items:1", 1).await;
    let found = eventually(DEADLINE, async || {
        match look(&mut client, "items:1").await {
            (_, state) if state == "hit" => Err(state),
            seen => Ok(seen),
        }
    })
    .await;
    assert!(found.0.starts_with("LOADFAIL"), "{found:?}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn who_waits_longer_than_the_soft_timeout_gets_the_old_value_and_the_load_goes_on() {
    let world = world(&format!("{ON_ERROR}\nsoft_timeout = \"50ms\"")).await;
    let mut client = world.client().await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    world
        .database
        .execute("UPDATE items SET name = 'renamed' WHERE id = 1")
        .await;
    age(&world.redis, "items:1", HOUR_MS - 1000).await;
    let held = world.lock("items").await;
    let mut readers = Vec::new();
    for _ in 0..20 {
        let mut reader = world.client().await;
        reader.send(b"CACHE.GET items:1\r\n").await.unwrap();
        readers.push(reader);
    }
    for mut reader in readers {
        let found = reader.read().await.unwrap();
        assert_eq!(found.field("state").unwrap().text(), "stale", "{found:?}");
        assert_eq!(found.field("value").unwrap().text(), "\"item 1\"");
    }
    // A key without an old value waits on.
    let mut other = world.client().await;
    other.send(b"CACHE.GET items:2\r\n").await.unwrap();
    until(&mut client, "postgres_statements_running", 2).await;
    release(held).await;
    let found = other.read().await.unwrap();
    assert_eq!(found.field("state").unwrap().text(), "miss");
    eventually(DEADLINE, async || {
        match raw(&world.redis).await.command(&["GET", "items:1"]).await {
            value if value == Value::bulk("\"renamed\"") => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    assert_eq!(look(&mut client, "items:1").await, told("renamed", "hit"));
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_old_value_that_is_invalidated_while_its_load_hangs_is_not_answered() {
    let more = "stale_if_error = \"1h\"\nsoft_timeout = \"2s\"";
    let world = world(more).await;
    let mut client = world.client().await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    age(&world.redis, "items:1", HOUR_MS - 1000).await;
    let held = world.lock("items").await;
    let mut reader = world.client().await;
    reader.send(b"CACHE.GET items:1\r\n").await.unwrap();
    until(&mut client, "postgres_statements_running", 1).await;
    let removed = client.command(&["CACHE.INVALIDATE", "items:1"]).await;
    assert_eq!(removed, Value::Int(1));
    // Long after its soft timeout it is still loading: what is to be seen is that nothing comes.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    release(held).await;
    let found = reader.read().await.unwrap();
    assert_eq!(found.field("state").unwrap().text(), "miss", "{found:?}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_cache_that_asks_for_it_answers_what_was_invalidated_while_postgres_is_down_and_only_then()
 {
    let more = "stale_if_error = \"1h\"\nstale_if_error_after_invalidation = true\nsoft_timeout = \"50ms\"";
    let (mut postgres, world) = fragile_world(more).await;
    let mut client = world.client().await;
    for key in ["items:1", "items:2"] {
        assert_eq!(look(&mut client, key).await.1, "miss");
    }
    assert!(left_ms(&world.redis, "{items:1}:old").await > 4_000_000);
    // Postgres is only slow: what was invalidated is waited for.
    let held = world.lock("items").await;
    let removed = client.command(&["CACHE.INVALIDATE", "items:1"]).await;
    assert_eq!(removed, Value::Int(1));
    let mut reader = world.client().await;
    reader.send(b"CACHE.GET items:1\r\n").await.unwrap();
    until(&mut client, "postgres_statements_running", 1).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    release(held).await;
    let found = reader.read().await.unwrap();
    assert_eq!(found.field("state").unwrap().text(), "miss");

    postgres.kill().unwrap();
    let removed = client.command(&["CACHE.INVALIDATE", "items:*"]).await;
    assert_eq!(removed, Value::Int(2));
    for id in [1, 2] {
        let expected = told(&format!("item {id}"), "stale");
        eventually(DEADLINE, async || {
            match look(&mut client, &format!("items:{id}")).await {
                seen if seen == expected => Ok(()),
                seen => Err(seen),
            }
        })
        .await;
    }
    let (error, state) = look(&mut client, "items:3").await;
    assert!(state == "error" && error.starts_with("LOADFAIL"), "{error}");
    postgres.start_again().unwrap();
    until_loaded(&mut client).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_copy_from_when_the_cache_asked_for_it_is_not_answered_when_it_does_not_any_more() {
    let (mut postgres, world) = fragile_world(ON_ERROR).await;
    let mut client = world.client().await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    let copy = ["SET", "{items:1}:old", "\"item 1\"", "PX", "3600000"];
    world.raw().await.command(&copy).await;
    postgres.kill().unwrap();
    let removed = client.command(&["CACHE.INVALIDATE", "items:1"]).await;
    assert_eq!(removed, Value::Int(1));
    let (error, state) = look(&mut client, "items:1").await;
    assert!(state == "error" && error.starts_with("LOADFAIL"), "{error}");
    world.daemon.stop().await;
}

#[tokio::test]
async fn of_a_row_that_is_gone_no_copy_is_left() {
    let more =
        "stale_if_error = \"1h\"\nstale_if_error_after_invalidation = true\nmissing_ttl = \"0s\"";
    let world = world(more).await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    let copies = ["EXISTS", "{items:1}:old"];
    assert_eq!(raw.command(&copies).await, Value::Int(1));
    world
        .database
        .execute("DELETE FROM items WHERE id = 1")
        .await;
    client.command(&["CACHE.INVALIDATE", "items:1"]).await;
    assert_eq!(raw.command(&copies).await, Value::Int(1));
    assert_eq!(look(&mut client, "items:1").await, told("", "missing"));
    assert_eq!(raw.command(&copies).await, Value::Int(0));
    world.daemon.stop().await;
}

/// Waits until an old value is not given any more, though it is there.
async fn until_refused(client: &mut Client, raw: &mut Client) {
    eventually(DEADLINE, async || match look(client, "items:1").await {
        (error, _) if error.starts_with("LOADFAIL") => Ok(()),
        seen => Err(seen),
    })
    .await;
    let there = raw.command(&["GET", "items:1"]).await;
    assert_eq!(there, Value::bulk("\"item 1\""));
}

#[tokio::test]
async fn what_a_sweep_is_about_to_remove_is_no_old_value() {
    let (mut postgres, world) = fragile_world(ON_ERROR).await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    age(&world.redis, "items:1", HOUR_MS - 1000).await;
    postgres.kill().unwrap();
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "stale"));
    // By another daemon, which does not come to it.
    let id = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";
    let notice = format!("announce {id} {id} 60000 items:*");
    let heard = ["PUBLISH", "cachewarden:sweeps", &notice];
    assert_ne!(raw.command(&heard).await, Value::Int(0));
    until_refused(&mut client, &mut raw).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_nobody_can_prove_for_longer_than_its_cache_allows_is_no_old_value() {
    let watch = r#"
        [invalidation]
        [[invalidation.watch]]
        table = "items"
        invalidate = ["items:{id}"]
    "#;
    let strict = cache(&format!("{ON_ERROR}\nmax_unproven = \"1500ms\""));
    let sections = format!("{strict}{watch}");
    let (mut postgres, watched) = Watched::start_apart(ITEMS, &sections).await;
    let redis = redis();
    let text = config(watched.database.url(), &redis.redis_url(), &sections);
    let daemon = InProcess::start(&text).await;
    let (mut client, mut raw) = (daemon.client().await, raw(&redis).await);
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    postgres.kill().unwrap();
    until_refused(&mut client, &mut raw).await;
    daemon.stop().await;
}

#[tokio::test]
async fn that_a_row_is_missing_is_known_for_its_own_time_whatever_values_have() {
    let world = world(ON_ERROR).await;
    let (mut client, mut raw) = (world.client().await, world.raw().await);
    for _ in 0..3 {
        assert_eq!(look(&mut client, "items:7777").await, told("", "missing"));
    }
    assert_eq!(statements(&mut client).await, 1);
    // And known to who has waited for another daemon that found it out.
    let lease = ["SET", "{items:8888}:lease", "another's", "PX", "600000"];
    raw.command(&lease).await;
    let mut monitor = Monitor::start(&world.redis).await;
    let mut reader = world.client().await;
    reader.send(b"CACHE.GET items:8888\r\n").await.unwrap();
    eventually(DEADLINE, async || {
        let seen = monitor.commands().await;
        let refused = |command: &Command| command.is("set") && command.names("{items:8888}:lease");
        seen.iter().any(refused).then_some(()).ok_or(seen)
    })
    .await;
    raw.command(&["SET", "items:8888", "null", "PX", "30000"])
        .await;
    raw.command(&["DEL", "{items:8888}:lease"]).await;
    let found = reader.read().await.unwrap();
    assert_eq!(found.field("state").unwrap().text(), "missing");
    assert_eq!(statements(&mut client).await, 1);
    world.daemon.stop().await;
}
