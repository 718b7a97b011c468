//! Whether what is published is heard, and until when it was. It outlives the actor.
//!
//! A subscription is a connection of its own. Behind a proxy or a name it may be held by a server that is not the one any
//! more, while everything else has moved to another: it is alive, and nothing comes. So every few seconds a word is published
//! on the connection that commands are sent on, and has to come back on the subscription.

use super::scripts::Notice;
use crate::keyspace::names::SWEEPS_CHANNEL;
use crate::store::Store;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use uuid::Uuid;

/// How often a word is published.
const ECHO_EVERY: Duration = Duration::from_secs(2);
/// How long a word may take to come back, behind whatever else was published before it.
const ECHO_PATIENCE: Duration = Duration::from_secs(10);

/// What is known of that. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Hearing(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Until when all was heard, or how far deafness is counted; `None` if nobody has listened yet.
    until: Mutex<Option<Instant>>,
    /// The word that came back last.
    echo: watch::Sender<Uuid>,
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

    /// Has words come back as long as they do; gives the moment until which they did. A word that cannot be published, since
    /// Redis is away or refuses it, proves nothing either way.
    pub(super) async fn prove(&self, store: &Store, by: Uuid) -> Instant {
        let mut proven = Instant::now();
        let mut echo = self.0.echo.subscribe();
        loop {
            let (word, sent) = (Uuid::new_v4(), Instant::now());
            let text = Notice::Echo { by, word }.write();
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
