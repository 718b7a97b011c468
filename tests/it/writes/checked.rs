//! What stands against a declared write is told before anything is written: by `check --connect`, and by a start.

use super::super::support::daemon::{Spawned, cachewarden, said};
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::{CACHES, TABLES};

async fn check(watched: &Watched, caches: &str) -> (Option<i32>, String, String) {
    let config = watched.config.replace(CACHES, caches);
    said(&cachewarden(&config, &["check", "--connect"]).await)
}

#[tokio::test]
async fn a_statement_that_postgres_would_refuse_is_told_with_its_place() {
    let watched = Watched::start(TABLES, CACHES).await;
    watched
        .execute("CREATE TABLE closed (id bigint); REVOKE ALL ON closed FROM CURRENT_USER")
        .await;
    let (code, stdout, stderr) = check(&watched, CACHES).await;
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("what writes need is installed"), "{stdout}");
    let delete = "DELETE FROM courses WHERE id = :id";
    for (statement, message, mend) in [
        (
            "DELETE FROM courses WHERE idd = :id",
            "column \"idd\" does not exist",
            "courses.id",
        ),
        (
            "DELETE FROM course WHERE id = :id",
            "relation \"course\" does not exist",
            "mend the statement",
        ),
        (
            "DELETE FROM courses WHERE id = :id::date",
            "cannot cast type bigint to date",
            "mend the statement",
        ),
        ("TRUNCATE courses", "never uses `:id`", "use `:id`"),
        (
            "CALL gone(:id)",
            "procedure gone(bigint) does not exist",
            "",
        ),
    ] {
        let caches = CACHES.replace(delete, statement);
        let (code, _, stderr) = check(&watched, &caches).await;
        assert_eq!(code, Some(78), "{statement}: {stderr}");
        assert!(
            stderr.contains(message) && stderr.contains(mend),
            "{statement}: {stderr}"
        );
    }
    let caches = CACHES.replace(delete, "DELETE FROM courses WHERE idd = :id");
    let (_, _, stderr) = check(&watched, &caches).await;
    assert!(stderr.contains("caches.course.write.delete: "), "{stderr}");
    assert!(stderr.contains("idd = :id"), "{stderr}");
    watched
        .execute("CREATE PROCEDURE gone(bigint) LANGUAGE sql AS ''")
        .await;
    let caches = CACHES.replace(delete, "CALL gone(:id)");
    let (code, _, stderr) = check(&watched, &caches).await;
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("write an INSERT, UPDATE, DELETE or MERGE"),
        "{stderr}"
    );
    let title = "SELECT title FROM courses WHERE id = 1";
    assert_eq!(watched.ask(title).await, "old");
}

#[tokio::test]
async fn a_statement_that_the_role_may_not_run_is_told() {
    let watched = Watched::start(TABLES, CACHES).await;
    let role = format!("writer_{}", watched.database.name());
    watched
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON courses, settings TO {role};
             GRANT INSERT, UPDATE ON settings TO {role}; GRANT USAGE ON SCHEMA cachewarden TO {role};
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA cachewarden TO {role};
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA cachewarden TO {role}"
        ))
        .await;
    let url = watched.database.url();
    let (_, host) = url
        .rsplit_once('@')
        .unwrap_or_else(|| url.split_once("//").unwrap());
    let config = watched
        .config
        .replace(url, &format!("postgres://{role}@{host}"));
    let (code, _, stderr) = said(&cachewarden(&config, &["check", "--connect"]).await);
    assert_eq!(code, Some(78), "{stderr}");
    assert_eq!(
        stderr
            .matches("permission denied for table courses")
            .count(),
        2,
        "{stderr}"
    );
    assert!(!stderr.contains("settings"), "{stderr}");
}

#[tokio::test]
async fn where_the_queue_is_not_installed_a_start_says_so_and_migrate_mends_it() {
    let watched = Watched::unmigrated(TABLES, CACHES).await;
    let (code, _, stderr) = check(&watched, CACHES).await;
    assert_eq!(code, Some(78), "{stderr}");
    assert!(
        stderr.contains("there is no schema `cachewarden`"),
        "{stderr}"
    );
    assert!(stderr.contains("cachewarden migrate"), "{stderr}");
    let redis = redis();
    let url = watched.database.url();
    let mut daemon = Spawned::start_unready(url, &redis.redis_url(), CACHES);
    assert_eq!(daemon.exit().await.code(), Some(78), "{}", daemon.stderr());
    watched.migrate().await;
    Spawned::start(url, &redis.redis_url(), CACHES).await;
}
