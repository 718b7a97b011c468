//! Queries for keys that are wrong, give what is none, or never end.

use super::super::support::daemon::{cachewarden, said};
use super::*;
use cachewarden::Warden;
use cachewarden::config::Config;
use cachewarden::repository::WarmKeys;

/// The cache with another query for its keys.
fn with_keys(keys: &str) -> String {
    course(ON_COMMAND).replace("SELECT id FROM courses", keys)
}

#[tokio::test]
async fn a_query_that_gives_no_keys_is_told_with_its_place_before_anything_starts() {
    let world = World::start(COURSES, &course(ON_COMMAND)).await;
    for (keys, underlined, told) in [
        ("SELECT id, title FROM courses", "^", "2 columns"),
        ("SELECT now() FROM courses", "^", "timestamptz"),
        (
            "SELECT idd FROM courses",
            "^^^",
            "column \\\"idd\\\" does not exist",
        ),
        ("DELETE FROM courses RETURNING id", "^", "syntax error"),
        ("SELECT id FROM courses FOR UPDATE", "^", "read-only"),
    ] {
        let told = told.replace("\\\"", "\"");
        let sections = with_keys(keys);
        let config = config(
            world.watched.database.url(),
            &world.redis.redis_url(),
            &sections,
        );
        let refused = Warden::launch(Config::from_toml(&config).unwrap()).await;
        let refused = refused.err().map(|error| error.to_string());
        let refused = refused.unwrap_or_else(|| panic!("it starts with {keys}"));
        for part in ["caches.course.warm.keys", underlined, told.as_str()] {
            assert!(refused.contains(part), "{keys}: {refused}");
        }
        let (code, _, checked) = said(&cachewarden(&config, &["check", "--connect"]).await);
        assert_eq!(code, Some(78), "{keys}");
        assert!(checked.contains(&told), "{keys}: {checked}");
    }
}

#[tokio::test]
async fn what_is_no_key_is_counted_and_the_others_are_warmed() {
    let keys = "VALUES (NULL), ('x'), ('007'), ('0'), (repeat('9', 300)), ('1'), ('2'), ('count')";
    let count = r#"
        [caches.count]
        key = "courses:count"
        query = "SELECT count(*) FROM courses"
        shape = "scalar"
        ttl = "1h"
    "#;
    let world = World::start(COURSES, &format!("{}{count}", with_keys(keys))).await;
    let daemon = world.daemon().await;
    assert_eq!(warm_one(&daemon, false).await, (2, 0, 6));
    assert_eq!(cached(&mut world.raw().await).await, 2);
    daemon.stop().await;
}

#[tokio::test]
async fn a_key_that_leads_to_another_cache_is_none() {
    let sections = r#"
        [caches.slug]
        key = "courses:{slug:text}"
        query = "SELECT title FROM courses WHERE title = :slug"
        shape = "scalar"
        ttl = "1h"
        warm = { keys = "VALUES ('count'), ('one')", on_start = false }
        [caches.count]
        key = "courses:count"
        query = "SELECT count(*) FROM courses"
        shape = "scalar"
        ttl = "1h"
    "#;
    let world = World::start(COURSES, sections).await;
    let daemon = world.daemon().await;
    assert_eq!(warm_one(&daemon, false).await, (1, 0, 1));
    daemon.stop().await;
}

#[tokio::test]
async fn two_hundred_thousand_bad_keys_are_counted_and_not_told_one_by_one() {
    let keys = "SELECT -n FROM generate_series(1, 200000) n UNION ALL SELECT 1::bigint";
    let world = World::start(COURSES, &with_keys(keys)).await;
    let daemon = world.daemon().await;
    assert_eq!(warm_one(&daemon, false).await, (1, 0, 200_000));
    daemon.stop().await;
}

#[tokio::test]
async fn a_query_without_an_end_is_cut() {
    let world = World::start(
        COURSES,
        &with_keys("SELECT generate_series(1, 1000000000000)"),
    )
    .await;
    let config = Config::from_toml(&world.config()).unwrap();
    let postgres = config.postgres.as_ref().unwrap();
    let runtime = tokio::runtime::Handle::current();
    let source = WarmKeys::with_max_keys(postgres, &config.caches, runtime, 2500).unwrap();
    let mut cursor = source.open(0).await.unwrap();
    assert!(cursor.is_cut && cursor.total == 2500);
    let mut pages = Vec::new();
    loop {
        let page = cursor.next_page().await.unwrap();
        if page.is_empty() {
            break;
        }
        pages.push(page.len());
    }
    assert_eq!(pages, [1000, 1000, 500]);
    // Nothing keeps the database from cleaning up meanwhile.
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'";
    assert_eq!(world.watched.ask(open).await, "0");
}
