//! Work under a lock, and leaders: the library's side.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cachewarden::lock::{Kind, LockError, Retry};
use cachewarden::{Warden, WardenError};
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::support::DEADLINE;
use super::super::support::resp::Value;
use super::{LONG, SECOND, World, acquired, info, until_free};

#[tokio::test]
async fn work_under_one_lock_never_overlaps_and_its_fences_rise() {
    let world = World::start().await;
    let other = world.another().await;
    let inside = AtomicUsize::new(0);
    let fences = parking_lot::Mutex::new(Vec::new());
    let task = async |warden: &Warden| {
        let locking = warden.lock("a").wait(DEADLINE);
        let work = async |held: cachewarden::lock::Held| {
            assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
            fences.lock().push(held.fence());
            tokio::task::yield_now().await;
            inside.fetch_sub(1, Ordering::SeqCst);
            7
        };
        assert_eq!(locking.run(work).await.unwrap(), 7);
    };
    let wardens = [&world.daemon.warden, &other.warden];
    join_all((0..40).map(|n| task(wardens[n % 2]))).await;
    let fences = fences.into_inner();
    assert!(fences.len() == 40 && fences.is_sorted(), "{fences:?}");
}

#[tokio::test]
async fn a_lock_is_released_when_its_work_panics_fails_or_is_dropped() {
    let world = World::start().await;
    let warden = &world.daemon.warden;
    let mut watcher = world.client().await;
    let panicking = warden.with_lock("a", None, |_| async { panic!("on purpose") });
    let panicked: Result<Result<(), _>, _> =
        std::panic::AssertUnwindSafe(panicking).catch_unwind().await;
    assert!(panicked.is_err());
    until_free(&mut watcher, "a").await;

    let failing = warden.with_lock("a", None, |_| async { Err::<(), _>("a reason") });
    assert_eq!(failing.await.unwrap(), Err("a reason"));
    assert_eq!(info(&mut watcher, "a", "held").await, Value::Int(0));

    let (begun, has_begun) = oneshot::channel();
    let working = warden.with_lock("a", None, |_| async {
        let _ = begun.send(());
        std::future::pending::<()>().await;
    });
    let mut working = Box::pin(working);
    tokio::select! {
        _ = &mut working => unreachable!(),
        _ = has_begun => {}
    }
    assert_eq!(info(&mut watcher, "a", "held").await, Value::Int(1));
    drop(working);
    until_free(&mut watcher, "a").await;
}

#[tokio::test]
async fn a_lock_is_renewed_while_its_work_goes_on() {
    let world = World::start().await;
    let mut watcher = world.client().await;
    let ttl = Duration::from_millis(300);
    let outcome = world
        .daemon
        .warden
        .with_lock("a", ttl, async |held: cachewarden::lock::Held| {
            // Many times its life.
            let (_, other) = tokio::join!(tokio::time::sleep(8 * ttl), async {
                watcher
                    .command(&["LOCK.ACQUIRE", "a", LONG, "WAIT", "2000"])
                    .await
            });
            (held.is_lost(), other)
        });
    assert_eq!(outcome.await.unwrap(), (false, Value::Nil));
    until_free(&mut watcher, "a").await;
}

#[tokio::test]
async fn work_is_told_when_its_lock_is_lost() {
    let mut world = World::start().await;
    let mut thief = world.client().await;
    let warden = world.daemon.warden.clone();
    let lost = warden.with_lock("a", SECOND, async |held: cachewarden::lock::Held| {
        assert!(!held.is_lost());
        assert_eq!(thief.command(&["LOCK.FORCE", "a"]).await, Value::Int(1));
        timeout(DEADLINE, held.lost()).await.unwrap();
        assert!(held.is_lost());
    });
    lost.await.unwrap();
    // Nobody says no, but nobody says yes in time.
    let unheard = warden.with_lock("a", SECOND, async |held: cachewarden::lock::Held| {
        world.redis.freeze().unwrap();
        timeout(DEADLINE, held.lost()).await.unwrap();
        world.redis.thaw().unwrap();
    });
    unheard.await.unwrap();
}

#[tokio::test]
async fn a_lock_is_tried_for_three_times_and_then_given_up() {
    let world = World::start().await;
    let warden = &world.daemon.warden;
    let mut holder = world.client().await;
    let (token, _) = acquired(&mut holder, &["a", LONG]).await;
    let called = AtomicUsize::new(0);
    let work = async |_| called.fetch_add(1, Ordering::SeqCst);
    let outcome = warden.with_lock("a", None, work).await;
    let Err(WardenError::Lock(LockError::HeldByAnother { name })) = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!((name.as_str(), called.load(Ordering::SeqCst)), ("a", 0));
    let patient = Retry {
        tries: 1000,
        pause: Duration::from_millis(20),
    };
    let (outcome, _) = tokio::join!(warden.lock("a").retry(patient).run(work), async {
        holder.command(&["LOCK.RELEASE", "a", &token]).await
    });
    assert_eq!((outcome.unwrap(), called.load(Ordering::SeqCst)), (0, 1));
    let too_long = warden.with_lock("a", Duration::from_secs(601), work).await;
    assert!(
        matches!(too_long, Err(WardenError::Lock(LockError::Invalid(_)))),
        "{too_long:?}"
    );
}

#[tokio::test]
async fn permits_let_so_many_work_at_once_and_no_more() {
    let world = World::start().await;
    let warden = &world.daemon.warden;
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let task = async |_| {
        let work = async |_| {
            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
            most.fetch_max(now, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(20)).await;
            inside.fetch_sub(1, Ordering::SeqCst);
        };
        let locking = warden.lock("jobs").kind(Kind::Permits(4)).wait(DEADLINE);
        locking.run(work).await.unwrap();
    };
    join_all((0..40).map(task)).await;
    assert_eq!(most.into_inner(), 4);
}

#[tokio::test]
async fn one_leads_at_a_time_and_the_next_when_it_is_gone() {
    let world = World::start().await;
    let other = world.another().await;
    let ttl = 2 * SECOND;
    let wardens = [&world.daemon.warden, &other.warden];
    let mut leaders: Vec<_> = (0..4).map(|n| wardens[n % 2].lead("warmup", ttl)).collect();
    let mut last = 0;
    while !leaders.is_empty() {
        let elected = join_any(leaders.iter().map(|leader| leader.elected()));
        let fence = timeout(DEADLINE, elected).await.unwrap();
        assert!(fence > last, "{fence} after {last}");
        last = fence;
        let at = leaders
            .iter()
            .position(|leader| leader.fence() == Some(fence))
            .unwrap();
        let leading = leaders.iter().filter(|leader| leader.fence().is_some());
        assert_eq!(leading.count(), 1);
        drop(leaders.remove(at));
    }
}

#[tokio::test]
async fn a_leader_that_cannot_be_sure_any_more_steps_down() {
    let mut world = World::start().await;
    let leader = Arc::new(world.daemon.warden.lead("warmup", 2 * SECOND));
    let first = timeout(DEADLINE, leader.elected()).await.unwrap();
    world.redis.freeze().unwrap();
    timeout(DEADLINE, leader.deposed()).await.unwrap();
    assert_eq!(leader.fence(), None);
    world.redis.thaw().unwrap();
    let again = timeout(DEADLINE, leader.elected()).await.unwrap();
    assert!(again > first, "{again} after {first}");
}

async fn join_any<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> T {
    let pinned: Vec<_> = futures.map(Box::pin).collect();
    futures_util::future::select_all(pinned).await.0
}
