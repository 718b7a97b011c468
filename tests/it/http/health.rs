//! Whether the daemon lives, and whether clients should be sent to it.

use cachewarden::Warden;
use cachewarden::config::Config;
use cachewarden::rate_limit::{Ask, Asked};

use super::super::support::daemon::config;
use super::super::support::eventually::eventually;
use super::super::support::grenade::ask_with_a_panic;
use super::super::support::resp::Value as Resp;
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::super::support::world::raw;
use super::*;

/// Of the reasons why it is not ready, what each names.
async fn reasons(daemon: &InProcess) -> Vec<String> {
    let response = get(daemon, "/health/ready").await;
    let told = response.json();
    let reasons = told["reasons"].as_array().unwrap();
    assert_eq!(response.status, if reasons.is_empty() { 200 } else { 503 });
    let what = |reason: &Value| {
        assert!(!reason["detail"].as_str().unwrap().is_empty());
        reason["what"].as_str().unwrap().to_owned()
    };
    reasons.iter().map(what).collect()
}

/// Until it has this reason.
async fn until(daemon: &InProcess, reason: &str) {
    eventually(DEADLINE, async || {
        let seen = reasons(daemon).await;
        seen.contains(&reason.to_owned()).then_some(()).ok_or(seen)
    })
    .await;
}

async fn until_ready(daemon: &InProcess) {
    eventually(DEADLINE, async || {
        let seen = reasons(daemon).await;
        seen.is_empty().then_some(()).ok_or(seen)
    })
    .await;
}

#[tokio::test]
async fn a_daemon_that_was_started_lives_and_is_ready() {
    let world = world("").await;
    let live = get(&world.daemon, "/health/live").await;
    assert_eq!(
        (live.status, live.json()["status"].as_str()),
        (200, Some("live"))
    );
    assert_eq!(live.header("cache-control"), Some("no-store"));
    until_ready(&world.daemon).await;
    let head = send(&world.daemon, "HEAD", "/health/ready", &[], "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_redis_that_is_away_is_told_and_so_is_its_return() {
    let mut world = world("").await;
    until_ready(&world.daemon).await;
    world.redis.kill().unwrap();
    until(&world.daemon, "redis").await;
    assert_eq!(get(&world.daemon, "/health/live").await.status, 200);
    world.redis.start_again().unwrap();
    until_ready(&world.daemon).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_the_database_owes_is_told_until_it_is_there() {
    let watch = "[[invalidation.watch]]\ntable = \"courses\"\ninvalidate = [\"courses:{id}\"]\n";
    let sections = format!("{HTTP}{COURSE}{watch}");
    let (mut postgres, watched) = Watched::start_apart(COURSES, &sections).await;
    let trigger = |what: &str| format!("ALTER TABLE courses {what} TRIGGER cachewarden_update");
    watched.database.execute(&trigger("DISABLE")).await;
    postgres.freeze().unwrap();
    let redis = redis();
    let text = config(watched.database.url(), &redis.redis_url(), &sections);
    let daemon = InProcess::start(&text).await;
    until(&daemon, "queue").await;
    let read = get(&daemon, "/api/v1/keys/courses:1").await;
    assert_eq!(read.code(), "LOADFAIL");
    until(&daemon, "postgres").await;
    until(&daemon, "proof").await;
    postgres.thaw().unwrap();
    until(&daemon, "migrations").await;
    watched.database.execute(&trigger("ENABLE ALWAYS")).await;
    until_ready(&daemon).await;
    daemon.stop().await;
}

#[tokio::test]
async fn it_is_not_ready_before_the_caches_are_warm_that_are_to_be() {
    let warm = "[caches.course.warm]\nkeys = \"SELECT id FROM courses\"\non_start = true\n\
        ready_after_warm = true\nrate = 5\n";
    let sections = format!("{HTTP}{COURSE}{warm}");
    let watched = Watched::start(COURSES, &sections).await;
    let redis = redis();
    let text = config(watched.database.url(), &redis.redis_url(), &sections);
    let config = Config::from_toml(&text).unwrap();
    let warden = Warden::launch(config).await.unwrap();
    let daemon = InProcess { warden };
    assert_eq!(reasons(&daemon).await, ["warmup"]);
    daemon.warden.ready().await;
    until_ready(&daemon).await;
    let mut raw = raw(&redis).await;
    let cached = raw.command(&["EXISTS", "courses:1", "courses:10"]).await;
    assert_eq!(cached, Resp::Int(2));
    daemon.stop().await;
}

#[tokio::test]
async fn an_actor_that_dies_is_told_while_it_is_away() {
    let limit = "[limits.api]\nalgorithm = \"fixed_window\"\nlimit = 9\nwindow = \"1h\"\n";
    let world = world(limit).await;
    let limits = world.daemon.warden.rate_limit().clone();
    let mut fallen = Vec::new();
    // The pause before a restart is doubled each time.
    for _ in 0..7 {
        until_up(&world.daemon).await;
        let asked = || Asked {
            limits: "api".into(),
            subject: "me".into(),
            cost: 1,
            id: None,
            ask: Ask::Take,
        };
        fallen.push(ask_with_a_panic(|| Box::pin(limits.decide(vec![asked()]))));
        eventually(DEADLINE, async || {
            match world.daemon.warden.health().all_up() {
                true => Err("all of them up"),
                false => Ok(()),
            }
        })
        .await;
    }
    until(&world.daemon, "rate-limit").await;
    until_ready(&world.daemon).await;
    world.daemon.stop().await;
}

async fn until_up(daemon: &InProcess) {
    let health = daemon.warden.health();
    let mut actors = health.subscribe();
    let up = actors.wait_for(|_| health.all_up());
    timeout(DEADLINE, up)
        .await
        .expect("in time")
        .expect("a daemon");
}
