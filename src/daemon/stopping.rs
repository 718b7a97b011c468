//! What a stop says while it takes its time, and in the end.

use super::threads::Left;
use super::warden::Ended;
use std::time::{Duration, Instant};

/// How often a stop that takes its time says what it waits for.
const STOP_REPORT: Duration = Duration::from_secs(2);

/// Says every two seconds that the stop is not done yet.
pub(super) async fn with_reports<T>(stopping: impl Future<Output = T>) -> T {
    let mut stopping = std::pin::pin!(stopping);
    let since = Instant::now();
    loop {
        tokio::select! {
            done = &mut stopping => return done,
            () = tokio::time::sleep(STOP_REPORT) => {
                tracing::info!(seconds = since.elapsed().as_secs(), "stopping: waiting for clients and actors");
            }
        }
    }
}

/// Why the daemon ended, for whoever waits for it.
pub(super) fn ended(gave_up: Option<String>, left: Left) -> Ended {
    match (gave_up, left.names) {
        (Some(reason), _) => Ended::GaveUp { reason },
        (None, names) if names.is_empty() => Ended::Stopped,
        (None, names) => Ended::Late { names },
    }
}
