//! A committed change is gone from the cache, whoever dies or is away in between; what was rolled back is not.

use cachewarden::cli::demo::servers::Redis;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config};
use super::support::eventually::eventually;
use super::support::resp::Value;
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{figure, get, raw};

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 500) n";

pub const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [caches.list]
    key = "courses:list:{title:text}"
    query = "SELECT count(*) FROM courses WHERE title = :title"
    shape = "scalar"
    ttl = "1h"

    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}", "courses:list:*"]
"#;

/// A watched table and a Redis; daemons come later.
pub struct Shop {
    pub watched: Watched,
    pub redis: Redis,
}

impl Shop {
    pub async fn open() -> Self {
        Self {
            watched: Watched::start(COURSES, CACHES).await,
            redis: redis(),
        }
    }

    async fn daemon(&self) -> InProcess {
        let (postgres, redis) = (self.watched.database.url(), self.redis.redis_url());
        InProcess::start(&config(postgres, &redis, CACHES)).await
    }

    /// What Redis holds, past every daemon.
    async fn cached(&self, key: &str) -> Value {
        raw(&self.redis).await.command(&["GET", key]).await
    }
}

#[tokio::test]
async fn what_was_committed_is_gone_from_the_cache_and_read_anew() {
    let shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    for (change, title, list) in [
        (
            "UPDATE courses SET title = 'new' WHERE id = 1",
            "\"new\"",
            "499",
        ),
        (
            "UPDATE courses SET title = 'newer' WHERE id < 10",
            "\"newer\"",
            "491",
        ),
        ("TRUNCATE courses", "", "0"),
    ] {
        get(&mut client, "courses:1").await;
        get(&mut client, "courses:list:old").await;
        shop.watched.execute(change).await;
        shop.watched.until_empty().await;
        assert_eq!(
            shop.cached("courses:list:old").await,
            Value::Nil,
            "{change}"
        );
        assert_eq!(shop.cached("courses:1").await, Value::Nil, "{change}");
        let course = client.command(&["GET", "courses:1"]).await;
        match title {
            "" => assert_eq!(course, Value::Nil),
            title => assert_eq!(course.text(), title),
        }
        assert_eq!(get(&mut client, "courses:list:old").await, list);
    }
    assert!(figure(&mut client, "cachewarden_invalidations_total", "watch").await > 10);
    daemon.stop().await;
}

#[tokio::test]
async fn what_was_rolled_back_stays_cached() {
    let shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    get(&mut client, "courses:1").await;
    get(&mut client, "courses:2").await;
    shop.watched
        .execute("BEGIN; UPDATE courses SET title = 'new' WHERE id = 1; ROLLBACK")
        .await;
    // What comes later is applied later: by then the other would have been.
    shop.watched
        .execute("SELECT cachewarden.invalidate('courses:2')")
        .await;
    shop.watched.until_empty().await;
    assert_eq!(shop.cached("courses:2").await, Value::Nil);
    assert_eq!(shop.cached("courses:1").await, Value::bulk("\"old\""));
    daemon.stop().await;
}

#[tokio::test]
async fn a_program_invalidates_what_it_names_in_its_own_transaction() {
    let shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    for key in ["courses:42", "courses:43", "courses:list:old"] {
        get(&mut client, key).await;
    }
    shop.watched
        .execute("SELECT cachewarden.invalidate('courses:42', 'courses:list:*')")
        .await;
    shop.watched.until_empty().await;
    assert_eq!(shop.cached("courses:42").await, Value::Nil);
    assert_eq!(shop.cached("courses:list:old").await, Value::Nil);
    assert_eq!(shop.cached("courses:43").await, Value::bulk("\"old\""));
    daemon.stop().await;
}

