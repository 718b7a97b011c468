//! One daemon: acquired, refused, extended, released, told of.

use std::time::Duration;

use cachewarden::lock::{Acquire, Class, Grant, Kind, List, MAX_WAIT};
use futures_util::future::join_all;
use uuid::Uuid;

use super::{
    LONG, World, acquire, alone, ask, extend, force, info, lock_keys, name, release, spawn,
    until_waiting, waiting,
};
use crate::support::daemon::{InProcess, config_without_postgres};
use crate::support::servers::redis;

#[tokio::test]
async fn a_lock_is_held_by_its_token_alone_until_that_releases_it_and_its_fences_rise() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let first = acquire(locks, alone("a")).await;
    assert_eq!(ask(locks, alone("a")).await, Ok(None));
    let other = Uuid::new_v4();
    assert!(!release(locks, "a", other).await);
    assert!(!extend(locks, "a", other, LONG).await);
    assert!(extend(locks, "a", first.token, LONG).await);
    let told = info(locks, "a").await;
    assert_eq!((told.held, told.fence), (1, Some(first.fence)));
    assert!(told.left > LONG / 2, "{told:?}");
    assert!(release(locks, "a", first.token).await);
    assert!(!release(locks, "a", first.token).await);
    assert!(!extend(locks, "a", first.token, LONG).await);
    let second = acquire(locks, alone("a")).await;
    assert!(second.fence > first.fence);
    assert!(release(locks, "a", second.token).await);
    assert_eq!(info(locks, "a").await.held, 0);
    assert_eq!(
        lock_keys(&mut world.raw().await).await,
        [],
        "all is released"
    );
    daemon.stop().await;
}

#[tokio::test]
async fn the_same_token_asked_again_has_the_same_fence_even_past_those_who_wait() {
    let world = World::start().await;
    let daemons = (world.daemon().await, world.daemon().await);
    let (here, there) = (daemons.0.warden.locks(), daemons.1.warden.locks());
    let asked = alone("a");
    // At once, so that both are under way together.
    let again = Acquire {
        attempt: Uuid::new_v4(),
        ..asked.clone()
    };
    let (first, second) = tokio::join!(ask(here, asked.clone()), ask(here, again.clone()));
    let told = |answer: Result<Option<Grant>, _>| {
        answer.map(|one| one.map(|grant| (grant.token, grant.fence)))
    };
    assert_eq!(told(first.clone()), told(second));
    let grant = first.unwrap().expect("a lock");
    for locks in [here, there] {
        let next = spawn(locks, waiting("a"));
        until_waiting(locks, "a", 1 + u64::from(std::ptr::eq(locks, there))).await;
        for wait in [Duration::ZERO, LONG] {
            let attempt = Uuid::new_v4();
            let again = Acquire {
                wait,
                attempt,
                ..asked.clone()
            };
            let same = acquire(locks, again).await;
            assert_eq!((same.token, same.fence), (grant.token, grant.fence));
        }
        next.abort();
    }
    daemons.0.stop().await;
    daemons.1.stop().await;
}

#[tokio::test]
async fn the_same_token_asked_again_makes_no_life_shorter() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let asked = alone("a");
    acquire(locks, asked.clone()).await;
    let (ttl, attempt) = (Duration::from_secs(9), Uuid::new_v4());
    let again = Acquire {
        ttl,
        attempt,
        ..asked
    };
    acquire(locks, again).await;
    assert!(info(locks, "a").await.left > LONG / 2);
    daemon.stop().await;
}

#[tokio::test]
async fn readers_go_together_writers_alone_and_permits_as_many_as_there_are() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let of = |kind| Acquire { kind, ..alone("a") };
    let kinds = [Kind::Exclusive, Kind::Shared, Kind::Permits(3)];
    for (kind, room) in kinds.into_iter().zip([1, 20, 3]) {
        let asked = join_all((0..20).map(|_| ask(locks, of(kind)))).await;
        let granted = asked.into_iter().filter_map(|answer| answer.unwrap());
        let granted: Vec<_> = granted.collect();
        assert_eq!(granted.len(), room, "{kind:?}");
        for other in kinds.into_iter().filter(|other| *other != kind) {
            assert_eq!(
                ask(locks, of(other)).await,
                Ok(None),
                "{other:?} beside {kind:?}"
            );
        }
        assert_eq!(info(locks, "a").await.held, room as u64);
        for grant in granted {
            assert!(release(locks, "a", grant.token).await);
        }
    }
    // Fewer permits than are taken already.
    let held = acquire(locks, of(Kind::Permits(3))).await;
    assert_eq!(ask(locks, of(Kind::Permits(1))).await, Ok(None));
    assert!(release(locks, "a", held.token).await);
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_out_of_bounds_is_refused_by_name() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    let long = "n".repeat(513);
    let wrong = [
        (alone(""), "is empty"),
        (alone(&long), "512"),
        (alone("a\nb"), "control character"),
        (
            Acquire {
                name: bytes::Bytes::from_static(b"\xff"),
                ..alone("a")
            },
            "UTF-8",
        ),
        (
            Acquire {
                ttl: Duration::ZERO,
                ..alone("a")
            },
            "max_ttl",
        ),
        (
            Acquire {
                ttl: LONG + Duration::from_millis(1),
                ..alone("a")
            },
            "600000 ms",
        ),
        (
            Acquire {
                wait: MAX_WAIT + Duration::from_millis(1),
                ..alone("a")
            },
            "3600000 ms",
        ),
        (
            Acquire {
                kind: Kind::Permits(0),
                ..alone("a")
            },
            "1 to 1000",
        ),
        (
            Acquire {
                kind: Kind::Permits(1001),
                ..alone("a")
            },
            "1 to 1000",
        ),
    ];
    for (acquire, bound) in wrong {
        let error = ask(locks, acquire).await.unwrap_err();
        assert_eq!(error.class(), Class::Invalid);
        assert!(error.to_string().contains(bound), "{error}");
    }
    assert!(ask(locks, alone(&long[1..])).await.unwrap().is_some());
    daemon.stop().await;
}

#[tokio::test]
async fn locks_are_listed_by_name_and_taken_away_by_force() {
    let world = World::start().await;
    let daemon = world.daemon().await;
    let locks = daemon.warden.locks();
    for lock in ["jobs:2", "jobs:1", "jobs*", "other"] {
        acquire(locks, alone(lock)).await;
    }
    let listed = async |prefix: &str| {
        let prefix = name(prefix);
        let listed = locks.list.ask(List { prefix }).await.unwrap().unwrap();
        let names = listed.into_iter().map(|info| info.name);
        names.collect::<Vec<_>>()
    };
    assert_eq!(listed("jobs:").await, ["jobs:1", "jobs:2"]);
    assert_eq!(listed("jobs*").await, ["jobs*"]);
    assert_eq!(listed("").await.len(), 4);
    assert!(force(locks, "jobs:1").await);
    assert!(!force(locks, "jobs:1").await);
    assert_eq!(listed("jobs:").await, ["jobs:2"]);
    daemon.stop().await;
}

#[tokio::test]
async fn without_a_database_there_is_no_lock() {
    let redis = redis();
    let config = config_without_postgres(&redis.redis_url(), "");
    let daemon = InProcess::start(&config).await;
    let error = ask(daemon.warden.locks(), alone("a")).await.unwrap_err();
    assert_eq!(error.mend(), "declare [postgres]");
    daemon.stop().await;
}
