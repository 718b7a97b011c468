//! `cachewarden check`: every mistake at once, each with its place; with `--connect`, Postgres' own opinion, too.

use cachewarden::cli::demo::servers::free_port;

use super::support::daemon::{cachewarden, said};
use super::support::servers::database;

async fn check(config: &str, connect: bool) -> (Option<i32>, String, String) {
    let args: &[&str] = if connect {
        &["check", "--connect"]
    } else {
        &["check"]
    };
    said(&cachewarden(config, args).await)
}

#[tokio::test]
async fn every_mistake_is_told_at_once_with_its_place_and_its_mend() {
    let config = r#"[postgres]
url = "postgres://shop@localhost/shop"
pool_sise = 8
[redis]
url = "redis://localhost:6379"
timeout = "500"
[resp]
listen = ["0.0.0.0:6380"]
[caches.course]
key = "courses:{id:bigint}"
query = "SELECT id FROM courses WHERE id = :idd"
shape = "objekt"
[caches.other]
key = "courses:{number:int}"
query = "SELECT 1"
shape = "scalar"
ttl = "10m"
"#;
    let (code, stdout, stderr) = check(config, false).await;
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
    let expected = [
        ("3:1", "pool_sise", "pool_size"),
        ("6:11", "500", "\"500ms\""),
        ("8:11", "0.0.0.0:6380", "password_file"),
        ("9:9", "ttl", "ttl ="),
        ("11:44", "idd", "`:id`"),
        ("12:9", "objekt", "object"),
        ("14:7", "courses:{number:int}", "cachewarden.toml:10:7"),
        ("15:9", "`number`", "`:number`"),
    ];
    let reports: Vec<&str> = stderr.split("\n\n").collect();
    for (place, text, mend) in expected {
        let place = format!("cachewarden.toml:{place}");
        let report = reports.iter().find(|report| report.contains(&place));
        let report = report.unwrap_or_else(|| panic!("nothing is at {place}\n{stderr}"));
        for part in [text, mend, "error: ", "^"] {
            assert!(report.contains(part), "{part} is not in\n{report}");
        }
    }
    assert!(stderr.ends_with("8 mistakes\n"), "{stderr}");
}

#[tokio::test]
async fn a_file_that_is_not_there_or_says_nothing_is_told_so() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_cachewarden"))
        .args(["check", "--config", "/nonexistent/cachewarden.toml"])
        .output()
        .unwrap();
    let (code, _, stderr) = said(&output);
    assert_eq!(code, Some(78));
    for part in [
        "/nonexistent/cachewarden.toml",
        "No such file",
        "--config PATH",
    ] {
        assert!(stderr.contains(part), "{part} is not in\n{stderr}");
    }
    let (code, _, stderr) = check("", false).await;
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("redis"), "{stderr}");
}

#[tokio::test]
async fn a_good_file_is_counted_and_what_is_not_served_is_said_once() {
    let config = r#"
        postgres.url = "postgres://shop@localhost/shop"
        redis.url = "redis://localhost:6379"
        [caches.course]
        key = "courses:{id:bigint}"
        query = "SELECT id FROM courses WHERE id = :id"
        shape = "object"
        ttl = "10m"
        alert_below = 0.8
        [caches.course_count]
        key = "courses:count"
        query = "SELECT count(*) FROM courses"
        shape = "scalar"
        ttl = "10m"
        [namespaces.calc]
        prefix = "calc:"
        ttl = "5m"
        [limits.api]
        algorithm = "fixed_window"
        limit = 1
        window = "1m"
        [locks]
        max_ttl = "90s"
    "#;
    let (code, stdout, stderr) = check(config, false).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert_eq!(
        stdout,
        "configuration ok: 2 caches, 1 namespace, 1 limit, locks of up to 90s\n"
    );
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 1, "{stderr}");
    for part in ["warning: ", "not served by this version", "alert_below"] {
        assert!(lines[0].contains(part), "{stderr}");
    }
}

