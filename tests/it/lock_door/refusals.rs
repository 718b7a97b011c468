//! Every mistake gets a line that names it, and the connection goes on.

use super::super::support::resp::Value;
use super::{LONG, World, acquired};

#[tokio::test]
async fn every_mistake_is_named_and_the_connection_goes_on() {
    let world = World::start().await;
    let mut client = world.client().await;
    let huge = "x".repeat(513);
    let token = "0e1b6b7e-3b0a-4b0e-9d2c-2f6a7c1d9e10";
    let table: &[(&[&str], &str)] = &[
        (
            &["LOCK.ACQUIRE"],
            "ERR wrong number of arguments for 'lock.acquire' command",
        ),
        (&["LOCK.ACQUIRE", "a"], "ERR wrong number of arguments"),
        (
            &["LOCK.ACQUIRE", "", LONG],
            "BADKEY the lock's name is empty",
        ),
        (
            &["LOCK.ACQUIRE", &huge, LONG],
            "BADKEY the lock's name has 513 bytes, more than 512",
        ),
        (
            &["LOCK.ACQUIRE", "a\nb", LONG],
            "BADKEY the lock's name holds a control character",
        ),
        (
            &["LOCK.ACQUIRE", "a", "0"],
            "ERR ttl_ms '0' is no number of milliseconds from 1 on",
        ),
        (&["LOCK.ACQUIRE", "a", "-1"], "ERR ttl_ms '-1'"),
        (&["LOCK.ACQUIRE", "a", "+1"], "ERR ttl_ms '+1'"),
        (&["LOCK.ACQUIRE", "a", "1.5"], "ERR ttl_ms '1.5'"),
        (&["LOCK.ACQUIRE", "a", " 1"], "ERR ttl_ms ' 1'"),
        (&["LOCK.ACQUIRE", "a", ""], "ERR ttl_ms ''"),
        (&["LOCK.ACQUIRE", "a", "ten"], "ERR ttl_ms 'ten'"),
        (&["LOCK.ACQUIRE", "a", "600001"], "locks.max_ttl"),
        (
            &["LOCK.ACQUIRE", "a", "18446744073709551615"],
            "locks.max_ttl",
        ),
        (&["LOCK.ACQUIRE", "a", "18446744073709551616"], "ERR ttl_ms"),
        (
            &["LOCK.ACQUIRE", "a", LONG, "WAIT"],
            "ERR WAIT needs a value",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "WAIT", "x"],
            "ERR WAIT 'x' is no number of milliseconds from 0 to 3600000",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "WAIT", "3600001"],
            "ERR WAIT '3600001'",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "WAIT", "1", "wait", "1"],
            "ERR WAIT is there twice",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "PERMITS"],
            "ERR PERMITS needs a value",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "PERMITS", "0"],
            "ERR PERMITS '0' is no number of holders from 1 to 1000",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "PERMITS", "1001"],
            "ERR PERMITS '1001'",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "SHARED", "PERMITS", "2"],
            "ERR a lock is SHARED or has PERMITS, not both",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "TOKEN", "me"],
            "ERR 'me' is no UUID; pass the token that LOCK.ACQUIRE answered",
        ),
        (
            &[
                "LOCK.ACQUIRE",
                "a",
                LONG,
                "TOKEN",
                "0e1b6b7e3b0a4b0e9d2c2f6a7c1d9e10",
            ],
            "is no UUID",
        ),
        (
            &["LOCK.ACQUIRE", "a", LONG, "FOREVER"],
            "ERR 'FOREVER' is no option of LOCK.ACQUIRE; there are WAIT ms, SESSION",
        ),
        (
            &["LOCK.EXTEND", "a", token],
            "ERR wrong number of arguments for 'lock.extend' command",
        ),
        (&["LOCK.EXTEND", "a", "me", LONG], "ERR 'me' is no UUID"),
        (&["LOCK.EXTEND", "a", token, "0"], "ERR ttl_ms '0'"),
        (&["LOCK.EXTEND", "a", token, "600001"], "locks.max_ttl"),
        (&["LOCK.EXTEND", "", token, LONG], "BADKEY"),
        (
            &["LOCK.RELEASE", "a"],
            "ERR wrong number of arguments for 'lock.release' command",
        ),
        (&["LOCK.RELEASE", "a", ""], "ERR '' is no UUID"),
        (&["LOCK.RELEASE", &huge, token], "BADKEY"),
        (
            &["LOCK.INFO"],
            "ERR wrong number of arguments for 'lock.info' command",
        ),
        (&["LOCK.INFO", ""], "BADKEY"),
        (
            &["LOCK.LIST", "a", "b"],
            "ERR wrong number of arguments for 'lock.list' command",
        ),
        (&["LOCK.LIST", "a\u{7f}"], "BADKEY"),
        (&["LOCK.FORCE", ""], "BADKEY"),
        (&["LOCK.NONE", "a"], "ERR unknown command 'LOCK.NONE'"),
    ];
    for protocol in ["2", "3"] {
        client.command(&["HELLO", protocol]).await;
        for (words, wanted) in table {
            let answer = client.command(words).await;
            let line = answer.error();
            assert!(line.contains(wanted), "{words:?}: {line}");
            assert!(line.len() <= 300, "{line}");
        }
    }
    client
        .send(b"*3\r\n$12\r\nLOCK.ACQUIRE\r\n$2\r\n\xff\xfe\r\n$2\r\n10\r\n")
        .await
        .unwrap();
    let binary = client.read().await.unwrap();
    assert!(binary.error().contains("is not UTF-8"), "{binary:?}");
    let (token, _) = acquired(&mut client, &["a", LONG]).await;
    let released = client.command(&["LOCK.RELEASE", "a", &token]).await;
    assert_eq!(released, Value::Int(1));
}

