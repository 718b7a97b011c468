//! How fast a run goes: no faster than it may, softly while somebody reads, and after the reads that wait, though not for ever.

use super::super::support::monitor::{Command, Monitor};
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

/// How many keys of courses a script has, if it is one of leases.
fn leased(command: &Command) -> Option<usize> {
    let is_of_leases = command.is("evalsha") && command.names("{courses:");
    let keys: usize = command.words.get(2)?.parse().ok()?;
    // The index, values, leases, and maybe the values' own index.
    is_of_leases.then_some((keys - 1) / 2)
}

/// Warms all three thousand from `daemon`, and how many keys of leases went in scripts of more than four.
async fn long_ones(daemon: &InProcess, monitor: &mut Monitor) -> usize {
    monitor.commands().await;
    assert_eq!(warm_one(daemon, true).await, (3000, 0, 0));
    let commands = monitor.commands().await;
    let scripts: Vec<usize> = commands.iter().filter_map(leased).collect();
    // Taken, and filled; once more where Redis did not know the script yet.
    assert!(scripts.iter().sum::<usize>() >= 6000);
    scripts.into_iter().filter(|keys| *keys > 4).sum()
}

#[tokio::test]
async fn while_somebody_reads_from_any_daemon_no_script_of_a_run_is_long() {
    let world = World::start(COURSES, &course(ON_COMMAND)).await;
    let more = "INSERT INTO courses SELECT n, 'course ' || n FROM generate_series(101, 3000) n";
    world.watched.execute(more).await;
    let (daemon, other) = (world.daemon().await, world.daemon().await);
    let mut monitor = Monitor::start(&world.redis).await;
    let mut raw = world.raw().await;
    let told = ["EXISTS", "cachewarden:readers"];
    assert!(long_ones(&daemon, &mut monitor).await > 5000);
    for read_from in [&daemon, &other] {
        let mut reader = read_from.client().await;
        let reading = tokio::spawn(async move {
            loop {
                let answer = reader.command(&["GET", "courses:1"]).await;
                assert_eq!(answer.text(), "\"course 1\"");
            }
        });
        eventually(DEADLINE, async || match raw.command(&told).await {
            Value::Int(1) => Ok(()),
            seen => Err(seen),
        })
        .await;
        assert_eq!(long_ones(&daemon, &mut monitor).await, 0);
        reading.abort();
        eventually(DEADLINE, async || match raw.command(&told).await {
            Value::Int(0) => Ok(()),
            seen => Err(seen),
        })
        .await;
    }
    for daemon in [daemon, other] {
        daemon.stop().await;
    }
}
