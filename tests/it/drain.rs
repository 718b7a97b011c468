//! A committed change is gone from the cache, whoever dies or is away in between; what was rolled back is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Context, Handler, ResponseFuture};
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::invalidation::{
    Applying, Bell, Drain, InvalidateTargets, InvalidationError, InvalidationHandle,
};
use cachewarden::repository::Outbox;
use cachewarden::store::Store;
use cachewarden::telemetry::Metrics;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{figure, raw};

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 500) n";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [caches.list]
    key = "courses:list:{title:text}"
    query = "SELECT count(*) FROM courses WHERE title = :title"
    shape = "scalar"
    ttl = "1h"

    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}", "courses:list:*"]
"#;

/// A watched table and a Redis; daemons come later.
struct Shop {
    watched: Watched,
    redis: Redis,
}

impl Shop {
    async fn open() -> Self {
        Self {
            watched: Watched::start(COURSES, CACHES).await,
            redis: redis(),
        }
    }

    async fn daemon(&self) -> InProcess {
        let (postgres, redis) = (self.watched.database.url(), self.redis.redis_url());
        InProcess::start(&config(postgres, &redis, CACHES)).await
    }

    async fn until_empty(&self) {
        eventually(DEADLINE, async || {
            let left = self.watched.ask("SELECT count(*) FROM cachewarden.outbox");
            match left.await.as_str() {
                "0" => Ok(()),
                left => Err(left.to_owned()),
            }
        })
        .await;
    }

    /// What Redis holds, past every daemon.
    async fn cached(&self, key: &str) -> Value {
        raw(&self.redis).await.command(&["GET", key]).await
    }
}

async fn get(client: &mut Client, key: &str) -> String {
    client.command(&["GET", key]).await.text().to_owned()
}

#[tokio::test]
async fn what_was_committed_is_gone_from_the_cache_and_read_anew() {
    let shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    for (change, title, list) in [
        (
            "UPDATE courses SET title = 'new' WHERE id = 1",
            "\"new\"",
            "499",
        ),
        (
            "UPDATE courses SET title = 'newer' WHERE id < 10",
            "\"newer\"",
            "491",
        ),
        ("TRUNCATE courses", "", "0"),
    ] {
        get(&mut client, "courses:1").await;
        get(&mut client, "courses:list:old").await;
        shop.watched.execute(change).await;
        shop.until_empty().await;
        assert_eq!(
            shop.cached("courses:list:old").await,
            Value::Nil,
            "{change}"
        );
        assert_eq!(shop.cached("courses:1").await, Value::Nil, "{change}");
        let course = client.command(&["GET", "courses:1"]).await;
        match title {
            "" => assert_eq!(course, Value::Nil),
            title => assert_eq!(course.text(), title),
        }
        assert_eq!(get(&mut client, "courses:list:old").await, list);
    }
    assert!(figure(&mut client, "cachewarden_invalidations_total", "watch").await > 10);
    daemon.stop().await;
}

#[tokio::test]
async fn what_was_rolled_back_stays_cached() {
    let shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    get(&mut client, "courses:1").await;
    get(&mut client, "courses:2").await;
    shop.watched
        .execute("BEGIN; UPDATE courses SET title = 'new' WHERE id = 1; ROLLBACK")
        .await;
    // What comes later is applied later: by then the other would have been.
    shop.watched
        .execute("SELECT cachewarden.invalidate('courses:2')")
        .await;
    shop.until_empty().await;
    assert_eq!(shop.cached("courses:2").await, Value::Nil);
    assert_eq!(shop.cached("courses:1").await, Value::bulk("\"old\""));
    daemon.stop().await;
}

#[tokio::test]
async fn a_program_invalidates_what_it_names_in_its_own_transaction() {
    let shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    for key in ["courses:42", "courses:43", "courses:list:old"] {
        get(&mut client, key).await;
    }
    shop.watched
        .execute("SELECT cachewarden.invalidate('courses:42', 'courses:list:*')")
        .await;
    shop.until_empty().await;
    assert_eq!(shop.cached("courses:42").await, Value::Nil);
    assert_eq!(shop.cached("courses:list:old").await, Value::Nil);
    assert_eq!(shop.cached("courses:43").await, Value::bulk("\"old\""));
    daemon.stop().await;
}

