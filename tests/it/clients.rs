//! Redis clients people use connect without special settings, and get right answers. The scripts are in `tests/clients/`.

use std::path::Path;
use std::process::Command;

use super::support::daemon::{InProcess, config, config_without_postgres};
use super::support::servers::{database, redis};

const PYTHON: &str = "target/clients/python/bin/python";

#[tokio::test]
async fn redis_py_converses_over_both_protocols() {
    converses(PYTHON, "redis_py.py").await;
}

#[tokio::test]
async fn ioredis_converses() {
    converses("node", "ioredis.mjs").await;
}

#[tokio::test]
async fn node_redis_converses_over_both_protocols() {
    converses("node", "node_redis.mjs").await;
}

#[tokio::test]
async fn redis_cli_converses_over_both_protocols() {
    let redis = redis();
    let config = config_without_postgres(
        &redis.redis_url(),
        "[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"",
    );
    let daemon = InProcess::start(&config).await;
    let port = daemon.address().port().to_string();
    let conversation = [
        (&["PING"][..], "PONG"),
        (&["GET", "calc:one"], "1"),
        (&["GET", "calc:two"], ""),
        (&["MGET", "calc:one", "calc:two"], "1"),
        (&["DEL", "calc:one"], "1"),
        (
            &["GET", "other:one"],
            "ERR no cache is declared for key 'other:one' (known: calc:)",
        ),
    ];
    for protocol in ["-2", "-3"] {
        daemon.warden.set("calc:one", &1, None).await.unwrap();
        for (words, answer) in conversation {
            let mut command = Command::new("redis-cli");
            command.args(["-p", &port, protocol]).args(words);
            let output = tokio::task::spawn_blocking(move || command.output())
                .await
                .unwrap();
            let output =
                output.unwrap_or_else(|error| panic!("`redis-cli`: {error}\nhint: `make deps`"));
            assert_eq!(
                String::from_utf8_lossy(&output.stdout).trim_end(),
                answer,
                "{protocol} {words:?}"
            );
        }
    }
    daemon.stop().await;
}

async fn converses(interpreter: &'static str, script: &str) {
    let installed = if interpreter == PYTHON {
        PYTHON
    } else {
        "tests/clients/node_modules/.package-lock.json"
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    assert!(
        root.join(installed).exists(),
        "the clients are not installed\nhint: `make deps`"
    );

    let database = database().await;
    database
        .execute(
            "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
             INSERT INTO courses SELECT n, 'course ' || n FROM generate_series(1, 100) n",
        )
        .await;
    let redis = redis();
    let caches = r#"
        [caches.course]
        key = "courses:{id:bigint}"
        query = "SELECT id, title FROM courses WHERE id = :id"
        shape = "object"
        ttl = "10m"
    "#;
    let daemon = InProcess::start(&config(database.url(), &redis.redis_url(), caches)).await;
    let mut command = Command::new(interpreter);
    command
        .current_dir(root)
        .arg(Path::new("tests/clients").join(script))
        .arg(daemon.address().port().to_string());
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap();
    let output =
        output.unwrap_or_else(|error| panic!("`{interpreter}`: {error}\nhint: `make deps`"));
    daemon.stop().await;
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(
        output.status.success(),
        "{script} ended with {}:\n{}",
        output.status,
        said.concat()
    );
}
