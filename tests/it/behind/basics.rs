//! What is seen at once, and what is in Postgres in the end.

use super::{CACHES, TABLES, World, durable_redis};
use crate::support::DEADLINE;
use crate::support::daemon::{InProcess, cachewarden, config, said};
use crate::support::eventually::eventually;
use crate::support::resp::Value;
use crate::support::servers::{redis, redis_with};
use crate::support::watched::Watched;
use crate::support::world::{figure, get, look};

#[tokio::test]
async fn a_write_is_read_at_once_through_every_daemon_and_saved_behind_it() {
    let world = World::start().await;
    let (here, there) = (world.daemon().await, world.daemon().await);
    let (mut here, mut there) = (here.client().await, there.client().await);
    assert_eq!(get(&mut here, "counts:all").await, "1000");
    assert_eq!(get(&mut there, "accounts:1").await, "0");
    // So that what is read cannot come from the row.
    let lock = lock(&world).await;
    assert_eq!(here.command(&["SET", "accounts:1", "7"]).await.text(), "OK");
    for client in [&mut here, &mut there] {
        assert_eq!(look(client, "accounts:1").await, ("7".into(), "hit".into()));
    }
    assert_eq!(here.command(&["DEL", "accounts:1"]).await, Value::Int(1));
    for client in [&mut here, &mut there] {
        assert_eq!(look(client, "accounts:1").await.1, "missing");
        assert_eq!(client.command(&["GET", "accounts:1"]).await, Value::Nil);
    }
    here.command(&["SET", "accounts:2", "8"]).await;
    let mut raw = world.raw().await;
    for key in ["{accounts:2}:pending", "cachewarden:journal"] {
        assert_eq!(raw.command(&["PTTL", key]).await, Value::Int(-1), "{key}");
    }
    drop(lock);
    world.until_saved().await;
    assert_eq!(world.row(1).await.0, "nothing");
    assert_eq!(world.row(2).await, ("8".into(), "1".into()));
    for client in [&mut here, &mut there] {
        assert_eq!(get(client, "accounts:2").await, "8");
        eventually(DEADLINE, async || match get(client, "counts:all").await {
            count if count == "999" => Ok(()),
            count => Err(count),
        })
        .await;
    }
}

#[tokio::test]
async fn what_is_warmed_does_not_cover_a_write_that_is_not_saved_yet() {
    let warm =
        "[caches.account.warm]\nkeys = \"SELECT id FROM accounts WHERE id <= 10\"\n[caches.count]";
    let caches = CACHES.replace("[caches.count]", warm);
    let world = World::with(&caches).await;
    let daemon = InProcess::start(&world.config_of(&caches)).await;
    let mut client = daemon.client().await;
    // It can be read, and not be written.
    let session = world.watched.database.client().await;
    let lock = "BEGIN; LOCK TABLE accounts IN EXCLUSIVE MODE";
    session.batch_execute(lock).await.unwrap();
    assert_eq!(
        client.command(&["SET", "accounts:3", "9"]).await.text(),
        "OK"
    );
    let warmed = client.command(&["CACHE.WARM", "FORCE", "account"]).await;
    let account = warmed.field("account").unwrap();
    assert_eq!(account.field("loaded"), Some(&Value::Int(9)), "{account:?}");
    assert_eq!(get(&mut client, "accounts:3").await, "9");
    drop(session);
    world.until_saved().await;
    assert_eq!(world.row(3).await, ("9".into(), "1".into()));
    assert_eq!(get(&mut client, "accounts:3").await, "9");
    daemon.stop().await;
}

/// Holds the table, so that nothing is saved.
async fn lock(world: &World) -> tokio_postgres::Client {
    let session = world.watched.database.client().await;
    let lock = "BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE";
    session.batch_execute(lock).await.unwrap();
    session
}

#[tokio::test]
async fn a_load_from_before_the_write_does_not_cover_it() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let (mut writer, mut reader) = (daemon.client().await, daemon.client().await);
    let mut raw = world.raw().await;
    let lock = lock(&world).await;
    let reading = tokio::spawn(async move { get(&mut reader, "accounts:1").await });
    eventually(DEADLINE, async || {
        match raw.command(&["EXISTS", "{accounts:1}:lease"]).await {
            Value::Int(1) => Ok(()),
            none => Err(none),
        }
    })
    .await;
    writer.command(&["SET", "accounts:1", "7"]).await;
    drop(lock);
    let read = reading.await.unwrap();
    assert!(read == "7" || read == "0", "{read}");
    // It would stay, had the load filled what it had read.
    for _ in 0..20 {
        assert_eq!(get(&mut writer, "accounts:1").await, "7");
    }
    world.until_saved().await;
    assert_eq!(get(&mut writer, "accounts:1").await, "7");
    daemon.stop().await;
}

