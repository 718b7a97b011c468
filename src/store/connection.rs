//! One connection to Redis with a breaker, kept alive by a keeper.

use super::gate::Gate;
use super::refusals::Refusals;
use super::tracking::{Told, Tracking};
use super::{Reply, Script, StoreError, stream};
use crate::config;
use bytes::Bytes;
use parking_lot::RwLock;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Cmd, ConnectionInfo, IntoConnectionInfo, Pipeline, Value};
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// How often an idle connection is probed, so that a hang is mostly found before a reader finds it.
pub(super) const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The pause between two attempts to come back: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A connection to Redis. Cheap to clone; clones share the connection, siblings only the breaker.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    client: redis::Client,
    timeout: Duration,
    current: RwLock<Option<Current>>,
    up: watch::Sender<bool>,
    /// The breaker of all siblings: how many outages there were. What one of them finds out costs the others nothing.
    outages: Arc<watch::Sender<u64>>,
    refusals: Arc<Refusals>,
    tracking: OnceLock<Tracking>,
    gate: Arc<Gate>,
}

#[derive(Clone)]
pub(super) struct Current {
    /// The number of outages when it was made: a later outage condemns it, and its own late errors condemn no later one.
    pub(super) outage: u64,
    pub(super) connection: MultiplexedConnection,
}

impl Store {
    /// `count` stores with a connection each and one breaker; each is *away* until its keeper ([`Store::keep`]) has
    /// connected. No I/O.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`]; it never shows the URL's password.
    pub fn siblings(config: &config::Redis, count: usize) -> Result<Vec<Self>, StoreError> {
        let info = connection_info(config.url.expose())?;
        let client = redis::Client::open(info).map_err(|error| bad_url(&error))?;
        let outages = Arc::new(watch::Sender::new(0));
        let refusals = Arc::<Refusals>::default();
        let gate = Arc::<Gate>::default();
        let sibling = || {
            Self(Arc::new(Inner {
                client: client.clone(),
                timeout: config.timeout,
                current: RwLock::new(None),
                up: watch::Sender::new(false),
                outages: Arc::clone(&outages),
                refusals: Arc::clone(&refusals),
                tracking: OnceLock::new(),
                gate: Arc::clone(&gate),
            }))
        };
        Ok((0..count).map(|_| sibling()).collect())
    }

