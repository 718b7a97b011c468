//! Many tasks in two daemons contend for a few locks: never two at once, fences rise, and everybody has its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::time::Instant;

use cachewarden::lock::{Acquire, Kind, LockHandle};
use futures_util::future::join_all;
use parking_lot::Mutex;
use tokio::task::JoinSet;

use super::{World, acquire, lock_keys, release, waiting};

const DAEMONS: usize = 2;
const TASKS: usize = 100;
const LOCKS: usize = 4;
const TURNS: u64 = 6;
/// How many turns somebody may have had more than somebody else who wants the same lock. A line has everybody once in
/// between; one more for those who came a moment later at the start, or while the daemons' clocks were compared.
const AHEAD: u64 = 3;
const PERMITS: u32 = 3;

/// What is seen of those who hold a lock.
#[derive(Default)]
struct Section {
    writers: AtomicI64,
    readers: AtomicI64,
    highest: AtomicI64,
    overlaps: AtomicU64,
    turns: Mutex<Vec<u64>>,
}

impl Section {
    /// Goes in, sees who is there, and goes out.
    async fn pass(&self, kind: Kind, work: impl Future<Output = ()>) {
        let (mine, most) = match kind {
            Kind::Exclusive => (&self.writers, 1),
            Kind::Shared => (&self.readers, i64::MAX),
            Kind::Permits(n) => (&self.readers, i64::from(n)),
        };
        mine.fetch_add(1, SeqCst);
        for _ in 0..2 {
            let (writers, readers) = (self.writers.load(SeqCst), self.readers.load(SeqCst));
            let is_alone = readers == 0 || writers == 0;
            if writers > 1 || readers > most || !is_alone {
                self.overlaps.fetch_add(1, SeqCst);
            }
            tokio::task::yield_now().await;
        }
        work.await;
        mine.fetch_sub(1, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_tasks_of_two_daemons_hold_a_few_locks_one_at_a_time_in_turn() {
    let world = World::start().await;
    let daemons = join_all((0..DAEMONS).map(|_| world.daemon())).await;
    let guard = Arc::new(world.watched.database.client().await);
    let sections: Vec<_> = (0..LOCKS).map(|_| Arc::new(Section::default())).collect();
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for task in 0..DAEMONS * TASKS {
        let locks = daemons[task % DAEMONS].warden.locks().clone();
        let at = task / DAEMONS % LOCKS;
        let (section, guard) = (Arc::clone(&sections[at]), Arc::clone(&guard));
        let me = {
            let mut turns = section.turns.lock();
            turns.push(0);
            turns.len() - 1
        };
        tasks.spawn(async move {
            let lock = format!("lock-{at}");
            for _ in 0..TURNS {
                let grant = acquire(&locks, waiting(&lock)).await;
                let work = async {
                    assert!(section.highest.swap(grant.fence, SeqCst) < grant.fence);
                    let fence = "SELECT cachewarden.fence($1, $2)";
                    let fenced = guard.execute(fence, &[&lock, &grant.fence]).await;
                    fenced.expect("nobody with a higher fence was there before");
                };
                section.pass(Kind::Exclusive, work).await;
                {
                    let mut turns = section.turns.lock();
                    turns[me] += 1;
                    let least = turns.iter().min().copied().unwrap_or_default();
                    assert!(
                        turns[me] <= least + AHEAD,
                        "{me} is ahead of all: {turns:?}"
                    );
                }
                assert!(release(&locks, &lock, grant.token).await);
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let seconds = begun.elapsed().as_secs_f64();
    let acquired = (DAEMONS * TASKS) as f64 * TURNS as f64;
    println!(
        "{acquired} acquisitions, {:.0} a second",
        acquired / seconds
    );
    let overlaps: u64 = sections.iter().map(|one| one.overlaps.load(SeqCst)).sum();
    assert_eq!(overlaps, 0);
    assert_keys_expire(&world).await;
    for daemon in daemons {
        daemon.stop().await;
    }
}

async fn take_turns(locks: LockHandle, lock: &'static str, kind: Kind, section: Arc<Section>) {
    for _ in 0..TURNS {
        let asked = Acquire {
            kind,
            ..waiting(lock)
        };
        let grant = acquire(&locks, asked).await;
        section.pass(kind, async {}).await;
        assert!(release(&locks, lock, grant.token).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_writers_and_permits_of_two_daemons_never_meet_whom_they_exclude() {
    let world = World::start().await;
    let daemons = join_all((0..DAEMONS).map(|_| world.daemon())).await;
    let (rooms, semaphore) = (Arc::<Section>::default(), Arc::<Section>::default());
    let mut tasks = JoinSet::new();
    for task in 0..DAEMONS * TASKS {
        let locks = daemons[task % DAEMONS].warden.locks().clone();
        let (lock, kind, section) = match task / DAEMONS % 4 {
            0 => ("room", Kind::Exclusive, &rooms),
            1 | 2 => ("room", Kind::Shared, &rooms),
            _ => ("semaphore", Kind::Permits(PERMITS), &semaphore),
        };
        tasks.spawn(take_turns(locks, lock, kind, Arc::clone(section)));
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for section in [rooms, semaphore] {
        assert_eq!(section.overlaps.load(SeqCst), 0);
    }
    assert_keys_expire(&world).await;
    for daemon in daemons {
        daemon.stop().await;
    }
}

async fn assert_keys_expire(world: &World) {
    for (key, life) in lock_keys(&mut world.raw().await).await {
        assert!(life > 0, "{key} lives for ever");
    }
}
