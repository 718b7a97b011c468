//! Changes that no trigger tells of: watched hits do not pass for fresh, and what was missed is made good for.

use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, Context, Handler};
use cachewarden::cache::Freshness;
use cachewarden::cli::demo::servers::{Postgres, Redis};
use cachewarden::config::Config;
use cachewarden::invalidation::{
    Inspector, InvalidateTargets, InvalidationError, InvalidationHandle,
};
use cachewarden::keyspace::Pattern;
use cachewarden::repository::Installer;
use cachewarden::telemetry::Metrics;
use parking_lot::Mutex;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::Client;
use super::support::servers::redis;
use super::support::watched::{Watched, queued};
use super::support::world::{look, until};

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 10) n";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}", "courses:0"]
"#;

const DISABLE: &str = "ALTER TABLE courses DISABLE TRIGGER cachewarden_update";
const ENABLE: &str = "ALTER TABLE courses ENABLE ALWAYS TRIGGER cachewarden_update";

struct Scene {
    postgres: Postgres,
    watched: Watched,
    redis: Redis,
}

impl Scene {
    async fn open() -> Self {
        let (postgres, watched) = Watched::start_apart(COURSES, CACHES).await;
        Self {
            postgres,
            watched,
            redis: redis(),
        }
    }

    async fn daemon(&self) -> InProcess {
        let redis = self.redis.redis_url();
        InProcess::start(&config(self.watched.database.url(), &redis, CACHES)).await
    }

    async fn update(&self, id: u32, title: &str) {
        let update = format!("UPDATE courses SET title = '{title}' WHERE id = {id}");
        self.watched.execute(&update).await;
    }
}

async fn until_seen(client: &mut Client, key: &str, expected: (&str, &str)) {
    eventually(DEADLINE, async || match look(client, key).await {
        (value, state) if (value.as_str(), state.as_str()) == expected => Ok(()),
        seen => Err(seen),
    })
    .await;
}

/// Nobody's business, and it drops what is queued.
const SWALLOW: &str =
    "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER swallow BEFORE INSERT ON cachewarden.outbox FOR EACH ROW EXECUTE FUNCTION swallow()";
const SPIT: &str = "DROP TRIGGER swallow ON cachewarden.outbox";

#[tokio::test]
async fn a_start_while_postgres_is_frozen_asks_later_whether_the_triggers_are_there() {
    hits_are_stale_from(DISABLE, ENABLE).await;
}

#[tokio::test]
async fn a_trigger_of_somebody_that_may_drop_what_is_queued_is_found_out() {
    hits_are_stale_from(SWALLOW, SPIT).await;
}

