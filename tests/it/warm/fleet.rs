//! Several daemons: a slot is run by one of them, and who dies is followed by another.

use super::super::support::daemon::Spawned;
use super::*;

/// Redis' clock, in seconds.
async fn now(raw: &mut Client) -> u64 {
    match raw.command(&["TIME"]).await {
        Value::Array(time) => time[0].text().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn of_four_daemons_one_runs_each_slot() {
    let world = World::start(COURSES, &course("on_start = false\nevery = \"1s\"")).await;
    let mut raw = world.raw().await;
    let began = now(&mut raw).await;
    let daemons = [
        world.daemon().await,
        world.daemon().await,
        world.daemon().await,
        world.daemon().await,
    ];
    let mut made = 0;
    eventually(3 * DEADLINE, async || {
        made = 0;
        for daemon in &daemons {
            made += runs(&mut daemon.client().await).await;
        }
        match made {
            made if made >= 6 => Ok(()),
            made => Err(made),
        }
    })
    .await;
    for daemon in &daemons {
        daemon.warden.stop().await;
    }
    // The second in which it began and the one in which it ended are slots, too.
    let slots = now(&mut raw).await - began + 1;
    println!("{made} runs in {slots} slots of 1 s, four daemons");
    assert!(made <= slots, "{made} runs of {slots} slots");
    let note = raw
        .command(&["HGET", "cachewarden:warmed:course", "slot"])
        .await;
    assert!(note.text().ends_with("000"), "{note:?}");
}

#[tokio::test]
async fn a_daemon_that_comes_late_does_not_run_what_is_over() {
    let sections = course("on_start = false\nevery = \"365d\"");
    let world = World::start(COURSES, &sections).await;
    let mut raw = world.raw().await;
    let daemon = world.daemon().await;
    // As if a year had passed since the last run: one slot was missed, and is made up for.
    let note = [
        "HSET",
        "cachewarden:warmed:course",
        "slot",
        "1",
        "fence",
        "1",
    ];
    daemon.stop().await;
    raw.command(&note).await;
    let first = world.daemon().await;
    until_cached(&mut raw, 100).await;
    let mut client = first.client().await;
    until_run_once(&mut client).await;
    raw.command(&["DEL", "courses:1"]).await;
    let second = world.daemon().await;
    // It has looked at the note before it answers.
    let mut client = second.client().await;
    client.command(&["CACHE.WARMING"]).await;
    second.stop().await;
    first.stop().await;
    assert_eq!(cached(&mut raw).await, 99, "nobody ran the slot again");
}

#[tokio::test]
async fn when_a_daemon_is_killed_in_a_run_another_makes_it() {
    let slow = course("").replace(
        "SELECT title FROM courses WHERE id = :id",
        "SELECT title || left(pg_sleep(0.02)::text, 0) FROM courses WHERE id = :id",
    );
    let many = "
        CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
        INSERT INTO courses SELECT n, 'course ' || n FROM generate_series(1, 400) n";
    let world = World::start(many, &slow).await;
    let mut raw = world.raw().await;
    let (url, redis) = (world.watched.database.url(), world.redis.redis_url());
    let first = Spawned::start(url, &redis, &world.sections).await;
    eventually(DEADLINE, async || match cached(&mut raw).await {
        0 => Err(0),
        _ => Ok(()),
    })
    .await;
    let second = Spawned::start(url, &redis, &world.sections).await;
    drop(first);
    assert!(
        cached(&mut raw).await < 400,
        "it was too quick to be killed"
    );
    until_cached(&mut raw, 400).await;
    let mut client = second.client().await;
    until_run_once(&mut client).await;
}

#[tokio::test]
async fn who_was_overtaken_does_not_take_back_what_was_noted_since() {
    let world = World::start(COURSES, &course(ON_COMMAND)).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    const NOTE: &str = "cachewarden:warmed:course";
    // More digits than those of the fences to come, and a lower first one.
    const LATER: &str = "1000000000000000000";
    raw.command(&["HSET", NOTE, "fence", LATER, "ended", "7"])
        .await;
    let mut noted = Vec::new();
    for _ in 0..3 {
        warm_one(&daemon, false).await;
        noted.push(raw.command(&["HMGET", NOTE, "fence", "ended"]).await);
    }
    let kept = Value::Array(vec![Value::bulk(LATER), Value::bulk("7")]);
    assert_eq!(noted, [kept.clone(), kept.clone(), kept]);
    // Where nobody has noted anything, it does.
    raw.command(&["DEL", NOTE]).await;
    warm_one(&daemon, false).await;
    let fence = raw.command(&["HGET", NOTE, "fence"]).await;
    assert!(fence.text().parse::<u64>().unwrap() > 3, "{fence:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_whose_lock_is_lost_is_broken_off() {
    let sections = course(&format!("{ON_COMMAND}\nrate = 5"));
    let world = World::start(COURSES, &sections).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    let warden = daemon.warden.clone();
    let run = tokio::spawn(async move { warden.warm(&[], false).await });
    eventually(DEADLINE, async || match cached(&mut raw).await {
        0 => Err(0),
        _ => Ok(()),
    })
    .await;
    let lock = "cachewarden:lock:cachewarden/warm/course";
    assert_eq!(raw.command(&["DEL", lock]).await, Value::Int(1));
    let outcomes = run.await.unwrap().unwrap();
    let outcome = &outcomes[0].1;
    let error = outcome.error.as_deref().unwrap_or_default();
    assert!(error.contains("was lost on the way"), "{outcome:?}");
    assert!(outcome.loaded < 100, "{outcome:?}");
    daemon.stop().await;
}
