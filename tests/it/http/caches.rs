//! Invalidations, explanations, warmups and figures over HTTP; and the line that each change leaves.

use cachewarden::cli::demo::servers::free_port;

use super::super::support::daemon::{Spawned, config, config_on};
use super::super::support::eventually::eventually;
use super::super::support::servers::{database, redis};
use super::super::support::watched::Watched;
use super::*;

#[tokio::test]
async fn keys_patterns_and_whole_caches_are_invalidated_or_only_counted() {
    let world = world("").await;
    for id in 1..=4 {
        get(&world.daemon, &format!("/api/v1/keys/courses:{id}")).await;
    }
    for (body, name, number) in [
        (r#"{"keys": ["courses:1", "courses:9"]}"#, "removed", 1),
        (
            r#"{"patterns": ["courses:[2]*"], "dry_run": true}"#,
            "would_remove",
            1,
        ),
        (r#"{"patterns": ["courses:[2]*"]}"#, "removed", 1),
        (r#"{"caches": ["course"]}"#, "removed", 2),
        (r#"{"caches": ["course"]}"#, "removed", 0),
    ] {
        let answer = post(&world.daemon, "/api/v1/invalidate", body).await;
        assert_eq!(
            (answer.status, answer.json()[name].as_u64()),
            (200, Some(number)),
            "{body}"
        );
    }
    for (body, status, code) in [
        ("{}", 400, "ERR"),
        (r#"{"patterns": ["*"]}"#, 400, "BADPATTERN"),
        (r#"{"patterns": ["other:*"]}"#, 400, "BADPATTERN"),
        (r#"{"keys": ["other:1"]}"#, 404, "ERR"),
        (r#"{"keys": ["courses:x"]}"#, 400, "BADKEY"),
        (r#"{"caches": ["nothing"]}"#, 404, "ERR"),
        (r#"{"pattern": "courses:*"}"#, 400, "ERR"),
    ] {
        let refused = post(&world.daemon, "/api/v1/invalidate", body).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (status, code),
            "{body}"
        );
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_key_is_explained_as_the_other_door_explains_it() {
    let world = world("").await;
    get(&world.daemon, "/api/v1/keys/courses:1").await;
    post(
        &world.daemon,
        "/api/v1/invalidate",
        r#"{"keys": ["courses:1"]}"#,
    )
    .await;
    get(&world.daemon, "/api/v1/keys/courses:1").await;
    let told = get(&world.daemon, "/api/v1/explain/courses:1").await.json();
    assert_eq!(
        (&told["cache"], &told["cached"]),
        (&"course".into(), &true.into())
    );
    assert_eq!(told["last_invalidation"]["source"], "command");
    assert!(told["last_fill"]["ago_ms"].is_u64(), "{told}");
    let mut client = world.client().await;
    let other = client.command(&["CACHE.EXPLAIN", "courses:1"]).await;
    for name in told.as_object().unwrap().keys() {
        assert!(other.field(name).is_some(), "{name} is not in {other:?}");
    }
    assert_eq!(
        get(&world.daemon, "/api/v1/explain/other:1").await.status,
        404
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn caches_are_warmed_and_how_far_that_is_can_be_asked() {
    let warm = "[caches.course.warm]\nkeys = \"SELECT id FROM courses\"\non_start = false\n";
    let sections = format!("{HTTP}{COURSE}{warm}");
    let watched = Watched::start(COURSES, &sections).await;
    let redis = redis();
    let url = watched.database.url().to_owned();
    let text = config(&url, &redis.redis_url(), &sections);
    let daemon = InProcess::start(&text).await;
    for (body, loaded, skipped) in [
        ("{}", 10, 0),
        (r#"{"caches": ["course"]}"#, 0, 10),
        (r#"{"caches": ["course"], "force": true}"#, 10, 0),
    ] {
        let answer = post(&daemon, "/api/v1/warm", body).await.json();
        let course = &answer["course"];
        assert_eq!(
            (&course["loaded"], &course["skipped"]),
            (&loaded.into(), &skipped.into()),
            "{answer}"
        );
        assert_eq!(course["error"], Value::Null);
    }
    let stands = get(&daemon, "/api/v1/warm").await.json();
    assert_eq!(stands["course"]["running"], false);
    assert_eq!(stands["course"]["last_cause"], "command");
    let refused = post(&daemon, "/api/v1/warm", r#"{"caches": ["nothing"]}"#).await;
    assert_eq!((refused.status, refused.code().as_str()), (404, "ERR"));
    daemon.stop().await;
}

#[tokio::test]
async fn the_figures_are_those_of_info() {
    let world = world("").await;
    get(&world.daemon, "/api/v1/keys/courses:1").await;
    let stats = get(&world.daemon, "/api/v1/stats").await.json();
    let miss = "cachewarden_reads_total{cache=\"course\",state=\"miss\"}";
    assert_eq!(stats[miss], 1, "{stats}");
    assert_eq!(stats["actor_cache-0"], "up");
    world.daemon.stop().await;
}

/// The real binary with a door on a port of its own, since what it logs is looked at.
async fn spawned(url: &str, redis: &str, sections: &str) -> (Spawned, SocketAddr) {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let more = format!("http.listen = \"{address}\"\n{sections}");
    let config = |listen: SocketAddr| config_on(&listen.to_string(), url, redis, &more);
    let mut daemon = Spawned::start_with(config, |_| {});
    daemon.notice("READY=1").await;
    (daemon, address)
}

#[tokio::test]
async fn what_a_client_has_begun_and_left_ends_and_leaves_its_line() {
    let writes = "[caches.course.write]\ndelete = \"DELETE FROM courses WHERE id = :id\"\n";
    let sections = format!("{COURSE}{writes}");
    let watched = Watched::start(COURSES, &sections).await;
    let (database, redis) = (watched.database, redis());
    let (daemon, address) = spawned(database.url(), &redis.redis_url(), &sections).await;
    let lock = database.client().await;
    let statement = "BEGIN; LOCK TABLE courses IN EXCLUSIVE MODE";
    lock.batch_execute(statement).await.unwrap();
    let mut leaving = TcpStream::connect(address).await.unwrap();
    let request = b"DELETE /api/v1/keys/courses:1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    leaving.write_all(request).await.unwrap();
    let look = database.client().await;
    eventually(DEADLINE, async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity \
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        match look.query_one(waiting, &[]).await.unwrap().get::<_, i64>(0) {
            1 => Ok(()),
            seen => Err(seen),
        }
    })
    .await;
    drop(leaving);
    // The door has seen that by the time it has answered somebody who came later, on the same thread.
    let live = "GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(address, live.as_bytes()).await.status, 200);
    lock.batch_execute("COMMIT").await.unwrap();
    eventually(DEADLINE, async || {
        let said = daemon.stderr();
        let is_told = said.contains("changed over http") && said.contains("count=1");
        is_told.then_some(()).ok_or(said)
    })
    .await;
}

#[tokio::test]
async fn each_change_leaves_one_line_that_says_who_what_and_how_much() {
    let (database, redis) = (database().await, redis());
    database.execute(COURSES).await;
    let (daemon, address) = spawned(database.url(), &redis.redis_url(), COURSE).await;
    let ask = async |text: String| exchange(address, text.as_bytes()).await;
    let head = "HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
    ask(format!("GET /api/v1/keys/courses:1 {head}\r\n")).await;
    ask(format!("DELETE /api/v1/keys/courses:1 {head}\r\n")).await;
    ask(format!(
        "DELETE /api/v1/keys/courses:x%0A%1B[31m {head}\r\n"
    ))
    .await;
    let body = r#"{"limit": "a", "subject": "b"}"#;
    let length = body.len();
    ask(format!(
        "POST /api/v1/limits/reset {head}{JSON}\r\nContent-Length: {length}\r\n\r\n{body}"
    ))
    .await;
    let lock = "/api/v1/locks/a%20b%C3%BC%E2%80%AE/force";
    ask(format!(
        "POST {lock} {head}{JSON}\r\nContent-Length: 2\r\n\r\n{{}}"
    ))
    .await;
    let said = daemon.stderr();
    let lines: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("changed over http"))
        .collect();
    assert_eq!(lines.len(), 2, "{said}");
    for part in [
        "127.0.0.1",
        "DELETE /api/v1/keys/{key}",
        "courses:1",
        "count=1",
    ] {
        assert!(lines[0].contains(part), "{part} is not in {}", lines[0]);
    }
    assert!(
        lines[1].contains("locks/{name}/force") && lines[1].contains("count=0"),
        "{said}"
    );
    assert!(
        !said.contains('\u{1b}') && !said.contains('\u{202e}'),
        "{said:?}"
    );
}
