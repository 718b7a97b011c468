//! Client tracking: Redis tells, on the connection that reads, which keys change.
//!
//! By prefix (`BCAST`), not by what was read. Measured with Redis 7.0 under a million writes: each costs Redis 0.6 µs more
//! with one listener and no more with two; having it remember what was read costs 2.3 µs a write, 1.6 µs a read and 130 bytes
//! a key, and the scripts of the leases would be remembered, too.
//!
//! That it works is not taken for granted: a proxy may swallow what is told, a network may go dead. So every second a key of
//! our own is written, and must be told of. That proves more than that the line lives: what is told comes in order, so all
//! that changed before has been told. The proof is good for [`PROOF_HOLDS`]; without the next one it ends by itself.

use super::connection::meaning;
use super::{Store, StoreError, stream};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ProtocolVersion, PushInfo, PushKind, Value};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use uuid::Uuid;

/// How often it is proven that changes are told.
const PROVE_EVERY: Duration = Duration::from_secs(1);
/// A proof that takes longer is none.
const PROOF_TAKES: Duration = Duration::from_secs(1);
/// How long a proof is good, from the moment it was begun: until the next one may be late.
pub const PROOF_HOLDS: Duration = Duration::from_secs(2);
/// How long the key of a proof lives.
const KEY_LIVES: Duration = Duration::from_secs(5);
/// When a connection that is told nothing is first tried to be replaced by one that is: Redis may only have been late.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How often at last: it may not be able to, and never will.
const RETRY_EVERY: Duration = Duration::from_secs(10);

/// Whoever wants to know what changes in Redis. Told on the thread of the connection, before any reply that follows: it must
/// not block.
pub trait Listener: Send + Sync {
    /// A key was written or removed, or has expired.
    fn changed(&self, key: &[u8]);
    /// Everything was removed.
    fn all_changed(&self);
    /// From now on changes may go untold.
    fn lost(&self);
    /// All changes so far have been told, and until `until` it may be relied on that they are.
    fn certain(&self, until: Instant);
}

/// What a store tracks.
pub(super) struct Tracking {
    client: Client,
    prefixes: Vec<String>,
    listener: Arc<dyn Listener>,
    trouble_told: AtomicBool,
}

/// A connection on which changes are told.
pub(super) struct Told {
    /// What our own keys on this connection begin with.
    own: String,
    /// The number of the last of them that was told.
    proven: watch::Receiver<u64>,
    /// The connection is not in use any more: what it still tells is nobody's business.
    is_over: Arc<AtomicBool>,
    listener: Arc<dyn Listener>,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Release);
        self.listener.lost();
    }
}

impl Tracking {
    /// `prefixes`: of the keys of which changes are told.
    fn new(client: &Client, prefixes: &[String], listener: Arc<dyn Listener>) -> Option<Self> {
        let info = client.get_connection_info().clone();
        let settings = info
            .redis_settings()
            .clone()
            .set_protocol(ProtocolVersion::RESP3);
        Some(Self {
            client: Client::open(info.set_redis_settings(settings)).ok()?,
            prefixes: prefixes.to_vec(),
            listener,
            trouble_told: AtomicBool::new(false),
        })
    }

    /// Says once in a row what is wrong.
    fn tell_trouble(&self, error: &StoreError) {
        if self.trouble_told.swap(true, Ordering::Relaxed) {
            return;
        }
        if error.is_outage() {
            tracing::warn!(%error, "redis did not tell in time what changes, so nothing is kept in memory until it does");
        } else {
            tracing::warn!(
                %error,
                "redis does not tell what changes, so nothing is kept in memory; it takes RESP3, and the right to CLIENT \
                 TRACKING and to SET cachewarden:*"
            );
        }
    }

    /// Says that it is over.
    fn tell_proven(&self) {
        if self.trouble_told.swap(false, Ordering::Relaxed) {
            tracing::info!("redis tells what changes again; values are kept in memory");
        }
    }
}

impl Store {
    /// From its next connection on, tells `listener` of every change of a key under one of `prefixes`. Once a store, before
    /// it is kept.
    pub fn track(&self, prefixes: &[String], listener: Arc<dyn Listener>) {
        let tracking = Tracking::new(self.client(), prefixes, listener);
        if let Some(tracking) = tracking {
            self.set_tracking(tracking);
        }
    }

    /// A connection for reads: one that tells of changes, if that is wanted and can be had.
    pub(super) async fn connect_to_read(
        &self,
    ) -> Result<(MultiplexedConnection, Option<Told>), StoreError> {
        let Some(tracking) = self.tracking() else {
            return Ok((self.connect().await?, None));
        };
        match self.connect_told(tracking).await {
            Ok((connection, told)) => Ok((connection, Some(told))),
            Err(error) => {
                let connection = self.connect().await?;
                tracking.tell_trouble(&error);
                Ok((connection, None))
            }
        }
    }

