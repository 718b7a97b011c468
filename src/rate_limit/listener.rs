//! Hears which refusals do not stand any more, whoever gave something back.

use super::denied::Denied;
use super::scripts::read_forgotten;
use crate::keyspace::names::LIMITS_CHANNEL;
use crate::store::{Store, StoreError};
use std::time::Duration;

/// The pause before subscribing again: the first, doubled up to the longest, jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// While it lives, what is told is heard.
struct Hearing<'a>(&'a Denied);

impl<'a> Hearing<'a> {
    fn begin(denied: &'a Denied) -> Self {
        denied.hears(true);
        Self(denied)
    }
}

impl Drop for Hearing<'_> {
    /// However it ends: also with an actor that panics.
    fn drop(&mut self) {
        self.0.hears(false);
    }
}

/// Listens, and again after every loss; runs until dropped.
pub async fn listen(store: Store, denied: Denied) {
    let mut pause = FIRST_PAUSE;
    loop {
        let error = hear(&store, &denied, &mut pause).await;
        tracing::debug!(%error, "refusals are not remembered: what is given back cannot be heard");
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Why it ended.
async fn hear(store: &Store, denied: &Denied, pause: &mut Duration) -> StoreError {
    let mut subscription = match store.subscribe(&[LIMITS_CHANNEL.to_owned()]).await {
        Ok(subscription) => subscription,
        Err(error) => return error,
    };
    *pause = FIRST_PAUSE;
    let hearing = Hearing::begin(denied);
    loop {
        match subscription.next().await {
            Ok(Some(heard)) => {
                if let Some((limit, subject)) = read_forgotten(&heard.payload) {
                    hearing.0.forget(limit, subject);
                }
            }
            Ok(None) => {}
            Err(error) => return error,
        }
    }
}
