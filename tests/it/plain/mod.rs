//! Plain keys: what Redis says to a client goes through the daemon as it is, and every key ends some day.

mod answers;
mod beside;
mod faults;
mod many;
mod mixed;
mod reach;
mod sessions;

use cachewarden::cli::demo::servers::Redis;

use super::support::daemon::{InProcess, config_without_postgres};
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::world::raw;

/// Two kinds of plain keys. Lives that no test sets itself.
const PASSTHROUGHS: &str = r#"
    [passthrough.session]
    prefix = "sess:"
    ttl = "7d"

    [passthrough.cart]
    prefix = "shop:cart:"
    ttl = "3h"
"#;

const SESSION_S: i64 = 7 * 24 * 3600;
const CART_S: i64 = 3 * 3600;

/// A daemon that knows plain keys only, and its Redis.
struct Plain {
    redis: Redis,
    daemon: InProcess,
}

impl Plain {
    async fn start() -> Self {
        Self::start_on(redis(), "").await
    }

    /// On a given Redis, with more settings: lines of dotted keys.
    async fn start_on(redis: Redis, settings: &str) -> Self {
        let text =
            config_without_postgres(&redis.redis_url(), &format!("{settings}\n{PASSTHROUGHS}"));
        let daemon = InProcess::start(&text).await;
        Self { redis, daemon }
    }

    async fn client(&self) -> Client {
        self.daemon.client().await
    }

    async fn raw(&self) -> Client {
        raw(&self.redis).await
    }
}

/// Checks that a key's remaining life is about so many seconds: of lives that lie far apart, this one.
async fn assert_life(client: &mut Client, key: &str, seconds: i64) {
    let Value::Int(left) = client.command(&["TTL", key]).await else {
        panic!("TTL gave no number")
    };
    assert!(
        left <= seconds && left > seconds - 900,
        "{key}: {left} of {seconds}"
    );
}
