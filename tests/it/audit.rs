//! The auditor finds a cached value that is wrong, and calls none wrong whose invalidation is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use bytes::Bytes;
use cachewarden::audit::{Checker, Verdict};
use cachewarden::cache::Sweeps;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::repository::Admission;
use cachewarden::store::Store;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::{connect, redis};
use super::support::watched::Watched;
use super::support::world::{figure, raw, until};

const ROWS: u64 = 200;

const TABLES: &str =
    "CREATE TABLE courses (id bigint PRIMARY KEY, version bigint NOT NULL DEFAULT 0);
    CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
    INSERT INTO courses SELECT n FROM generate_series(1, 200) n;
    INSERT INTO users VALUES (1, 'old'), (2, 'old')";

/// Courses are watched, users are not.
const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT id, version FROM courses WHERE id = :id"
    shape = "object"
    ttl = "1h"

    [caches.user]
    key = "users:{id:bigint}"
    query = "SELECT name FROM users WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [audit]
    rate = 5000

    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}"]
"#;

struct Shop {
    watched: Watched,
    redis: Redis,
}

impl Shop {
    async fn open() -> Self {
        Self {
            watched: Watched::start(TABLES, CACHES).await,
            redis: redis(),
        }
    }

    fn config(&self) -> String {
        config(self.watched.database.url(), &self.redis.redis_url(), CACHES)
    }

    async fn spawned(&self) -> Spawned {
        let (postgres, redis) = (self.watched.database.url(), self.redis.redis_url());
        Spawned::start(postgres, &redis, CACHES).await
    }

    async fn raw(&self) -> Client {
        raw(&self.redis).await
    }
}

async fn counted(client: &mut Client, what: &str, least: u64) -> u64 {
    let name = format!("cachewarden_audit_{what}_total");
    eventually(6 * DEADLINE, async || {
        match figure(client, &name, "").await {
            count if count >= least => Ok(count),
            count => Err(count),
        }
    })
    .await
}

#[tokio::test]
async fn a_wrong_value_of_a_watched_cache_is_found_told_with_its_trace_and_invalidated() {
    let shop = Shop::open().await;
    let daemon = shop.spawned().await;
    let (mut client, mut raw) = (daemon.client().await, shop.raw().await);
    client.command(&["GET", "courses:7"]).await;
    let planted = "{\"id\":7,\"version\":\"canary\"}";
    raw.command(&["SET", "courses:7", planted, "PX", "600000"])
        .await;
    counted(&mut client, "inconsistent", 1).await;
    eventually(DEADLINE, async || {
        match raw.command(&["GET", "courses:7"]).await {
            Value::Nil => Ok(()),
            there => Err(there),
        }
    })
    .await;
    let found = figure(&mut client, "cachewarden_audit_inconsistent_total", "").await;
    let invalidated = figure(&mut client, "cachewarden_invalidations_total", "audit").await;
    assert_eq!((found, invalidated), (1, 1));
    let stderr = daemon.stderr();
    let line = stderr.lines().find(|line| line.contains("courses:7"));
    let line = line.unwrap_or_else(|| panic!("{stderr}"));
    for part in ["ERROR", "leased", "filled", "age_ms", "token"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!stderr.contains("canary"), "{stderr}");
}

#[tokio::test]
async fn where_no_watch_tells_a_wrong_value_is_drift_and_stays() {
    let shop = Shop::open().await;
    let daemon = InProcess::start(&shop.config()).await;
    let mut client = daemon.client().await;
    client.command(&["GET", "users:1"]).await;
    client.command(&["GET", "users:2"]).await;
    shop.watched
        .execute("UPDATE users SET name = 'new' WHERE id = 1")
        .await;
    counted(&mut client, "drift", 1).await;
    // It is met again by every walk, and is one value.
    let checked = figure(&mut client, "cachewarden_audit_checked_total", "").await;
    counted(&mut client, "checked", checked + 8).await;
    let drift = figure(&mut client, "cachewarden_audit_drift_total", "").await;
    assert_eq!(drift, 1);
    let inconsistent = figure(&mut client, "cachewarden_audit_inconsistent_total", "").await;
    assert_eq!(inconsistent, 0);
    assert_eq!(client.command(&["GET", "users:1"]).await.text(), "\"old\"");
    daemon.stop().await;
}

