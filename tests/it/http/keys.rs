//! Values over HTTP: the bytes of the value, and what a cache between us and the client needs to know.

use super::super::support::daemon::config;
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::super::support::world::{figure, release, statements};
use super::*;

const WRITES: &str = r#"
[caches.course.write]
save = "UPDATE courses SET title = :value->>'title' WHERE id = :id"
delete = "DELETE FROM courses WHERE id = :id"
"#;

/// One that reads its own writes needs what `migrate` installs.
async fn writing() -> World {
    let sections = format!("{HTTP}{COURSE}{WRITES}");
    let watched = Watched::start(COURSES, &sections).await;
    let redis = redis();
    let database = watched.database;
    let text = config(database.url(), &redis.redis_url(), &sections);
    World {
        daemon: InProcess::start(&text).await,
        database,
        redis,
    }
}

#[tokio::test]
async fn a_value_comes_as_its_own_bytes_and_says_where_from() {
    let world = world("").await;
    for cached in ["MISS", "HIT"] {
        let read = get(&world.daemon, "/api/v1/keys/courses:1").await;
        assert_eq!(
            (read.status, read.body.as_str()),
            (200, r#"{"id":1,"title":"title 1"}"#)
        );
        assert_eq!(read.header("content-type"), Some("application/json"));
        assert_eq!(read.header("x-cache"), Some(cached));
        assert!(
            ["0", "1"].contains(&read.header("age").unwrap()),
            "{read:?}"
        );
        assert_eq!(read.header("cache-control"), Some("no-cache"));
    }
    // A value whose life is half over was filled that long ago.
    let mut raw = world.raw().await;
    raw.command(&["PEXPIRE", "courses:1", "240000"]).await;
    let old = get(&world.daemon, "/api/v1/keys/courses:1").await;
    let age_s: u64 = old.header("age").unwrap().parse().unwrap();
    assert!((240..=361).contains(&age_s), "{old:?}");
    let head = send(&world.daemon, "HEAD", "/api/v1/keys/courses:1", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.header("etag").is_some());
    for _ in 0..2 {
        let missing = get(&world.daemon, "/api/v1/keys/courses:99").await;
        assert_eq!((missing.status, missing.code().as_str()), (404, "MISSING"));
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_etag_is_of_the_bytes_and_who_knows_it_gets_none_of_them() {
    let world = world("").await;
    let path = "/api/v1/keys/courses:1";
    let tag = get(&world.daemon, path)
        .await
        .header("etag")
        .unwrap()
        .to_owned();
    assert!(tag.starts_with('"') && tag.ends_with('"'), "{tag}");
    for known in [
        tag.as_str(),
        "*",
        &format!("W/{tag}"),
        &format!("\"other\", {tag}"),
    ] {
        let header = format!("If-None-Match: {known}");
        let same = send(&world.daemon, "GET", path, &[&header], "").await;
        assert_eq!((same.status, same.body.as_str()), (304, ""), "{known}");
        assert_eq!(same.header("etag"), Some(tag.as_str()));
    }
    // Loaded anew, and still the same; then another.
    let known = format!("If-None-Match: {tag}");
    post(
        &world.daemon,
        "/api/v1/invalidate",
        r#"{"keys": ["courses:1"]}"#,
    )
    .await;
    let same = send(&world.daemon, "GET", path, &[&known], "").await;
    assert_eq!((same.status, same.header("x-cache")), (304, Some("MISS")));
    world
        .database
        .execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    post(
        &world.daemon,
        "/api/v1/invalidate",
        r#"{"keys": ["courses:1"]}"#,
    )
    .await;
    let other = send(&world.daemon, "GET", path, &[&known], "").await;
    assert_eq!(
        (other.status, other.json()["title"].as_str()),
        (200, Some("new"))
    );
    assert_ne!(other.header("etag"), Some(tag.as_str()));
    world.daemon.stop().await;
}

#[tokio::test]
async fn keys_that_lead_nowhere_say_so_in_one_line() {
    let world = world("").await;
    for (key, status, code) in [
        ("nothing:1", 404, "ERR"),
        ("courses:x", 400, "BADKEY"),
        ("courses:007", 400, "BADKEY"),
        ("courses:1%0A%1B%5B31m", 400, "BADKEY"),
        ("courses:1%00", 400, "BADKEY"),
        ("courses:1%2F..", 400, "BADKEY"),
        ("courses:1;%20DROP%20TABLE%20courses", 400, "BADKEY"),
    ] {
        let refused = get(&world.daemon, &format!("/api/v1/keys/{key}")).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{key}"
        );
        let detail = refused.json()["detail"].as_str().unwrap().to_owned();
        assert!(!detail.contains(char::is_control), "{detail:?}");
    }
    let mut client = world.client().await;
    assert_eq!(figure(&mut client, "cachewarden_loads_total", "").await, 0);
    world.daemon.stop().await;
}

#[tokio::test]
async fn many_keys_are_one_query_and_each_has_its_answer() {
    let world = world("").await;
    get(&world.daemon, "/api/v1/keys/courses:3").await;
    let mut client = world.client().await;
    let before = statements(&mut client).await;
    let body = r#"{"keys": ["courses:3", "courses:x", "courses:1", "courses:99", "courses:2"]}"#;
    let read = post(&world.daemon, "/api/v1/read", body).await;
    let values = read.json();
    let states: Vec<_> = values
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["state"].as_str())
        .collect();
    assert_eq!(
        states,
        [
            Some("hit"),
            None,
            Some("miss"),
            Some("missing"),
            Some("miss")
        ]
    );
    assert_eq!(values[0]["value"]["title"], "title 3");
    assert_eq!(values[1]["error"]["code"], "BADKEY");
    assert_eq!(values[2]["key"], "courses:1");
    assert_eq!(values[3]["value"], Value::Null);
    assert_eq!(statements(&mut client).await, before + 1);
    let many = serde_json::json!({ "keys": vec!["courses:1"; 1001] });
    let refused = post(&world.daemon, "/api/v1/read", &many.to_string()).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "ERR"));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_load_that_fails_is_a_bad_gateway_and_one_that_is_late_a_gateway_timeout() {
    let world = world("load_timeout = \"100ms\"\n").await;
    let lock = world.lock("courses").await;
    let late = get(&world.daemon, "/api/v1/keys/courses:1").await;
    assert_eq!((late.status, late.code().as_str()), (504, "LOADFAIL"));
    release(lock).await;
    world.database.execute("DROP TABLE courses").await;
    let failed = get(&world.daemon, "/api/v1/keys/courses:2").await;
    assert_eq!((failed.status, failed.code().as_str()), (502, "LOADFAIL"));
    world.daemon.stop().await;
}

