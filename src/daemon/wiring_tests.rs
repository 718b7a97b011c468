//! The end of everything, where a part of it does not.

use super::*;
use std::future::pending;
use std::sync::mpsc;

/// Longer than anything takes that will ever happen; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(20);

#[actix_rt::test]
async fn a_thread_that_is_blocked_does_not_hold_up_the_end() {
    let text = "redis.url = \"redis://127.0.0.1:1\"\nresp.listen = [\"127.0.0.1:0\"]";
    let config = Config::from_toml(text).expect("a sound configuration");
    let scripts = Arc::new(Scripts::default());
    let running = Running::start(&config, scripts, Passed::default())
        .await
        .expect("a start");
    let (blocked, is_blocked) = tokio::sync::oneshot::channel();
    let (release, released) = mpsc::channel::<()>();
    running.arbiters[0].spawn_fn(move || {
        let _told = blocked.send(());
        let _released = released.recv();
    });
    is_blocked.await.expect("an arbiter that lives");
    let stop = running.stop(Duration::from_millis(100), pending());
    let left = tokio::time::timeout(DEADLINE, stop).await;
    drop(release);
    let names = left.expect("the stop waits for ever").names;
    assert!(names.contains(&BLOCKED.to_owned()), "{names:?}");
}
