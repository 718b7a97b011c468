//! What is read from watched caches is fresh, or says that nobody knows, whatever was out of reach while the database went on.

use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::Redis;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{figure, get, look, raw, until};

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 200) n";

/// One table behind two caches: one marks what is not proven, the other does not take it.
const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [caches.strict]
    key = "strict:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
    max_unproven = "1500ms"
"#;

const WATCH: &str = r#"
    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}", "strict:{id}"]
"#;

struct Scene {
    watched: Watched,
    redis: Redis,
    to_redis: Proxy,
    to_postgres: Proxy,
}

impl Scene {
    async fn open() -> Self {
        let (watched, redis) = (Watched::start(COURSES, &watching()).await, redis());
        let to_postgres = Proxy::before_port(super::support::servers::shared_postgres().port());
        Self {
            to_redis: Proxy::before_port(redis.port()).await,
            to_postgres: to_postgres.await,
            redis,
            watched,
        }
    }

    /// Where the daemon finds them.
    fn urls(&self) -> (String, String) {
        let direct = super::support::servers::shared_postgres().port();
        let postgres = self.watched.database.url();
        let port = format!(":{}/", self.to_postgres.port());
        let proxied = postgres.replace(&format!(":{direct}/"), &port);
        assert_ne!(proxied, postgres);
        let redis = format!("redis://127.0.0.1:{}", self.to_redis.port());
        (proxied, redis)
    }

    async fn daemon(&self) -> InProcess {
        let (postgres, redis) = self.urls();
        InProcess::start(&config(&postgres, &redis, &watching())).await
    }

    /// Past every proxy.
    async fn update(&self, what: &str) {
        let update = format!("UPDATE courses SET title = 'new' WHERE {what}");
        self.watched.execute(&update).await;
    }
}

fn watching() -> String {
    format!("{CACHES}{WATCH}")
}

async fn cache_all(client: &mut Client, ids: std::ops::RangeInclusive<u32>) {
    for id in ids {
        assert_eq!(get(client, &format!("courses:{id}")).await, "\"old\"");
    }
}

#[tokio::test]
async fn what_changed_while_no_daemon_ran_is_not_read_after_the_start() {
    let scene = Scene::open().await;
    let (postgres, redis) = scene.urls();
    let doomed = Spawned::start(&postgres, &redis, &watching()).await;
    cache_all(&mut doomed.client().await, 1..=100).await;
    drop(doomed);
    for id in 1..=100 {
        scene.update(&format!("id = {id}")).await;
    }
    // Control: a daemon that knows of no watch reads what is there.
    let ignorant = InProcess::start(&config(&postgres, &redis, CACHES)).await;
    cache_all(&mut ignorant.client().await, 1..=100).await;
    ignorant.stop().await;
    let daemon = Spawned::start(&postgres, &redis, &watching()).await;
    let mut client = daemon.client().await;
    for id in 1..=100 {
        assert_eq!(get(&mut client, &format!("courses:{id}")).await, "\"new\"");
    }
}

#[tokio::test]
async fn while_changes_of_before_wait_watched_caches_are_read_from_the_database() {
    let mut scene = Scene::open().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    cache_all(&mut client, 1..=2).await;
    scene.to_redis.refuse().await;
    until(&mut client, "cachewarden_redis_up", 0).await;
    scene.update("id = 1").await;
    // Somebody else has claimed the change, and does not come to apply it.
    let other = scene.watched.database.client().await;
    let claim = "BEGIN; SELECT * FROM cachewarden.outbox FOR UPDATE";
    other.batch_execute(claim).await.unwrap();
    scene.to_redis.pass().await;
    until(&mut client, "cachewarden_redis_up", 1).await;
    assert_eq!(figure(&mut client, "cachewarden_barrier_up", "").await, 1);
    // Control: what lies in Redis is outdated.
    let mut raw = raw(&scene.redis).await;
    assert_eq!(get(&mut raw, "courses:1").await, "\"old\"");
    assert_eq!(get(&mut client, "courses:2").await, "\"old\"");
    // And it is filled.
    eventually(DEADLINE, async || {
        assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
        match raw.command(&["GET", "courses:1"]).await {
            value if value == Value::bulk("\"new\"") => Ok(()),
            value => Err(value),
        }
    })
    .await;
    assert_eq!(figure(&mut client, "cachewarden_barrier_up", "").await, 1);
    other.batch_execute("ROLLBACK").await.unwrap();
    until(&mut client, "cachewarden_barrier_up", 0).await;
    let value = eventually(DEADLINE, async || {
        match look(&mut client, "courses:1").await {
            (value, state) if state == "hit" => Ok(value),
            seen => Err(seen),
        }
    })
    .await;
    assert_eq!(value, "\"new\"");
    daemon.stop().await;
}