#[tokio::test]
async fn values_are_saved_and_rows_deleted_where_the_cache_declares_it() {
    let world = writing().await;
    let path = "/api/v1/keys/courses:1";
    get(&world.daemon, path).await;
    let saved = send(&world.daemon, "PUT", path, &[JSON], r#"{"title": "new"}"#).await;
    assert_eq!(
        (saved.status, saved.json()["saved"].as_u64()),
        (200, Some(1)),
        "{saved:?}"
    );
    assert_eq!(get(&world.daemon, path).await.json()["title"], "new");
    for (key, body, status) in [
        ("courses:99", r#"{"title": "nobody"}"#, 422),
        ("courses:1", "{\"title\": ", 400),
        ("courses:x", "{}", 400),
    ] {
        let path = format!("/api/v1/keys/{key}");
        let refused = send(&world.daemon, "PUT", &path, &[JSON], body).await;
        assert_eq!(refused.status, status, "{refused:?}");
        refused.code();
    }
    let deleted = send(&world.daemon, "DELETE", path, &[], "").await;
    assert_eq!(
        (deleted.status, deleted.json()["removed"].as_u64()),
        (200, Some(1))
    );
    assert_eq!(get(&world.daemon, path).await.status, 404);
    world.daemon.stop().await;
}

#[tokio::test]
async fn where_nothing_is_declared_a_put_is_refused_and_a_delete_invalidates() {
    let world = world("").await;
    let path = "/api/v1/keys/courses:1";
    get(&world.daemon, path).await;
    let refused = send(&world.daemon, "PUT", path, &[JSON], "{}").await;
    assert_eq!((refused.status, refused.code().as_str()), (405, "READONLY"));
    assert_eq!(refused.header("allow"), Some("GET, HEAD, DELETE"));
    for removed in [1, 0] {
        let deleted = send(&world.daemon, "DELETE", path, &[], "").await;
        assert_eq!(deleted.json()["removed"], removed);
    }
    assert_eq!(
        get(&world.daemon, path).await.header("x-cache"),
        Some("MISS")
    );
    world.daemon.stop().await;
}
