//! A Redis that comes back with data of earlier gives none of it out that was invalidated since.

use cachewarden::cli::demo::servers::Redis;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{HEARTBEAT, figure, get, leave_heartbeat, raw, statements, until};

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 100) n";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [caches.plain]
    key = "plain:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
"#;

const WATCH: &str = r#"
    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}"]
"#;

/// Daemons before a Redis that can be taken from them.
struct Scene {
    watched: Watched,
    redis: Redis,
    proxy: Proxy,
    sections: String,
}

impl Scene {
    /// Without a watched table.
    async fn plain() -> Self {
        Self::open(CACHES).await
    }

    /// With one, if its daemons are to know of it.
    async fn watching() -> Self {
        Self::open(&format!("{CACHES}{WATCH}")).await
    }

    async fn open(sections: &str) -> Self {
        let redis = redis();
        Self {
            watched: Watched::start(COURSES, &format!("{CACHES}{WATCH}")).await,
            proxy: Proxy::before_port(redis.port()).await,
            redis,
            sections: sections.to_owned(),
        }
    }

    async fn daemon(&self) -> InProcess {
        let redis = format!("redis://127.0.0.1:{}", self.proxy.port());
        let text = config(self.watched.database.url(), &redis, &self.sections);
        InProcess::start(&text).await
    }

    async fn raw(&self) -> Client {
        raw(&self.redis).await
    }

    /// Takes Redis away, which the daemon of `client` sees, and starts it again from what it has saved, which it does not.
    async fn restart_from_snapshot(&mut self, client: &mut Client) {
        self.proxy.refuse().await;
        until(client, "cachewarden_redis_up", 0).await;
        self.redis.kill().unwrap();
        self.redis.start_again().unwrap();
    }

    async fn update(&self, id: u32) {
        let update = format!("UPDATE courses SET title = 'new' WHERE id = {id}");
        self.watched.execute(&update).await;
    }
}

async fn met(client: &mut Client, what: &str) -> u64 {
    figure(client, "cachewarden_redis_met_total", what).await
}

/// Reads until Redis serves again; every read must be as `expected` says.
async fn reads_while_it_comes_back(client: &mut Client, keys: &[&str], expected: &str) {
    eventually(DEADLINE, async || {
        for key in keys {
            assert_eq!(get(client, key).await, expected, "{key}");
        }
        match figure(client, "cachewarden_redis_up", "").await {
            1 => Ok(()),
            up => Err(up),
        }
    })
    .await;
    for key in keys {
        assert_eq!(get(client, key).await, expected, "{key}");
    }
}

/// Fills two keys, saves, changes both and invalidates them, and starts Redis again from the snapshot.
async fn lose_two_invalidations(scene: &mut Scene, client: &mut Client) {
    for key in ["courses:1", "courses:2"] {
        assert_eq!(get(client, key).await, "\"old\"");
    }
    assert_eq!(scene.raw().await.command(&["SAVE"]).await.text(), "OK");
    for id in 1..=2 {
        scene.update(id).await;
    }
    let removed = client.command(&["DEL", "courses:1", "courses:2"]).await;
    assert_eq!(removed, Value::Int(2));
    scene.restart_from_snapshot(client).await;
    let kept = scene.raw().await.command(&["GET", "courses:1"]).await;
    assert_eq!(kept.text(), "\"old\"", "the snapshot has the value");
}

#[tokio::test]
async fn what_was_invalidated_after_a_snapshot_is_never_read_from_it() {
    let mut scene = Scene::plain().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    lose_two_invalidations(&mut scene, &mut client).await;
    scene.proxy.pass().await;
    reads_while_it_comes_back(&mut client, &["courses:1", "courses:2"], "\"new\"").await;
    assert_ne!(met(&mut client, "earlier").await, 0);
    // Whoever reads past the daemon sees it too, soon.
    let mut raw = scene.raw().await;
    eventually(DEADLINE, async || {
        match raw.command(&["GET", "courses:1"]).await {
            Value::Nil => Ok(()),
            value if value.text() == "\"new\"" => Ok(()),
            value => Err(value),
        }
    })
    .await;
    daemon.stop().await;
}