#[tokio::test]
async fn the_auditor_goes_on_after_redis_was_away() {
    let mut shop = Shop::open().await;
    let daemon = InProcess::start(&shop.config()).await;
    let mut client = daemon.client().await;
    client.command(&["GET", "courses:7"]).await;
    counted(&mut client, "checked", 1).await;
    shop.redis.kill().unwrap();
    until(&mut client, "cachewarden_redis_up", 0).await;
    shop.redis.start_again().unwrap();
    until(&mut client, "cachewarden_redis_up", 1).await;
    let plant = ["SET", "courses:7", "\"planted\"", "PX", "600000", "NX"];
    let mut raw = shop.raw().await;
    // Again, should it be swept: the daemon may still be making good for what it has missed.
    eventually(6 * DEADLINE, async || {
        raw.command(&plant).await;
        match figure(&mut client, "cachewarden_audit_inconsistent_total", "").await {
            0 => Err("not found"),
            _ => Ok(()),
        }
    })
    .await;
    daemon.stop().await;
}

/// Writers and readers at full speed until so many values were checked; how many of them were called inconsistent, and how
/// many could not be judged.
async fn audited_under_load(shop: &Shop, checks: u64) -> (u64, u64) {
    let daemon = InProcess::start(&shop.config()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut load = JoinSet::new();
    for _ in 0..3 {
        let (url, stop) = (shop.watched.database.url().to_owned(), Arc::clone(&stop));
        load.spawn(async move {
            let writer = connect(&url).await;
            while !stop.load(Relaxed) {
                let id = fastrand::u64(1..=ROWS);
                let update = format!("UPDATE courses SET version = version + 1 WHERE id = {id}");
                writer.batch_execute(&update).await.unwrap();
            }
        });
    }
    for _ in 0..3 {
        let (mut reader, stop) = (daemon.client().await, Arc::clone(&stop));
        load.spawn(async move {
            while !stop.load(Relaxed) {
                let key = format!("courses:{}", fastrand::u64(1..=ROWS));
                reader.command(&["GET", &key]).await;
            }
        });
    }
    let mut client = daemon.client().await;
    counted(&mut client, "checked", checks).await;
    let undecided = figure(&mut client, "cachewarden_audit_undecided_total", "").await;
    let inconsistent = figure(&mut client, "cachewarden_audit_inconsistent_total", "").await;
    stop.store(true, Relaxed);
    load.join_all().await;
    daemon.stop().await;
    (inconsistent, undecided)
}

#[tokio::test]
async fn no_value_is_called_wrong_while_writers_change_rows_at_full_speed() {
    let shop = Shop::open().await;
    let (inconsistent, undecided) = audited_under_load(&shop, 1000).await;
    println!("1000 values checked under load, {undecided} more could not be judged");
    assert_eq!(inconsistent, 0);
}

#[tokio::test]
async fn without_its_triggers_the_same_table_is_found_to_be_inconsistent() {
    let shop = Shop::open().await;
    let disable = "ALTER TABLE courses DISABLE TRIGGER ALL";
    let daemon = InProcess::start(&shop.config()).await;
    let mut client = daemon.client().await;
    shop.watched.execute(disable).await;
    for id in 1..=ROWS {
        client.command(&["GET", &format!("courses:{id}")]).await;
    }
    shop.watched
        .execute("UPDATE courses SET version = version + 1")
        .await;
    counted(&mut client, "inconsistent", ROWS).await;
    for id in 1..=ROWS {
        let read = client.command(&["GET", &format!("courses:{id}")]).await;
        assert_eq!(read.text(), format!("{{\"id\":{id},\"version\":1}}"));
    }
    daemon.stop().await;
}

/// A checker without a daemon: what is queued stays queued.
async fn checker(shop: &Shop) -> (Checker, Config) {
    let config = Config::from_toml(&shop.config()).unwrap();
    let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
    tokio::spawn(store.clone().keep());
    let mut up = store.up();
    up.wait_for(|up| *up).await.unwrap();
    let checker = Checker::new(&config, store, Sweeps::default(), Handle::current());
    (checker.unwrap().expect("there is a database"), config)
}

async fn verdict(checker: &Checker, config: &Config, key: &'static str) -> Verdict {
    let route = config.router().route(key.as_bytes()).unwrap();
    let key = route.with_key(Bytes::from_static(key.as_bytes()));
    let checked = checker.check(vec![key], Admission::Wait).await.unwrap();
    checked.into_iter().next().expect("one key").verdict
}

fn is_wrong(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Wrong(wrong) if wrong.watched)
}

