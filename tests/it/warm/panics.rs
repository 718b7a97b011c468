//! Faults of our own: in the actor, in a run, in a batch.

use super::super::support::grenade::ask_with_a_panic;
use super::*;
use actix_rt::Arbiter;
use cachewarden::cache::{Means, Scripts, Spaces, Warming};
use cachewarden::config::Config;
use cachewarden::repository::{HotKeys, Repository, WarmKeys};
use cachewarden::store::Store;
use cachewarden::supervisor::{ChildSpec, Health, RestartPolicy, Supervisor};
use cachewarden::telemetry::Metrics;
use cachewarden::warmup::{LookAtRuns, Warm, WarmupActor, WarmupHandle, WarmupParts};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Waker};
use tokio::runtime::Handle;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber};

/// A second cache, of which one key is none: that is told.
const LESSON: &str = r#"
    [caches.lesson]
    key = "lessons:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
    [caches.lesson.warm]
    keys = "SELECT id FROM courses UNION ALL SELECT NULL"
"#;

/// The warmup actor alone, on the test's own thread; locks are a daemon's, which warms nothing.
struct Stage {
    world: World,
    handle: WarmupHandle,
    supervisor: Supervisor,
    daemon: InProcess,
}

impl Stage {
    /// `known`: so many of the caches can be loaded at all; who loads another one panics.
    async fn set(warm: &str, known: usize) -> Self {
        let sections = format!("{}{LESSON}{warm}", course(warm));
        let world = World::start(COURSES, &sections).await;
        let config = Config::from_toml(&world.config()).unwrap();
        let url = world.watched.database.url();
        let locks = super::config(url, &world.redis.redis_url(), "[locks]\n");
        let daemon = InProcess::start(&locks).await;
        let handle = WarmupHandle::unbound();
        let parts = parts(&config, &daemon, known).await;
        let bound = handle.clone();
        let mut supervisor = Supervisor::new();
        supervisor.start(ChildSpec::new(
            "warmup",
            Arbiter::current(),
            RestartPolicy::default(),
            move || WarmupActor::new(parts.clone()),
            move |address| WarmupActor::bind(&bound, address),
        ));
        supervisor.all_up().await.unwrap();
        Self {
            world,
            handle,
            supervisor,
            daemon,
        }
    }

    async fn stop(mut self) {
        assert_eq!(self.supervisor.stop(DEADLINE).await, [""; 0]);
        self.daemon.stop().await;
    }
}

async fn parts(config: &Config, daemon: &InProcess, known: usize) -> WarmupParts {
    let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
    actix_rt::spawn(store.clone().keep());
    eventually(DEADLINE, async || match store.is_up() {
        true => Ok(()),
        false => Err("away"),
    })
    .await;
    let (postgres, io) = (config.postgres.as_ref().unwrap(), Handle::current());
    let repository = Repository::new(postgres, &config.caches[..known], io.clone()).unwrap();
    let metrics = Metrics::new();
    let means = Means::new(
        Spaces::of(&config.caches, &config.namespaces),
        store.clone(),
        Arc::new(Scripts::default()),
        Some(repository.clone()),
        io.clone(),
        metrics.clone(),
    );
    WarmupParts::new(
        config,
        store,
        daemon.warden.locks().clone(),
        Warming::new(means, repository.clone()),
        (
            WarmKeys::new(postgres, &config.caches, io.clone()).unwrap(),
            HotKeys::new(postgres, io).unwrap(),
        ),
        repository,
        metrics,
    )
}

/// How often the actor was restarted, and why last.
fn restarts(health: &Health) -> (usize, String) {
    let actors = health.snapshot();
    let warmup = actors.iter().find(|actor| actor.name == "warmup").unwrap();
    let restarts = usize::try_from(warmup.restarts).unwrap();
    (restarts, warmup.last_exit.clone().unwrap_or_default())
}

async fn until_restarted(health: &Health) -> String {
    eventually(DEADLINE, async || match restarts(health) {
        (1, exit) if health.all_up() => Ok(exit),
        seen => Err(seen),
    })
    .await
}

/// Panics once, when it is told that a key cannot be warmed: in the middle of a run, by whoever makes it.
struct PanicsOnce(AtomicBool);

