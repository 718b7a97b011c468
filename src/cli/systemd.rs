//! What the service manager is told, if there is one: `sd_notify(3)` over `NOTIFY_SOCKET`.

use super::status_line::{ready_line, stopping_line};
use crate::supervisor::Health;
use crate::{Status, Warden};
use sd_notify::NotifyState;
use std::time::Duration;

/// How often a start that takes its time says so.
const EXTEND_EVERY: Duration = Duration::from_secs(10);
/// How often the line that `systemctl status` shows is brought up to date.
const SAY_EVERY: Duration = Duration::from_secs(1);

/// Sends a state. Without a service manager nothing happens; one that cannot be reached is no reason to stop serving.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "the service manager cannot be told; look at NOTIFY_SOCKET");
    }
}

/// The line that `systemctl status` shows.
pub(super) fn say(text: &str) {
    notify(&[NotifyState::Status(text)]);
}

/// Says that it is ready, or again.
pub(super) fn ready(warden: &Warden) {
    let text = ready_line(&warden.status());
    notify(&[NotifyState::Ready, NotifyState::Status(&text)]);
}

/// Says that the file is read anew; [`ready`] says that this is over, well or not.
pub(super) fn reloading() {
    let mut state = vec![
        NotifyState::Reloading,
        NotifyState::Status("reading the configuration anew"),
    ];
    // Without the time systemd would take the next READY=1 for that of an earlier reload.
    state.extend(NotifyState::monotonic_usec_now());
    notify(&state);
}

/// Says that the stop has begun.
pub(super) fn stopping(warden: &Warden) {
    let text = stopping_line(&warden.status());
    notify(&[NotifyState::Stopping, NotifyState::Status(&text)]);
}

/// Keeps the line of `systemctl status` true while it serves.
pub(super) async fn keep_saying(warden: &Warden) {
    keep_line(warden, ready_line).await;
}

/// The same while it stops.
pub(super) async fn keep_saying_what_is_left(warden: &Warden) {
    keep_line(warden, stopping_line).await;
}

async fn keep_line(warden: &Warden, line: fn(&Status) -> String) {
    let mut said = line(&warden.status());
    loop {
        tokio::time::sleep(SAY_EVERY).await;
        let now = line(&warden.status());
        if now != said {
            say(&now);
            said = now;
        }
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

/// Says, until the daemon is ready, that it still gets there, so that the service manager does not give it up for a warmup that
/// takes longer than `TimeoutStartSec`.
pub(super) async fn extending_the_start<T>(start: impl Future<Output = T>) -> T {
    let mut start = std::pin::pin!(start);
    loop {
        tokio::select! {
            started = &mut start => return started,
            () = tokio::time::sleep(EXTEND_EVERY) => {
                let more = u32::try_from(3 * EXTEND_EVERY.as_micros()).unwrap_or(u32::MAX);
                notify(&[NotifyState::ExtendTimeoutUsec(more)]);
            }
        }
    }
}
