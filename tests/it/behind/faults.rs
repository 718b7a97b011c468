//! What goes wrong between the acknowledgement and the commit: nothing is lost, nothing saved twice, nobody overtaken.

use std::time::Duration;

use cachewarden::config::{Config, Secret};
use cachewarden::repository::{Fences, JournalWriter, LateWrite, SaveError};
use rustix::process::Signal;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{CACHES, TABLES, World, durable_redis};
use crate::support::DEADLINE;
use crate::support::daemon::{InProcess, Spawned, config};
use crate::support::eventually::eventually;
use crate::support::resp::{Client, Value};
use crate::support::watched::Watched;
use crate::support::world::{figure, get, look, raw, release};

/// Rounds of a daemon that is killed, and writes that each tries.
const ROUNDS: u64 = 8;
const WRITES: u64 = 100;
/// How many of them are acknowledged when it is killed: some are saved by then, and some are not.
const ACKNOWLEDGED: std::ops::Range<usize> = 10..40;

async fn set(client: &mut Client, id: u64, n: u64) {
    let (key, n) = (format!("accounts:{id}"), n.to_string());
    let answer = client.command(&["SET", &key, &n]).await;
    assert_eq!(answer, Value::Simple("OK".into()), "{key}");
}

async fn lock(watched: &Watched, sql: &str) -> tokio_postgres::Client {
    let session = watched.database.client().await;
    session
        .batch_execute(&format!("BEGIN; {sql}"))
        .await
        .unwrap();
    session
}

const WHOLE_TABLE: &str = "LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE";

#[tokio::test]
async fn what_was_acknowledged_before_a_kill_is_saved_once() {
    let world = World::start().await;
    let mut acknowledged = Vec::new();
    let mut left = 0;
    for round in 0..ROUNDS {
        let daemon = world.spawned().await;
        let mut client = daemon.client().await;
        let (reached, kill) = oneshot::channel();
        let writing = tokio::spawn(async move {
            let (mut done, mut reached) = (Vec::new(), Some(reached));
            let enough = fastrand::usize(ACKNOWLEDGED);
            for n in 0..WRITES {
                if done.len() == enough
                    && let Some(reached) = reached.take()
                {
                    reached.send(()).unwrap();
                }
                let id = 10_000 + round * WRITES + n;
                let words = ["SET", &format!("accounts:{id}"), &id.to_string()].map(str::to_owned);
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                let sent = client.send(&crate::support::resp::frame(&words)).await;
                match (sent, client.read().await) {
                    (Ok(()), Ok(Value::Simple(_))) => done.push(id),
                    _ => break,
                }
            }
            done
        });
        kill.await.unwrap();
        drop(daemon);
        acknowledged.extend(writing.await.unwrap());
        let length = world
            .raw()
            .await
            .command(&["XLEN", "cachewarden:journal"])
            .await;
        left += u32::from(length != Value::Int(0));
    }
    // Else nothing was tried.
    assert!(
        left > 0 && acknowledged.len() > 50,
        "{left} {}",
        acknowledged.len()
    );
    let daemon = world.spawned().await;
    world.until_saved().await;
    drop(daemon);
    let lost =
        format!(
        "SELECT coalesce(string_agg(id::text, ' '), 'none') FROM unnest('{{{}}}'::bigint[]) AS id
         WHERE NOT EXISTS (SELECT FROM accounts a WHERE a.id = id.id AND a.n = id.id)",
        acknowledged.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
    );
    assert_eq!(world.watched.ask(&lost).await, "none");
    let twice = "SELECT count(*) FROM accounts WHERE saves > 1";
    assert_eq!(world.watched.ask(twice).await, "0");
}

