//! What one run does with which key, and what makes it.

use super::super::support::world::{keys_with_life, look, statements};
use super::*;

#[tokio::test]
async fn all_keys_are_cached_when_the_daemon_is_ready_and_reads_find_them() {
    let world = World::start(COURSES, &course("ready_after_warm = true")).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    assert_eq!(cached(&mut raw).await, 100);
    let mut client = daemon.client().await;
    let before = statements(&mut client).await;
    let found = look(&mut client, "courses:7").await;
    assert_eq!(found, ("\"course 7\"".to_owned(), "hit".to_owned()));
    assert_eq!(statements(&mut client).await, before);
    // And whatever was written on the way expires.
    for (key, life) in keys_with_life(&mut raw).await {
        assert!(life > 0, "{key} has no expiry");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_fresh_is_left_alone_and_what_has_less_than_half_of_its_life_is_loaded() {
    let world = World::start(COURSES, &course(ON_COMMAND)).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    assert_eq!(warm_one(&daemon, false).await, (100, 0, 0));
    assert_eq!(warm_one(&daemon, false).await, (0, 100, 0));
    for (key, left_ms) in [("courses:1", "1799000"), ("courses:2", "1801000")] {
        raw.command(&["PEXPIRE", key, left_ms]).await;
    }
    world
        .watched
        .execute("UPDATE courses SET title = 'new'")
        .await;
    assert_eq!(warm_one(&daemon, false).await, (1, 99, 0));
    assert_eq!(raw.command(&["GET", "courses:1"]).await.text(), "\"new\"");
    assert_eq!(
        raw.command(&["GET", "courses:2"]).await.text(),
        "\"course 2\""
    );
    assert_eq!(warm_one(&daemon, true).await, (100, 0, 0));
    assert_eq!(raw.command(&["GET", "courses:2"]).await.text(), "\"new\"");
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_answered_though_its_life_is_over_is_not_fresh() {
    let sections = course(ON_COMMAND).replace(
        "ttl = \"1h\"",
        "ttl = \"1h\"\nstale_while_revalidate = \"2h\"",
    );
    let world = World::start(COURSES, &sections).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    assert_eq!(warm_one(&daemon, false).await, (100, 0, 0));
    // The one is old, the other has a little more than half of its life left.
    for (key, left_ms) in [("courses:1", "7199000"), ("courses:2", "9002000")] {
        raw.command(&["PEXPIRE", key, left_ms]).await;
    }
    assert_eq!(warm_one(&daemon, false).await, (1, 99, 0));
    daemon.stop().await;
}

#[tokio::test]
async fn a_key_that_is_being_loaded_is_left_to_whoever_loads_it() {
    let world = World::start(COURSES, &course(ON_COMMAND)).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    let lease = ["SET", "{courses:5}:lease", "another's", "PX", "600000"];
    raw.command(&lease).await;
    for force in [false, true] {
        let (loaded, skipped, failed) = warm_one(&daemon, force).await;
        assert!(skipped >= 1 && failed == 0, "{loaded} {skipped} {failed}");
        assert_eq!(raw.command(&["GET", "courses:5"]).await, Value::Nil);
        let kept = raw.command(&["GET", "{courses:5}:lease"]).await;
        assert_eq!(kept.text(), "another's");
    }
    assert_eq!(cached(&mut raw).await, 99);
    daemon.stop().await;
}

#[tokio::test]
async fn a_cache_without_parameters_has_one_key() {
    let sections = r#"
        [caches.count]
        key = "courses:count"
        query = "SELECT count(*) FROM courses"
        shape = "scalar"
        ttl = "1h"
        admit_after = 5
        warm = { ready_after_warm = true }
    "#;
    let world = World::start(COURSES, sections).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    // Whatever `admit_after` says: this one is declared to be warm.
    assert_eq!(raw.command(&["GET", "courses:count"]).await.text(), "100");
    daemon.stop().await;
}

#[tokio::test]
async fn a_row_that_is_gone_is_remembered_as_missing_or_its_value_removed() {
    for (missing_ttl, left) in [("30s", Value::bulk("null")), ("0s", Value::Nil)] {
        let warm = "keys = \"SELECT generate_series(1, 3)\"";
        let sections = course("").replace("keys = \"SELECT id FROM courses\"", warm);
        let sections = sections.replace(
            "ttl = \"1h\"",
            &format!("ttl = \"1h\"\nmissing_ttl = \"{missing_ttl}\""),
        );
        let sections = sections.replace(
            "[caches.course.warm]",
            "[caches.course.warm]\non_start = false",
        );
        let world = World::start(COURSES, &sections).await;
        let daemon = world.daemon().await;
        let mut raw = world.raw().await;
        assert_eq!(warm_one(&daemon, false).await, (3, 0, 0));
        world
            .watched
            .execute("DELETE FROM courses WHERE id = 2")
            .await;
        assert_eq!(warm_one(&daemon, true).await, (3, 0, 0));
        assert_eq!(raw.command(&["GET", "courses:2"]).await, left);
        daemon.stop().await;
    }
}

#[tokio::test]
async fn what_a_sweep_has_removed_is_warmed_again() {
    let world = World::start(COURSES, &course("after_invalidation = true")).await;
    let daemon = world.daemon().await;
    let mut raw = world.raw().await;
    until_cached(&mut raw, 100).await;
    let mut client = daemon.client().await;
    until_run_once(&mut client).await;
    let removed = client.command(&["CACHE.INVALIDATE", "courses:*"]).await;
    assert_eq!(removed, Value::Int(100));
    until_cached(&mut raw, 100).await;
    eventually(DEADLINE, async || match runs(&mut client).await {
        2 => Ok(()),
        seen => Err(seen),
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_sweep_has_only_those_warmed_that_ask_for_it_and_whose_keys_it_may_have_met() {
    let other = |name: &str, warm: &str| {
        let sections = course(warm).replace("caches.course", &format!("caches.{name}"));
        sections.replace("courses:{", &format!("{name}:{{"))
    };
    let asks = format!("{ON_COMMAND}\nafter_invalidation = true");
    // Slow, so that the others would have been long before it.
    let slow = course(&format!("{asks}\nrate = 50"));
    let sections = [slow, other("quiet", ON_COMMAND), other("apart", &asks)].concat();
    let world = World::start(COURSES, &sections).await;
    let daemon = world.daemon().await;
    let mut client = daemon.client().await;
    for pattern in ["quiet:*", "courses:*"] {
        client.command(&["CACHE.INVALIDATE", pattern]).await;
    }
    until_cached(&mut world.raw().await, 100).await;
    for name in ["quiet", "apart"] {
        let made = figure(&mut client, "cachewarden_warm_runs_total", name).await;
        assert_eq!(made, 0, "{name}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_schedule_makes_run_after_run() {
    let warm = "on_start = false\nschedule = \"* * * * * *\"\ntime_zone = \"Asia/Tokyo\"";
    let world = World::start(COURSES, &course(warm)).await;
    let daemon = world.daemon().await;
    let mut client = daemon.client().await;
    eventually(DEADLINE, async || match runs(&mut client).await {
        seen if seen >= 3 => Ok(()),
        seen => Err(seen),
    })
    .await;
    assert_eq!(cached(&mut world.raw().await).await, 100);
    daemon.stop().await;
}

#[tokio::test]
async fn large_values_are_warmed_a_few_at_a_time_and_too_large_ones_told() {
    let sql = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
        INSERT INTO courses SELECT n, repeat('x', 300000) FROM generate_series(1, 60) n;
        INSERT INTO courses VALUES (61, repeat('x', 1100000))";
    let world = World::start(sql, &course(ON_COMMAND)).await;
    let daemon = world.daemon().await;
    assert_eq!(warm_one(&daemon, false).await, (60, 0, 1));
    assert_eq!(cached(&mut world.raw().await).await, 60);
    daemon.stop().await;
}
