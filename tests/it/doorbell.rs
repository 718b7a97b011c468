//! `notify = true`: the database rings when something is queued, and the queue is looked at then. Nothing depends on that it is
//! heard.
//!
//! `poll = "1m"` is longer than any of these tests: what is applied meanwhile was rung for.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Context, Handler};
use cachewarden::cache::Told;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::invalidation::{
    Applying, Bell, Doorbell, Drain, InvalidateTargets, InvalidationError, InvalidationHandle,
};
use cachewarden::repository::Outbox;
use cachewarden::store::Store;
use cachewarden::telemetry::Metrics;
use rustix::process::Signal;
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, NoTls};

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::{redis, shared_postgres};
use super::support::swallower::Swallower;
use super::support::watched::Watched;
use super::support::world::figure;

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 500) n";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"
    depends_on = { table = "courses", on = { id = "id" } }

    [invalidation]
    notify = true
"#;
const SELDOM: &str = "poll = \"1m\"\n";

/// The session that listens in the database of the one that asks.
const LISTENER: &str = "SELECT coalesce(max(pid), 0) FROM pg_stat_activity
    WHERE datname = current_database() AND query LIKE 'LISTEN%'";

async fn shop() -> Watched {
    Watched::start(COURSES, CACHES).await
}

/// A doorbell without a daemon, and a drain that looks only when it rings.
struct Alone {
    metrics: Metrics,
    tasks: [JoinHandle<()>; 2],
    applied: Arc<AtomicUsize>,
}

/// Counts the keys that it is to invalidate.
struct Counting(Arc<AtomicUsize>);

impl Actor for Counting {
    type Context = Context<Self>;
}

impl Handler<InvalidateTargets> for Counting {
    type Result = Result<u64, InvalidationError>;

    fn handle(&mut self, ask: InvalidateTargets, _ctx: &mut Context<Self>) -> Self::Result {
        self.0
            .fetch_add(ask.targets.names().len(), Ordering::SeqCst);
        Ok(0)
    }
}

impl Alone {
    /// Heard already.
    async fn heard(url: &str, every: Duration) -> Self {
        let alone = Self::start(url, every);
        alone.until_up(1).await;
        alone
    }

    fn start(url: &str, every: Duration) -> Self {
        let redis = redis();
        let settings = Config::from_toml(&config(url, &redis.redis_url(), CACHES)).unwrap();
        let store = Store::siblings(&settings.redis, 1).unwrap().remove(0);
        let kept = store.clone();
        let keeping = async move {
            let _redis = redis;
            kept.keep().await;
        };
        let postgres = settings.postgres.as_ref().unwrap();
        let outbox = Outbox::new(postgres, &settings.invalidation, Handle::current()).unwrap();
        let invalidation = InvalidationHandle::unbound();
        let applied = Arc::new(AtomicUsize::new(0));
        let counting = Counting(Arc::clone(&applied)).start();
        invalidation.invalidate.bind(counting.recipient());
        let (metrics, bell) = (Metrics::new(), Bell::default());
        let drain = Drain {
            outbox: outbox.clone(),
            invalidation,
            scope: Arc::new(settings.scope()),
            store,
            metrics: metrics.clone(),
            applying: Applying::default(),
            bell: bell.clone(),
            told: Told::default(),
            poll: 100 * DEADLINE,
            held: Drain::HELD,
            large: Drain::LARGE,
        };
        let doorbell = Doorbell {
            outbox,
            bell,
            metrics: metrics.clone(),
            every,
        };
        let draining = async move {
            tokio::join!(drain.run(), keeping);
        };
        Self {
            metrics,
            tasks: [actix_rt::spawn(draining), actix_rt::spawn(doorbell.run())],
            applied,
        }
    }

    async fn until_up(&self, wanted: i64) {
        eventually(DEADLINE, async || {
            let up = self.metrics.doorbell_up.get();
            (up == wanted).then_some(()).ok_or(up)
        })
        .await;
    }