/// One cache a case: shape, key, query; then what Postgres has against it, and the word it points at.
const REFUSED: [(&str, &str, &str, &str, &str); 11] = [
    (
        "object",
        "a:{id:bigint}",
        "SELECT id, titel FROM courses WHERE id = :id",
        "column \"titel\" does not exist",
        "titel",
    ),
    (
        "object",
        "b:{id:bigint}",
        "SELECT id FROM coruses WHERE id = :id",
        "relation \"coruses\" does not exist",
        "coruses",
    ),
    (
        "object",
        "c:{id:text}",
        "SELECT id FROM courses WHERE id = :id",
        "operator does not exist: bigint = text",
        "=",
    ),
    (
        "object",
        "d:{id:uuid}",
        "SELECT id FROM courses WHERE id = :id",
        "operator does not exist: bigint = uuid",
        "=",
    ),
    (
        "object",
        "e:{id:bigint}",
        "SELECT id FROM courses WHERE id = :id FOR UPDATE",
        "read-only transaction",
        "",
    ),
    (
        "object",
        "f:{id:bigint}",
        "UPDATE courses SET title = 'x' WHERE id = :id RETURNING id",
        "syntax error",
        "",
    ),
    (
        "object",
        "g:{id:bigint}",
        "DELETE FROM courses WHERE id = :id",
        "returns no columns",
        "DELETE",
    ),
    (
        "object",
        "h:{id:bigint}",
        "WITH gone AS (DELETE FROM courses WHERE id = :id RETURNING id) SELECT id FROM gone",
        "data-modifying",
        "",
    ),
    (
        "scalar",
        "i:{id:bigint}",
        "SELECT id, title FROM courses WHERE id = :id",
        "exactly one column, the query returns 2",
        "SELECT",
    ),
    (
        "object",
        "j:{id:bigint}",
        "SELECT id FORM courses WHERE id = :id",
        "syntax error at or near \"courses\"",
        "courses",
    ),
    (
        "scalar",
        "k:{id:bigint}",
        "SELECT no_such_function(:id)",
        "function no_such_function(bigint) does not exist",
        "no_such_function",
    ),
];

#[tokio::test]
async fn what_postgres_has_against_a_query_is_told_with_the_place_in_the_file() {
    let database = database().await;
    database
        .execute("CREATE TABLE courses (id bigint PRIMARY KEY, title text)")
        .await;
    let mut config = format!(
        "postgres.url = {:?}\nredis.url = \"redis://localhost\"\n",
        database.url()
    );
    for (name, (shape, key, query, _, _)) in ('a'..).zip(REFUSED) {
        config += &format!(
            "[caches.cache_{name}]\nkey = {key:?}\nshape = {shape:?}\nttl = \"1m\"\nquery = {query:?}\n"
        );
    }
    let (code, stdout, stderr) = check(&config, true).await;
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
    let reports: Vec<&str> = stderr.split("\n\n").collect();
    for (n, (name, (_, _, query, why, word))) in ('a'..).zip(REFUSED).enumerate() {
        let title = format!("caches.cache_{name}.query: ");
        let report = reports.iter().find(|report| report.contains(&title));
        let report = report.unwrap_or_else(|| panic!("nothing about {query}\n{stderr}"));
        assert!(report.contains(why), "{why} is not in\n{report}");
        let column = "query = \"".len() + 1 + query.find(word).unwrap();
        // Two lines of servers, and the query is the fifth line of its cache.
        let line = 2 + 5 * n + 5;
        let place = if word.is_empty() {
            format!("cachewarden.toml:{line}:")
        } else {
            format!("cachewarden.toml:{line}:{column}\n")
        };
        assert!(report.contains(&place), "{place} is not in\n{report}");
    }
    let left = database
        .client()
        .await
        .query_one("SELECT count(*) FROM courses", &[])
        .await;
    assert!(left.is_ok(), "the table is gone");
}

#[tokio::test]
async fn queries_that_run_are_said_to_and_postgres_away_is_another_exit() {
    let database = database().await;
    database
        .execute("CREATE TABLE courses (id bigint PRIMARY KEY, title text)")
        .await;
    let nobody = format!("postgres://u@127.0.0.1:{}/d", free_port().unwrap());
    for (url, expected) in [(database.url(), 0), (nobody.as_str(), 69)] {
        let config = format!(
            "postgres.url = {url:?}\nredis.url = \"redis://localhost\"\n[caches.course]\nkey = \"courses:{{id:bigint}}\"\n\
             query = \"SELECT title FROM courses WHERE id = :id\"\nshape = \"object\"\nttl = \"1m\"\n"
        );
        let (code, stdout, stderr) = check(&config, true).await;
        assert_eq!(code, Some(expected), "{stderr}");
        if expected == 0 {
            assert_eq!(
                stdout,
                "every query runs on Postgres\nconfiguration ok: 1 cache, 0 namespaces\n"
            );
            assert_eq!(stderr, "");
        } else {
            assert_eq!(stdout, "");
            assert!(stderr.contains("postgres cannot be reached"), "{stderr}");
        }
    }
}

#[tokio::test]
async fn a_command_line_that_is_wrong_exits_with_usage_and_help_with_success() {
    for (args, expected) in [
        (&["frobnicate"][..], 64),
        (&["check", "--conect"], 64),
        (&[], 64),
        (&["--help"], 0),
        (&["check", "--help"], 0),
        (&["--version"], 0),
    ] {
        let (code, stdout, stderr) = said(&cachewarden("", args).await);
        assert_eq!(code, Some(expected), "{args:?}: {stderr}");
        let told = if expected == 0 { stdout } else { stderr };
        assert!(!told.is_empty(), "{args:?} tells nothing");
    }
}