impl Subscriber for PanicsOnce {
    fn event(&self, event: &Event<'_>) {
        let mut text = String::new();
        event.record(
            &mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
                text += &format!("{field} {value:?} ");
            },
        );
        if text.contains("`lesson` cannot be warmed") && !self.0.swap(true, Ordering::Relaxed) {
            panic!("a run's panic, planned");
        }
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test]
async fn an_actor_that_panics_in_a_run_is_replaced_and_the_run_is_made_to_its_end() {
    // So that the batch behind the first is under way, and has its leases, when the actor goes.
    let query = "SELECT title || left(pg_sleep(0.02)::text, 0) FROM courses";
    let slow = course("").replace("SELECT title FROM courses", query);
    let world = World::start(COURSES, &slow).await;
    let daemon = world.daemon().await;
    let (mut client, mut raw) = (daemon.client().await, world.raw().await);
    eventually(DEADLINE, async || match cached(&mut raw).await {
        0 => Err(0),
        _ => Ok(()),
    })
    .await;
    let mut asked = Box::pin(daemon.warden.warm(&[], false));
    let polled = asked.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending(), "{polled:?}");
    let asking = ask_with_a_panic(|| Box::pin(daemon.warden.warming()));
    assert!(cached(&mut raw).await < 100, "it was too quick");
    let health = daemon.warden.health();
    let exit = until_restarted(&health).await;
    assert!(exit.contains("takes its actor with it"), "{exit}");
    drop(asking);
    // By whom depends on what of the actor goes first.
    match asked.await {
        Ok(told) => {
            let error = told[0].1.error.clone().unwrap_or_default();
            assert!(error.contains("broken off"), "{told:?}");
        }
        Err(error) => assert!(error.to_string().contains("warmup"), "{error}"),
    }
    until_cached(&mut raw, 100).await;
    until_run_once(&mut client).await;
    daemon.stop().await;
}

#[actix_rt::test]
async fn a_run_that_panics_takes_its_actor_along_and_the_next_one_makes_all_of_it() {
    // With one subscriber alone, a line that another test's thread comes by first would be told to nobody for ever.
    let _another = Dispatch::new(PanicsOnce(AtomicBool::new(true)));
    let panics = PanicsOnce(AtomicBool::new(false));
    let _planned = tracing::subscriber::set_default(panics);
    let stage = Stage::set("", 2).await;
    let exit = until_restarted(&stage.supervisor.health()).await;
    assert_eq!(exit, "panicked: a run's panic, planned");
    let mut raw = stage.world.raw().await;
    // Long before its lock would have expired.
    let lesson = eventually(DEADLINE / 2, async || {
        let reports = stage.handle.look.ask(LookAtRuns).await;
        let reports = reports.map_err(|error| error.to_string())?;
        match reports[1].last.clone() {
            Some((outcome, ..)) => Ok(outcome),
            None => Err(format!("{reports:?}")),
        }
    })
    .await;
    assert_eq!((lesson.error, lesson.failed), (None, 1));
    assert_eq!(lesson.loaded + lesson.skipped, 100);
    until_cached(&mut raw, 100).await;
    stage.stop().await;
}

#[actix_rt::test]
async fn a_batch_that_panics_is_counted_and_told_and_nothing_else_is_lost() {
    let stage = Stage::set(ON_COMMAND, 1).await;
    let warm = async |caches: &[&str]| {
        let caches = caches.iter().map(|name| (*name).to_owned()).collect();
        let force = true;
        let outcomes = stage.handle.warm.ask(Warm { caches, force }).await;
        outcomes.unwrap().unwrap()
    };
    let outcomes = warm(&[]).await;
    let (course, lesson) = (&outcomes[0].1, &outcomes[1].1);
    assert_eq!((course.loaded, course.failed), (100, 0), "{course:?}");
    assert_eq!((lesson.loaded, lesson.failed), (0, 101), "{lesson:?}");
    assert_eq!(warm(&["course"]).await[0].1.loaded, 100);
    assert_eq!(restarts(&stage.supervisor.health()), (0, String::new()));
    stage.stop().await;
}