    async fn until_applied(&self, keys: usize) {
        eventually(DEADLINE, async || {
            let applied = self.applied.load(Ordering::SeqCst);
            (applied >= keys).then_some(()).ok_or(applied)
        })
        .await;
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// Who listens beside the daemon, and hears what is told.
struct Ear {
    _client: tokio_postgres::Client,
    heard: Receiver<String>,
}

impl Ear {
    async fn at(shop: &Watched) -> Self {
        let connected = tokio_postgres::connect(shop.database.url(), NoTls).await;
        let (client, mut connection) = connected.unwrap();
        let (tell, heard) = channel(100);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    let payload = notification.payload().to_owned();
                    let _nobody_hears = tell.send(payload).await;
                }
            }
        });
        client.batch_execute("LISTEN cachewarden").await.unwrap();
        Self {
            _client: client,
            heard,
        }
    }

    /// What a statement has told, in the order of commits.
    async fn hears(&mut self, shop: &Watched, sql: &str) -> Vec<String> {
        shop.execute(sql).await;
        shop.execute("NOTIFY cachewarden, 'last'").await;
        let mut heard = Vec::new();
        loop {
            match timeout(DEADLINE, self.heard.recv()).await.unwrap() {
                Some(last) if last == "last" => return heard,
                payload => heard.push(payload.unwrap()),
            }
        }
    }
}

#[tokio::test]
async fn it_rings_once_for_each_commit_that_has_queued_something() {
    let shop = shop().await;
    let mut ear = Ear::at(&shop).await;
    let change = "UPDATE courses SET title = 'new' WHERE id = 1;";
    let replicated =
        format!("SET session_replication_role = replica; {change} RESET session_replication_role");
    for (sql, rings) in [
        (change.to_owned(), 1),
        (format!("BEGIN; {} COMMIT", change.repeat(10)), 1),
        ("SELECT cachewarden.invalidate('courses:2')".to_owned(), 1),
        // As who applies what another server tells, or restores.
        (replicated, 1),
        (format!("BEGIN; {change} ROLLBACK"), 0),
        (
            "UPDATE courses SET title = 'new' WHERE id = -1".to_owned(),
            0,
        ),
        ("SELECT cachewarden.invalidate(VARIADIC '{}')".to_owned(), 0),
        ("DELETE FROM cachewarden.outbox".to_owned(), 0),
    ] {
        let heard = ear.hears(&shop, &sql).await;
        assert_eq!(heard, vec![String::new(); rings], "{sql}");
    }
}

#[actix_rt::test]
async fn it_wakes_who_empties_the_queue() {
    let shop = shop().await;
    // Queued before anybody listens.
    shop.execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    let alone = Alone::heard(shop.database.url(), Doorbell::EVERY).await;
    alone.until_applied(1).await;
    for id in 2..10 {
        let change = format!("UPDATE courses SET title = 'new' WHERE id = {id}");
        shop.execute(&change).await;
        alone.until_applied(id).await;
    }
}

#[actix_rt::test]
async fn whatever_is_told_with_a_ring_does_no_harm() {
    let shop = shop().await;
    let alone = Alone::heard(shop.database.url(), Doorbell::EVERY).await;
    for payload in [
        "''",
        "'0'",
        "'18446744073709551616'",
        "'{\"keys\": [\"courses:*\"]}'",
        "repeat('x', 7999)",
        "repeat('9', 7999)",
    ] {
        shop.execute(&format!("SELECT pg_notify('cachewarden', {payload})"))
            .await;
    }
    // Each one is told by itself, for they differ.
    let many = "SELECT count(pg_notify('cachewarden', repeat(n::text, 1000))) FROM generate_series(1000, 3000) n";
    shop.execute(many).await;
    shop.execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    alone.until_applied(1).await;
    let rings = &alone.metrics.doorbell_rings;
    eventually(DEADLINE, async || {
        (rings.get() > 2000).then_some(()).ok_or(rings.get())
    })
    .await;
    assert_eq!(alone.metrics.doorbell_up.get(), 1);
    assert_eq!(alone.applied.load(Ordering::SeqCst), 1);
}

#[actix_rt::test]
async fn it_is_believed_no_more_once_it_is_swallowed_and_again_once_it_is_not() {
    let shop = shop().await;
    let swallower = Swallower::before(shared_postgres().port(), false).await;
    let url = swallower.url(shop.database.name());
    let alone = Alone::heard(&url, Duration::from_millis(50)).await;
    swallower.swallow(true);
    alone.until_up(0).await;
    swallower.swallow(false);
    alone.until_up(1).await;
}

