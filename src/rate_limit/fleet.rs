//! How many daemons share a limit while Redis is away: those that were registered when it was last asked.

use super::scripts::Scripts;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use uuid::Uuid;

/// How often a daemon says that it lives, and for how long that is good.
const REGISTER_EVERY: Duration = Duration::from_secs(2);
const REGISTERED_FOR: Duration = Duration::from_secs(10);

/// The daemons of a fleet. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fleet {
    daemons: Arc<AtomicU64>,
    instance: Uuid,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            daemons: Arc::new(AtomicU64::new(1)),
            instance: Uuid::new_v4(),
        }
    }
}

impl Fleet {
    /// How many there were when Redis was last asked, this one included.
    pub fn daemons(&self) -> u64 {
        self.daemons.load(Relaxed)
    }
}

/// Registers this daemon, again and again; runs until dropped.
pub async fn register(store: Store, scripts: Arc<Scripts>, fleet: Fleet) {
    let instance = fleet.instance.to_string();
    let mut up = store.up();
    loop {
        match scripts.register(&store, &instance, REGISTERED_FOR).await {
            Ok(daemons) => fleet.daemons.store(daemons.max(1), Relaxed),
            Err(error) => tracing::debug!(%error, "not registered as one of the fleet"),
        }
        let registered = store.is_up();
        tokio::select! {
            () = tokio::time::sleep(REGISTER_EVERY) => {}
            // At once when Redis is there, so that who stopped counting on us does again.
            Ok(_) = up.wait_for(|up| *up), if !registered => {}
        }
    }
}
