//! SIGHUP: the limits of the file, at once; the rest of it is told to wait.

use std::fs;

use cachewarden::cli::demo::servers::free_port;
use rustix::process::Signal;

use super::typed::{LIMITS, daemon};
use crate::support::DEADLINE;
use crate::support::daemon::Spawned;
use crate::support::eventually::eventually;
use crate::support::resp::{Client, Value};
use crate::support::servers::redis;

/// Writes another text into the daemon's file, sends SIGHUP, and waits until the log says this once more.
async fn reload(daemon: &Spawned, change: impl FnOnce(&str) -> String, wanted: &str) -> String {
    let path = daemon.config();
    let text = fs::read_to_string(&path).unwrap();
    // In place, so that it stays nobody else's to read.
    fs::write(&path, change(&text)).unwrap();
    let before = daemon.stderr();
    daemon.signal(Signal::HUP);
    eventually(DEADLINE, async || {
        let said = daemon.stderr()[before.len()..].to_owned();
        match said.contains(wanted) {
            true => Ok(said),
            false => Err(said),
        }
    })
    .await
}

/// How much is left after one more.
async fn left(client: &mut Client, limit: &str) -> i64 {
    let reply = client.command(&["RATE.CHECK", limit, "user:1"]).await;
    match &reply {
        Value::Array(elements) => match elements[2] {
            Value::Int(left) => left,
            _ => panic!("{reply:?}"),
        },
        _ => panic!("{reply:?}"),
    }
}

#[tokio::test]
async fn a_signal_applies_the_limits_of_the_file_and_forgets_nothing_that_was_counted() {
    let redis = redis();
    let daemon = daemon(&redis.redis_url(), LIMITS).await;
    let mut client = daemon.client().await;
    assert_eq!(left(&mut client, "wide").await, 999);
    assert_eq!(left(&mut client, "api").await, 2);
    let said = reload(
        &daemon,
        |text| {
            let text = text.replace("limit = 1000", "limit = 2000");
            let text = text.replace("[limits.api]", "[limits.new]");
            format!("audit.rate = 9\n# moved\n{text}")
        },
        "wait for a restart: [audit]",
    )
    .await;
    let expected = "limits added: new; changed: wide; removed: api";
    assert!(said.contains(expected), "{said}");
    // The connection has lived through it.
    assert_eq!(left(&mut client, "wide").await, 1998);
    assert_eq!(left(&mut client, "new").await, 2);
    let gone = client.command(&["RATE.CHECK", "api", "user:1"]).await;
    let expected = "ERR no limit 'api' is declared (known: new, wide, jobs)";
    assert_eq!(gone.error(), expected);
    // Declared again, it knows what it had counted.
    reload(
        &daemon,
        |text| text.replace("[limits.new]", "[limits.api]"),
        "limits added: api; changed: none; removed: new",
    )
    .await;
    assert_eq!(left(&mut client, "api").await, 1);
}

#[tokio::test]
async fn the_defaults_of_limits_are_applied_too_and_a_file_that_says_the_same_changes_nothing() {
    let redis = redis();
    let daemon = daemon(&redis.redis_url(), LIMITS).await;
    let nothing = "limits added: none; changed: none; removed: none";
    let said = reload(&daemon, |text| format!("# a line more\n{text}"), nothing).await;
    assert!(!said.contains("restart"), "{said}");
    let said = reload(
        &daemon,
        |text| format!("{text}\n[limit_defaults]\nshadow = true\n"),
        "limits added: none; changed: api, wide, jobs; removed: none",
    )
    .await;
    assert!(!said.contains("restart"), "{said}");
    let mut client = daemon.client().await;
    for _ in 0..5 {
        let reply = client.command(&["RATE.CHECK", "api", "user:1"]).await;
        let Value::Array(elements) = &reply else {
            panic!("{reply:?}")
        };
        assert_eq!(elements[0], Value::Int(1), "a shadow refused: {reply:?}");
    }
}

/// What a fixed window of this command alone is answered while Redis is away.
async fn fixed_without_redis(daemon: &Spawned) -> String {
    let reply = daemon
        .client()
        .await
        .command(&["RATE.FIXED", "user:1", "5", "60"])
        .await;
    match reply {
        Value::Array(elements) if elements[0] == Value::Int(1) => "allow".to_owned(),
        Value::Array(_) => "deny".to_owned(),
        other => format!("{other:?}"),
    }
}

#[tokio::test]
async fn the_defaults_decide_of_limits_that_only_a_command_knows_as_soon_as_they_are_reloaded() {
    let url = format!("redis://127.0.0.1:{}", free_port().unwrap());
    let daemon = daemon(&url, LIMITS).await;
    assert_eq!(fixed_without_redis(&daemon).await, "allow");
    reload(
        &daemon,
        |text| format!("{text}\n[limit_defaults]\non_redis_error = \"deny\"\n"),
        "applied to RATE.FIXED and CL.THROTTLE",
    )
    .await;
    assert_eq!(fixed_without_redis(&daemon).await, "deny");
}

#[tokio::test]
async fn a_file_with_mistakes_changes_nothing_and_each_of_them_is_logged() {
    let redis = redis();
    let mut daemon = daemon(&redis.redis_url(), LIMITS).await;
    let mut client = daemon.client().await;
    assert_eq!(left(&mut client, "wide").await, 999);
    let said = reload(
        &daemon,
        |text| {
            let text = text.replace("limit = 1000", "limit = 0");
            text.replace("token_bucket", "leaky_bucket")
        },
        "2 mistakes",
    )
    .await;
    for mistake in ["nothing is applied", "`limit` is 0", "`leaky_bucket`"] {
        assert!(said.contains(mistake), "{mistake}: {said}");
    }
    assert_eq!(left(&mut client, "wide").await, 998);
    assert_eq!(left(&mut client, "api").await, 2);
    fs::remove_file(daemon.config()).unwrap();
    let before = daemon.stderr();
    daemon.signal(Signal::HUP);
    eventually(DEADLINE, async || {
        let said = daemon.stderr()[before.len()..].to_owned();
        match said.contains("No such file") {
            true => Ok(()),
            false => Err(said),
        }
    })
    .await;
    assert_eq!(left(&mut client, "wide").await, 997);
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit().await.code(), Some(0), "{}", daemon.stderr());
}
