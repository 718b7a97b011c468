//! After `ttl` the old value is answered at once, and one refresh of the whole fleet runs behind it.

use super::super::support::DEADLINE;
use super::super::support::daemon::{InProcess, config};
use super::super::support::eventually::eventually;
use super::super::support::monitor::{Command, Monitor};
use super::super::support::proxy::Proxy;
use super::super::support::resp::Value;
use super::super::support::world::{figure, release, until};
use super::{HOUR_MS, age, cache, fragile_world, left_ms, look, told, world};
use std::time::{Duration, Instant};

const REVALIDATE: &str = r#"stale_while_revalidate = "1h""#;
const LOADED: &str = "cachewarden_loads_total";

#[tokio::test]
async fn an_old_value_is_answered_at_once_and_a_newer_one_soon() {
    let world = world(REVALIDATE).await;
    let mut client = world.client().await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    // Its life, and for how long it may be answered after that.
    let left = left_ms(&world.redis, "items:1").await;
    assert!((4_190_000..=4_200_000).contains(&left), "{left}");
    world
        .database
        .execute("UPDATE items SET name = 'renamed' WHERE id = 1")
        .await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "hit"));

    age(&world.redis, "items:1", HOUR_MS - 10_000).await;
    let held = world.lock("items").await;
    for _ in 0..3 {
        assert_eq!(look(&mut client, "items:1").await, told("item 1", "stale"));
        assert_eq!(
            client.command(&["GET", "items:1"]).await,
            Value::bulk("\"item 1\"")
        );
    }
    let found = client.command(&["CACHE.GET", "items:1"]).await;
    let Some(Value::Int(aged)) = found.field("age_ms") else {
        panic!("{found:?}")
    };
    assert!((609_000..700_000).contains(aged), "{aged}");
    release(held).await;
    eventually(DEADLINE, async || {
        match look(&mut client, "items:1").await {
            seen if seen == told("renamed", "hit") => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    assert!(left_ms(&world.redis, "items:1").await > 4_000_000);
    // One to fill it, one to refresh it.
    assert_eq!(figure(&mut client, LOADED, "loaded").await, 2);
    world.daemon.stop().await;
}

#[tokio::test]
async fn one_daemon_refreshes_for_all_and_nobody_waits_for_it() {
    let world = world(REVALIDATE).await;
    let text = config(
        world.database.url(),
        &world.redis.redis_url(),
        &cache(REVALIDATE),
    );
    let other = InProcess::start(&text).await;
    let (mut one, mut two) = (world.client().await, other.client().await);
    assert_eq!(look(&mut one, "items:1").await, told("item 1", "miss"));
    age(&world.redis, "items:1", HOUR_MS - 1).await;
    // While nobody can load it, a hundred clients are answered all the same.
    let held = world.lock("items").await;
    let mut clients = Vec::new();
    for n in 0..100 {
        let daemon = if n % 2 == 0 { &world.daemon } else { &other };
        let mut client = daemon.client().await;
        client.send(b"CACHE.GET items:1\r\n").await.unwrap();
        clients.push(client);
    }
    for client in &mut clients {
        let found = client.read().await.unwrap();
        assert_eq!(found.field("state").unwrap().text(), "stale");
    }
    release(held).await;
    eventually(DEADLINE, async || {
        let seen = (
            look(&mut one, "items:1").await,
            look(&mut two, "items:1").await,
        );
        let fresh = told("item 1", "hit");
        if seen == (fresh.clone(), fresh) {
            Ok(())
        } else {
            Err(seen)
        }
    })
    .await;
    let mut loads = 0;
    for client in [&mut one, &mut two] {
        loads += figure(client, LOADED, "loaded").await;
    }
    assert_eq!(loads, 2, "one to fill it, one to refresh it");
    world.daemon.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_another_daemon_has_refreshed_just_before_is_not_refreshed_again() {
    let world = world(REVALIDATE).await;
    let link = Proxy::before_port(world.redis.port()).await;
    let redis = format!("redis://127.0.0.1:{}", link.port());
    let sections = format!("redis.timeout = \"20s\"\n{}", cache(REVALIDATE));
    let far = InProcess::start(&config(world.database.url(), &redis, &sections)).await;
    let (mut client, mut reader) = (world.client().await, far.client().await);
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    age(&world.redis, "items:1", HOUR_MS - 1000).await;
    let mut monitor = Monitor::start(&world.redis).await;
    link.delay(Duration::from_millis(500));
    reader.send(b"CACHE.GET items:1\r\n").await.unwrap();
    until_asked(&mut monitor, "mget").await;
    // Before the far one is told what was there, the other has refreshed it.
    eventually(DEADLINE, async || {
        match look(&mut client, "items:1").await {
            seen if seen == told("item 1", "hit") => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    monitor.commands().await;
    let found = reader.read().await.unwrap();
    assert_eq!(found.field("state").unwrap().text(), "stale");
    let seen = until_asked(&mut monitor, "evalsha").await;
    let leased = |command: &Command| command.is("set") && command.names("{items:1}:lease");
    assert!(!seen.iter().any(leased), "{seen:?}");
    world.daemon.stop().await;
    far.stop().await;
}

/// Waits until Redis was asked about the item by this command; all that it was asked meanwhile.
async fn until_asked(monitor: &mut Monitor, name: &str) -> Vec<Command> {
    let mut seen = Vec::new();
    eventually(DEADLINE, async || {
        seen.extend(monitor.commands().await);
        let asked = |command: &Command| command.is(name) && command.names("items:1");
        seen.iter().any(asked).then_some(()).ok_or(seen.len())
    })
    .await;
    seen
}

#[tokio::test]
async fn what_was_invalidated_is_not_answered_and_a_refresh_from_before_does_not_bring_it_back() {
    let world = world(REVALIDATE).await;
    let (mut client, mut reader) = (world.client().await, world.client().await);
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    age(&world.redis, "items:1", HOUR_MS - 1).await;
    let held = world.lock("items").await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "stale"));
    // The refresh has its lease and waits for the table.
    let mut raw = world.raw().await;
    eventually(DEADLINE, async || {
        match raw.command(&["EXISTS", "{items:1}:lease"]).await {
            Value::Int(1) => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    let removed = client.command(&["CACHE.INVALIDATE", "items:1"]).await;
    assert_eq!(removed, Value::Int(1));
    reader.send(b"CACHE.GET items:1\r\n").await.unwrap();
    // It is loading, and nothing old is there for it.
    until(&mut client, "postgres_statements_running", 1).await;
    assert_eq!(raw.command(&["EXISTS", "items:1"]).await, Value::Int(0));
    release(held).await;
    let found = reader.read().await.unwrap();
    assert_eq!(found.field("state").unwrap().text(), "miss");
    // What the refresh had loaded was refused.
    until(&mut client, "postgres_statements_running", 0).await;
    eventually(DEADLINE, async || {
        match figure(&mut client, "cachewarden_fills_total", "refused").await {
            1 => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_row_that_is_gone_by_then_is_not_answered_for_longer() {
    let world = world("stale_while_revalidate = \"1h\"\nmissing_ttl = \"0s\"").await;
    let mut client = world.client().await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    world
        .database
        .execute("DELETE FROM items WHERE id = 1")
        .await;
    age(&world.redis, "items:1", HOUR_MS - 1).await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "stale"));
    eventually(DEADLINE, async || {
        match look(&mut client, "items:1").await {
            seen if seen == told("", "missing") => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn with_postgres_killed_the_old_value_stays_and_not_every_hit_tries_to_refresh_it() {
    let (mut postgres, world) = fragile_world(REVALIDATE).await;
    let mut client = world.client().await;
    assert_eq!(look(&mut client, "items:1").await, told("item 1", "miss"));
    age(&world.redis, "items:1", HOUR_MS - 1000).await;
    postgres.kill().unwrap();
    let killed = Instant::now();
    let failed = eventually(DEADLINE, async || {
        for _ in 0..50 {
            assert_eq!(look(&mut client, "items:1").await, told("item 1", "stale"));
        }
        match figure(&mut client, LOADED, "failed").await {
            failed if failed >= 3 => Ok(failed),
            failed => Err(failed),
        }
    })
    .await;
    // One a second, and the first.
    let most = 1 + killed.elapsed().as_secs();
    assert!(failed <= most, "{failed} loads, and at most {most} are due");
    postgres.start_again().unwrap();
    eventually(DEADLINE, async || {
        match look(&mut client, "items:1").await {
            seen if seen == told("item 1", "hit") => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_lies_in_memory_ends_with_its_fresh_life() {
    let world = world("stale_while_revalidate = \"1h\"\nl1 = true").await;
    let mut client = world.client().await;
    eventually(DEADLINE, async || {
        match look(&mut client, "items:1").await {
            (_, state) if state == "hit-l1" => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    // Redis tells that it has changed; it is looked up, and not kept any more.
    let held = world.lock("items").await;
    age(&world.redis, "items:1", HOUR_MS - 1).await;
    eventually(DEADLINE, async || {
        match look(&mut client, "items:1").await {
            (_, state) if state == "stale" => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    for _ in 0..5 {
        assert_eq!(look(&mut client, "items:1").await, told("item 1", "stale"));
    }
    release(held).await;
    eventually(DEADLINE, async || {
        match look(&mut client, "items:1").await {
            (_, state) if state == "hit-l1" => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    world.daemon.stop().await;
}
