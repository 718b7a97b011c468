//! What clients write is saved in Postgres, and what it makes outdated is gone, whatever happens in between.

mod answers;
mod bad;
mod checked;
mod faults;
mod race;

use cachewarden::cli::demo::servers::Redis;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::raw;

pub const TABLES: &str = "
    CREATE TABLE courses (
        id bigint PRIMARY KEY, title text NOT NULL CHECK (title <> ''), slug text UNIQUE, teacher int);
    INSERT INTO courses SELECT n, 'old', 'slug-' || n FROM generate_series(1, 100) n;
    CREATE TABLE settings (name text PRIMARY KEY, value jsonb);";

pub const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
    max_value = "1KiB"
    load_timeout = "20s"
    [caches.course.write]
    save = "UPDATE courses SET title = :value->>'title', slug = coalesce(:value->>'slug', slug) WHERE id = :id"
    delete = "DELETE FROM courses WHERE id = :id"
    also_invalidate = ["courses:count", "courses:list:*", "courses:{id}:reviews"]

    [caches.count]
    key = "courses:count"
    query = "SELECT count(*) FROM courses"
    shape = "scalar"
    ttl = "1h"

    [caches.reviews]
    key = "courses:{id:bigint}:reviews"
    query = "SELECT title || ' is fine' FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [caches.list]
    key = "courses:list:{page:int}"
    query = "SELECT title FROM courses ORDER BY id LIMIT :page"
    shape = "array"
    ttl = "1h"

    [caches.setting]
    key = "settings:{name:text}"
    query = "SELECT value FROM settings WHERE name = :name"
    shape = "scalar"
    ttl = "1h"
    [caches.setting.write]
    save = "INSERT INTO settings VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = :value"
    after_save = "update"
"#;

/// Tables that are written to through one daemon, and a Redis.
pub struct Shop {
    pub watched: Watched,
    pub redis: Redis,
    pub daemon: InProcess,
}

impl Shop {
    pub async fn open() -> Self {
        Self::open_with("", CACHES).await
    }

    /// The same with more tables, and other caches.
    pub async fn open_with(tables: &str, caches: &str) -> Self {
        let watched = Watched::start(&format!("{TABLES}{tables}"), caches).await;
        Self::open_on(watched, caches).await
    }

    /// The same on tables that are there.
    pub async fn open_on(watched: Watched, caches: &str) -> Self {
        let redis = redis();
        let (postgres, url) = (watched.database.url(), redis.redis_url());
        let daemon = InProcess::start(&config(postgres, &url, caches)).await;
        Self {
            watched,
            redis,
            daemon,
        }
    }

    pub async fn client(&self) -> Client {
        self.daemon.client().await
    }

    /// What Redis holds, past every daemon.
    pub async fn cached(&self, key: &str) -> Value {
        raw(&self.redis).await.command(&["GET", key]).await
    }

    /// What the database says of a course.
    pub async fn title(&self, id: u32) -> String {
        let sql = format!("SELECT title FROM courses WHERE id = {id}");
        self.watched.ask(&sql).await
    }

    /// Waits until Redis does not hold this value any more.
    pub async fn until_gone(&self, key: &str, value: &str) {
        let old = Value::bulk(value);
        eventually(DEADLINE, async || match self.cached(key).await {
            seen if seen == old => Err(seen),
            _ => Ok(()),
        })
        .await;
    }
}

pub fn title(text: &str) -> String {
    format!("{{\"title\": \"{text}\"}}")
}

pub fn ok() -> Value {
    Value::Simple("OK".to_owned())
}

/// The error that a command is answered with.
pub async fn refusal(client: &mut Client, words: &[&str]) -> String {
    client.command(words).await.error().to_owned()
}