/// From the one statement on to the other changes go untold, and who can know says so.
async fn hits_are_stale_from(mischief: &str, mend: &str) {
    let mut scene = Scene::open().await;
    scene.watched.execute(mischief).await;
    scene.postgres.freeze().unwrap();
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    let (unknown, _) = look(&mut client, "courses:1").await;
    assert!(unknown.starts_with("LOADFAIL"), "{unknown}");
    scene.postgres.thaw().unwrap();
    // The queue is empty, and can be looked at, but that proves nothing.
    until_seen(&mut client, "courses:1", ("\"old\"", "stale")).await;
    until(&mut client, "cachewarden_watch_flaws", 1).await;
    scene.update(1, "new").await;
    until_seen(&mut client, "courses:1", ("\"old\"", "stale")).await;

    // Mended by hand, so nothing is queued: what was missed is made good for before anything passes for fresh again.
    scene.watched.execute(mend).await;
    eventually(DEADLINE, async || {
        match look(&mut client, "courses:1").await {
            (value, state) if state == "stale" => Err(value),
            (value, state) => {
                assert_eq!(value, "\"new\"", "{state}");
                Ok(())
            }
        }
    })
    .await;
    until(&mut client, "cachewarden_watch_flaws", 0).await;
    scene.update(1, "newer").await;
    until_seen(&mut client, "courses:1", ("\"newer\"", "hit")).await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_changed_before_a_trigger_was_there_is_invalidated_when_it_is_installed() {
    let scene = Scene::open().await;
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    until_seen(&mut client, "courses:1", ("\"old\"", "hit")).await;
    daemon.stop().await;
    scene
        .watched
        .execute("DROP TRIGGER cachewarden_update ON courses")
        .await;
    scene.update(1, "new").await;
    assert_eq!(scene.watched.run(&["migrate"]).await.0, Some(0));
    assert_eq!(
        scene.watched.take().await,
        [queued(&["courses:0"], &["courses:*"])]
    );
    // Control: without that, a daemon has no way to know.
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    assert_eq!(look(&mut client, "courses:1").await.0, "\"old\"");
    daemon.stop().await;

    scene
        .watched
        .execute("DROP TRIGGER cachewarden_update ON courses")
        .await;
    assert_eq!(scene.watched.run(&["migrate"]).await.0, Some(0));
    let daemon = scene.daemon().await;
    let mut client = daemon.client().await;
    assert_eq!(look(&mut client, "courses:1").await.0, "\"new\"");
    // Once: it installs nothing the second time.
    assert_eq!(scene.watched.run(&["migrate"]).await.0, Some(0));
    assert_eq!(scene.watched.take().await, []);
    daemon.stop().await;
}

/// Remembers what was asked of it.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<Pattern>>>);

impl Actor for Asked {
    type Context = Context<Self>;
}

impl Handler<InvalidateTargets> for Asked {
    type Result = Result<u64, InvalidationError>;

    fn handle(&mut self, ask: InvalidateTargets, _ctx: &mut Context<Self>) -> Self::Result {
        self.0.lock().extend(ask.targets.patterns);
        Ok(0)
    }
}

#[actix_rt::test]
async fn what_changed_untold_is_made_good_for_by_who_looks_next_when_the_one_that_found_out_is_gone()
 {
    let scene = Scene::open().await;
    let text = config(
        scene.watched.database.url(),
        &scene.redis.redis_url(),
        CACHES,
    );
    let settings = Config::from_toml(&text).unwrap();
    let postgres = settings.postgres.as_ref().unwrap();
    let installer = Installer::new(
        postgres,
        &settings.invalidation,
        tokio::runtime::Handle::current(),
    );
    let everything = [Pattern::parse(b"courses:*").unwrap()];
    let asked = Asked::default();
    let inspector = Inspector {
        installer: Arc::new(installer.unwrap()),
        invalidation: InvalidationHandle::unbound(),
        watched: everything.to_vec(),
        freshness: Freshness::watched(),
        metrics: Metrics::new(),
        has_missed: Arc::default(),
        every: Duration::from_millis(10),
    };
    let handle = &inspector.invalidation.invalidate;
    handle.bind(asked.clone().start().recipient());
    // As the supervisor starts it again.
    let start = || actix_rt::spawn(inspector.clone().run());
    let until_flaws = async |expected| {
        eventually(DEADLINE, async || {
            let flaws = inspector.metrics.watch_flaws.get();
            (flaws == expected).then_some(()).ok_or(flaws)
        })
        .await;
    };

    scene.watched.execute(DISABLE).await;
    let first = start();
    until_flaws(1).await;
    first.abort();
    assert!(first.await.is_err(), "it is gone");
    scene.watched.execute(ENABLE).await;
    let second = start();
    until_flaws(0).await;
    eventually(DEADLINE, async || {
        let asked = asked.0.lock().clone();
        (asked == everything).then_some(()).ok_or(asked)
    })
    .await;
    second.abort();

    // And once: the next one has nothing to make good for.
    assert!(second.await.is_err());
    inspector.metrics.watch_flaws.set(-1);
    let third = start();
    until_flaws(0).await;
    third.abort();
    assert_eq!(*asked.0.lock(), everything);
}
