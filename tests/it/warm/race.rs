//! Rows that change while they are warmed: what stays in Redis is what the database says, or nothing.
//!
//! All loads pause between their snapshot and their fill. Meanwhile a writer changes row after row, and invalidates each after
//! its commit. The same with fills that do not look at their lease must end with outdated values, or nothing was raced.

use super::super::support::servers::{database, redis};
use super::*;
use cachewarden::Warden;
use cachewarden::cache::Scripts;
use cachewarden::config::Config;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

const KEYS: u64 = 60;
const RUNS: usize = 25;
const UNCHECKED: &str = include_str!("../scripts/end_leases_unchecked.lua");

const SECTIONS: &str = r#"
    # A machine that is busy is no Redis that is away.
    redis.timeout = "20s"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT version || left(pg_sleep(random() * 0.002)::text, 0) FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "30s"
    [caches.course.warm]
    keys = "SELECT id FROM courses"
    on_start = false
"#;

/// Values that were left, those of them that are outdated, and fills that were refused.
async fn race(scripts: Scripts) -> (u64, u64, u64) {
    let table = format!(
        "CREATE TABLE courses (id bigint PRIMARY KEY, version bigint);
         INSERT INTO courses SELECT n, 0 FROM generate_series(1, {KEYS}) n"
    );
    let watched = Watched::unmigrated_in(database().await, &table, SECTIONS).await;
    watched.migrate().await;
    let redis = redis();
    let text = config(watched.database.url(), &redis.redis_url(), SECTIONS);
    let warden = Warden::start_with_scripts(Config::from_toml(&text).unwrap(), scripts);
    let daemon = InProcess {
        warden: warden.await.unwrap(),
    };
    let mut raw = raw(&redis).await;
    let (mut outdated, mut cached) = (0, 0);
    for _ in 0..RUNS {
        let done = Arc::new(AtomicBool::new(false));
        let writer = {
            let (done, session) = (Arc::clone(&done), watched.database.client().await);
            let mut client = daemon.client().await;
            tokio::spawn(async move {
                // So that most of what is warmed stays, however slow that is.
                for _ in 0..KEYS / 2 {
                    if done.load(SeqCst) {
                        break;
                    }
                    let id = fastrand::u64(1..=KEYS);
                    let change =
                        format!("UPDATE courses SET version = version + 1 WHERE id = {id}");
                    session.batch_execute(&change).await.unwrap();
                    client.command(&["DEL", &format!("courses:{id}")]).await;
                }
            })
        };
        daemon.warden.warm(&[], true).await.unwrap();
        done.store(true, SeqCst);
        writer.await.unwrap();
        for id in 1..=KEYS {
            let truth = watched
                .ask(&format!("SELECT version FROM courses WHERE id = {id}"))
                .await;
            match raw.command(&["GET", &format!("courses:{id}")]).await {
                Value::Nil => {}
                value => {
                    cached += 1;
                    outdated += u64::from(value.text() != format!("\"{truth}\""));
                }
            }
        }
    }
    let refused = figure(
        &mut daemon.client().await,
        "cachewarden_fills_total",
        "refused",
    )
    .await;
    assert!(
        cached > RUNS as u64 * KEYS / 4,
        "hardly anything was cached"
    );
    daemon.stop().await;
    (cached, outdated, refused)
}

#[tokio::test]
async fn a_row_that_changes_while_it_is_warmed_is_not_left_outdated() {
    let (cached, outdated, refused) = race(Scripts::default()).await;
    println!("{cached} values left by {RUNS} runs: {outdated} outdated, {refused} fills refused");
    assert_eq!(outdated, 0);
    assert!(refused > 0, "nothing was raced");
}

#[tokio::test]
async fn the_race_leaves_outdated_values_when_fills_do_not_look_at_their_lease() {
    let (cached, outdated, _) = race(Scripts::with_end(UNCHECKED)).await;
    println!("unchecked, {cached} values left by {RUNS} runs: {outdated} outdated");
    assert!(outdated > 0);
}

/// A run of a hundred courses, of which the fifth takes its time; it is invalidated while it is loaded, once, or for as long as
/// the run goes on. What was loaded, skipped and failed; fills that were refused; values that are cached.
async fn invalidated_meanwhile(is_once: bool) -> ((u64, u64, u64), u64, usize) {
    let slow = "SELECT title || left(pg_sleep(CASE WHEN id = 5 THEN 0.5 ELSE 0 END)::text, 0) FROM courses WHERE id = :id";
    let sections = course(ON_COMMAND).replace("SELECT title FROM courses WHERE id = :id", slow);
    let world = World::start(COURSES, &sections).await;
    let daemon = world.daemon().await;
    let (mut client, mut raw) = (daemon.client().await, world.raw().await);
    let invalidating = async {
        eventually(DEADLINE, async || {
            match raw.command(&["EXISTS", "{courses:5}:lease"]).await {
                Value::Int(1) => Ok(()),
                seen => Err(seen),
            }
        })
        .await;
        loop {
            client.command(&["CACHE.INVALIDATE", "courses:5"]).await;
            if is_once {
                std::future::pending::<()>().await;
            }
        }
    };
    let counts = tokio::select! {
        counts = warm_one(&daemon, false) => counts,
        () = invalidating => unreachable!(),
    };
    let mut client = daemon.client().await;
    let refused = figure(&mut client, "cachewarden_fills_total", "refused").await;
    let cached = cached(&mut world.raw().await).await;
    daemon.stop().await;
    (counts, refused, cached)
}

#[tokio::test]
async fn a_key_that_is_invalidated_while_it_is_warmed_is_tried_once_more() {
    let told = invalidated_meanwhile(true).await;
    assert_eq!(told, ((100, 0, 0), 1, 100));
}

#[tokio::test]
async fn a_key_that_is_invalidated_again_and_again_is_not_called_loaded() {
    let told = invalidated_meanwhile(false).await;
    assert_eq!(told, ((99, 1, 0), 2, 99));
}