#[actix_rt::test]
async fn it_tells_how_full_somebody_who_never_reads_has_made_the_servers_queue() {
    let shop = shop().await;
    let stuck = shop.database.client().await;
    stuck.batch_execute("LISTEN anything").await.unwrap();
    stuck.batch_execute("BEGIN").await.unwrap();
    let many = "SELECT count(pg_notify('anything', repeat('x', 7000) || n)) FROM generate_series(1, 100) n";
    shop.execute(many).await;
    let alone = Alone::heard(shop.database.url(), Doorbell::EVERY).await;
    let taken = alone.metrics.doorbell_queue.get();
    assert!(taken > 0.0 && taken < 0.1, "{taken}");
}

/// The daemon on this database, with these lines more in `[invalidation]`.
async fn daemon(shop: &Watched, redis: &Redis, more: &str) -> InProcess {
    let caches = format!("{CACHES}{more}");
    InProcess::start(&config(shop.database.url(), &redis.redis_url(), &caches)).await
}

async fn until_up(client: &mut Client, wanted: u64) {
    eventually(DEADLINE, async || {
        let up = figure(client, "cachewarden_doorbell_up", "").await;
        (up == wanted).then_some(()).ok_or(up)
    })
    .await;
}

/// Changes a row, and waits until it is read as it is now.
async fn change(shop: &Watched, client: &mut Client, title: &str) {
    client.command(&["GET", "courses:1"]).await;
    let change = format!("UPDATE courses SET title = '{title}' WHERE id = 1");
    shop.execute(&change).await;
    eventually(DEADLINE, async || {
        let read = client.command(&["GET", "courses:1"]).await;
        let is_new = read == Value::bulk(format!("\"{title}\""));
        is_new.then_some(()).ok_or(read)
    })
    .await;
}

#[tokio::test]
async fn when_its_connection_is_cut_it_is_heard_again_and_nothing_is_missed() {
    let (shop, redis) = (shop().await, redis());
    let daemon = daemon(&shop, &redis, SELDOM).await;
    let mut client = daemon.client().await;
    until_up(&mut client, 1).await;
    change(&shop, &mut client, "rung for").await;
    let first = shop.ask(LISTENER).await;
    assert_ne!(first, "0");
    shop.execute(&format!("SELECT pg_terminate_backend({first})"))
        .await;
    change(&shop, &mut client, "committed meanwhile").await;
    eventually(DEADLINE, async || {
        let now = shop.ask(LISTENER).await;
        (now != "0" && now != first).then_some(()).ok_or(now)
    })
    .await;
    until_up(&mut client, 1).await;
    change(&shop, &mut client, "rung for again").await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_nobody_rang_for_is_found_by_who_proves_freshness() {
    let (shop, redis) = (shop().await, redis());
    let daemon = daemon(&shop, &redis, SELDOM).await;
    let mut client = daemon.client().await;
    until_up(&mut client, 1).await;
    shop.execute("DROP TRIGGER cachewarden_ring ON cachewarden.outbox")
        .await;
    change(&shop, &mut client, "not rung for").await;
    daemon.stop().await;
}

#[tokio::test]
async fn behind_who_swallows_it_the_queue_is_polled_and_the_log_says_so() {
    let (shop, redis) = (shop().await, redis());
    let swallower = Swallower::before(shared_postgres().port(), true).await;
    let url = swallower.url(shop.database.name());
    let mut daemon = Spawned::start(&url, &redis.redis_url(), CACHES).await;
    let mut client = daemon.client().await;
    let told = "the doorbell is not heard; the queue is polled";
    eventually(DEADLINE, async || {
        let said = daemon.stderr();
        said.contains(told).then_some(()).ok_or(said)
    })
    .await;
    until_up(&mut client, 0).await;
    change(&shop, &mut client, "polled").await;
    swallower.swallow(false);
    until_up(&mut client, 1).await;
    let said = daemon.stderr();
    assert_eq!(said.matches(told).count(), 1, "{said}");
    assert!(
        said.contains("a pooler in transaction mode swallows it"),
        "{said}"
    );
    daemon.signal(Signal::TERM);
    assert!(daemon.exit().await.success());
}
