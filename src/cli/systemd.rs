//! What the service manager is told, if there is one: `sd_notify(3)` over `NOTIFY_SOCKET`.

use crate::supervisor::Health;
use sd_notify::NotifyState;
use std::time::Duration;

/// How often a start that takes its time says so.
const EXTEND_EVERY: Duration = Duration::from_secs(10);

/// Sends a state. Without a service manager nothing happens; one that cannot be reached is no reason to stop serving.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told; look at NOTIFY_SOCKET");
    }
}

/// Feeds the watchdog as long as every actor takes its mail: fed from their health, not from a timer alone, so that a
/// daemon that only looks alive is restarted.
pub(super) async fn feed_watchdog(health: Health) {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    // Twice within the time the service manager gives, so that one late feed does no harm.
    let every = (interval / 2).max(Duration::from_millis(1));
    loop {
        if health.all_up() {
            notify(&[NotifyState::Watchdog]);
        }
        tokio::time::sleep(every).await;
    }
}

/// Says that the daemon is ready when it is; until then, that it still gets there, so that the service manager does not give
/// it up for a warmup that takes longer than `TimeoutStartSec`.
pub(super) async fn ready_when(ready: impl Future<Output = ()>) {
    let mut ready = std::pin::pin!(ready);
    loop {
        tokio::select! {
            () = &mut ready => return notify(&[NotifyState::Ready]),
            () = tokio::time::sleep(EXTEND_EVERY) => {
                let more = u32::try_from(3 * EXTEND_EVERY.as_micros()).unwrap_or(u32::MAX);
                notify(&[NotifyState::ExtendTimeoutUsec(more)]);
            }
        }
    }
}
