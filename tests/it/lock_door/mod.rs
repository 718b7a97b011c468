//! Locks as clients, programs and the command line meet them.

mod refusals;
mod repeats;
mod sessions;
mod typed;
mod waiting;
mod work;

use std::time::Duration;

use cachewarden::cli::demo::servers::Redis;

use super::support::daemon::{InProcess, config};
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;

/// Longer than any test takes: nothing expires by itself that is not meant to.
const LONG: &str = "60000";

/// A daemon that serves locks, with a Redis of its own.
struct World {
    database: Watched,
    redis: Redis,
    daemon: InProcess,
}

impl World {
    async fn start() -> Self {
        let database = Watched::start("SELECT 1", "[locks]\n").await;
        let redis = redis();
        let daemon = start(&database, &redis).await;
        Self {
            database,
            redis,
            daemon,
        }
    }

    async fn client(&self) -> Client {
        self.daemon.client().await
    }

    /// One more daemon of the fleet.
    async fn another(&self) -> InProcess {
        start(&self.database, &self.redis).await
    }
}

async fn start(database: &Watched, redis: &Redis) -> InProcess {
    let text = config(database.database.url(), &redis.redis_url(), "[locks]\n");
    InProcess::start(&text).await
}

/// Takes a lock that is free: its token and fence.
async fn acquired(client: &mut Client, words: &[&str]) -> (String, i64) {
    let answer = client.command(&[&["LOCK.ACQUIRE"], words].concat()).await;
    granted(&answer)
}

fn granted(answer: &Value) -> (String, i64) {
    match answer {
        Value::Array(parts) => match parts.as_slice() {
            [token, Value::Int(fence)] => (token.text().to_owned(), *fence),
            _ => panic!("{answer:?}"),
        },
        _ => panic!("{answer:?}"),
    }
}

/// What `LOCK.INFO` says under `field`.
async fn info(client: &mut Client, name: &str, field: &str) -> Value {
    let info = client.command(&["LOCK.INFO", name]).await;
    let found = info.field(field);
    found.unwrap_or_else(|| panic!("{info:?}")).clone()
}

/// Waits until so many wait for a lock.
async fn until_waiting(client: &mut Client, name: &str, wanted: i64) {
    super::support::eventually::eventually(super::support::DEADLINE, async || {
        match info(client, name, "waiters").await {
            Value::Int(waiters) if waiters == wanted => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

/// Waits until nobody holds a lock.
async fn until_free(client: &mut Client, name: &str) {
    super::support::eventually::eventually(super::support::DEADLINE, async || {
        match info(client, name, "held").await {
            Value::Int(0) => Ok(()),
            other => Err(other),
        }
    })
    .await;
}

const SECOND: Duration = Duration::from_secs(1);
