//! Writes that are acknowledged before Postgres has them: seen at once, saved once, in their order, whatever happens to whom.

mod basics;
mod faults;
mod model;
mod uninstall;

use cachewarden::cli::demo::servers::Redis;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis_with;
use super::support::watched::Watched;
use super::support::world::raw;

/// `saves` counts what reaches a row; `accounts` refuses what is too much.
pub const TABLES: &str = "CREATE TABLE accounts (id bigint PRIMARY KEY, n bigint NOT NULL CHECK (n < 1000000), saves bigint NOT NULL DEFAULT 0);
    CREATE TABLE other (id bigint PRIMARY KEY, n bigint);
    INSERT INTO accounts (id, n) SELECT id, 0 FROM generate_series(1, 1000) id";

pub const CACHES: &str = r#"
    [caches.account]
    key = "accounts:{id:bigint}"
    query = "SELECT n FROM accounts WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
    [caches.account.write]
    mode = "behind"
    save = "INSERT INTO accounts (id, n, saves) VALUES (:id, (:value)::text::bigint, 1) ON CONFLICT (id) DO UPDATE SET n = excluded.n, saves = accounts.saves + 1"
    delete = "DELETE FROM accounts WHERE id = :id"
    also_invalidate = ["counts:all"]

    [caches.count]
    key = "counts:all"
    query = "SELECT count(*) FROM accounts"
    shape = "scalar"
    ttl = "1h"
"#;

/// Postgres, and a Redis that keeps what was written.
pub struct World {
    pub watched: Watched,
    pub redis: Redis,
}

impl World {
    pub async fn start() -> Self {
        Self::with(CACHES).await
    }

    pub async fn with(caches: &str) -> Self {
        Self {
            watched: Watched::start(TABLES, caches).await,
            redis: durable_redis(),
        }
    }

    pub fn config(&self) -> String {
        self.config_of(CACHES)
    }

    pub fn config_of(&self, caches: &str) -> String {
        config(self.watched.database.url(), &self.redis.redis_url(), caches)
    }

    pub async fn daemon(&self) -> InProcess {
        InProcess::start(&self.config()).await
    }

    pub async fn spawned(&self) -> Spawned {
        Spawned::start(self.watched.database.url(), &self.redis.redis_url(), CACHES).await
    }

    pub async fn raw(&self) -> Client {
        raw(&self.redis).await
    }

    /// Waits until nothing is left in the journal, and nothing pending.
    pub async fn until_saved(&self) {
        let mut raw = self.raw().await;
        eventually(3 * DEADLINE, async || {
            match raw.command(&["XLEN", "cachewarden:journal"]).await {
                Value::Int(0) => Ok(()),
                left => Err(left),
            }
        })
        .await;
        let pending = raw.command(&["KEYS", "*pending"]).await;
        assert_eq!(pending, Value::Array(Vec::new()));
    }

    /// What a row says: `n`, and how often it was saved.
    pub async fn row(&self, id: u64) -> (String, String) {
        let ask = async |column: &str| {
            let sql = format!("SELECT {column} FROM accounts WHERE id = {id}");
            self.watched.ask(&sql).await
        };
        (ask("n").await, ask("saves").await)
    }
}

/// A Redis that loses nothing that it has acknowledged.
pub fn durable_redis() -> Redis {
    redis_with(&["--appendonly", "yes", "--appendfsync", "always"])
}
