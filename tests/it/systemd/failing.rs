//! What systemd does about a daemon that fails.

use super::super::support::booted::{Booted, boxed};
use super::super::support::daemon::said;
use super::Service;

/// Stops one thread of the service, the first that serves clients, as a debugger would, until the process is gone.
const HANG_ONE_THREAD: &str = r#"
import ctypes, os, sys
pid = int(sys.argv[1])
names = {t: open(f"/proc/{pid}/task/{t}/comm").read() for t in os.listdir(f"/proc/{pid}/task")}
thread = min(int(t) for t, name in names.items() if name.startswith("actix-rt"))
ptrace = ctypes.CDLL(None, use_errno=True).ptrace
for request in (0x4206, 0x4207): # PTRACE_SEIZE, PTRACE_INTERRUPT
    if ptrace(ctypes.c_long(request), ctypes.c_long(thread), None, None) != 0:
        sys.exit(f"{names}: {os.strerror(ctypes.get_errno())}")
print("hangs", flush=True)
try:
    while True:
        os.waitpid(thread, 0x40000000) # __WALL: it stops; it ends, which its process waits for
except ChildProcessError:
    pass
"#;

/// A second instead of thirty, so that nobody waits: the watchdog is fed twice in it all the same.
const SOON: &str = "[Service]\nWatchdogSec=1\n";

#[tokio::test]
async fn a_daemon_that_is_killed_is_restarted() {
    let service = Service::started("").await;
    let booted = &service.booted;
    booted
        .systemctl(&["kill", "-s", "KILL", "cachewarden"])
        .await;
    booted.until("NRestarts", |count| count == "1").await;
    booted.until("ActiveState", |state| state == "active").await;
    service.serves().await;
}

#[tokio::test]
async fn a_daemon_that_hangs_is_restarted_by_the_watchdog() {
    let service = Service::started(SOON).await;
    let booted = &service.booted;
    booted
        .systemctl(&["kill", "-s", "STOP", "cachewarden"])
        .await;
    booted.until("NRestarts", |count| count == "1").await;
    booted.until("ActiveState", |state| state == "active").await;
    let journal = booted.journal().await;
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    service.serves().await;
}

#[tokio::test]
async fn a_daemon_of_which_one_thread_hangs_is_restarted() {
    let service = Service::started(SOON).await;
    let booted = &service.booted;
    let pid = booted.property("MainPID").await;
    let args = ["60", "python3", "-c", HANG_ONE_THREAD, &pid];
    // It ends with the process that it holds.
    let (code, said, errors) = said(&booted.inside("timeout", &args).await);
    assert_eq!((code, said.as_str()), (Some(0), "hangs\n"), "{errors}");
    booted.until("NRestarts", |count| count == "1").await;
    booted.until("ActiveState", |state| state == "active").await;
    // The daemon that knows of it would give up by itself, and take longer.
    let journal = booted.journal().await;
    assert!(journal.contains("Watchdog timeout"), "{journal}");
    service.serves().await;
}

#[tokio::test]
async fn servers_that_are_away_are_no_reason_for_a_restart() {
    let mut service = Service::started(SOON).await;
    let booted = &service.booted;
    let fed = booted.property("WatchdogTimestampMonotonic").await;
    service.redis.kill().unwrap();
    let later = |now: &str, wanted: u64| {
        let micros = |text: &str| text.parse::<u64>().unwrap_or(0);
        micros(now) > micros(&fed) + wanted
    };
    // Fed for three times as long as a daemon that is not lives.
    booted
        .until("WatchdogTimestampMonotonic", |now| later(now, 3_000_000))
        .await;
    assert_eq!(booted.property("NRestarts").await, "0");
}

#[tokio::test]
async fn a_bad_configuration_is_not_tried_again() {
    let booted = Booted::boot("redis.url = 7\nresp.lissen = []\n").await;
    let started = booted.inside("systemctl", &["start", "cachewarden"]).await;
    assert_eq!(said(&started).0, Some(1));
    booted.until("ActiveState", |state| state == "failed").await;
    assert_eq!(booted.property("ExecMainStatus").await, "78");
    assert_eq!(booted.property("NRestarts").await, "0");
    let journal = booted.journal().await;
    for part in ["cachewarden.toml:1:13", "2 mistakes"] {
        assert!(journal.contains(part), "{part} is not in\n{journal}");
    }
}

#[tokio::test]
async fn a_socket_that_is_not_in_the_configuration_is_told_and_not_tried_again() {
    let config = boxed(None, "").replace(", \"unix:/run/cachewarden/resp.sock\"", "");
    let booted = Booted::boot(&config).await;
    booted.systemctl(&["start", "cachewarden.socket"]).await;
    let started = booted.inside("systemctl", &["start", "cachewarden"]).await;
    assert_eq!(said(&started).0, Some(1));
    assert_eq!(booted.property("ExecMainStatus").await, "78");
    let journal = booted.journal().await;
    let told = "`unix:/run/cachewarden/resp.sock`, which is not in `[resp] listen`";
    assert!(journal.contains(told), "{journal}");
}
