//! Who is served when something hangs.

use std::time::Duration;

use cachewarden::config::{Cache, Shape};
use cachewarden::repository::{Admission, LoadError};

use super::{World, cache, course, shop, shown, until_active};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;

#[tokio::test(flavor = "multi_thread")]
async fn five_caches_over_a_locked_table_leave_the_others_alone() {
    let shop = shop().await;
    shop.execute("CREATE TABLE locked (id bigint)").await;
    let mut caches = vec![course(DEADLINE)];
    for name in ["a", "b", "c", "d", "e"] {
        let query = "SELECT id FROM locked WHERE id = :id";
        caches.push(cache(
            &format!("{name}:{{id:bigint}}"),
            query,
            Shape::Object,
        ));
    }
    let world = World::new(shop.url(), 8, &caches);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE locked")
        .await
        .unwrap();
    let mut stuck = Vec::new();
    for round in 0..4 {
        for name in ["a", "b", "c", "d", "e"] {
            stuck.push(tokio::spawn(
                world.load([format!("{name}:{round}")], Admission::Wait),
            ));
        }
    }
    eventually(DEADLINE, async || match world.repository.stats().running {
        8 => Ok(()),
        seen => Err(seen),
    })
    .await;
    for id in 1..=200 {
        let expected = format!(r#"{{"id":{id},"slug":"slug-{id}"}}"#);
        assert_eq!(world.text(&format!("course:{id}")).await, expected);
    }
    // Who had to make room is served all the same, once the table is free.
    locker.batch_execute("COMMIT").await.unwrap();
    for load in stuck {
        assert_eq!(load.await.unwrap(), [Ok(None)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_hangs_has_half_of_the_connections_and_the_rest_goes_together() {
    let shop = shop().await;
    let world = World::new(shop.url(), 4, &[course(DEADLINE)]);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let loads: Vec<_> = (1..=50)
        .map(|id| tokio::spawn(world.load([format!("course:{id}")], Admission::Wait)))
        .collect();
    eventually(DEADLINE, async || {
        let stats = world.repository.stats();
        let seen = (stats.running, stats.waiting);
        match seen {
            (2, 17..) => Ok(()),
            _ => Err(seen),
        }
    })
    .await;
    locker.batch_execute("COMMIT").await.unwrap();
    for (id, load) in (1..=50).zip(loads) {
        let expected = format!(r#"{{"id":{id},"slug":"slug-{id}"}}"#);
        assert_eq!(shown(&load.await.unwrap()[0]), expected);
    }
    assert!(world.repository.stats().statements < 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_times_out_is_answered_in_time_and_cancelled_on_the_server() {
    let shop = shop().await;
    let world = World::new(shop.url(), 4, &[course(Duration::from_millis(300))]);
    assert!(world.one("course:1").await.is_ok());
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let answers = world.load(["course:1", "course:2"], Admission::Wait).await;
    assert_eq!(answers, vec![Err(LoadError::TimedOut { after_ms: 300 }); 2]);
    until_active(&shop, 0).await;
    locker.batch_execute("COMMIT").await.unwrap();
    assert!(world.one("course:1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_harms_nobody_and_its_waiting_keys_are_not_asked_for() {
    let shop = shop().await;
    let world = World::new(shop.url(), 2, &[course(DEADLINE)]);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let sent = tokio::spawn(world.load(["course:1"], Admission::Wait));
    until_active(&shop, 1).await;
    let gone = tokio::spawn(world.load((2..100).map(|id| format!("course:{id}")), Admission::Wait));
    let stays = tokio::spawn(world.load(["course:100"], Admission::Wait));
    eventually(DEADLINE, async || match world.repository.stats().waiting {
        99 => Ok(()),
        seen => Err(seen),
    })
    .await;
    sent.abort();
    gone.abort();
    locker.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(stays.await.unwrap()[..], [Ok(Some(_))]));
    let statements = world.repository.stats().statements;
    assert!(statements <= 2, "{statements}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_a_cache_at_its_limit_is_busy_at_once() {
    let shop = shop().await;
    let narrow = Cache {
        max_loads: 4,
        ..course(DEADLINE)
    };
    let world = World::new(shop.url(), 8, &[narrow]);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let keys = |from: u32, to: u32| (from..to).map(|id| format!("course:{id}"));
    let first = tokio::spawn(world.load(keys(0, 3), Admission::NoWait));
    until_active(&shop, 1).await;
    let second = tokio::spawn(world.load(keys(3, 6), Admission::NoWait));
    until_active(&shop, 2).await;
    let busy = LoadError::Busy {
        cache: "course".into(),
        limit: 4,
    };
    let refused = world.load(keys(6, 8), Admission::NoWait).await;
    assert_eq!(refused, vec![Err(busy.clone()); 2]);
    locker.batch_execute("COMMIT").await.unwrap();
    assert!(first.await.unwrap().iter().all(Result::is_ok));
    let second = second.await.unwrap();
    assert!(second[0].is_ok());
    assert_eq!(second[1..], [Err(busy.clone()), Err(busy)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_limit_ends_a_statement_once_and_is_not_tried_again() {
    let shop = shop().await;
    let limit = Duration::from_millis(300);
    let world = World::with_statement_timeout(shop.url(), 2, &[course(DEADLINE)], limit);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let keys = (1..=8).map(|id| format!("course:{id}"));
    let answers = world.load(keys, Admission::Wait).await;
    assert_eq!(answers, vec![Err(LoadError::TimedOut { after_ms: 300 }); 8]);
    assert_eq!(world.repository.stats().statements, 1);
}