#[tokio::test]
async fn what_names_nothing_is_put_aside_and_all_that_it_could_mean_is_gone() {
    let shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    get(&mut client, "courses:7").await;
    // Another daemon's, whose configuration we lack: it is taken as it is.
    raw(&shop.redis)
        .await
        .command(&["SET", "nobody:1", "x"])
        .await;
    let names = ["courses:007", "nobody:1", "no colon"];
    for name in names {
        let ask = format!("SELECT cachewarden.invalidate('{name}')");
        shop.watched.execute(&ask).await;
    }
    shop.watched.until_empty().await;
    assert_eq!(shop.cached("courses:7").await, Value::Nil);
    assert_eq!(shop.cached("nobody:1").await, Value::Nil);
    let dead = shop.watched.ask("SELECT count(*) FROM cachewarden.dead");
    assert_eq!(dead.await, "2");
    // Each is measured, from its change on.
    let measured = figure(
        &mut client,
        "cachewarden_invalidation_seconds_count",
        "outbox",
    );
    assert!(measured.await >= 3);
    // It is looked at with the backlog, once a second.
    eventually(DEADLINE, async || {
        match figure(&mut client, "cachewarden_dead_rows", "").await {
            2 => Ok(()),
            rows => Err(rows),
        }
    })
    .await;
    // People have looked, and mended one of them.
    get(&mut client, "courses:7").await;
    shop.watched
        .execute(
            "DELETE FROM cachewarden.dead WHERE keys = '{no colon}';
             UPDATE cachewarden.dead SET keys = '{courses:7}';
             WITH gone AS (DELETE FROM cachewarden.dead RETURNING *)
             INSERT INTO cachewarden.outbox (source, keys, patterns) SELECT source, keys, patterns FROM gone",
        )
        .await;
    shop.watched.until_empty().await;
    assert_eq!(shop.cached("courses:7").await, Value::Nil);
    let dead = shop.watched.ask("SELECT count(*) FROM cachewarden.dead");
    assert_eq!(dead.await, "0");
    daemon.stop().await;
}

#[tokio::test]
async fn two_daemons_lose_no_change_and_leave_none() {
    let shop = Shop::open().await;
    let (one, two) = (shop.daemon().await, shop.daemon().await);
    let mut clients = [one.client().await, two.client().await];
    for id in 1..=500 {
        get(&mut clients[id % 2], &format!("courses:{id}")).await;
    }
    for id in 1..=500 {
        let update = format!("UPDATE courses SET title = 'new' WHERE id = {id}");
        shop.watched.execute(&update).await;
    }
    shop.watched.until_empty().await;
    for id in 1..=500 {
        let read = get(&mut clients[id % 2], &format!("courses:{id}")).await;
        assert_eq!(read, "\"new\"", "course {id}");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn what_a_daemon_had_claimed_when_it_was_killed_is_applied_by_the_next() {
    let shop = Shop::open().await;
    let (postgres, redis) = (shop.watched.database.url(), shop.redis.redis_url());
    let doomed = Spawned::start(postgres, &redis, CACHES).await;
    get(&mut doomed.client().await, "courses:1").await;
    // A Redis that does not answer holds the claim open. It hangs for longer than the daemon has to live.
    let mut pause = raw(&shop.redis).await;
    pause.command(&["CLIENT", "PAUSE", "1500", "ALL"]).await;
    shop.watched
        .execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    let claimed = "SELECT count(*) FROM cachewarden.outbox WHERE id NOT IN
                   (SELECT id FROM cachewarden.outbox FOR UPDATE SKIP LOCKED)";
    eventually(DEADLINE, async || {
        match shop.watched.ask(claimed).await.as_str() {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    drop(doomed);
    let rows = "SELECT count(*) FROM cachewarden.outbox";
    assert_eq!(shop.watched.ask(rows).await, "1");
    let daemon = shop.daemon().await;
    shop.watched.until_empty().await;
    assert_eq!(
        get(&mut daemon.client().await, "courses:1").await,
        "\"new\""
    );
    daemon.stop().await;
}

#[tokio::test]
async fn changes_wait_while_redis_is_away_and_are_applied_when_it_is_back() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    get(&mut client, "courses:1").await;
    shop.redis.kill().unwrap();
    shop.watched
        .execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    // Until the daemon has seen it; the row is still there, claimed or not.
    eventually(DEADLINE, async || {
        match figure(&mut client, "cachewarden_redis_up", "").await {
            0 => Ok(()),
            up => Err(up),
        }
    })
    .await;
    let rows = "SELECT count(*) FROM cachewarden.outbox";
    assert_eq!(shop.watched.ask(rows).await, "1");
    shop.redis.start_again().unwrap();
    shop.watched.until_empty().await;
    eventually(DEADLINE, async || {
        match get(&mut client, "courses:1").await {
            read if read == "\"new\"" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    daemon.stop().await;
}