#[tokio::test]
async fn what_names_nothing_is_put_aside_and_all_that_it_could_mean_is_gone() {
    let shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    get(&mut client, "courses:7").await;
    shop.watched
        .execute("SELECT cachewarden.invalidate('courses:007'), cachewarden.invalidate('nobody:1')")
        .await;
    shop.until_empty().await;
    assert_eq!(shop.cached("courses:7").await, Value::Nil);
    let dead = shop.watched.ask("SELECT count(*) FROM cachewarden.dead");
    assert_eq!(dead.await, "2");
    // It is looked at with the backlog, once a second.
    eventually(DEADLINE, async || {
        match figure(&mut client, "cachewarden_dead_rows", "").await {
            2 => Ok(()),
            rows => Err(rows),
        }
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn two_daemons_lose_no_change_and_leave_none() {
    let shop = Shop::open().await;
    let (one, two) = (shop.daemon().await, shop.daemon().await);
    let mut clients = [one.client().await, two.client().await];
    for id in 1..=500 {
        get(&mut clients[id % 2], &format!("courses:{id}")).await;
    }
    for id in 1..=500 {
        let update = format!("UPDATE courses SET title = 'new' WHERE id = {id}");
        shop.watched.execute(&update).await;
    }
    shop.until_empty().await;
    for id in 1..=500 {
        let read = get(&mut clients[id % 2], &format!("courses:{id}")).await;
        assert_eq!(read, "\"new\"", "course {id}");
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn what_a_daemon_had_claimed_when_it_was_killed_is_applied_by_the_next() {
    let shop = Shop::open().await;
    let (postgres, redis) = (shop.watched.database.url(), shop.redis.redis_url());
    let doomed = Spawned::start(postgres, &redis, CACHES).await;
    get(&mut doomed.client().await, "courses:1").await;
    // A Redis that does not answer holds the claim open. It hangs for longer than the daemon has to live.
    let mut pause = raw(&shop.redis).await;
    pause.command(&["CLIENT", "PAUSE", "1500", "ALL"]).await;
    shop.watched
        .execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    let claimed = "SELECT count(*) FROM cachewarden.outbox WHERE id NOT IN
                   (SELECT id FROM cachewarden.outbox FOR UPDATE SKIP LOCKED)";
    eventually(DEADLINE, async || {
        match shop.watched.ask(claimed).await.as_str() {
            "1" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;
    drop(doomed);
    let rows = "SELECT count(*) FROM cachewarden.outbox";
    assert_eq!(shop.watched.ask(rows).await, "1");
    let daemon = shop.daemon().await;
    shop.until_empty().await;
    assert_eq!(
        get(&mut daemon.client().await, "courses:1").await,
        "\"new\""
    );
    daemon.stop().await;
}

#[tokio::test]
async fn changes_wait_while_redis_is_away_and_are_applied_when_it_is_back() {
    let mut shop = Shop::open().await;
    let daemon = shop.daemon().await;
    let mut client = daemon.client().await;
    get(&mut client, "courses:1").await;
    shop.redis.kill().unwrap();
    shop.watched
        .execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    // Until the daemon has seen it; the row is still there, claimed or not.
    eventually(DEADLINE, async || {
        match figure(&mut client, "cachewarden_redis_up", "").await {
            0 => Ok(()),
            up => Err(up),
        }
    })
    .await;
    let rows = "SELECT count(*) FROM cachewarden.outbox";
    assert_eq!(shop.watched.ask(rows).await, "1");
    shop.redis.start_again().unwrap();
    shop.until_empty().await;
    eventually(DEADLINE, async || {
        match get(&mut client, "courses:1").await {
            read if read == "\"new\"" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    daemon.stop().await;
}

const HELD: Duration = Duration::from_millis(50);

/// Invalidates nothing, and takes longer for it than a claim is held.
struct Slow {
    asked: Arc<AtomicUsize>,
}

impl Actor for Slow {
    type Context = Context<Self>;
}

impl Handler<InvalidateTargets> for Slow {
    type Result = ResponseFuture<Result<u64, InvalidationError>>;

    fn handle(&mut self, ask: InvalidateTargets, _ctx: &mut Context<Self>) -> Self::Result {
        let asked = Arc::clone(&self.asked);
        Box::pin(async move {
            if !ask.targets.is_empty() {
                asked.fetch_add(1, Ordering::Relaxed);
                // No wait for anything: this is the sweep that takes longer than a claim is held.
                tokio::time::sleep(4 * HELD).await;
            }
            Ok(0)
        })
    }
}

/// A drain that has its changes invalidated by whom the handle leads to.
fn drain(shop: &Shop, invalidation: InvalidationHandle, held: Duration) -> Drain {
    let url = shop.watched.database.url();
    let settings = Config::from_toml(&config(url, &shop.redis.redis_url(), CACHES)).unwrap();
    let store = Store::siblings(&settings.redis, 1).unwrap().remove(0);
    actix_rt::spawn(store.clone().keep());
    let postgres = settings.postgres.as_ref().unwrap();
    Drain {
        outbox: Outbox::new(postgres, &settings.invalidation, Handle::current()).unwrap(),
        invalidation,
        scope: Arc::new(settings.scope()),
        store,
        metrics: Metrics::new(),
        applying: Applying::default(),
        bell: Bell::default(),
        poll: settings.invalidation.poll,
        held,
        large: Drain::LARGE,
    }
}

#[actix_rt::test]
async fn what_always_takes_longer_than_a_claim_may_be_held_is_done_with_all_the_same() {
    let shop = Shop::open().await;
    let invalidation = InvalidationHandle::unbound();
    let asked = Arc::new(AtomicUsize::new(0));
    let slow = Slow {
        asked: Arc::clone(&asked),
    };
    invalidation.invalidate.bind(slow.start().recipient());
    let draining = actix_rt::spawn(drain(&shop, invalidation, HELD).run());
    shop.watched
        .execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    shop.until_empty().await;
    draining.abort();
    assert_ne!(asked.load(Ordering::Relaxed), 0);
}

/// Is told of changes, and ends none of them: their sweeps take for ever.
struct Endless {
    told: Arc<AtomicUsize>,
}

impl Actor for Endless {
    type Context = Context<Self>;
}

impl Handler<InvalidateTargets> for Endless {
    type Result = ResponseFuture<Result<u64, InvalidationError>>;

    fn handle(&mut self, ask: InvalidateTargets, _ctx: &mut Context<Self>) -> Self::Result {
        // Keys are asked for beside them.
        let is_sweep = !ask.targets.patterns.is_empty();
        self.told
            .fetch_add(usize::from(is_sweep), Ordering::Relaxed);
        Box::pin(std::future::pending())
    }
}

#[actix_rt::test]
async fn what_is_committed_while_sweeps_of_many_changes_go_on_is_applied_all_the_same() {
    const CHANGES: usize = 8;
    let shop = Shop::open().await;
    let invalidation = InvalidationHandle::unbound();
    let told = Arc::new(AtomicUsize::new(0));
    let endless = Endless {
        told: Arc::clone(&told),
    };
    invalidation.invalidate.bind(endless.start().recipient());
    let draining = actix_rt::spawn(drain(&shop, invalidation, 10 * DEADLINE).run());
    for change in 1..=CHANGES {
        shop.watched
            .execute("UPDATE courses SET title = 'new' WHERE id = 1")
            .await;
        // So that none is claimed together with the one before.
        eventually(DEADLINE, async || {
            let told = told.load(Ordering::Relaxed);
            (told == change).then_some(()).ok_or(told)
        })
        .await;
    }
    draining.abort();
}

/// Is told of changes, and ends the first of them when it is let; the others never.
struct Held {
    told: Arc<AtomicUsize>,
    go_on: Arc<Notify>,
}

impl Actor for Held {
    type Context = Context<Self>;
}

impl Handler<InvalidateTargets> for Held {
    type Result = ResponseFuture<Result<u64, InvalidationError>>;

    fn handle(&mut self, _ask: InvalidateTargets, _ctx: &mut Context<Self>) -> Self::Result {
        let is_first = self.told.fetch_add(1, Ordering::Relaxed) == 0;
        let go_on = Arc::clone(&self.go_on);
        Box::pin(async move {
            match is_first {
                true => go_on.notified().await,
                false => std::future::pending().await,
            }
            Ok(0)
        })
    }
}

/// Queues one change, whose invalidation lasts until its claim was given back and `claims` claims of it have begun; then none
/// can be claimed any more, and it ends. Whether anybody has claimed the row at the end of it does not matter.
async fn removed_when_its_sweep_is_over(claims: usize, held: Duration) {
    let mut shop = Shop::open().await;
    let invalidation = InvalidationHandle::unbound();
    let (told, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let actor = Held {
        told: Arc::clone(&told),
        go_on: Arc::clone(&go_on),
    };
    invalidation.invalidate.bind(actor.start().recipient());
    let drain = drain(&shop, invalidation, held);
    let mut up = drain.store.up();
    let draining = actix_rt::spawn(drain.run());
    shop.watched
        .execute("SELECT cachewarden.invalidate('courses:1')")
        .await;
    eventually(DEADLINE, async || {
        let told = told.load(Ordering::Relaxed);
        (told >= claims).then_some(()).ok_or(told)
    })
    .await;
    // Without Redis nothing is claimed.
    shop.redis.kill().unwrap();
    up.wait_for(|up| !*up).await.unwrap();
    if claims == 1 {
        eventually(DEADLINE, async || {
            let busy = "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle'
                        AND datname = current_database() AND pid <> pg_backend_pid()";
            match shop.watched.ask(busy).await.as_str() {
                "0" => Ok(()),
                _ => Err("it is held, or being claimed"),
            }
        })
        .await;
    }
    go_on.notify_one();
    shop.until_empty().await;
    let noted = "SELECT count(*) FROM cachewarden.applied";
    assert_eq!(shop.watched.ask(noted).await, "1");
    draining.abort();
}

#[actix_rt::test]
async fn what_was_applied_late_is_removed_at_once_though_nobody_has_claimed_it() {
    removed_when_its_sweep_is_over(1, HELD).await;
}

#[actix_rt::test]
async fn what_was_applied_late_is_removed_at_once_though_it_was_claimed_again() {
    removed_when_its_sweep_is_over(2, Duration::from_secs(2)).await;
}