    /// Connects, probes, and comes back after every loss; runs until dropped. The connection's driver runs on the
    /// runtime that polls this future: spawn it where the store is used.
    pub async fn keep(self) {
        let mut outages = self.0.outages.subscribe();
        let mut pause = FIRST_PAUSE;
        let mut refusal_told = false;
        loop {
            let outage = *outages.borrow_and_update();
            let connected = match self.connect_to_read().await {
                Ok((connection, told)) => {
                    let current = Current { outage, connection };
                    let current = self.vouched_for(current, &mut outages).await;
                    current.map(|current| (current, told))
                }
                Err(error) => Err(error),
            };
            match connected {
                Ok((current, told)) => {
                    pause = FIRST_PAUSE;
                    refusal_told = false;
                    if !self.hold(current, told, &mut outages).await {
                        continue;
                    }
                    tracing::warn!("redis is away; reads are answered from postgres");
                }
                Err(error @ StoreError::Refused { .. }) if !refusal_told => {
                    refusal_told = true;
                    tracing::warn!(%error, "redis lets us not in; check the password and the rights of its user");
                }
                Err(error) => tracing::debug!(%error, "redis is still away"),
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether commands are sent at all right now.
    pub fn is_up(&self) -> bool {
        self.current().is_some()
    }

    /// Whether the keeper holds a connection.
    pub fn up(&self) -> watch::Receiver<bool> {
        self.0.up.subscribe()
    }

    /// The longest a command may take: `redis.timeout`.
    pub fn timeout(&self) -> Duration {
        self.0.timeout
    }

    /// The values of `keys`, in order; a key that holds no string counts as absent.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn mget<K: AsRef<[u8]>>(&self, keys: &[K]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let reply = self.command("MGET", &mget(keys)).await?;
        values("MGET", reply, keys.len())
    }

    /// Remaining life in milliseconds (negative as Redis' `PTTL` says it) and value of each key; the life of those only that
    /// are `aged`, else -1. `PTTL` goes first, so that a race calls a new value old and never an old one new.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn mget_with_pttl<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        aged: &[bool],
    ) -> Result<Vec<(i64, Option<Bytes>)>, StoreError> {
        let mut pipeline = redis::pipe();
        let asked = || keys.iter().zip(aged).filter(|(_, aged)| **aged);
        for (key, _) in asked() {
            pipeline.cmd("PTTL").arg(key.as_ref());
        }
        pipeline.add_command(mget(keys));
        let expected = asked().count() + 1;
        let mut replies = self.pipeline("MGET", &pipeline, expected).await?;
        let unexpected = || StoreError::Unexpected { command: "MGET" };
        let found = values("MGET", replies.pop().ok_or_else(unexpected)?, keys.len())?;
        let mut lives = integers("PTTL", replies)?.into_iter();
        let mut life = |aged: &bool| aged.then(|| lives.next()).flatten().unwrap_or(-1);
        Ok(aged.iter().map(&mut life).zip(found).collect())
    }

    /// Remaining life in milliseconds and the first `bytes` bytes of each key's value (empty when absent or no string).
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn peek<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        bytes: usize,
    ) -> Result<Vec<(i64, Bytes)>, StoreError> {
        let mut pipeline = redis::pipe();
        for key in keys {
            pipeline.cmd("PTTL").arg(key.as_ref());
        }
        for key in keys {
            pipeline
                .cmd("GETRANGE")
                .arg(key.as_ref())
                .arg(0)
                .arg(bytes.saturating_sub(1));
        }
        let mut replies = self.pipeline("GETRANGE", &pipeline, 2 * keys.len()).await?;
        let heads = replies.split_off(keys.len().min(replies.len()));
        let lives = integers("PTTL", replies)?;
        let heads = values("GETRANGE", Value::Array(heads), keys.len())?;
        Ok(lives
            .into_iter()
            .zip(heads.into_iter().map(Option::unwrap_or_default))
            .collect())
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
            let load = async |mut connection| script.load(&mut connection).await;
            self.send(script.name(), load).await
        };
        script.run(keys, args, command, load).await
    }

    pub(super) async fn command(
        &self,
        name: &'static str,
        command: &Cmd,
    ) -> Result<Value, StoreError> {
        self.send(name, async |mut connection| {
            // Redis' own errors come as values here.
            match connection.send_packed_command(command).await? {
                Value::ServerError(error) => Err(error.into()),
                reply => Ok(reply),
            }
        })
        .await
    }

    async fn pipeline(
        &self,
        name: &'static str,
        pipeline: &Pipeline,
        replies: usize,
    ) -> Result<Vec<Value>, StoreError> {
        self.send(name, async |mut connection| {
            let replies = connection.send_packed_commands(pipeline, 0, replies);
            let replies = replies.await?.into_iter().map(|reply| match reply {
                // A key that holds no string counts as absent, as it does in `MGET`.
                Value::ServerError(error) if error.code() == "WRONGTYPE" => Ok(Value::Nil),
                Value::ServerError(error) => Err(error.into()),
                reply => Ok(reply),
            });
            replies.collect()
        })
        .await
    }

    /// Everything that goes to Redis goes through here: the breaker, the deadline, and what an error means.
    pub(super) async fn send<T>(
        &self,
        command: &'static str,
        exchange: impl AsyncFnOnce(MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, StoreError> {
        let current = self.current().ok_or(StoreError::Away)?;
        let outage = current.outage;
        let error = match self.within_timeout(exchange(current.connection)).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(error)) => meaning(command, &error),
            Err(timed_out) => timed_out,
        };
        if error.is_outage() {
            self.trip(outage);
        } else if !error.is_unknown_script() {
            self.0.refusals.tell(&error);
        }
        Err(error)
    }

    pub(super) async fn within_timeout<F: Future>(
        &self,
        exchange: F,
    ) -> Result<F::Output, StoreError> {
        tokio::time::timeout(self.0.timeout, exchange)
            .await
            .map_err(|_elapsed| StoreError::TimedOut {
                timeout_ms: u64::try_from(self.0.timeout.as_millis()).unwrap_or(u64::MAX),
            })
    }

    /// The connection, unless an outage has condemned it.
    fn current(&self) -> Option<Current> {
        let outages = *self.0.outages.borrow();
        let current = self.0.current.read();
        current
            .as_ref()
            .filter(|current| current.outage == outages)
            .cloned()
    }

    /// Opens the breaker of all siblings, unless it was opened since.
    pub(super) fn trip(&self, outage: u64) {
        self.0.outages.send_if_modified(|outages| {
            let first = *outages == outage;
            *outages += u64::from(first);
            first
        });
    }

    pub(super) fn tracking(&self) -> Option<&Tracking> {
        self.0.tracking.get()
    }

    pub(super) fn set_tracking(&self, tracking: Tracking) {
        // Only the first: the connection tells one listener.
        let _first = self.0.tracking.set(tracking);
    }

    /// How many outages there were.
    pub(super) fn outage(&self) -> u64 {
        *self.0.outages.borrow()
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.0.gate
    }

    pub(super) fn client(&self) -> &redis::Client {
        &self.0.client
    }

    /// A connection that has answered once.
    pub(super) async fn connect(&self) -> Result<MultiplexedConnection, StoreError> {
        // The deadline is ours (`within_timeout`): the crate's does not cover everything it waits for.
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.0.timeout))
            .set_response_timeout(None);
        let connecting = async {
            let mut connection = stream::connect(&self.0.client, config).await?;
            redis::cmd("PING").exec_async(&mut connection).await?;
            Ok(connection)
        };
        self.within_timeout(connecting)
            .await?
            .map_err(|error| meaning("PING", &error))
    }

    /// Publishes a connection and probes it until it is condemned, or there is a better one. Whether Redis is away.
    async fn hold(
        &self,
        current: Current,
        told: Option<Told>,
        outages: &mut watch::Receiver<u64>,
    ) -> bool {
        let outage = current.outage;
        *self.0.current.write() = Some(current);
        self.0.up.send_replace(true);
        tracing::info!("redis is there");
        let mut proving = std::pin::pin!(self.prove(told));
        while *outages.borrow() == outage {
            tokio::select! {
                _ = outages.changed() => {}
                () = &mut proving => break,
                () = tokio::time::sleep(PROBE_EVERY) => {
                    // An outage found by the probe trips the breaker like any other.
                    let _found = self.command("PING", &redis::cmd("PING")).await;
                }
            }
        }
        let is_away = *outages.borrow() != outage;
        *self.0.current.write() = None;
        self.0.up.send_replace(false);
        is_away
    }
}

