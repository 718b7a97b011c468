//! What happens when Postgres, or the caller, is not there.

use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::PostgresOptions;
use cachewarden::repository::{Admission, LoadError, RepositoryError};

use super::{SHOP, World, course, shop, shown, until_active};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::servers::{connect, own_postgres};

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_terminated_costs_its_own_load_at_most() {
    let shop = shop().await;
    let world = World::new(shop.url(), 2, &[course(DEADLINE)]);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'cachewarden' AND datname = current_database()";
    for _ in 0..20 {
        assert!(world.one("course:1").await.unwrap().is_some());
        shop.execute(kill).await;
    }
    // While a statement runs: the connection had been used before, so the load is tried again.
    let locker = shop.client().await;
    assert!(world.one("course:1").await.unwrap().is_some());
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let load = tokio::spawn(world.load(["course:1"], Admission::Wait));
    until_active(&shop, 1).await;
    shop.execute(kill).await;
    locker.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(load.await.unwrap()[..], [Ok(Some(_))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_costs_the_timeout_and_goes_on_by_itself() {
    let mut postgres = own_postgres(&PostgresOptions::default());
    connect(&postgres.postgres_url("postgres"))
        .await
        .batch_execute(SHOP)
        .await
        .unwrap();
    let world = World::new(
        &postgres.postgres_url("postgres"),
        2,
        &[course(Duration::from_millis(200))],
    );
    assert!(world.one("course:1").await.is_ok());
    postgres.freeze().unwrap();
    assert_eq!(
        world.one("course:1").await,
        Err(LoadError::TimedOut { after_ms: 200 })
    );
    postgres.thaw().unwrap();
    eventually(DEADLINE, async || world.one("course:1").await).await;
    assert!(world.repository.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_refuses_at_once_and_is_found_when_it_is_back() {
    let mut postgres = own_postgres(&PostgresOptions::default());
    connect(&postgres.postgres_url("postgres"))
        .await
        .batch_execute(SHOP)
        .await
        .unwrap();
    let world = World::new(&postgres.postgres_url("postgres"), 4, &[course(DEADLINE)]);
    assert!(!world.repository.is_up());
    assert!(world.one("course:1").await.is_ok());
    assert!(world.repository.is_up());
    // What was committed is written down only at leisure here.
    let admin = connect(&postgres.postgres_url("postgres")).await;
    admin.batch_execute("CHECKPOINT").await.unwrap();
    postgres.kill().unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        let Err(LoadError::Unavailable { reason }) = world.one("course:1").await else {
            panic!("an answer from a dead server");
        };
        assert!(reason.contains("refused"), "{reason}");
    }
    // Not one of them waited for the timeout.
    assert!(began.elapsed() < DEADLINE);
    assert!(!world.repository.is_up());
    let checked = world.repository.check().await;
    assert!(
        matches!(checked, Err(RepositoryError::Connect(_))),
        "{checked:?}"
    );
    postgres.start_again().unwrap();
    // By itself: nothing asks for a key meanwhile.
    eventually(DEADLINE, async || {
        if world.repository.is_up() {
            Ok(())
        } else {
            Err("down")
        }
    })
    .await;
    assert!(world.one("course:1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_out_of_connections_is_used_with_those_there_are() {
    let shop = shop().await;
    shop.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1; GRANT SELECT ON courses TO narrow")
        .await;
    let url = shop
        .url()
        .replace("postgres://postgres@", "postgres://narrow@");
    let world = World::new(&url, 8, &[course(DEADLINE)]);
    assert!(world.one("course:1").await.is_ok());
    let loads: Vec<_> = (1..=100)
        .map(|id| tokio::spawn(world.load([format!("course:{id}")], Admission::Wait)))
        .collect();
    for load in loads {
        let answer = load.await.unwrap().remove(0);
        assert!(matches!(answer, Ok(Some(_))), "{}", shown(&answer));
    }
    assert!(world.repository.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_shows_the_password() {
    let postgres = own_postgres(&PostgresOptions::default());
    let port = postgres.port();
    for (url, why) in [
        (
            format!("postgres://nobody:S3CR3T@127.0.0.1:{port}/postgres"),
            "nobody",
        ),
        (
            format!("postgres://postgres:S3CR3T@127.0.0.1:{port}/nowhere"),
            "nowhere",
        ),
        (
            format!("postgres://postgres:S3CR3T@127.0.0.1:{port}/postgres?sslmode=require"),
            "TLS",
        ),
        (
            "postgres://postgres:S3CR3T@127.0.0.1:1/postgres".to_owned(),
            "refused",
        ),
        (
            "postgres://postgres:S3CR3T@no-such-host.invalid/postgres".to_owned(),
            "lookup",
        ),
    ] {
        let world = World::new(&url, 1, &[course(DEADLINE)]);
        let error = world.one("course:1").await.unwrap_err();
        let checked = world.repository.check().await.unwrap_err();
        let said = format!("{error} {error:?} {checked} {checked:?}");
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("S3CR3T"), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_refuses_what_waits_and_ends_with_what_runs() {
    let shop = shop().await;
    let world = World::new(shop.url(), 2, &[course(Duration::from_millis(500))]);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let runs = tokio::spawn(world.load(["course:1"], Admission::Wait));
    until_active(&shop, 1).await;
    let waits = tokio::spawn(world.load(["course:2"], Admission::Wait));
    eventually(DEADLINE, async || match world.repository.stats().waiting {
        1 => Ok(()),
        seen => Err(seen),
    })
    .await;
    world.repository.close().await;
    assert_eq!(world.repository.stats().running, 0);
    let stopping = "error: postgres is not available: the daemon is stopping";
    assert_eq!(shown(&waits.await.unwrap()[0]), stopping);
    assert_eq!(
        runs.await.unwrap(),
        [Err(LoadError::TimedOut { after_ms: 500 })]
    );
    assert_eq!(world.text("course:1").await, stopping);
}

#[test]
fn loads_are_asked_from_any_runtime_and_refused_once_the_connections_runtime_has_stopped() {
    let connections = tokio::runtime::Runtime::new().unwrap();
    let entered = connections.enter();
    let (shop, world) = connections.block_on(async {
        let shop = shop().await;
        let world = World::new(shop.url(), 2, &[course(DEADLINE)]);
        (shop, world)
    });
    drop(entered);
    let caller = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    // This runtime cannot do input and output: nothing of the load runs on it.
    assert!(caller.block_on(world.one("course:1")).unwrap().is_some());
    connections.shutdown_background();
    for _ in 0..2 {
        let answer = caller.block_on(world.one("course:1"));
        assert!(
            matches!(answer, Err(LoadError::Unavailable { .. })),
            "{answer:?}"
        );
    }
    drop(shop);
}