#[tokio::test]
async fn of_a_key_that_is_written_often_the_last_is_saved_and_most_of_the_others_never() {
    let world = World::start().await;
    let (one, two) = (world.daemon().await, world.daemon().await);
    let mut clients = [one.client().await, two.client().await];
    for n in 1..=1000_u32 {
        let client = &mut clients[usize::from(n % 2 == 0)];
        let done = match n % 10 {
            0 => client.command(&["DEL", "accounts:5"]).await,
            _ => client.command(&["SET", "accounts:5", &n.to_string()]).await,
        };
        assert!(
            matches!(&done, Value::Simple(_) | Value::Int(1)),
            "{done:?}"
        );
        if n % 97 == 0 && n % 10 != 0 {
            let read = clients[usize::from(n % 2 == 1)]
                .command(&["GET", "accounts:5"])
                .await;
            assert_eq!(read, Value::bulk(n.to_string()));
        }
    }
    clients[0].command(&["SET", "accounts:5", "4711"]).await;
    world.until_saved().await;
    let (n, saves) = world.row(5).await;
    assert_eq!(n, "4711");
    assert!(saves.parse::<u32>().unwrap() < 100, "{saves}");
    let mut superseded = 0;
    for client in &mut clients {
        superseded += figure(client, "cachewarden_journal_writes_total", "superseded").await;
    }
    assert!(superseded > 500, "{superseded}");
}

#[tokio::test]
async fn a_save_is_followed_by_a_read_where_that_is_wanted() {
    let caches = CACHES.replace("mode =", "after_save = \"update\"\n    mode =");
    let world = World::with(&caches).await;
    let daemon = InProcess::start(&world.config_of(&caches)).await;
    let (mut client, mut raw) = (daemon.client().await, world.raw().await);
    client.command(&["SET", "accounts:1", "7"]).await;
    eventually(DEADLINE, async || {
        match raw.command(&["GET", "accounts:1"]).await {
            value if value == Value::bulk("7") => Ok(()),
            other => Err(other),
        }
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_no_value_or_too_much_is_refused_at_once() {
    let world = World::start().await;
    let caches = format!(
        "redis.max_journal = 3\n{}",
        CACHES.replacen("ttl =", "max_value = \"1KiB\"\n    ttl =", 1)
    );
    let daemon = InProcess::start(&world.config_of(&caches)).await;
    let mut client = daemon.client().await;
    let lock = lock(&world).await;
    let long = "1".repeat(1025);
    for (words, code, says) in [
        (vec!["SET", "accounts:1", "{no"], "ERR", "no JSON"),
        (vec!["SET", "accounts:1", &long], "ERR", "max_value"),
        (vec!["SET", "accounts:01", "1"], "BADKEY", ""),
        (vec!["SET", "counts:all", "1"], "READONLY", "no write"),
    ] {
        let refused = client.command(&words).await;
        let error = refused.error();
        assert!(
            error.starts_with(code) && error.contains(says),
            "{words:?}: {error}"
        );
    }
    for id in 1..=3 {
        client
            .command(&["SET", &format!("accounts:{id}"), "1"])
            .await;
    }
    for full in [
        ["SET", "accounts:4", "1"].as_slice(),
        &["DEL", "accounts:4"],
    ] {
        let refused = client.command(full).await;
        let error = refused.error();
        assert!(
            error.starts_with("BUSY") && error.contains("max_journal"),
            "{error}"
        );
    }
    assert_eq!(get_later(&lock, &mut client).await, "0");
    world.until_saved().await;
    assert_eq!(
        client.command(&["SET", "accounts:4", "1"]).await.text(),
        "OK"
    );
    daemon.stop().await;
}

/// What was refused is not what is read.
async fn get_later(
    lock: &tokio_postgres::Client,
    client: &mut crate::support::resp::Client,
) -> String {
    lock.batch_execute("ROLLBACK").await.unwrap();
    get(client, "accounts:4").await
}

#[tokio::test]
async fn a_redis_that_forgets_or_evicts_is_no_place_for_a_journal_unless_that_is_allowed() {
    let watched = Watched::start(TABLES, CACHES).await;
    let evicting = ["--appendonly", "yes", "--maxmemory-policy", "allkeys-lru"];
    for (redis, says) in [
        (redis(), "appendonly"),
        (redis_with(&evicting), "allkeys-lru"),
    ] {
        let text = |more: &str| {
            config(
                watched.database.url(),
                &redis.redis_url(),
                &format!("{more}{CACHES}"),
            )
        };
        for command in [["check", "--connect"].as_slice(), &["run"]] {
            let (code, _, stderr) = said(&cachewarden(&text(""), command).await);
            assert_eq!(code, Some(78), "{stderr}");
            for part in [says, "caches.account.write", "allow_volatile_journal"] {
                assert!(stderr.contains(part), "{part} is not in {stderr}");
            }
        }
        let allowed = text("redis.allow_volatile_journal = true\n");
        let (code, stdout, stderr) = said(&cachewarden(&allowed, &["check", "--connect"]).await);
        assert_eq!(code, Some(0), "{stdout}{stderr}");
        InProcess::start(&allowed).await.stop().await;
    }
    let durable = durable_redis();
    let text = config(watched.database.url(), &durable.redis_url(), CACHES);
    let (code, stdout, stderr) = said(&cachewarden(&text, &["check", "--connect"]).await);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stdout.contains("redis keeps the journal of writes\n"),
        "{stdout}"
    );
}