#[tokio::test]
async fn a_redis_that_comes_back_with_what_was_saved_already_has_it_saved_no_second_time() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let (mut client, mut raw) = (daemon.client().await, world.raw().await);
    let held = lock(&world.watched, WHOLE_TABLE).await;
    set(&mut client, 1, 7).await;
    let entries = raw
        .command(&["XRANGE", "cachewarden:journal", "-", "+"])
        .await;
    let Value::Array(entries) = entries else {
        panic!("{entries:?}")
    };
    let Value::Array(entry) = &entries[0] else {
        panic!("{entries:?}")
    };
    let Value::Array(fields) = &entry[1] else {
        panic!("{entries:?}")
    };
    release(held).await;
    world.until_saved().await;
    assert_eq!(world.row(1).await, ("7".into(), "1".into()));
    world
        .watched
        .execute("UPDATE accounts SET n = 8 WHERE id = 1")
        .await;
    let mut again = vec!["XADD", "cachewarden:journal", "*"];
    again.extend(fields.iter().map(Value::text));
    raw.command(&again).await;
    world.until_saved().await;
    assert_eq!(world.row(1).await, ("8".into(), "1".into()));
    let repeated = figure(&mut client, "cachewarden_journal_writes_total", "repeated");
    assert_eq!(repeated.await, 1);
    daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_is_killed_loses_nothing_that_was_acknowledged() {
    let mut world = World::start().await;
    let daemon = world.daemon().await;
    let mut client = daemon.client().await;
    let held = lock(&world.watched, WHOLE_TABLE).await;
    for id in 1..=50 {
        set(&mut client, id, 7).await;
    }
    world.redis.kill().unwrap();
    let refused = eventually(DEADLINE, async || {
        match client.command(&["SET", "accounts:60", "1"]).await {
            Value::Error(error) => Ok(error),
            other => Err(other),
        }
    })
    .await;
    assert!(refused.starts_with("UNAVAILABLE"), "{refused}");
    release(held).await;
    // What the database says may be older than what is pending.
    eventually(DEADLINE, async || {
        match look(&mut client, "accounts:1").await {
            (value, state) if state == "stale" && value == "0" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    world.redis.start_again().unwrap();
    eventually(DEADLINE, async || {
        match look(&mut client, "accounts:1").await {
            (value, state) if state != "stale" && value == "7" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    world.until_saved().await;
    let saved = "SELECT count(*) FROM accounts WHERE n = 7 AND saves = 1";
    assert_eq!(world.watched.ask(saved).await, "50");
    daemon.stop().await;
}

#[tokio::test]
async fn while_postgres_is_away_writes_go_on_and_are_saved_when_it_is_back() {
    let (mut postgres, watched) = Watched::start_apart(TABLES, CACHES).await;
    watched.execute("CHECKPOINT").await;
    let redis = durable_redis();
    let text = config(watched.database.url(), &redis.redis_url(), CACHES);
    let daemon = InProcess::start(&text).await;
    let mut client = daemon.client().await;
    set(&mut client, 1, 1).await;
    eventually(DEADLINE, async || {
        match watched.ask("SELECT n FROM accounts WHERE id = 1").await {
            n if n == "1" => Ok(()),
            n => Err(n),
        }
    })
    .await;
    postgres.stop().unwrap();
    for id in 1..=20 {
        set(&mut client, id, 7).await;
        assert_eq!(
            look(&mut client, &format!("accounts:{id}")).await,
            ("7".into(), "hit".into())
        );
    }
    postgres.start_again().unwrap();
    let session = watched.database.client().await;
    eventually(2 * DEADLINE, async || {
        let row = session
            .query_one("SELECT count(*) FROM accounts WHERE n = 7", &[])
            .await;
        match row.unwrap().get::<_, i64>(0) {
            20 => Ok(()),
            n => Err(n),
        }
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_waits_for_a_lock_holds_up_nobody_else() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let mut client = daemon.client().await;
    let held = lock(&world.watched, "UPDATE accounts SET n = n WHERE id = 1").await;
    set(&mut client, 1, 7).await;
    for n in 1..=5 {
        set(&mut client, 1 + n, n).await;
        set(&mut client, 1, 7 + n).await;
    }
    eventually(DEADLINE, async || match world.row(6).await.0 {
        n if n == "5" => Ok(()),
        n => Err(n),
    })
    .await;
    assert_eq!(get(&mut client, "accounts:1").await, "12");
    release(held).await;
    world.until_saved().await;
    assert_eq!(world.row(1).await.0, "12");
    assert_eq!(
        world
            .watched
            .ask("SELECT count(*) FROM cachewarden.dead_writes")
            .await,
        "0"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn what_can_never_be_saved_is_put_aside_and_what_was_written_before_and_after_it_is_saved() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let (mut client, mut raw) = (daemon.client().await, world.raw().await);
    // So that all of it is read together.
    let held = lock(&world.watched, WHOLE_TABLE).await;
    for (id, n) in [
        (1, 5),
        (2, 1),
        (1, 2_000_000),
        (3, 1),
        (4, 3_000_000),
        (5, 1),
    ] {
        set(&mut client, id, n).await;
    }
    raw.command(&["XADD", "cachewarden:journal", "*", "what", "is this?"])
        .await;
    let id = Uuid::new_v4().to_string();
    let stranger = [
        "id", &id, "cache", "x", "key", "x:1", "op", "set", "value", "1",
    ];
    raw.command(&[["XADD", "cachewarden:journal", "*"].as_slice(), &stranger].concat())
        .await;
    set(&mut client, 6, 1).await;
    assert_eq!(get(&mut client, "accounts:1").await, "2000000");
    release(held).await;
    // What another daemon may know is left.
    eventually(DEADLINE, async || {
        let left = raw
            .command(&["XRANGE", "cachewarden:journal", "-", "+"])
            .await;
        match &left {
            Value::Array(entries) if entries.len() == 1 => Ok(()),
            _ => Err(left),
        }
    })
    .await;
    for (id, n) in [(1, "5"), (2, "1"), (3, "1"), (4, "0"), (5, "1"), (6, "1")] {
        assert_eq!(world.row(id).await.0, n, "{id}");
        assert_eq!(get(&mut client, &format!("accounts:{id}")).await, n);
    }
    let dead = "SELECT string_agg(key || ' ' || coalesce(value, '') || ' ' || coalesce(sqlstate, '-') || ' ' || attempts, ', ' ORDER BY key)
                FROM cachewarden.dead_writes";
    let seen = world.watched.ask(dead).await;
    assert_eq!(
        seen,
        "  - 0, accounts:1 2000000 23514 5, accounts:4 3000000 23514 5"
    );
    assert_eq!(figure(&mut client, "cachewarden_dead_writes", "").await, 3);
    assert_eq!(
        figure(&mut client, "cachewarden_journal_writes_total", "dead").await,
        3
    );
    set(&mut client, 4, 4).await;
    eventually(DEADLINE, async || match world.row(4).await.0 {
        n if n == "4" => Ok(()),
        n => Err(n),
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_stop_saves_what_was_acknowledged_or_says_what_is_left() {
    let world = World::start().await;
    let (first, mut last) = (world.daemon().await, world.spawned().await);
    let mut clients = [first.client().await, last.client().await];
    for n in 1..=500 {
        let client = usize::from(n % 2 == 0);
        set(&mut clients[client], n, n).await;
    }
    // Whoever of them leads.
    first.stop().await;
    last.signal(Signal::TERM);
    assert_eq!(last.exit().await.code(), Some(0), "{}", last.stderr());
    let saved = "SELECT count(*) FROM accounts WHERE n = id";
    assert_eq!(world.watched.ask(saved).await, "500");

    let mut daemon = world.spawned().await;
    let mut client = daemon.client().await;
    let held = lock(&world.watched, WHOLE_TABLE).await;
    for n in 1..=3 {
        set(&mut client, n, 9).await;
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit().await.code(), Some(0), "{}", daemon.stderr());
    let said = daemon.stderr();
    assert!(
        said.contains("not in postgres yet") && said.contains("writes=3"),
        "{said}"
    );
    release(held).await;
}

#[tokio::test]
async fn a_leader_that_was_paused_overwrites_nothing_that_was_saved_since() {
    let world = World::start().await;
    let (url, redis) = (world.watched.database.url(), world.redis.redis_url());
    let paused = Spawned::start(url, &redis, CACHES).await;
    let mut through_paused = paused.client().await;
    set(&mut through_paused, 1, 1).await;
    world.until_saved().await;
    let next = world.daemon().await;
    let mut client = next.client().await;
    paused.signal(Signal::STOP);
    for n in 2..=20 {
        set(&mut client, 1, n).await;
    }
    world.until_saved().await;
    assert_eq!(world.row(1).await.0, "20");
    paused.signal(Signal::CONT);
    assert_eq!(get(&mut through_paused, "accounts:1").await, "20");
    // Its connection to Redis may have been silent for too long.
    eventually(DEADLINE, async || {
        match through_paused.command(&["SET", "accounts:1", "21"]).await {
            Value::Simple(_) => Ok(()),
            refused => Err(refused),
        }
    })
    .await;
    assert_eq!(get(&mut client, "accounts:1").await, "21");
    world.until_saved().await;
    assert_eq!(world.row(1).await.0, "21");
    next.stop().await;
}

#[tokio::test]
async fn who_led_before_saves_nothing_any_more() {
    let world = World::start().await;
    let config = Config::from_toml(&world.config()).unwrap();
    let mut postgres = config.postgres.clone().unwrap();
    postgres.url = Secret::new(world.watched.database.url());
    let fences = Fences::new(&postgres, Handle::current()).unwrap();
    let minted = fences.mint(2).await.unwrap();
    let writer = JournalWriter::new(&postgres, &config.caches, Handle::current()).unwrap();
    let write = |n: &'static str| {
        let key = config.router().route(b"accounts:1").unwrap();
        vec![LateWrite {
            id: Uuid::new_v4(),
            key: key.with_key(bytes::Bytes::from_static(b"accounts:1")),
            value: Some(bytes::Bytes::from_static(n.as_bytes())),
            instead_of: Vec::new(),
        }]
    };
    let wait = Duration::from_secs(1);
    writer.save(minted[0], write("1"), wait).await.unwrap();
    writer.save(minted[1], write("2"), wait).await.unwrap();
    let late = writer.save(minted[0], write("3"), wait).await;
    assert!(matches!(late, Err(SaveError::Fenced(_))), "{late:?}");
    assert_eq!(world.row(1).await, ("2".into(), "2".into()));
    let entered = "SELECT count(*) FROM cachewarden.written";
    assert_eq!(world.watched.ask(entered).await, "2");
}

#[tokio::test]
async fn keys_that_are_saved_at_once_and_keys_that_are_saved_later_are_not_written_together() {
    let caches = format!(
        "{CACHES}
        [caches.other]
        key = \"other:{{id:bigint}}\"
        query = \"SELECT n FROM other WHERE id = :id\"
        shape = \"scalar\"
        ttl = \"1h\"
        [caches.other.write]
        save = \"INSERT INTO other VALUES (:id, (:value)::text::bigint)\"
        delete = \"DELETE FROM other WHERE id = :id\""
    );
    let world = World::with(&caches).await;
    let daemon = InProcess::start(&world.config_of(&caches)).await;
    let mut client = daemon.client().await;
    for words in [
        ["MSET", "other:1", "1", "accounts:1", "1"].as_slice(),
        &["DEL", "other:1", "accounts:1"],
    ] {
        let refused = client.command(words).await;
        assert!(refused.error().contains("write them apart"), "{refused:?}");
    }
    let together = [
        "MSET",
        "accounts:1",
        "1",
        "accounts:2",
        "2",
        "accounts:1",
        "3",
    ];
    assert_eq!(client.command(&together).await.text(), "OK");
    assert_eq!(get(&mut client, "accounts:1").await, "3");
    world.until_saved().await;
    assert_eq!(
        (world.row(1).await.0, world.row(2).await.0),
        ("3".into(), "2".into())
    );
    assert_eq!(
        raw(&world.redis).await.command(&["GET", "other:1"]).await,
        Value::Nil
    );
    daemon.stop().await;
}
