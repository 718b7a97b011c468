//! How fast a run goes: no faster than it may, and after the reads that wait, though not for ever.

use super::super::support::world::until;
use super::*;
use std::time::Duration;
use tokio::time::timeout;

#[tokio::test]
async fn no_more_keys_a_second_are_loaded_than_declared() {
    let few = course(&format!("{ON_COMMAND}\nrate = 10"));
    let few = few.replace("FROM courses\"", "FROM courses WHERE id <= 30\"");
    let world = World::start(COURSES, &few).await;
    let daemon = world.daemon().await;
    let outcomes = daemon.warden.warm(&[], false).await.unwrap();
    let outcome = &outcomes[0].1;
    assert_eq!(outcome.loaded, 30);
    // One goes at once.
    assert!(outcome.took >= Duration::from_millis(2900), "{outcome:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_run_gives_way_to_reads_that_wait_and_comes_to_its_end_all_the_same() {
    // Ten keys a batch, ten batches.
    let course = course(&format!("{ON_COMMAND}\nrate = 100"));
    let sections = format!(
        r#"
        postgres.pool_size = 1
        postgres.statement_timeout = "60s"
        [caches.held]
        key = "held:{{id:bigint}}"
        query = "SELECT id FROM held WHERE id = :id"
        shape = "scalar"
        ttl = "1h"
        load_timeout = "60s"
        {course}
        "#
    );
    let tables = format!("{COURSES}; CREATE TABLE held (id bigint PRIMARY KEY)");
    let world = World::start(&tables, &sections).await;
    let daemon = world.daemon().await;
    let holder = world.watched.database.client().await;
    let lock = "BEGIN; LOCK TABLE held IN ACCESS EXCLUSIVE MODE";
    holder.batch_execute(lock).await.unwrap();
    let mut client = daemon.client().await;
    let mut readers = Vec::new();
    for id in 1..=2 {
        let mut reader = daemon.client().await;
        let get = format!("GET held:{id}\r\n");
        reader.send(get.as_bytes()).await.unwrap();
        readers.push(reader);
        // One has the only connection, and the other waits for it.
        until(&mut client, "postgres_statements_running", 1).await;
    }
    let lease = ["EXISTS", "{held:2}:lease"];
    let mut raw = world.raw().await;
    eventually(DEADLINE, async || match raw.command(&lease).await {
        Value::Int(1) => Ok(()),
        seen => Err(seen),
    })
    .await;
    let warmed = timeout(3 * DEADLINE, daemon.warden.warm(&[], false)).await;
    let outcomes = warmed.expect("it ends").unwrap();
    let outcome = &outcomes[0].1;
    assert_eq!(outcome.loaded, 100);
    // Each batch has waited for a fifth of a second.
    assert!(outcome.took >= Duration::from_secs(2), "{outcome:?}");
    holder.batch_execute("COMMIT").await.unwrap();
    for mut reader in readers {
        assert_eq!(reader.read().await.unwrap(), Value::Nil);
    }
    daemon.stop().await;
}
