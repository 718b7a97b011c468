//! `CACHE.WARM`, `CACHE.WARMING`, and `cachewarden warm`.

use super::super::support::daemon::{Spawned, cachewarden, said};
use super::*;
use std::fs;

#[tokio::test]
async fn the_command_answers_what_came_of_each_cache() {
    let world = World::start(COURSES, &course(ON_COMMAND)).await;
    let daemon = world.daemon().await;
    let mut client = daemon.client().await;
    for (words, loaded, skipped) in [
        (&["CACHE.WARM"] as &[&str], 100, 0),
        (&["CACHE.WARM", "course"], 0, 100),
        (&["cache.warm", "force", "course"], 100, 0),
    ] {
        let answer = client.command(words).await;
        let course = answer.field("course").expect("its outcome");
        assert_eq!(course.field("error"), Some(&Value::Nil));
        assert_eq!(course.field("loaded"), Some(&Value::Int(loaded)));
        assert_eq!(course.field("skipped"), Some(&Value::Int(skipped)));
        assert_eq!(course.field("failed"), Some(&Value::Int(0)));
        assert!(matches!(course.field("took_ms"), Some(Value::Int(_))));
    }
    let refused = client.command(&["CACHE.WARM", "course", "nothing"]).await;
    let refused = refused.error();
    assert!(
        refused.starts_with("ERR `nothing` is no cache"),
        "{refused}"
    );
    let stands = client.command(&["CACHE.WARMING"]).await;
    let course = stands.field("course").expect("where it stands");
    assert_eq!(course.field("running"), Some(&Value::Int(0)));
    assert_eq!(course.field("loaded"), Some(&Value::Int(100)));
    assert_eq!(course.field("last_cause"), Some(&Value::bulk("command")));
    daemon.stop().await;
}

#[tokio::test]
async fn without_anything_to_warm_there_is_nothing_to_answer() {
    let sections = course("")
        .split("[caches.course.warm]")
        .next()
        .unwrap()
        .to_owned();
    let world = World::start(COURSES, &sections).await;
    let daemon = world.daemon().await;
    let mut client = daemon.client().await;
    assert_eq!(client.command(&["CACHE.WARM"]).await, Value::Array(vec![]));
    assert_eq!(
        client.command(&["CACHE.WARMING"]).await,
        Value::Array(vec![])
    );
    let refused = client.command(&["CACHE.WARM", "course"]).await;
    assert!(refused.error().contains("no cache"), "{refused:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn the_subcommand_shows_a_table_or_json_and_exits_with_1_on_errors() {
    let world = World::start(COURSES, &course(ON_COMMAND)).await;
    let daemon = Spawned::start(
        world.watched.database.url(),
        &world.redis.redis_url(),
        &world.sections,
    )
    .await;
    let config = fs::read_to_string(daemon.config()).unwrap();
    let run = async |args: &[&str]| said(&cachewarden(&config, args).await);
    let (code, table, stderr) = run(&["warm"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[0], ["cache", "loaded", "skipped", "failed", "ms"]);
    assert_eq!(lines[1][..4], ["course", "100", "0", "0"]);
    let (code, json, _) = run(&["warm", "--force", "--json", "course"]).await;
    assert_eq!(code, Some(0));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["caches"][0]["loaded"], 100);
    assert_eq!(json["caches"][0]["error"], serde_json::Value::Null);
    let (code, _, stderr) = run(&["warm", "nothing"]).await;
    assert_eq!(code, Some(1));
    assert!(stderr.contains("no cache"), "{stderr}");
    world
        .watched
        .execute("ALTER TABLE courses RENAME TO gone")
        .await;
    let (code, _, stderr) = run(&["warm"]).await;
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("course: postgres does not give the keys"),
        "{stderr}"
    );
    drop(daemon);
    let (code, ..) = run(&["warm"]).await;
    assert_eq!(code, Some(69));
}
