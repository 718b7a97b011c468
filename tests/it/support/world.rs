//! A daemon between a database and a Redis of its own, and what can be seen of them from outside.

use cachewarden::cli::demo::servers::Redis;

use super::DEADLINE;
use super::daemon::{InProcess, config};
use super::eventually::eventually;
use super::resp::{Client, Value};
use super::servers::{Database, database, redis};

/// What most tests of reading need.
pub struct World {
    pub database: Database,
    pub redis: Redis,
    pub daemon: InProcess,
}

impl World {
    /// Runs `sql` in a new database and starts a daemon with `caches`, a text as [`config`] takes it.
    pub async fn start(sql: &str, caches: &str) -> Self {
        Self::start_on(redis(), sql, caches).await
    }

    /// The same on a given Redis.
    pub async fn start_on(redis: Redis, sql: &str, caches: &str) -> Self {
        Self::start_in(database().await, redis, sql, caches).await
    }

    /// The same in a given database, too.
    pub async fn start_in(database: Database, redis: Redis, sql: &str, caches: &str) -> Self {
        database.execute(sql).await;
        let daemon = InProcess::start(&config(database.url(), &redis.redis_url(), caches)).await;
        Self {
            database,
            redis,
            daemon,
        }
    }

    /// A connection to the daemon.
    pub async fn client(&self) -> Client {
        self.daemon.client().await
    }

    /// A connection straight to Redis, past the daemon.
    pub async fn raw(&self) -> Client {
        raw(&self.redis).await
    }

    /// A session that holds `table` for itself: what reads it waits until the session is dropped or [`release`]d.
    pub async fn lock(&self, table: &str) -> tokio_postgres::Client {
        let session = self.database.client().await;
        let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        session.batch_execute(&lock).await.unwrap();
        session
    }
}

/// Ends a [`World::lock`].
pub async fn release(session: tokio_postgres::Client) {
    session.batch_execute("COMMIT").await.unwrap();
}

/// A connection straight to a Redis.
pub async fn raw(redis: &Redis) -> Client {
    Client::connect_unix(&redis.socket()).await
}

/// What the daemon's `INFO` says of `name`, summed over all whose labels hold `label`.
pub async fn figure(client: &mut Client, name: &str, label: &str) -> u64 {
    let info = client.command(&["INFO", "cachewarden"]).await;
    let mut sum = 0;
    for line in info.text().lines() {
        let Some((full, value)) = line.rsplit_once(':') else {
            continue;
        };
        let (bare, labels) = full.split_once('{').unwrap_or((full, ""));
        if bare == name && labels.contains(label) {
            sum += value.parse::<u64>().unwrap_or_else(|_| panic!("{line}"));
        }
    }
    sum
}

/// A key's value, as text.
pub async fn get(client: &mut Client, key: &str) -> String {
    client.command(&["GET", key]).await.text().to_owned()
}

/// Value and state; or an error and that it is one.
pub async fn look(client: &mut Client, key: &str) -> (String, String) {
    let found = client.command(&["CACHE.GET", key]).await;
    if let Value::Error(error) = &found {
        return (error.clone(), "error".to_owned());
    }
    let field = |name| match found.field(name).unwrap() {
        Value::Nil => String::new(),
        value => value.text().to_owned(),
    };
    (field("value"), field("state"))
}

/// Waits until a metric is this.
pub async fn until(client: &mut Client, name: &str, wanted: u64) {
    eventually(DEADLINE, async || match figure(client, name, "").await {
        seen if seen == wanted => Ok(()),
        seen => Err(seen),
    })
    .await;
}

/// Statements the daemon has sent to Postgres to load keys.
pub async fn statements(client: &mut Client) -> u64 {
    figure(client, "postgres_statements", "").await
}

/// Reads that have joined another one's load.
pub async fn joined(client: &mut Client) -> u64 {
    figure(client, "cachewarden_flights_joined_total", "").await
}

/// How many keys a Redis holds, but for the heartbeat that daemons leave in it.
pub async fn count(raw: &mut Client) -> i64 {
    let replies = raw.pipeline(&[&["DBSIZE"], &["EXISTS", HEARTBEAT]]).await;
    let [Value::Int(keys), Value::Int(heartbeat)] = replies.as_slice() else {
        panic!("{replies:?}")
    };
    keys - heartbeat
}

/// Where daemons leave it.
pub const HEARTBEAT: &str = "cachewarden:heartbeat";

/// Leaves heartbeats, as a daemon would that has just served these very data: nobody doubts what lies under these prefixes.
pub async fn leave_heartbeat(raw: &mut Client, prefixes: &[&str]) {
    let info = raw.command(&["INFO"]).await;
    let field = |name: &str| {
        let mut lines = info.text().lines();
        let found = lines.find_map(|line| line.strip_prefix(name));
        found.unwrap().to_owned()
    };
    let text = format!("{} {} 0", field("run_id:"), field("master_replid:"));
    for prefix in prefixes {
        raw.command(&["HSET", HEARTBEAT, prefix, &text]).await;
    }
    let expire = ["EXPIRE", HEARTBEAT, "600"];
    assert_eq!(raw.command(&expire).await, Value::Int(1));
}

/// All keys of a Redis, each with its remaining life in milliseconds.
pub async fn keys_with_life(raw: &mut Client) -> Vec<(String, i64)> {
    let Value::Array(keys) = raw.command(&["KEYS", "*"]).await else {
        panic!("KEYS gave no array")
    };
    let mut lives = Vec::with_capacity(keys.len());
    for key in keys {
        let Value::Int(life) = raw.command(&["PTTL", key.text()]).await else {
            panic!("PTTL gave no number")
        };
        lives.push((key.text().to_owned(), life));
    }
    lives
}
