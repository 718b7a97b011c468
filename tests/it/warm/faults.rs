//! Servers that go away in the middle of a run.

use super::super::support::servers::{database_in, own_postgres};
use super::*;
use cachewarden::cli::demo::servers::PostgresOptions;

/// A key takes its time, so that a run can be met in its middle.
fn slow(warm: &str) -> String {
    course(warm).replace(
        "SELECT title FROM courses WHERE id = :id",
        "SELECT title || left(pg_sleep(0.01)::text, 0) FROM courses WHERE id = :id",
    )
}

const MANY: &str = "
    CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'course ' || n FROM generate_series(1, 500) n";

#[tokio::test]
async fn a_postgres_that_is_killed_in_a_run_and_comes_back_is_warmed_from_to_the_end() {
    let mut postgres = own_postgres(&PostgresOptions::default());
    let sections = slow("");
    let watched = Watched::unmigrated_in(database_in(&postgres).await, MANY, &sections).await;
    watched.migrate().await;
    watched.execute("CHECKPOINT").await;
    let redis = redis();
    let world = World {
        watched,
        redis,
        sections,
    };
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    eventually(DEADLINE, async || match cached(&mut raw).await {
        0 => Err(0),
        _ => Ok(()),
    })
    .await;
    postgres.kill().unwrap();
    assert!(cached(&mut raw).await < 500, "it was too quick");
    postgres.start_again().unwrap();
    until_cached(&mut raw, 500).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_to_who_asks_and_the_daemon_warms_when_it_is_back() {
    let mut world = World::start(COURSES, &course("")).await;
    world.redis.kill().unwrap();
    let daemon = world.daemon().await;
    let outcomes = daemon.warden.warm(&[], false).await.unwrap();
    let error = outcomes[0].1.error.as_deref().unwrap();
    assert!(error.contains("redis"), "{error}");
    world.redis.start_again().unwrap();
    until_cached(&mut world.raw().await, 100).await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_cache_that_fails_stops_no_other() {
    let broken = r#"
        [caches.broken]
        key = "broken:{id:bigint}"
        query = "SELECT 1 / (id - id) FROM courses WHERE id = :id"
        shape = "scalar"
        ttl = "1h"
        [caches.broken.warm]
        keys = "SELECT id FROM courses"
        on_start = false
    "#;
    let world = World::start(COURSES, &format!("{}{broken}", course(ON_COMMAND))).await;
    let daemon = world.daemon().await;
    let outcomes = daemon.warden.warm(&[], false).await.unwrap();
    let (course, broken) = (&outcomes[0], &outcomes[1]);
    assert_eq!((course.0.as_str(), course.1.loaded), ("course", 100));
    assert_eq!(course.1.error, None);
    assert_eq!((broken.0.as_str(), broken.1.loaded), ("broken", 0));
    assert_eq!(broken.1.failed, 100);
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_of_which_no_key_can_be_loaded_is_given_up() {
    let sections = course(ON_COMMAND)
        .replace(
            "SELECT title FROM courses WHERE id = :id",
            "SELECT 1 / (:id::bigint - :id)",
        )
        .replace("SELECT id FROM courses", "SELECT generate_series(1, 3000)");
    let world = World::start(COURSES, &sections).await;
    let daemon = world.daemon().await;
    let outcomes = daemon.warden.warm(&[], false).await.unwrap();
    let outcome = &outcomes[0].1;
    let error = outcome.error.as_deref().unwrap_or_default();
    assert!(
        error.starts_with("given up after 20 batches"),
        "{outcome:?}"
    );
    assert!(outcome.failed < 3000, "{outcome:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_database_in_which_nothing_is_installed_is_told_before_anything_starts() {
    let sections = course("");
    let watched = Watched::unmigrated(COURSES, &sections).await;
    let (code, _, told) = watched.run(&["run"]).await;
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("cachewarden migrate"), "{told}");
}
