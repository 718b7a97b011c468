//! A Postgres that is frozen, not gone: connections stand, nothing is answered.

use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::{Postgres, Redis};

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{figure, look, raw, until};

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 10) n";

/// One table behind two caches: one marks what is not proven, the other does not take it.
const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
    load_timeout = "500ms"

    [caches.strict]
    key = "strict:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
    load_timeout = "500ms"
    max_unproven = "1500ms"

    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}", "strict:{id}"]
"#;

struct Scene {
    postgres: Postgres,
    watched: Watched,
    redis: Redis,
    to_redis: Proxy,
}

impl Scene {
    async fn open() -> Self {
        let (postgres, watched) = Watched::start_apart(COURSES, CACHES).await;
        let redis = redis();
        Self {
            to_redis: Proxy::before_port(redis.port()).await,
            postgres,
            watched,
            redis,
        }
    }

    async fn daemon(&self) -> InProcess {
        let redis = format!("redis://127.0.0.1:{}", self.to_redis.port());
        InProcess::start(&config(self.watched.database.url(), &redis, CACHES)).await
    }

    async fn update(&self, id: u32) {
        let update = format!("UPDATE courses SET title = 'new' WHERE id = {id}");
        self.watched.execute(&update).await;
    }
}

async fn until_new(client: &mut Client, key: &str) {
    eventually(DEADLINE, async || match look(client, key).await {
        (value, state) if value == "\"new\"" && state != "stale" => Ok(()),
        seen => Err(seen),
    })
    .await;
}

#[tokio::test]
async fn hits_say_that_nobody_knows_while_postgres_is_frozen_or_are_none() {
    let mut scene = Scene::open().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    for key in ["courses:1", "courses:2", "strict:1"] {
        assert_eq!(client.command(&["GET", key]).await.text(), "\"old\"");
    }
    // Nothing is there, and that is remembered.
    assert_eq!(look(&mut client, "courses:99").await.1, "missing");
    // Nobody knows whether this is applied before all stands still.
    scene.update(2).await;
    let changed = Instant::now();
    scene.postgres.freeze().unwrap();
    let mut marked = 0;
    // What is given without a mark is never older than this.
    let bound = Duration::from_millis(1500);
    eventually(DEADLINE, async || {
        let sent = Instant::now();
        let (value, state) = look(&mut client, "courses:2").await;
        let late = sent.duration_since(changed) > bound;
        let unmarked = value == "\"old\"" && state == "hit";
        assert!(!(late && unmarked), "{value} after {bound:?}");
        let (value, state) = look(&mut client, "courses:1").await;
        marked += u32::from(value == "\"old\"" && state == "stale");
        let (_, state) = look(&mut client, "courses:99").await;
        assert!(marked == 0 || state != "missing", "{state}");
        match look(&mut client, "strict:1").await {
            (error, _) if marked > 0 && error.starts_with("LOADFAIL") => Ok(()),
            seen => Err((seen, marked)),
        }
    })
    .await;
    scene.postgres.thaw().unwrap();
    scene.update(1).await;
    for key in ["courses:1", "courses:2", "strict:1"] {
        until_new(&mut client, key).await;
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_comes_back_while_postgres_is_frozen_gives_nothing_outdated() {
    let mut scene = Scene::open().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    let first = client.command(&["GET", "courses:1"]).await;
    assert_eq!(first.text(), "\"old\"");
    scene.to_redis.refuse().await;
    until(&mut client, "cachewarden_redis_up", 0).await;
    scene.update(1).await;
    // Somebody else has claimed the change, and does not come to apply it.
    let other = scene.watched.database.client().await;
    let claim = "BEGIN; SELECT * FROM cachewarden.outbox FOR UPDATE";
    other.batch_execute(claim).await.unwrap();
    scene.postgres.freeze().unwrap();
    scene.to_redis.pass().await;
    until(&mut client, "cachewarden_redis_up", 1).await;
    // Control: it lies there.
    let there = raw(&scene.redis).await.command(&["GET", "courses:1"]).await;
    assert_eq!(there, Value::bulk("\"old\""));
    let never_old = async |client: &mut Client| {
        let (value, state) = look(client, "courses:1").await;
        assert_ne!(value, "\"old\"", "{state}");
        assert_eq!(figure(client, "cachewarden_barrier_up", "").await, 1);
        value
    };
    // By then no look of before proves anything.
    eventually(DEADLINE, async || {
        let frozen = never_old(&mut client).await;
        assert!(frozen.starts_with("LOADFAIL"), "{frozen}");
        match figure(&mut client, "cachewarden_postgres_up", "").await {
            0 => Ok(()),
            up => Err(up),
        }
    })
    .await;
    scene.postgres.thaw().unwrap();
    eventually(DEADLINE, async || match never_old(&mut client).await {
        value if value == "\"new\"" => Ok(()),
        value => Err(value),
    })
    .await;
    other.batch_execute("ROLLBACK").await.unwrap();
    until(&mut client, "cachewarden_barrier_up", 0).await;
    until_new(&mut client, "courses:1").await;
    daemon.stop().await;
}
