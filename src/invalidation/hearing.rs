//! Whether what is published is heard, and until when it was. It outlives the actor.
//!
//! A subscription is a connection of its own. Behind a proxy or a name it may be held by a server that is not the one any
//! more, while everything else has moved to another: it is alive, and nothing comes. So every few seconds a word is published
//! on the connection that commands are sent on, and has to come back on the subscription.
//!
//! Others hear these words as well, and a daemon that starts learns from them whether somebody has listened before it, to the
//! same channels and for the same prefixes. Whoever says so was told it in the same way, or has invalidated everything.

use super::scripts::Notice;
use crate::keyspace::names::SWEEPS_CHANNEL;
use crate::store::Store;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How often a word is published.
const ECHO_EVERY: Duration = Duration::from_secs(2);
/// How long a word may take to come back, behind whatever else was published before it.
const ECHO_PATIENCE: Duration = Duration::from_secs(10);
/// How long a daemon that starts waits for the word of somebody who has listened before.
const WITNESS_PATIENCE: Duration = Duration::from_secs(3 * ECHO_EVERY.as_secs());
/// The word of who does not know what was published before.
pub(super) const NOTHING: u128 = 0;

/// What is known of that. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Hearing(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Until when all was heard, or how far deafness is counted; `None` if nobody has listened yet.
    until: Mutex<Option<Instant>>,
    /// The word that came back last.
    echo: watch::Sender<Uuid>,
    /// Whether nothing is cached that is outdated for something that nobody has heard.
    is_sure: AtomicBool,
    /// Another daemon is.
    witnessed: Notify,
}

impl Hearing {
    /// Somebody begins to listen; whether somebody did before, so that something may have been missed since.
    pub(super) fn begins(&self) -> bool {
        let mut until = self.0.until.lock();
        let has_listened = until.is_some();
        until.get_or_insert_with(Instant::now);
        has_listened
    }

    /// Up to `at` everything was heard.
    pub(super) fn heard_until(&self, at: Instant) {
        *self.0.until.lock() = Some(at);
    }

    /// For how long nothing was heard that is not counted yet.
    pub(super) fn take_deafness(&self) -> Duration {
        let now = Instant::now();
        let until = self.0.until.lock().replace(now);
        until.map_or(Duration::ZERO, |until| now.saturating_duration_since(until))
    }

    /// Our own word came back.
    pub(super) fn echoed(&self, word: Uuid) {
        self.0.echo.send_replace(word);
    }

    /// Whether nothing that was published before has been missed, or all of that is made good for.
    pub(super) fn set_sure(&self, is_sure: bool) {
        self.0.is_sure.store(is_sure, Ordering::Release);
    }

    /// Another daemon has missed nothing of what we listen to.
    pub(super) fn witnessed(&self) {
        self.0.witnessed.notify_waiters();
    }

    /// Whether another daemon says so, now that we listen.
    pub(super) async fn any_witness(&self) -> bool {
        timeout(WITNESS_PATIENCE, self.0.witnessed.notified())
            .await
            .is_ok()
    }

    /// Has words come back as long as they do; gives the moment until which they did. A word that cannot be published, since
    /// Redis is away or refuses it, proves nothing either way.
    pub(super) async fn prove(&self, store: &Store, by: Uuid, covers: u128) -> Instant {
        let mut proven = Instant::now();
        let mut echo = self.0.echo.subscribe();
        loop {
            let (word, sent) = (Uuid::new_v4(), Instant::now());
            let is_sure = self.0.is_sure.load(Ordering::Acquire);
            let covers = if is_sure { covers } else { NOTHING };
            let text = Notice::Echo { by, word, covers }.write();
            if store.publish(SWEEPS_CHANNEL, &text).await.is_ok() {
                let back = echo.wait_for(|echoed| *echoed == word);
                if timeout(ECHO_PATIENCE, back).await.is_err() {
                    return proven;
                }
                proven = sent;
            }
            sleep(ECHO_EVERY).await;
        }
    }
}