/// The same, but the snapshot claims to be of the server that runs: nobody doubts it.
#[tokio::test]
async fn control_a_snapshot_that_nobody_doubts_is_read() {
    let mut scene = Scene::plain().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    lose_two_invalidations(&mut scene, &mut client).await;
    leave_heartbeat(&mut scene.raw().await, &["courses:", "plain:"]).await;
    scene.proxy.pass().await;
    eventually(DEADLINE, async || {
        match get(&mut client, "courses:1").await {
            old if old == "\"old\"" => Ok(()),
            new => Err(new),
        }
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_starts_on_a_snapshot_reads_nothing_outdated_from_it() {
    let mut scene = Scene::plain().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    lose_two_invalidations(&mut scene, &mut client).await;
    daemon.stop().await;
    scene.proxy.pass().await;
    let (one, two) = tokio::join!(scene.daemon(), scene.daemon());
    for daemon in [one, two] {
        let mut client = daemon.client().await;
        assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
        assert_eq!(get(&mut client, "courses:2").await, "\"new\"");
        daemon.stop().await;
    }
}

#[tokio::test]
async fn leases_of_a_snapshot_are_ended() {
    let mut scene = Scene::plain().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    let mut raw = scene.raw().await;
    let lease = "{courses:7}:lease";
    raw.command(&["SET", lease, "token", "PX", "3600000"]).await;
    let index = ["ZADD", "cachewarden:leases", "9999999999999", "courses:7"];
    raw.command(&index).await;
    assert_eq!(raw.command(&["SAVE"]).await.text(), "OK");
    scene.restart_from_snapshot(&mut client).await;
    scene.proxy.pass().await;
    until(&mut client, "cachewarden_redis_up", 1).await;
    let left = scene.raw().await.command(&["EXISTS", lease]).await;
    assert_eq!(left, Value::Int(0));
    daemon.stop().await;
}

#[tokio::test]
async fn an_emptied_redis_is_no_other_and_one_that_starts_empty_has_nothing_outdated() {
    let mut scene = Scene::plain().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    scene.raw().await.command(&["FLUSHALL"]).await;
    // The heartbeat comes back by itself.
    let mut raw = scene.raw().await;
    eventually(DEADLINE, async || {
        match raw.command(&["EXISTS", HEARTBEAT]).await {
            Value::Int(1) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    scene.restart_from_snapshot(&mut client).await;
    scene.proxy.pass().await;
    until(&mut client, "cachewarden_redis_up", 1).await;
    assert_eq!(met(&mut client, "earlier").await, 0);
    assert_eq!(met(&mut client, "empty").await, 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_was_only_out_of_reach_keeps_what_it_has() {
    let mut scene = Scene::plain().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    scene.proxy.refuse().await;
    until(&mut client, "cachewarden_redis_up", 0).await;
    scene.proxy.pass().await;
    until(&mut client, "cachewarden_redis_up", 1).await;
    assert_ne!(met(&mut client, "known").await, 0);
    eventually(DEADLINE, async || {
        let before = statements(&mut client).await;
        assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
        // The connection of its core may come after another one.
        match statements(&mut client).await - before {
            0 => Ok(()),
            loads => Err(loads),
        }
    })
    .await;
    let kept = figure(&mut client, "cachewarden_fills_total", "filled").await;
    assert_eq!(kept, 1, "it was never filled again");
    daemon.stop().await;
}

/// A replica that was far behind takes over its data, on connections that stay open.
#[tokio::test]
async fn data_of_another_server_are_noticed_on_an_open_connection() {
    let scene = Scene::plain().await;
    let behind = redis();
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    let (mut raw, mut other) = (scene.raw().await, super::support::world::raw(&behind).await);
    follow(&mut other, scene.redis.port()).await;
    other.command(&["REPLICAOF", "NO", "ONE"]).await;
    scene.update(1).await;
    assert_eq!(client.command(&["DEL", "courses:1"]).await, Value::Int(1));
    follow(&mut raw, behind.port()).await;
    raw.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(
        raw.command(&["GET", "courses:1"]).await.text(),
        "\"old\"",
        "its data are those of before"
    );
    eventually(DEADLINE, async || {
        match get(&mut client, "courses:1").await {
            new if new == "\"new\"" => Ok(()),
            old => Err(old),
        }
    })
    .await;
    // And they stay away.
    until(&mut client, "cachewarden_redis_up", 1).await;
    assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
    assert_ne!(met(&mut client, "earlier").await, 0);
    daemon.stop().await;
}

/// Makes a Redis the replica of another, and waits until it has its data.
async fn follow(raw: &mut Client, port: u16) {
    let of = ["REPLICAOF", "127.0.0.1", &port.to_string()];
    raw.command(&of).await;
    eventually(DEADLINE, async || {
        let info = raw.command(&["INFO", "replication"]).await;
        match info.text().contains("master_link_status:up") {
            true => Ok(()),
            false => Err(info),
        }
    })
    .await;
}

/// What [`lose_watched_invalidations`] loses: by the table that is watched, a command, a pattern and a message.
const LOST: [&str; 4] = ["courses:1", "plain:1", "plain:21", "plain:3"];

/// Saves once the heartbeat tells the time.
async fn save_with_its_time(raw: &mut Client) {
    eventually(DEADLINE, async || {
        match raw.command(&["HGET", HEARTBEAT, "courses:"]).await {
            Value::Nil => Err("none".to_owned()),
            beat if beat.text().ends_with(" 0") => Err(beat.text().to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    assert_eq!(raw.command(&["SAVE"]).await.text(), "OK");
}

/// Fills keys, saves once the heartbeat tells the time, changes and invalidates some, and starts Redis again from the snapshot.
async fn lose_watched_invalidations(scene: &mut Scene, client: &mut Client) {
    for key in LOST.into_iter().chain(["courses:4", "plain:4"]) {
        assert_eq!(get(client, key).await, "\"old\"");
    }
    let mut raw = scene.raw().await;
    save_with_its_time(&mut raw).await;
    for id in [1, 3, 21] {
        scene.update(id).await;
    }
    scene.watched.until_empty().await;
    assert_eq!(client.command(&["DEL", "plain:1"]).await, Value::Int(1));
    let swept = client.command(&["CACHE.INVALIDATE", "plain:2?"]).await;
    assert_eq!(swept, Value::Int(1));
    raw.command(&["PUBLISH", "cache:invalidate", "plain:3"])
        .await;
    eventually(DEADLINE, async || {
        match raw.command(&["EXISTS", "plain:3"]).await {
            Value::Int(0) => Ok(()),
            there => Err(there),
        }
    })
    .await;
    scene.restart_from_snapshot(client).await;
}

#[tokio::test]
async fn what_changed_within_the_window_is_invalidated_once_more_and_the_rest_stays_cached() {
    let mut scene = Scene::watching().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    lose_watched_invalidations(&mut scene, &mut client).await;
    scene.proxy.pass().await;
    reads_while_it_comes_back(&mut client, &LOST, "\"new\"").await;
    eventually(DEADLINE, async || {
        match figure(&mut client, "cachewarden_invalidations_total", "return").await {
            0 => Err("not yet"),
            _ => Ok(()),
        }
    })
    .await;
    for key in ["courses:4", "plain:4"] {
        let kept = scene.raw().await.command(&["GET", key]).await;
        assert_eq!(kept.text(), "\"old\"", "{key} was not outdated");
    }
    for key in LOST {
        assert_eq!(get(&mut client, key).await, "\"new\"", "{key}");
    }
    daemon.stop().await;
}

/// A row that names no key is put aside, and invalidates all that it could mean.
#[tokio::test]
async fn what_a_row_could_mean_that_was_put_aside_is_invalidated_once_more() {
    let mut scene = Scene::watching().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    assert_eq!(get(&mut client, "plain:1").await, "\"old\"");
    save_with_its_time(&mut scene.raw().await).await;
    scene.update(1).await;
    let ask = "SELECT cachewarden.invalidate('plain:01')";
    scene.watched.execute(ask).await;
    scene.watched.until_empty().await;
    let dead = scene.watched.ask("SELECT count(*) FROM cachewarden.dead");
    assert_eq!(dead.await, "1");
    scene.restart_from_snapshot(&mut client).await;
    scene.proxy.pass().await;
    // Past the daemon: what it reads while it doubts is loaded anew.
    let mut raw = scene.raw().await;
    eventually(DEADLINE, async || {
        match raw.command(&["GET", "plain:1"]).await {
            Value::Nil => Ok(()),
            old => Err(old),
        }
    })
    .await;
    assert_eq!(get(&mut client, "plain:1").await, "\"new\"");
    daemon.stop().await;
}

#[tokio::test]
async fn control_what_nobody_noted_is_not_invalidated_once_more() {
    let mut scene = Scene::watching().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    lose_watched_invalidations(&mut scene, &mut client).await;
    scene
        .watched
        .execute("DELETE FROM cachewarden.applied")
        .await;
    scene.proxy.pass().await;
    until(&mut client, "cachewarden_redis_up", 1).await;
    let mut raw = scene.raw().await;
    // Past the daemon, which may still be in doubt.
    for key in LOST {
        let kept = raw.command(&["GET", key]).await;
        assert_eq!(kept.text(), "\"old\"", "{key}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_snapshot_older_than_the_window_is_invalidated_as_a_whole() {
    let mut scene = Scene::watching().await;
    scene.sections = scene
        .sections
        .replace("[invalidation]", "[invalidation]\nreplay_window = \"1ms\"");
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    lose_watched_invalidations(&mut scene, &mut client).await;
    scene.proxy.pass().await;
    reads_while_it_comes_back(&mut client, &["courses:1"], "\"new\"").await;
    let mut raw = scene.raw().await;
    eventually(DEADLINE, async || {
        match raw.command(&["GET", "courses:4"]).await {
            Value::Nil => Ok(()),
            value => Err(value),
        }
    })
    .await;
    daemon.stop().await;
}
