//! `cachewarden audit` finds every cached value that is not what Postgres says, with a daemon and without one.

use cachewarden::cli::demo::servers::Redis;
use serde_json::Value as Json;

use super::support::daemon::{Spawned, cachewarden, config, said};
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::raw;

const TABLES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 3000) n;
    INSERT INTO users SELECT n, 'old' FROM generate_series(1, 10) n";

/// Courses are watched, users are not. The daemon itself looks at nothing.
const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [caches.user]
    key = "users:{id:bigint}"
    query = "SELECT name FROM users WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [audit]
    rate = 0

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
        let shop = Self::empty().await;
        shop.fill().await;
        shop
    }

    async fn empty() -> Self {
        Self {
            watched: Watched::start(TABLES, CACHES).await,
            redis: redis(),
        }
    }

    /// Caches all courses and users, as they are; and a key of somebody else.
    async fn fill(&self) {
        let mut raw = self.raw().await;
        for id in 1..=3000 {
            raw.command(&["SET", &format!("courses:{id}"), "\"old\"", "EX", "3000"])
                .await;
        }
        for id in 1..=10 {
            raw.command(&["SET", &format!("users:{id}"), "\"old\"", "EX", "3000"])
                .await;
        }
        raw.command(&["SET", "other:1", "\"old\""]).await;
    }

    async fn raw(&self) -> Client {
        raw(&self.redis).await
    }

    fn config(&self) -> String {
        let (postgres, redis) = (self.watched.database.url(), self.redis.redis_url());
        config(postgres, &redis, CACHES)
    }

    async fn audit(&self, args: &[&str]) -> (Option<i32>, String, String) {
        audit(&self.config(), args).await
    }
}

async fn audit(config: &str, args: &[&str]) -> (Option<i32>, String, String) {
    said(&cachewarden(config, &[&["audit"], args].concat()).await)
}

/// The cells of the row that begins with `name`, but for its time.
fn row<'t>(table: &'t str, name: &str) -> Vec<&'t str> {
    let row = table
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name));
    let row = row.unwrap_or_else(|| panic!("no {name} in\n{table}"));
    row.split_whitespace().take(8).collect()
}