#[tokio::test]
async fn what_is_still_queued_is_not_called_wrong_and_what_is_not_is() {
    let shop = Shop::open().await;
    let (checker, config) = checker(&shop).await;
    let mut raw = shop.raw().await;
    let value = "{\"id\":7,\"version\":0}";
    raw.command(&["SET", "courses:7", value, "PX", "600000"])
        .await;
    assert_eq!(
        verdict(&checker, &config, "courses:7").await,
        Verdict::Equal
    );
    shop.watched
        .execute("UPDATE courses SET version = 1 WHERE id = 7")
        .await;
    let queued = verdict(&checker, &config, "courses:7").await;
    assert!(matches!(queued, Verdict::Undecided(_)), "{queued:?}");
    shop.watched.take().await;
    let lost = verdict(&checker, &config, "courses:7").await;
    assert!(is_wrong(&lost), "{lost:?}");
    // What concerns others is not waited for.
    shop.watched
        .execute("SELECT cachewarden.invalidate('users:1', 'users:2*')")
        .await;
    assert!(is_wrong(&verdict(&checker, &config, "courses:7").await));
    // A backslash could be anybody's.
    shop.watched
        .execute(
            r"INSERT INTO cachewarden.outbox (source, patterns) VALUES ('x', ARRAY['c\ourses:*'])",
        )
        .await;
    let queued = verdict(&checker, &config, "courses:7").await;
    assert!(matches!(queued, Verdict::Undecided(_)), "{queued:?}");
}

#[tokio::test]
async fn a_value_that_was_filled_anew_is_another_one_even_with_the_same_bytes() {
    let shop = Shop::open().await;
    let (checker, config) = checker(&shop).await;
    let mut raw = shop.raw().await;
    let value = "{\"id\":7,\"version\":0}";
    raw.command(&["SET", "courses:7", value, "PX", "600000"])
        .await;
    shop.watched
        .execute("UPDATE courses SET version = 1 WHERE id = 7")
        .await;
    let checking = verdict(&checker, &config, "courses:7");
    let refilling = async {
        // The checker has seen the old value, and waits for what is queued.
        let asks = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT id FROM cachewarden.outbox WHERE id%'
                    AND datname = current_database()";
        eventually(DEADLINE, async || {
            match shop.watched.ask(asks).await.as_str() {
                "0" => Err("nobody waits"),
                _ => Ok(()),
            }
        })
        .await;
        raw.command(&["SET", "courses:7", value, "PX", "700000"])
            .await;
        shop.watched.take().await;
    };
    let (verdict, ()) = tokio::join!(checking, refilling);
    assert_eq!(verdict, Verdict::Gone);
}

#[tokio::test]
async fn a_row_that_is_gone_a_remembered_one_that_came_and_strange_values_are_compared() {
    let shop = Shop::open().await;
    let (checker, config) = checker(&shop).await;
    let mut raw = shop.raw().await;
    raw.command(&["SET", "courses:999", "null", "PX", "600000"])
        .await;
    raw.command(&["SET", "courses:8", "null", "PX", "600000"])
        .await;
    raw.command(&["SET", "courses:998", "{}"]).await;
    raw.command(&["HSET", "courses:9", "a", "b"]).await;
    raw.command(&["SET", "courses:10", "{\"version\":0, \"id\":10}"])
        .await;
    assert_eq!(
        verdict(&checker, &config, "courses:999").await,
        Verdict::Equal
    );
    assert!(is_wrong(&verdict(&checker, &config, "courses:8").await));
    assert!(is_wrong(&verdict(&checker, &config, "courses:998").await));
    let theirs = verdict(&checker, &config, "courses:9").await;
    assert!(matches!(theirs, Verdict::Undecided(_)), "{theirs:?}");
    assert_eq!(
        verdict(&checker, &config, "courses:10").await,
        Verdict::Equal
    );
    assert_eq!(
        verdict(&checker, &config, "courses:11").await,
        Verdict::Gone
    );
}
