//! The front door as a client meets it: over real sockets, before a real Redis and a real Postgres.

mod commands;
mod crowd;
pub mod entry;
mod guessing;
mod keys;
mod order;

use cachewarden::cli::demo::servers::Redis;

use super::support::daemon::{InProcess, config};
use super::support::resp::Client;
use super::support::servers::{Database, database, redis};

/// A cache for every kind of parameter and every shape, and a namespace.
const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT id, title FROM courses WHERE id = :id"
    shape = "object"
    ttl = "10m"
    params = { id = { min = 1, max = 1000000 } }

    [caches.course_count]
    key = "courses:count"
    query = "SELECT count(*) FROM courses"
    shape = "scalar"
    ttl = "10m"

    [caches.courses_above]
    key = "courses:above:{id:int}"
    query = "SELECT id FROM courses WHERE id > :id ORDER BY id LIMIT 2"
    shape = "array"
    ttl = "10m"

    [caches.titled]
    key = "titled:{title:text}"
    query = "SELECT id FROM courses WHERE title = :title"
    shape = "scalar"
    ttl = "10m"

    [caches.ticket]
    key = "tickets:{ticket:uuid}:{day:date}:{paid:bool}"
    query = "SELECT :ticket AS ticket, :day AS day, :paid AS paid"
    shape = "object"
    ttl = "10m"

    [caches.inverse]
    key = "inverse:{n:bigint}"
    query = "SELECT 100 / :n"
    shape = "scalar"
    ttl = "10m"

    [namespaces.calc]
    prefix = "calc:"
    ttl = "5m"
"#;

/// A hundred courses behind a daemon.
struct Shop {
    daemon: InProcess,
    database: Database,
    redis: Redis,
}

impl Shop {
    async fn open() -> Self {
        Self::open_with("").await
    }

    /// With more settings: lines of dotted keys.
    async fn open_with(settings: &str) -> Self {
        let database = database().await;
        database
            .execute(
                "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
                 INSERT INTO courses SELECT n, 'course-' || n FROM generate_series(1, 100) n",
            )
            .await;
        let redis = redis();
        let text = format!("{settings}\n{CACHES}");
        let daemon = InProcess::start(&config(database.url(), &redis.redis_url(), &text)).await;
        Self {
            daemon,
            database,
            redis,
        }
    }

    async fn client(&self) -> Client {
        self.daemon.client().await
    }

    /// A connection past the daemon to its Redis.
    async fn behind(&self) -> Client {
        Client::connect_unix(&self.redis.socket()).await
    }
}

/// The value of a course as the daemon answers it.
fn course(id: u32) -> String {
    format!(r#"{{"id":{id},"title":"course-{id}"}}"#)
}