fn connection_info(url: &str) -> Result<ConnectionInfo, StoreError> {
    let info = url
        .into_connection_info()
        .map_err(|error| bad_url(&error))?;
    Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

fn bad_url(error: &redis::RedisError) -> StoreError {
    // `category` is the crate's own text; `detail` could repeat the URL with its password.
    StoreError::BadUrl {
        reason: error.category().to_owned(),
    }
}

/// Redis' answers that mean "not now, for anybody" open the breaker like a lost connection.
pub(super) const NOT_NOW: [&str; 4] = ["LOADING", "BUSY", "MASTERDOWN", "CLUSTERDOWN"];

/// What an error of the driver means to who asked.
pub(super) fn meaning(command: &'static str, error: &redis::RedisError) -> StoreError {
    match error.code() {
        Some(code) if NOT_NOW.contains(&code) => StoreError::Lost,
        Some(code) => StoreError::Refused {
            command,
            message: format!("{code} {}", error.detail().unwrap_or_default()),
        },
        None if error.kind() == redis::ErrorKind::AuthenticationFailed => StoreError::Refused {
            command,
            message: error.category().to_owned(),
        },
        None => StoreError::Lost,
    }
}

fn mget<K: AsRef<[u8]>>(keys: &[K]) -> Cmd {
    let mut command = redis::cmd("MGET");
    for key in keys {
        command.arg(key.as_ref());
    }
    command
}

fn values(
    command: &'static str,
    reply: Value,
    expected: usize,
) -> Result<Vec<Option<Bytes>>, StoreError> {
    let unexpected = StoreError::Unexpected { command };
    let Value::Array(items) = reply else {
        return Err(unexpected);
    };
    if items.len() != expected {
        return Err(unexpected);
    }
    items
        .into_iter()
        .map(|item| match item {
            Value::BulkString(bytes) => Ok(Some(Bytes::from(bytes))),
            Value::Nil => Ok(None),
            _ => Err(StoreError::Unexpected { command }),
        })
        .collect()
}

fn integers(command: &'static str, replies: Vec<Value>) -> Result<Vec<i64>, StoreError> {
    replies
        .into_iter()
        .map(|reply| match reply {
            Value::Int(number) => Ok(number),
            _ => Err(StoreError::Unexpected { command }),
        })
        .collect()
}