#[tokio::test]
async fn every_cached_value_is_compared_and_what_is_wrong_is_shown_and_repaired_when_asked_to() {
    let shop = Shop::open().await;
    let (code, table, stderr) = shop.audit(&[]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{table}");
    assert_eq!(
        row(&table, "course"),
        ["course", "3000", "3000", "0", "0", "0", "0", "0"]
    );
    assert_eq!(
        row(&table, "total"),
        ["total", "3010", "3010", "0", "0", "0", "0", "0"]
    );
    assert!(table.contains("0 of 3010"), "{table}");

    let mut raw = shop.raw().await;
    raw.command(&["SET", "courses:7", "\"canary\"", "EX", "3000"])
        .await;
    raw.command(&["SET", "users:7", "\"canary\"", "EX", "3000"])
        .await;
    let (code, table, stderr) = shop.audit(&[]).await;
    assert_eq!((code, stderr.as_str()), (Some(1), ""), "{table}");
    assert_eq!(
        row(&table, "course"),
        ["course", "3000", "2999", "1", "0", "0", "0", "0"]
    );
    assert_eq!(
        row(&table, "user"),
        ["user", "10", "9", "0", "1", "0", "0", "0"]
    );
    for part in [
        "INCONSISTENT: 1 of 3010",
        "courses:7 (course): inconsistent",
        "users:7 (user): drift",
        "what happened to them is not known",
    ] {
        assert!(table.contains(part), "{part} is not in\n{table}");
    }
    assert!(!table.contains("canary"), "{table}");

    let (code, table, _) = shop.audit(&["--repair"]).await;
    assert_eq!(code, Some(1), "{table}");
    assert_eq!(
        row(&table, "total"),
        ["total", "3010", "3008", "1", "1", "0", "0", "2"]
    );
    for key in ["courses:7", "users:7"] {
        assert_eq!(raw.command(&["GET", key]).await, Value::Nil, "{key}");
    }
    assert_eq!(raw.command(&["GET", "other:1"]).await.text(), "\"old\"");
    let (code, table, _) = shop.audit(&[]).await;
    assert_eq!(code, Some(0), "{table}");
    assert_eq!(
        row(&table, "total"),
        ["total", "3008", "3008", "0", "0", "0", "0", "0"]
    );
}

#[tokio::test]
async fn programs_get_json_with_the_trace_that_the_daemon_knows() {
    let shop = Shop::empty().await;
    let daemon = Spawned::start(shop.watched.database.url(), &shop.redis.redis_url(), CACHES).await;
    // A daemon that starts on a Redis with values of nobody knows when begins with none of them.
    shop.fill().await;
    let (mut client, mut raw) = (daemon.client().await, shop.raw().await);
    client.command(&["DEL", "courses:7"]).await;
    client.command(&["GET", "courses:7"]).await;
    raw.command(&["SET", "courses:7", "\"canary\"", "EX", "3000"])
        .await;
    let config = std::fs::read_to_string(daemon.config()).unwrap();
    let (code, stdout, stderr) = audit(&config, &["--json", "--rate", "1000000"]).await;
    assert_eq!((code, stderr.as_str()), (Some(1), ""), "{stdout}");
    let found: Json = serde_json::from_str(&stdout).unwrap();
    let counts = [
        "checked",
        "equal",
        "inconsistent",
        "drift",
        "gone",
        "undecided",
    ];
    let counts = counts.map(|name| found["total"][name].as_u64());
    assert_eq!(counts, [3010, 3009, 1, 0, 0, 0].map(Some), "{stdout}");
    assert_eq!(found["caches"][0]["cache"], "course");
    assert_eq!(found["caches"][0]["inconsistent"], 1);
    let example = &found["examples"][0];
    assert_eq!(
        (&example["key"], &example["kind"]),
        (&"courses:7".into(), &"inconsistent".into())
    );
    let trace = &example["trace"];
    assert_eq!(trace["last_invalidation"]["source"], "command", "{stdout}");
    assert!(trace["last_fill"]["ago_ms"].is_u64(), "{stdout}");
    assert!(trace["last_lease"]["token"].is_string(), "{stdout}");
    assert_eq!(
        trace["invalidated_by"][0],
        "watch \"courses\": courses:{id}"
    );
    assert!(!stdout.contains("canary"), "{stdout}");
    let (_, table, _) = audit(&config, &[]).await;
    let line = table.lines().find(|line| line.contains("leased"));
    let line = line.unwrap_or_else(|| panic!("{table}"));
    assert!(
        line.contains("filled") && line.contains("by command"),
        "{line}"
    );
}

#[tokio::test]
async fn what_is_queued_is_undecided_and_no_error() {
    let shop = Shop::open().await;
    shop.watched
        .execute("UPDATE courses SET title = 'new' WHERE id <= 3")
        .await;
    let (code, table, stderr) = shop.audit(&[]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{table}");
    assert_eq!(
        row(&table, "course"),
        ["course", "2997", "2997", "0", "0", "0", "3", "0"]
    );
    assert!(
        table.contains("3 undecided: its invalidation may be queued"),
        "{table}"
    );
}

#[tokio::test]
async fn what_another_program_left_under_a_key_of_ours_is_undecided_and_not_gone() {
    let shop = Shop::empty().await;
    let mut raw = shop.raw().await;
    raw.command(&["RPUSH", "courses:7", "theirs"]).await;
    raw.command(&["SET", "courses:8", ""]).await;
    let (code, table, stderr) = shop.audit(&[]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{table}");
    assert_eq!(
        row(&table, "course"),
        ["course", "0", "0", "0", "0", "0", "2", "0"]
    );
    let why = "2 undecided: no value lies there, but something of another program";
    assert!(table.contains(why), "{table}");
}

#[tokio::test]
async fn even_the_first_keys_are_compared_no_faster_than_asked_for() {
    let shop = Shop::empty().await;
    let mut raw = shop.raw().await;
    for id in 1..=3 {
        raw.command(&["SET", &format!("courses:{id}"), "\"old\"", "EX", "3000"])
            .await;
    }
    let (code, stdout, stderr) = shop.audit(&["--json", "--rate", "1"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "{stdout}");
    let found: Json = serde_json::from_str(&stdout).unwrap();
    assert_eq!(found["total"]["equal"], 3, "{stdout}");
    assert!(found["total"]["took_ms"].as_u64() >= Some(2000), "{stdout}");
}

#[tokio::test]
async fn without_a_server_or_the_queue_it_says_which_and_what_to_do() {
    let shop = Shop::open().await;
    let (postgres, redis) = (shop.watched.database.url(), shop.redis.redis_url());
    let mut nobody = Proxy::before_port(1).await;
    nobody.refuse().await;
    let port = nobody.port();
    let away = |scheme: &str| format!("{scheme}://nobody@127.0.0.1:{port}");
    for (config, part) in [
        (config(postgres, &away("redis"), CACHES), "start Redis"),
        (config(&away("postgres"), &redis, CACHES), "start Postgres"),
    ] {
        let (code, stdout, stderr) = audit(&config, &[]).await;
        assert_eq!((code, stdout.as_str()), (Some(69), ""), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
    }
    shop.watched.run(&["migrate", "--uninstall"]).await;
    let (code, _, stderr) = shop.audit(&[]).await;
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains("cachewarden migrate"), "{stderr}");
    shop.watched.execute("DROP TABLE users").await;
    let (code, _, stderr) = shop.audit(&[]).await;
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("caches.user.query"), "{stderr}");
    let none = format!("redis.url = {redis:?}\n");
    let (code, _, stderr) = audit(&none, &[]).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("nothing to audit"), "{stderr}");
}
