//! A daemon that is killed between a commit and its application loses nothing, whenever that is.

use std::time::Duration;

use super::support::DEADLINE;
use super::support::daemon::Spawned;
use super::support::eventually::eventually;
use super::support::resp::Value;
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::raw;

const ROUNDS: usize = 50;
/// A change is applied within 20 to 100 ms.
const LATEST_KILL: Duration = Duration::from_millis(30);

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 50) n";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [invalidation]
    replay_window = "10m"
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}"]
"#;

#[tokio::test]
async fn of_fifty_commits_each_followed_by_a_kill_none_is_lost() {
    let watched = Watched::start(COURSES, CACHES).await;
    let redis = redis();
    let mut raw = raw(&redis).await;
    let (mut unapplied, mut outdated) = (0, 0);
    for id in 1..=ROUNDS {
        // Applies what the one before has left.
        let daemon = Spawned::start(watched.database.url(), &redis.redis_url(), CACHES).await;
        let key = format!("courses:{id}");
        let read = daemon.client().await.command(&["GET", &key]).await;
        assert_eq!(read.text(), "\"old\"");
        let update = format!("UPDATE courses SET title = 'new' WHERE id = {id}");
        watched.execute(&update).await;
        // No wait for anything: when it is killed is what is tried here.
        tokio::time::sleep(LATEST_KILL.mul_f64(fastrand::f64())).await;
        drop(daemon);
        let left = watched.ask("SELECT count(*) FROM cachewarden.outbox").await;
        unapplied += u32::from(left != "0");
        let kept = raw.command(&["GET", &key]).await;
        outdated += u32::from(kept == Value::bulk("\"old\""));
    }
    // Else nothing was tried.
    assert!(unapplied > 0 && outdated > 0, "{unapplied} {outdated}");
    let daemon = Spawned::start(watched.database.url(), &redis.redis_url(), CACHES).await;
    let lost = "SELECT coalesce(string_agg(id::text, ' '), 'none') FROM courses c
                WHERE NOT EXISTS (SELECT FROM cachewarden.applied a WHERE 'courses:' || c.id = ANY (a.keys))";
    eventually(DEADLINE, async || match watched.ask(lost).await.as_str() {
        "none" => Ok(()),
        lost => Err(lost.to_owned()),
    })
    .await;
    let mut client = daemon.client().await;
    for id in 1..=ROUNDS {
        let key = format!("courses:{id}");
        let kept = raw.command(&["GET", &key]).await;
        assert_ne!(kept, Value::bulk("\"old\""), "{key}");
        assert_eq!(
            client.command(&["GET", &key]).await.text(),
            "\"new\"",
            "{key}"
        );
    }
}
