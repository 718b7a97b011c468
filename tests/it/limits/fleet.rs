//! One limit and many that ask: daemons, tasks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cachewarden::Warden;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::super::support::servers::redis;
use super::{check, daemon};

const LIMIT: u64 = 100;
const WINDOW_MS: u128 = 250;
const LIMITS: &str = r#"
    [limits.api]
    algorithm = "fixed_window"
    limit = 100
    window = "250ms"

    [limits.bucket]
    algorithm = "token_bucket"
    limit = 1000
    window = "1s"
    burst = 50
"#;
const TASKS: usize = 8;
const WINDOWS: usize = 24;

/// What was let through, by the window's end in milliseconds.
type Granted = Arc<Mutex<BTreeMap<u128, u64>>>;

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap()
}

/// The end of the window that a decision belongs to, which was made between these two moments. The servers share a clock.
fn window(sent: Duration, got: Duration, reset_after: Duration) -> Option<u128> {
    let (first, last) = (
        (sent + reset_after).as_micros(),
        (got + reset_after).as_micros(),
    );
    let window = WINDOW_MS * 1000;
    let end = last / window * window;
    // Only one is possible, unless it took as long as a window.
    (end >= first && end < first + window).then_some(end / 1000)
}

async fn ask_all_the_time(warden: Warden, granted: Granted) -> u64 {
    let mut unclear = 0;
    loop {
        let sent = now();
        let decision = check(&warden, "api", "ann", 1).await;
        let got = now();
        if !decision.allowed {
            // As a client does that is told to.
            tokio::time::sleep(decision.retry_after.unwrap()).await;
            continue;
        }
        let mut granted = granted.lock();
        match window(sent, got, decision.reset_after) {
            Some(end) => *granted.entry(end).or_default() += 1,
            None => unclear += 1,
        }
        if granted.len() > WINDOWS {
            return unclear;
        }
    }
}

#[tokio::test]
async fn two_daemons_and_sixteen_tasks_get_exactly_the_limit_in_every_window() {
    let redis = redis();
    let daemons = [daemon(&redis, LIMITS).await, daemon(&redis, LIMITS).await];
    let granted = Granted::default();
    let mut tasks = JoinSet::new();
    for daemon in &daemons {
        for _ in 0..TASKS {
            tasks.spawn(ask_all_the_time(
                daemon.warden.clone(),
                Arc::clone(&granted),
            ));
        }
    }
    let unclear: u64 = tasks.join_all().await.into_iter().sum();
    let granted = granted.lock().clone();
    let most = granted.values().max().unwrap();
    assert!(*most <= LIMIT, "{granted:?}");
    // The first and the last were not asked for from their beginning to their end.
    let whole: Vec<u64> = granted.values().copied().collect();
    let whole = &whole[1..whole.len() - 1];
    let (sum, all) = (
        whole.iter().sum::<u64>() + unclear,
        LIMIT * whole.len() as u64,
    );
    println!(
        "{} windows, {sum} of {all} granted, {unclear} unclear",
        whole.len()
    );
    assert!(sum * 100 >= all * 95, "{sum} of {all}: {granted:?}");
    for daemon in daemons {
        daemon.stop().await;
    }
}

#[tokio::test]
async fn two_daemons_fill_one_bucket() {
    let redis = redis();
    let daemons = [daemon(&redis, LIMITS).await, daemon(&redis, LIMITS).await];
    let began = now();
    let mut tasks = JoinSet::new();
    for daemon in &daemons {
        for _ in 0..TASKS {
            let warden = daemon.warden.clone();
            tasks.spawn(async move {
                let mut granted = 0;
                for _ in 0..100 {
                    granted += u64::from(check(&warden, "bucket", "ann", 1).await.allowed);
                }
                granted
            });
        }
    }
    let granted: u64 = tasks.join_all().await.into_iter().sum();
    let took_us = u64::try_from((now() - began).as_micros()).unwrap();
    // A thousand come in a second.
    assert!(granted <= 50 + took_us / 1000, "{granted} in {took_us} us");
    assert!(granted >= 50, "{granted}");
    for daemon in daemons {
        daemon.stop().await;
    }
}