#[tokio::test]
async fn a_frozen_redis_gives_nothing_outdated_when_it_goes_on() {
    let mut scene = Scene::open().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    cache_all(&mut client, 1..=20).await;
    scene.redis.freeze().unwrap();
    until(&mut client, "cachewarden_redis_up", 0).await;
    scene.update("id <= 20").await;
    scene.redis.thaw().unwrap();
    // Before it is seen again, while, and after.
    let end = async |client: &mut Client| figure(client, "cachewarden_redis_up", "").await == 1;
    while !end(&mut client).await {
        for id in 1..=20 {
            assert_eq!(get(&mut client, &format!("courses:{id}")).await, "\"new\"");
        }
    }
    for id in 1..=20 {
        assert_eq!(get(&mut client, &format!("courses:{id}")).await, "\"new\"");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn hits_say_so_when_changes_cannot_be_seen_or_are_no_hits() {
    let mut scene = Scene::open().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    for key in ["courses:1", "strict:1"] {
        assert_eq!(get(&mut client, key).await, "\"old\"");
    }
    assert_eq!(look(&mut client, "courses:1").await.1, "hit");
    scene.to_postgres.refuse().await;
    let changed = Instant::now();
    scene.update("id = 1").await;
    let mut plain = daemon.client().await;
    let mut marked = 0;
    // What is given without a mark is never older than this.
    let bound = Duration::from_millis(1500);
    eventually(DEADLINE, async || {
        let sent = Instant::now();
        let (value, state) = look(&mut client, "courses:1").await;
        let late = sent.duration_since(changed) > bound;
        assert!(!(late && state == "hit"), "{value} after {bound:?}");
        // Unless Redis took too long: then Postgres would have had to answer.
        if let value @ Value::Bulk(_) = plain.command(&["GET", "courses:1"]).await {
            assert_eq!(value.text(), "\"old\"");
        }
        marked += u32::from(state == "stale");
        match look(&mut client, "strict:1").await {
            (error, _) if error.starts_with("LOADFAIL") => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    assert_ne!(marked, 0);
    let stale = figure(&mut client, "cachewarden_reads_total", "state=\"stale\"").await;
    assert_ne!(stale, 0);
    scene.to_postgres.pass().await;
    let value = eventually(DEADLINE, async || {
        let (value, state) = look(&mut client, "courses:1").await;
        match state.as_str() {
            "hit" | "miss" => Ok(value),
            _ => Err((value, state)),
        }
    })
    .await;
    assert_eq!(value, "\"new\"");
    let value = eventually(DEADLINE, async || {
        match look(&mut client, "strict:1").await {
            (value, state) if state != "error" => Ok(value),
            seen => Err(seen),
        }
    })
    .await;
    assert_eq!(value, "\"new\"");
    daemon.stop().await;
}

#[tokio::test]
async fn changes_that_redis_refuses_to_hear_of_are_not_hidden() {
    let scene = Scene::open().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    for key in ["courses:1", "strict:1"] {
        assert_eq!(get(&mut client, key).await, "\"old\"");
    }
    let mut raw = raw(&scene.redis).await;
    raw.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    scene.update("id = 1").await;
    let value = eventually(DEADLINE, async || {
        match look(&mut client, "courses:1").await {
            (value, state) if state == "stale" => Ok(value),
            seen => Err(seen),
        }
    })
    .await;
    assert_eq!(value, "\"old\"");
    eventually(DEADLINE, async || {
        match look(&mut client, "strict:1").await {
            (value, _) if value == "\"new\"" => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_was_stopped_and_goes_on_marks_what_it_may_have_missed() {
    let scene = Scene::open().await;
    let (postgres, redis) = scene.urls();
    let daemon = Spawned::start(&postgres, &redis, &watching()).await;
    let mut client = daemon.client().await;
    cache_all(&mut client, 1..=20).await;
    daemon.signal(rustix::process::Signal::STOP);
    scene.update("id <= 20").await;
    let stopped = Instant::now();
    // For longer than a proof is good for: that is what is tried here.
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(stopped.elapsed() > Duration::from_secs(1));
    let looks: Vec<Vec<u8>> = (1..=20)
        .map(|id| format!("CACHE.GET courses:{id}\r\n").into_bytes())
        .collect();
    client.send(&looks.concat()).await.unwrap();
    daemon.signal(rustix::process::Signal::CONT);
    for id in 1..=20 {
        let found = client.read().await.unwrap();
        let (value, state) = (found.field("value"), found.field("state"));
        let outdated = value.unwrap().text() == "\"old\"";
        assert!(
            !outdated || state.unwrap().text() == "stale",
            "{id}: {found:?}"
        );
    }
}

/// Its change names a pattern: the claim of it is in hand for as long as the sweep is tried.
const PAGES: &str = r#"
    [caches.page]
    key = "pages:{id:bigint}:{page:int}"
    query = "SELECT title FROM courses WHERE id = :id AND :page > 0"
    shape = "scalar"
    ttl = "1h"

    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["pages:{id}:*"]
"#;

async fn broken_passes(client: &mut Client) -> u64 {
    figure(client, "cachewarden_sweep_passes_total", "broken").await
}

#[tokio::test]
async fn while_redis_refuses_to_remove_a_value_it_does_not_pass_for_fresh() {
    const FRESH: Duration = Duration::from_secs(1);
    let (watched, redis) = (Watched::start(COURSES, PAGES).await, redis());
    let daemon = InProcess::start(&config(watched.database.url(), &redis.redis_url(), PAGES)).await;
    let mut client = daemon.client().await;
    assert_eq!(get(&mut client, "pages:1:1").await, "\"old\"");
    let mut raw = raw(&redis).await;
    let refuse = ["CONFIG", "SET", "min-replicas-to-write", "1"];
    assert_eq!(raw.command(&refuse).await.text(), "OK");
    // Nor can leases be ended, and so no sweep is announced: that would be heeded.
    let blind = ["ACL", "SETUSER", "default", "-zscan"];
    assert_eq!(raw.command(&blind).await.text(), "OK");
    watched.execute("UPDATE courses SET title = 'new'").await;
    let changed = Instant::now();
    let mut marked = 0;
    // For long enough that it was given up, and claimed again.
    eventually(DEADLINE, async || {
        let sent = Instant::now();
        let (value, state) = look(&mut client, "pages:1:1").await;
        let outdated = sent.saturating_duration_since(changed);
        let is_silent = value == "\"old\"" && state != "stale";
        assert!(
            !is_silent || outdated <= FRESH,
            "{state} after {outdated:?}"
        );
        marked += u32::from(state == "stale");
        match broken_passes(&mut client).await {
            10.. => Ok(()),
            broken => Err(broken),
        }
    })
    .await;
    assert_ne!(marked, 0);
    let seeing = ["ACL", "SETUSER", "default", "+zscan"];
    assert_eq!(raw.command(&seeing).await.text(), "OK");
    eventually(DEADLINE, async || {
        let (value, _) = look(&mut client, "pages:1:1").await;
        (value == "\"new\"").then_some(()).ok_or(value)
    })
    .await;
    // Its sweep is announced, breaks off at what Redis refuses, and stays announced until it can begin again.
    let before = broken_passes(&mut client).await;
    eventually(DEADLINE, async || {
        let (value, _) = look(&mut client, "pages:1:1").await;
        assert_eq!(value, "\"new\"");
        let broken = broken_passes(&mut client).await;
        (broken > before + 3).then_some(()).ok_or(broken)
    })
    .await;
    let kept = raw.command(&["GET", "pages:1:1"]).await;
    assert_eq!(kept, Value::bulk("\"old\""));
    let allow = ["CONFIG", "SET", "min-replicas-to-write", "0"];
    assert_eq!(raw.command(&allow).await.text(), "OK");
    eventually(DEADLINE, async || {
        match look(&mut client, "pages:1:1").await {
            (value, state) if value == "\"new\"" && state == "hit" => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    daemon.stop().await;
}
