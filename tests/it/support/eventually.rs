//! Waiting for what has no signal of its own.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Asks `look` until it says `Ok`, and gives that. `Err` is what was seen instead.
///
/// # Panics
/// After `deadline`, with the last thing seen.
pub async fn eventually<T, E: Debug>(
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let end = Instant::now() + deadline;
    loop {
        match look().await {
            Ok(value) => return value,
            Err(seen) if Instant::now() >= end => {
                panic!("not within {deadline:?}; last saw: {seen:?}")
            }
            Err(_) => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
}
