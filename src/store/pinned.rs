//! One connection for one long piece of work. It is never replaced: when it is lost, so is the work.

use super::connection::meaning;
use super::{Reply, Script, Store, StoreError};
use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use redis::{Cmd, Pipeline, Value};
use std::time::Duration;

/// A connection of its own, with the deadline of every command (`redis.timeout`) and without a breaker.
pub struct Pinned {
    connection: MultiplexedConnection,
    timeout: Duration,
}

/// Which server this is, and in which role: another one has other keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    run_id: String,
    role: String,
    /// Changes whenever a replica is promoted, and when a server gets its first replica.
    replication_id: String,
    /// Whether it has followed another server, whose data it took.
    has_followed: bool,
}

/// A page of `SCAN` or `ZSCAN`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Where the next page begins; 0: this was the last.
    pub cursor: u64,
    pub keys: Vec<Bytes>,
}

impl Store {
    /// A connection that is nobody else's. Its driver runs on the runtime that polls this future.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pin(&self) -> Result<Pinned, StoreError> {
        Ok(Pinned {
            connection: self.connect().await?,
            timeout: self.timeout(),
        })
    }

    /// Publishes a message; how many heard it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn publish(&self, channel: &str, message: &[u8]) -> Result<u64, StoreError> {
        let mut publish = redis::cmd("PUBLISH");
        publish.arg(channel).arg(message);
        number("PUBLISH", self.command("PUBLISH", &publish).await?)
    }

    /// Sets `key` unless it is there, for `life`; whether it was set.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn claim(&self, key: &[u8], life: Duration) -> Result<bool, StoreError> {
        self.set(set_for(key, life).arg("NX")).await
    }

    /// Sets `key` for `life` from now on.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn mark(&self, key: &[u8], life: Duration) -> Result<(), StoreError> {
        self.set(&set_for(key, life)).await.map(drop)
    }

    async fn set(&self, set: &Cmd) -> Result<bool, StoreError> {
        match self.command("SET", set).await? {
            Value::Okay => Ok(true),
            Value::Nil => Ok(false),
            _ => Err(StoreError::Unexpected { command: "SET" }),
        }
    }
}

/// Only that it is there says something.
fn set_for(key: &[u8], life: Duration) -> Cmd {
    let life_ms = u64::try_from(life.as_millis()).unwrap_or(u64::MAX);
    let mut set = redis::cmd("SET");
    set.arg(key).arg("1").arg("PX").arg(life_ms);
    set
}

impl Pinned {
    /// Asks the server who it is.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn identity(&self) -> Result<Identity, StoreError> {
        identity_of(&self.connection, self.timeout).await
    }

    /// How many keys there are in the database.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn count(&self) -> Result<u64, StoreError> {
        let size = self.command("DBSIZE", &redis::cmd("DBSIZE")).await?;
        number("DBSIZE", size)
    }

    /// How many entries a stream has.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn length(&self, stream: &str) -> Result<u64, StoreError> {
        let mut ask = redis::cmd("XLEN");
        ask.arg(stream);
        number("XLEN", self.command("XLEN", &ask).await?)
    }

    /// Removes keys and reads a page of all keys, in one exchange: whether each of `doomed` was there, and the page.
    ///
    /// # Errors
    /// See [`StoreError`]; some of the keys may have been removed.
    pub async fn unlink_and_scan(
        &self,
        doomed: &[Bytes],
        cursor: u64,
        pattern: Option<&[u8]>,
        count: usize,
    ) -> Result<(Vec<bool>, Page), StoreError> {
        let mut pipeline = redis::pipe();
        for key in doomed {
            // One a command: in a cluster, one with several keys would be refused.
            pipeline.cmd("UNLINK").arg(key.as_ref());
        }
        pipeline.cmd("SCAN").arg(cursor);
        if let Some(pattern) = pattern {
            pipeline.arg("MATCH").arg(pattern);
        }
        pipeline.arg("COUNT").arg(count);
        let expected = doomed.len() + 1;
        let mut replies = self.pipeline("SCAN", &pipeline, expected).await?;
        let page = page("SCAN", replies.pop().unwrap_or(Value::Nil))?;
        let removed = replies
            .into_iter()
            .map(|reply| number("UNLINK", reply).map(|count| count > 0));
        Ok((removed.collect::<Result<_, _>>()?, page))
    }

    /// Removes keys; whether each was there.
    ///
    /// # Errors
    /// See [`StoreError`]; some of the keys may have been removed.
    pub async fn unlink(&self, doomed: &[Bytes]) -> Result<Vec<bool>, StoreError> {
        if doomed.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipeline = redis::pipe();
        for key in doomed {
            pipeline.cmd("UNLINK").arg(key.as_ref());
        }
        let replies = self.pipeline("UNLINK", &pipeline, doomed.len()).await?;
        replies
            .into_iter()
            .map(|reply| number("UNLINK", reply).map(|count| count > 0))
            .collect()
    }

    /// A page of a sorted set's members.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn members(&self, key: &str, cursor: u64, count: usize) -> Result<Page, StoreError> {
        let mut scan = redis::cmd("ZSCAN");
        scan.arg(key).arg(cursor).arg("COUNT").arg(count);
        let mut page = page("ZSCAN", self.command("ZSCAN", &scan).await?)?;
        // Member and score by turns.
        page.keys = page.keys.into_iter().step_by(2).collect();
        Ok(page)
    }

    /// Runs a script by its hash; one that Redis has forgotten is loaded and run once more.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn run<K, A>(
        &self,
        script: &Script,
        keys: &[K],
        args: &[A],
    ) -> Result<Reply, StoreError>
    where
        K: AsRef<[u8]>,
        A: AsRef<[u8]>,
    {
        let command = async |call: &Cmd| self.command(script.name(), call).await;
        let load = async || {
            let mut connection = self.connection.clone();
            let loading = script.load(&mut connection);
            self.exchange(script.name(), loading).await
        };
        script.run(keys, args, command, load).await
    }

    async fn command(&self, name: &'static str, command: &Cmd) -> Result<Value, StoreError> {
        let mut connection = self.connection.clone();
        let exchange = async { told(connection.send_packed_command(command).await?) };
        self.exchange(name, exchange).await
    }

    async fn pipeline(
        &self,
        name: &'static str,
        pipeline: &Pipeline,
        replies: usize,
    ) -> Result<Vec<Value>, StoreError> {
        let mut connection = self.connection.clone();
        let exchange = async {
            let replies = connection
                .send_packed_commands(pipeline, 0, replies)
                .await?;
            replies.into_iter().map(told).collect()
        };
        self.exchange(name, exchange).await
    }

    async fn exchange<T>(
        &self,
        command: &'static str,
        exchange: impl Future<Output = redis::RedisResult<T>>,
    ) -> Result<T, StoreError> {
        in_time(self.timeout, command, exchange).await
    }
}

