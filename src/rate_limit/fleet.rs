//! How many daemons share a limit while Redis is away: those that were registered when it was last asked, or not long before. A
//! Redis that has just come back empty, and then goes away again, would else have told some of them that they are alone.

use super::scripts::Scripts;
use crate::store::Store;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
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
    let mut most = (1, Instant::now());
    loop {
        match scripts.register(&store, &instance, REGISTERED_FOR).await {
            Ok(daemons) => {
                most = most_of_late(most, (daemons, Instant::now()));
                fleet.daemons.store(most.0, Relaxed);
            }
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

/// The more daemons of the two counts, unless the earlier one is too old to tell.
fn most_of_late(before: (u64, Instant), now: (u64, Instant)) -> (u64, Instant) {
    let is_old = now.1.saturating_duration_since(before.1) > REGISTERED_FOR;
    if is_old || now.0 >= before.0 {
        (now.0.max(1), now.1)
    } else {
        before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_told_of_fewer_believes_it_when_that_is_told_for_long() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let two = most_of_late((1, at(0)), (2, at(1)));
        assert_eq!(two, (2, at(1)));
        assert_eq!(most_of_late(two, (2, at(5))), (2, at(5)));
        assert_eq!(most_of_late(two, (1, at(3))), two);
        assert_eq!(most_of_late(two, (1, at(11))), two);
        assert_eq!(most_of_late(two, (1, at(12))), (1, at(12)));
        assert_eq!(most_of_late(two, (0, at(12))), (1, at(12)));
    }
}
