//! `cachewarden limit`, as somebody types it.

use std::fs;

use crate::support::daemon::{Spawned, cachewarden, said};
use crate::support::servers::redis;

pub const LIMITS: &str = r#"
    [limits.api]
    algorithm = "token_bucket"
    limit = 3
    window = "1h"

    [limits.wide]
    algorithm = "fixed_window"
    limit = 1000
    window = "365d"

    [limits.jobs]
    algorithm = "concurrency"
    limit = 1
"#;

/// A daemon with these limits before this Redis, that is ready.
pub async fn daemon(redis_url: &str, limits: &str) -> Spawned {
    let mut daemon = Spawned::start_with(
        |address| format!("redis.url = {redis_url:?}\nresp.listen = [\"{address}\"]\n{limits}"),
        |_| {},
    );
    daemon.notice("READY=1").await;
    daemon
}

#[tokio::test]
async fn a_limit_is_asked_given_back_and_forgotten_from_the_command_line() {
    let redis = redis();
    let daemon = daemon(&redis.redis_url(), LIMITS).await;
    let config = fs::read_to_string(daemon.config()).unwrap();
    let run = async |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        said(&cachewarden(&config, &words).await)
    };
    let lines = [
        ("limit reset api user:1", 0, "nothing was taken\n"),
        (
            "limit peek api user:1 --cost 3",
            0,
            "allowed; 3 of 3 left\n",
        ),
        (
            "limit check api user:1 --cost 2",
            0,
            "allowed; 1 of 3 left, all of it in …",
        ),
        (
            "limit check api,wide user:1 --cost 2",
            1,
            "refused by api for …",
        ),
        (
            "limit check api user:3 --cost 4",
            1,
            "refused by api for ever: it never has so much; 3 of 3 left\n",
        ),
        ("limit refund api user:1 --cost 1", 0, "gave back 1\n"),
        (
            "limit peek --cost 2 api user:1",
            0,
            "allowed; 2 of 3 left, …",
        ),
        ("limit refund api user:1 --json", 0, "{\"refunded\":1}\n"),
        (
            "limit check api user:2 --json",
            0,
            "{\"allowed\":true,\"id\":null,\"limit\":3,\"refused_by\":null,\"remaining\":2,…",
        ),
        (
            "limit check api user:2 --cost 4 --json",
            1,
            "{\"allowed\":false,\"id\":null,\"limit\":3,\"refused_by\":\"api\",…",
        ),
        (
            "limit check jobs user:1",
            0,
            "allowed; 0 of 1 left, all of it in …",
        ),
        ("limit peek jobs user:1 --json", 1, "{\"allowed\":false,…"),
        (
            "limit release jobs user:1 nobody",
            1,
            "nothing in flight has this id\n",
        ),
        ("limit release jobs user:2 mine", 0, "released\n"),
        (
            "limit release jobs user:2 mine --json",
            1,
            "{\"released\":false}\n",
        ),
        ("limit reset api user:2 --json", 0, "{\"reset\":true}\n"),
        ("limit reset api user:2", 0, "nothing was taken\n"),
    ];
    let taken = &["RATE.CHECK", "jobs", "user:2", "ID", "mine"];
    daemon.client().await.command(taken).await;
    for (line, code, expected) in lines {
        let (status, stdout, stderr) = run(line).await;
        assert_eq!(
            (status, stderr.as_str()),
            (Some(code), ""),
            "{line}: {stdout}"
        );
        let fits = match expected.strip_suffix('…') {
            Some(begin) => stdout.starts_with(begin) && stdout.ends_with('\n'),
            None => stdout == expected,
        };
        assert!(fits, "{line}: {stdout:?}, not {expected:?}");
    }
    let mistakes = [
        (
            "limit check nothing user:1",
            1,
            "ERR no limit 'nothing' is declared (known: api, wide, jobs)",
        ),
        (
            "limit check api user:1 --cost 0",
            1,
            "ERR COST '0' is no whole number",
        ),
        ("limit check api", 64, "error: "),
        ("limit check api user:1 --cost -1", 64, "error: "),
        ("limit reset api user:1 --cost 1", 64, "error: "),
        ("limit forget api user:1", 64, "error: "),
    ];
    for (line, code, expected) in mistakes {
        let (status, stdout, stderr) = run(line).await;
        assert_eq!(
            (status, stdout.as_str()),
            (Some(code), ""),
            "{line}: {stderr}"
        );
        assert!(stderr.starts_with(expected), "{line}: {stderr:?}");
    }
    drop(daemon);
    let (status, _, stderr) = run("limit peek api user:1").await;
    assert_eq!(status, Some(69), "{stderr}");
}
