//! A start that waits for Redis and Postgres, and says so. Clients are answered meanwhile, as far as that goes without them.

use super::systemd;
use crate::{StartError, Warden};
use std::time::{Duration, Instant};

/// The pause between two looks: the first, doubled up to the longest, each jittered by half.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// Waits until both are there, or `patience` is at its end: the daemon serves without them, too.
///
/// # Errors
/// If Postgres comes, and does not know what is declared.
pub(super) async fn for_servers(warden: &Warden, patience: Duration) -> Result<(), StartError> {
    let end = Instant::now() + patience;
    let mut pause = FIRST_PAUSE;
    for tries in 2_u32.. {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let away = warden.servers_away().await?;
        if away.is_empty() {
            break;
        }
        let text = format!("waiting for {}, try {tries}", away.join(" and "));
        tracing::info!("{text}");
        systemd::say(&text);
        tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0).min(left)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(())
}