/// Who has no Postgres has no fences, and so no locks; who forgot to migrate is told so.
#[tokio::test]
async fn what_a_lock_needs_and_lacks_is_said() {
    use super::super::support::daemon::{InProcess, config, config_without_postgres};
    use super::super::support::servers::{database, redis};
    let redis = redis();
    let without = InProcess::start(&config_without_postgres(&redis.redis_url(), "")).await;
    let answer = without
        .client()
        .await
        .command(&["LOCK.ACQUIRE", "a", LONG])
        .await;
    let line = answer.error();
    assert!(
        line.starts_with("UNAVAILABLE ") && line.contains("[postgres]"),
        "{line}"
    );
    let database = database().await;
    let unmigrated = InProcess::start(&config(database.url(), &redis.redis_url(), "")).await;
    let mut client = unmigrated.client().await;
    let answer = client.command(&["LOCK.ACQUIRE", "a", LONG]).await;
    let line = answer.error();
    assert!(
        line.starts_with("UNAVAILABLE ") && line.contains("cachewarden migrate"),
        "{line}"
    );
    super::until_free(&mut client, "a").await;
}

/// A daemon that loads nothing learns of Postgres from its locks alone.
#[tokio::test]
async fn a_postgres_that_mints_no_fences_is_told_in_the_answer_the_log_and_info() {
    use super::super::support::DEADLINE;
    use super::super::support::daemon::Spawned;
    use super::super::support::eventually::eventually;
    use super::super::support::servers::redis;
    use super::super::support::watched::Watched;
    use super::super::support::world::figure;
    const UP: &str = "cachewarden_postgres_up";
    let (mut postgres, database) = Watched::start_apart("SELECT 1", "[locks]\n").await;
    let redis = redis();
    let quick = "postgres.statement_timeout = \"50ms\"\n[locks]\n";
    let daemon = Spawned::start(database.database.url(), &redis.redis_url(), quick).await;
    let mut client = daemon.client().await;
    assert_eq!(
        figure(&mut client, UP, "").await,
        1,
        "it was there at the start"
    );
    acquired(&mut client, &["a", LONG]).await;
    postgres.freeze().unwrap();
    let answer = client.command(&["LOCK.ACQUIRE", "b", LONG]).await;
    let line = answer.error();
    assert!(
        line.contains("no answer within") && line.contains("; start Postgres"),
        "{line}"
    );
    postgres.thaw().unwrap();
    postgres.kill().unwrap();
    for name in ["c", "d"] {
        let answer = client.command(&["LOCK.ACQUIRE", name, LONG]).await;
        let line = answer.error();
        let said = line.starts_with("UNAVAILABLE no lock can be had: postgres cannot be reached");
        assert!(said && line.contains("; start Postgres"), "{line}");
    }
    assert_eq!(figure(&mut client, UP, "").await, 0);
    postgres.start_again().unwrap();
    eventually(DEADLINE, async || {
        match client.command(&["LOCK.ACQUIRE", "e", LONG]).await {
            Value::Array(_) => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(figure(&mut client, UP, "").await, 1);
    let log = daemon.stderr();
    let told = |what: &str| log.matches(what).count();
    assert_eq!(
        told("no lock can be acquired without a fencing token"),
        1,
        "{log}"
    );
    assert_eq!(told("locks have fencing tokens again"), 1, "{log}");
}