impl Identity {
    /// Whether this is the same server as `before`, whose data were not replaced since. One that follows another server
    /// takes that one's data and replication id; promoted, it has an id of its own, and remembers the other. A new id
    /// alone means nothing: a server gets one with its first replica.
    pub fn continues(&self, before: &Identity) -> bool {
        let has_led = self.role == "master" && !self.has_followed;
        self.run_id == before.run_id && (self.replication_id == before.replication_id || has_led)
    }

    /// New with every start of the server.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }

    /// New with whatever may have replaced the server's data.
    pub fn replication_id(&self) -> &str {
        &self.replication_id
    }
}

/// Asks the server of a connection who it is.
pub(super) async fn identity_of(
    connection: &MultiplexedConnection,
    timeout: Duration,
) -> Result<Identity, StoreError> {
    let mut ask = redis::pipe();
    ask.cmd("INFO").arg("server").cmd("INFO").arg("replication");
    let mut connection = connection.clone();
    let asking = async {
        let replies = connection.send_packed_commands(&ask, 0, 2).await?;
        replies
            .into_iter()
            .map(told)
            .collect::<redis::RedisResult<Vec<_>>>()
    };
    let replies = in_time(timeout, "INFO", asking).await?;
    let mut text = String::new();
    for reply in replies {
        match reply {
            Value::BulkString(bytes) => text.push_str(&String::from_utf8_lossy(&bytes)),
            Value::VerbatimString { text: part, .. } => text.push_str(&part),
            _ => return Err(StoreError::Unexpected { command: "INFO" }),
        }
    }
    let field = |name: &str| {
        let mut lines = text.lines();
        let found = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found
            .map(str::to_owned)
            .ok_or(StoreError::Unexpected { command: "INFO" })
    };
    Ok(Identity {
        run_id: field("run_id")?,
        role: field("role")?,
        replication_id: field("master_replid")?,
        has_followed: field("master_replid2")?.bytes().any(|digit| digit != b'0'),
    })
}

async fn in_time<T>(
    timeout: Duration,
    command: &'static str,
    exchange: impl Future<Output = redis::RedisResult<T>>,
) -> Result<T, StoreError> {
    match tokio::time::timeout(timeout, exchange).await {
        Ok(reply) => reply.map_err(|error| meaning(command, &error)),
        Err(_elapsed) => Err(StoreError::TimedOut {
            timeout_ms: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

/// Redis' own errors come as values.
fn told(reply: Value) -> redis::RedisResult<Value> {
    match reply {
        Value::ServerError(error) => Err(error.into()),
        reply => Ok(reply),
    }
}

pub(super) fn number(command: &'static str, reply: Value) -> Result<u64, StoreError> {
    match reply {
        Value::Int(number) => u64::try_from(number).ok(),
        _ => None,
    }
    .ok_or(StoreError::Unexpected { command })
}

pub(super) fn page(command: &'static str, reply: Value) -> Result<Page, StoreError> {
    let read = || {
        let Value::Array(parts) = reply else {
            return None;
        };
        let [Value::BulkString(cursor), Value::Array(keys)] = <[Value; 2]>::try_from(parts).ok()?
        else {
            return None;
        };
        let keys = keys.into_iter().map(|key| match key {
            Value::BulkString(key) => Some(Bytes::from(key)),
            _ => None,
        });
        Some(Page {
            cursor: std::str::from_utf8(&cursor).ok()?.parse().ok()?,
            keys: keys.collect::<Option<_>>()?,
        })
    };
    read().ok_or(StoreError::Unexpected { command })
}
