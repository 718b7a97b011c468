//! A start that fails leaves nothing behind in the program that tried it. Alone in its process: it counts threads, and
//! takes file descriptors away from all of them.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on fails"
)]

#[path = "it/support/eventually.rs"]
mod eventually;

use std::fs;
use std::net::TcpListener;
use std::time::Duration;

use cachewarden::config::Config;
use cachewarden::{StartError, Warden};
use eventually::eventually;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

const DEADLINE: Duration = Duration::from_secs(20);
/// Enough for the door, the threads of input and output, and some arbiters; not for all of them.
const FILES: u64 = 40;

fn config(listen: &str) -> Config {
    let text = format!(
        "redis.url = \"redis://127.0.0.1:1\"\nresp.listen = [{listen:?}]\nresp.threads = 64"
    );
    Config::from_toml(&text).unwrap_or_else(|problems| panic!("{problems}"))
}

fn entries(folder: &str) -> usize {
    fs::read_dir(folder).unwrap().count()
}

async fn start(listen: &str) -> StartError {
    match Warden::start(config(listen)).await {
        Ok(_) => panic!("it started"),
        Err(error) => error,
    }
}

async fn start_with_few_files() -> StartError {
    let limit = getrlimit(Resource::Nofile);
    let open = entries("/proc/self/fd") as u64;
    let few = Rlimit {
        current: Some(open + FILES),
        ..limit
    };
    setrlimit(Resource::Nofile, few).unwrap();
    let error = start("127.0.0.1:0").await;
    setrlimit(Resource::Nofile, limit).unwrap();
    error
}

#[tokio::test]
async fn a_start_that_fails_leaves_no_thread_and_no_file() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let left = || ["/proc/self/task", "/proc/self/fd"].map(entries);
    let before = left();

    let error = start(&address).await;
    assert!(matches!(error, StartError::Address(_)), "{error}");
    let error = start_with_few_files().await;
    assert!(matches!(error, StartError::Thread(_)), "{error}");

    eventually(DEADLINE, async || match left() {
        now if now == before => Ok(()),
        now => Err((now, before)),
    })
    .await;
}
