//! The demo as a visitor runs it.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::support::DEADLINE;
use super::support::eventually::eventually;

fn demo() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cachewarden"));
    command.arg("demo").stdin(Stdio::null());
    command
}

#[tokio::test]
async fn the_tour_goes_well() {
    let output = tokio::task::spawn_blocking(|| demo().arg("--tour").output())
        .await
        .unwrap()
        .unwrap();
    let screen = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{screen}{errors}");
    assert!(
        screen.contains("steps went as they should"),
        "{screen}{errors}"
    );
}

#[tokio::test]
async fn a_demo_that_is_killed_leaves_nothing_behind() {
    let mut demo = demo().stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stdout.take().unwrap())
        .lines()
        .map_while(Result::ok);
    let config = lines.find_map(|line| line.strip_prefix("Its configuration: ").map(PathBuf::from));
    let folder = config.and_then(|config| config.parent().map(PathBuf::from));
    demo.kill().unwrap(); // SIGKILL: nothing of ours runs any more
    demo.wait().unwrap();
    let folder = folder.expect("the demo says where its configuration is");
    // The folder is the last to go, after the servers in it.
    eventually(DEADLINE, async || {
        if folder.exists() {
            Err(&folder)
        } else {
            Ok(())
        }
    })
    .await;
}
