//! Hears which locks are worth another try. What is missed costs a waiter a second, for the first of each line looks by itself.

use crate::keyspace::names::LOCKS;
use crate::store::{Store, StoreError};
use bytes::Bytes;
use std::time::Duration;
use tokio::sync::mpsc::Sender;

/// Names that were heard and are not taken yet; the line waits for more room.
pub(super) const MAX_HEARD: usize = 1024;
/// The pause before subscribing again: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Listens, and again after every loss; runs until dropped.
pub(super) async fn listen(store: Store, heard: Sender<Bytes>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let lost = hear(&store, &heard, &mut pause).await;
        tracing::debug!(error = ?lost.err(), "releases of locks are not heard");
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn hear(
    store: &Store,
    heard: &Sender<Bytes>,
    pause: &mut Duration,
) -> Result<(), StoreError> {
    let mut subscription = store.subscribe(&[LOCKS.to_owned()]).await?;
    *pause = FIRST_PAUSE;
    loop {
        if let Some(message) = subscription.next().await? {
            // An actor that is gone takes this task with it.
            let _gone = heard.send(message.payload).await;
        }
    }
}
