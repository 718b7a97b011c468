//! Claims whose changes take long, cannot be applied, or are over too late: nothing waits for them, and nothing is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use actix::{Actor, Context, Handler, ResponseFuture};
use cachewarden::cache::Told;
use cachewarden::config::Config;
use cachewarden::invalidation::{
    Applying, Bell, Drain, InvalidateTargets, InvalidationError, InvalidationHandle,
};
use cachewarden::repository::Outbox;
use cachewarden::store::Store;
use cachewarden::telemetry::Metrics;
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::drain::{CACHES, Shop};
use super::support::DEADLINE;
use super::support::daemon::config;
use super::support::eventually::eventually;

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
        told: Told::default(),
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
    shop.watched.until_empty().await;
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

/// Cannot remove keys, and takes for ever to sweep.
struct Unable {
    asked: Arc<AtomicUsize>,
}

impl Actor for Unable {
    type Context = Context<Self>;
}

impl Handler<InvalidateTargets> for Unable {
    type Result = ResponseFuture<Result<u64, InvalidationError>>;

    fn handle(&mut self, ask: InvalidateTargets, _ctx: &mut Context<Self>) -> Self::Result {
        if !ask.targets.patterns.is_empty() {
            return Box::pin(std::future::pending());
        }
        self.asked.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Err(InvalidationError::Stopped) })
    }
}

#[actix_rt::test]
async fn keys_that_could_not_be_removed_do_not_wait_for_the_sweep_of_their_neighbours() {
    let shop = Shop::open().await;
    let invalidation = InvalidationHandle::unbound();
    let asked = Arc::new(AtomicUsize::new(0));
    let unable = Unable {
        asked: Arc::clone(&asked),
    };
    invalidation.invalidate.bind(unable.start().recipient());
    let draining = actix_rt::spawn(drain(&shop, invalidation, 10 * DEADLINE).run());
    shop.watched
        .execute("UPDATE courses SET title = 'new' WHERE id = 1")
        .await;
    // Claimed again, and tried: oftener than Postgres ends a claim that is held for too long.
    eventually(DEADLINE, async || {
        let asked = asked.load(Ordering::Relaxed);
        (asked > 3).then_some(()).ok_or(asked)
    })
    .await;
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
    shop.watched.until_empty().await;
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
