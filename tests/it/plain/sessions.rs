//! `express-session` with `connect-redis`, unmodified, keeps its sessions through two daemons.

use std::path::Path;
use std::process::Command;

use super::Plain;
use crate::support::daemon::{InProcess, config_without_postgres};
use crate::support::world::{HEARTBEAT, keys_with_life};

#[tokio::test]
async fn express_keeps_its_sessions_through_two_daemons() {
    run("express.mjs").await;
}

#[tokio::test]
async fn thousands_of_sessions_are_counted_read_and_cleared_by_their_store() {
    run("sessions.mjs").await;
}

/// Runs one of the scripts against two daemons over one Redis; it leaves no key behind.
async fn run(script: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(
        root.join("tests/clients/node_modules/connect-redis")
            .exists(),
        "the clients are not installed\nhint: `make deps`"
    );
    let plain = Plain::start().await;
    let text = config_without_postgres(&plain.redis.redis_url(), super::PASSTHROUGHS);
    let other = InProcess::start(&text).await;
    let mut command = Command::new("node");
    command
        .current_dir(root)
        .arg(format!("tests/clients/{script}"));
    for daemon in [&plain.daemon, &other] {
        command.arg(daemon.address().port().to_string());
    }
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap();
    let output = output.unwrap_or_else(|error| panic!("`node`: {error}\nhint: `make deps`"));
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        output.status.success(),
        "{script} ended with {}:\n{}",
        output.status,
        said.concat()
    );
    let left = keys_with_life(&mut plain.raw().await).await;
    assert!(left.iter().all(|(key, _)| key == HEARTBEAT), "{left:?}");
    other.stop().await;
}