    async fn connect_told(
        &self,
        tracking: &Tracking,
    ) -> Result<(MultiplexedConnection, Told), StoreError> {
        let own = format!("cachewarden:tracking:{}:", Uuid::new_v4());
        let (prove, proven) = watch::channel(0);
        let is_over = Arc::new(AtomicBool::new(false));
        let hears = Hears {
            own: own.clone(),
            prove,
            is_over: Arc::clone(&is_over),
            listener: Arc::clone(&tracking.listener),
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout()))
            .set_response_timeout(None)
            .set_push_sender(move |push| {
                hears.hear(&push);
                Ok::<(), Infallible>(())
            });
        let told = Told {
            proven,
            is_over,
            listener: Arc::clone(&tracking.listener),
            own,
        };
        let mut begin = redis::cmd("CLIENT");
        begin.arg("TRACKING").arg("ON").arg("BCAST");
        for prefix in disjoint(&tracking.prefixes, &told.own) {
            begin.arg("PREFIX").arg(prefix);
        }
        let connecting = async {
            let mut connection = stream::connect(&tracking.client, config).await?;
            begin.exec_async(&mut connection).await?;
            Ok(connection)
        };
        let connection = self.within_timeout(connecting).await?;
        let connection = connection.map_err(|error| meaning("CLIENT TRACKING", &error))?;
        Ok((connection, told))
    }

    /// Goes on proving that changes are told on the current connection. Ends, if none are told, once another connection would
    /// tell of them.
    pub(super) async fn prove(&self, told: Option<Told>) {
        match (self.tracking(), told) {
            (Some(tracking), Some(mut told)) => self.prove_on(tracking, &mut told).await,
            (Some(tracking), None) => {
                for pause in retry_pauses() {
                    tokio::time::sleep(pause).await;
                    if self.connect_told(tracking).await.is_ok() {
                        return;
                    }
                }
            }
            (None, _) => std::future::pending().await,
        }
    }

    async fn prove_on(&self, tracking: &Tracking, told: &mut Told) {
        for number in 1.. {
            let begun = Instant::now();
            match self.proof(told, number, begun).await {
                Ok(()) => {
                    tracking.listener.certain(begun + PROOF_HOLDS);
                    tracking.tell_proven();
                }
                Err(error) => {
                    tracking.listener.lost();
                    tracking.tell_trouble(&error);
                }
            }
            tokio::time::sleep_until((begun + PROVE_EVERY).into()).await;
        }
    }

    async fn proof(&self, told: &mut Told, number: u64, begun: Instant) -> Result<(), StoreError> {
        let life_ms = u64::try_from(KEY_LIVES.as_millis()).unwrap_or(u64::MAX);
        let mut set = redis::cmd("SET");
        let key = format!("{}{number}", told.own);
        set.arg(key).arg("").arg("PX").arg(life_ms);
        let proof = async {
            self.command("SET", &set).await?;
            let proven = told.proven.wait_for(|proven| *proven >= number);
            proven.await.map(|_| ()).map_err(|_closed| StoreError::Lost)
        };
        let proof = tokio::time::timeout_at((begun + PROOF_TAKES).into(), proof).await;
        proof.unwrap_or(Err(StoreError::TimedOut {
            timeout_ms: u64::try_from(PROOF_TAKES.as_millis()).unwrap_or(u64::MAX),
        }))
    }
}

/// Takes what a connection is told.
struct Hears {
    own: String,
    prove: watch::Sender<u64>,
    is_over: Arc<AtomicBool>,
    listener: Arc<dyn Listener>,
}

impl Hears {
    fn hear(&self, push: &PushInfo) {
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        match (&push.kind, push.data.first()) {
            (PushKind::Invalidate, Some(Value::Array(keys))) => {
                for key in keys {
                    match key {
                        Value::BulkString(key) => self.hear_of(key),
                        // Whatever it is, it is not ours to guess.
                        _ => self.listener.all_changed(),
                    }
                }
            }
            (PushKind::Invalidate, _) => self.listener.all_changed(),
            (PushKind::Disconnection, _) => self.listener.lost(),
            _ => {}
        }
    }

    fn hear_of(&self, key: &[u8]) {
        match key.strip_prefix(self.own.as_bytes()) {
            None => self.listener.changed(key),
            Some(number) => {
                let number = std::str::from_utf8(number)
                    .ok()
                    .and_then(|n| n.parse().ok());
                // The key is told of once more when it expires: later proofs stand.
                self.prove.send_if_modified(|proven: &mut u64| {
                    let before = *proven;
                    *proven = number.unwrap_or(before).max(before);
                    *proven > before
                });
            }
        }
    }
}

/// The pauses before each try to be told again: without end.
fn retry_pauses() -> impl Iterator<Item = Duration> {
    std::iter::successors(Some(FIRST_RETRY), |pause| Some(RETRY_EVERY.min(2 * *pause)))
}

/// Prefixes that do not overlap, as Redis wants them: one that begins with another is covered by it.
fn disjoint(prefixes: &[String], own: &str) -> Vec<String> {
    let mut prefixes = [prefixes, &[own.to_owned()]].concat();
    prefixes.sort();
    prefixes.dedup_by(|next, kept| next.starts_with(kept.as_str()));
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_is_told_nothing_is_replaced_soon_or_else_tried_ever_more_rarely() {
        let seconds: Vec<u64> = retry_pauses()
            .take(7)
            .map(|pause| pause.as_secs())
            .collect();
        assert_eq!(seconds, [1, 2, 4, 8, 10, 10, 10]);
    }

    #[test]
    fn prefixes_that_overlap_become_one() {
        let some = ["b:", "a:x:", "a:", "ab", "abc:", "a:"].map(String::from);
        assert_eq!(disjoint(&some, "b:own:"), ["a:", "ab", "b:"]);
        assert_eq!(disjoint(&[], "own:"), ["own:"]);
    }
}
