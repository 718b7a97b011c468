//! Fencing tokens: they only rise, and a transaction that is guarded by one refuses whoever came before.

use std::collections::BTreeSet;

use cachewarden::cli::demo::servers::PostgresOptions;
use cachewarden::config::{Postgres, Secret};
use cachewarden::repository::{Fences, RepositoryError};
use futures_util::future::join_all;
use tokio::runtime::Handle;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::support::DEADLINE;
use super::support::eventually::eventually;
use super::support::servers::{database_in, own_postgres};
use super::support::watched::Watched;

/// What nothing watched needs is installed for locks alone.
const LOCKS: &str = "[locks]\n";

fn fences(url: &str) -> Fences {
    let postgres = Postgres {
        url: Secret::new(url),
        pool_size: 2,
        statement_timeout: DEADLINE,
    };
    Fences::new(&postgres, Handle::current()).unwrap()
}

async fn world() -> (Watched, Fences) {
    let world = Watched::start("CREATE TABLE t (id int)", LOCKS).await;
    let fences = fences(world.database.url());
    (world, fences)
}

async fn fence(client: &Client, resource: &str, token: i64) -> Result<u64, tokio_postgres::Error> {
    let sql = "SELECT cachewarden.fence($1, $2)";
    client.execute(sql, &[&resource, &token]).await
}

fn is_refused(outcome: &Result<u64, tokio_postgres::Error>) -> bool {
    let code = outcome.as_ref().err().and_then(|error| error.code());
    code == Some(&SqlState::from_code("55W01"))
}

#[tokio::test]
async fn tokens_rise_whoever_mints_and_however_many_at_once() {
    let (world, one) = world().await;
    let other = fences(world.database.url());
    let mut highest = 0;
    let mut all = BTreeSet::new();
    for round in 1..20 {
        let mints = (0..16).map(|n| if n % 2 == 0 { &one } else { &other });
        let minted = join_all(mints.map(|fences| fences.mint(round))).await;
        let before = highest;
        for tokens in minted {
            let tokens = tokens.unwrap();
            assert_eq!(tokens.len(), round);
            assert!(tokens.is_sorted(), "{tokens:?}");
            assert!(tokens[0] > before, "{tokens:?} after {before}");
            highest = highest.max(tokens[round - 1]);
            all.extend(tokens);
        }
    }
    assert_eq!(all.len(), 16 * (1..20).sum::<usize>(), "none came twice");
}

/// The numbers that Postgres logs ahead are lost in a crash, if nobody waits until they are on disk. Here the one who had
/// them logged never commits, and so does not wait.
#[tokio::test]
async fn a_token_that_was_answered_is_never_minted_again_after_a_crash() {
    let lazy = ("wal_writer_delay".to_owned(), "10s".to_owned());
    let options = PostgresOptions {
        settings: vec![lazy],
    };
    let mut postgres = own_postgres(&options);
    let world = Watched::unmigrated_in(database_in(&postgres).await, "SELECT 1", LOCKS).await;
    world.migrate().await;
    let fences = fences(world.database.url());
    for _crash in 0..3 {
        let logging = world.database.client().await;
        let nextval = "CHECKPOINT; BEGIN; SELECT nextval('cachewarden.fence_tokens')";
        logging.batch_execute(nextval).await.unwrap();
        let answered = fences.mint(5).await.unwrap();
        postgres.kill().unwrap();
        postgres.start_again().unwrap();
        let next = eventually(DEADLINE, async || fences.mint(1).await).await;
        assert!(next[0] > answered[4], "{next:?} after {answered:?}");
    }
}

#[tokio::test]
async fn a_mint_says_what_is_missing_and_works_once_it_is_there() {
    let world = Watched::unmigrated("CREATE TABLE t (id int)", LOCKS).await;
    let fences = fences(world.database.url());
    let error = fences.mint(1).await.unwrap_err();
    assert!(matches!(error, RepositoryError::Fence { .. }), "{error}");
    let (code, _, stderr) = world.run(&["check", "--connect"]).await;
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("cachewarden migrate"), "{stderr}");
    world.migrate().await;
    assert_eq!(fences.mint(1).await.unwrap().len(), 1);
    let (code, stdout, stderr) = world.run(&["check", "--connect"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.contains("what locks need is installed\n"),
        "{stdout}"
    );
}

/// Who has no `[locks]` may still take locks: then `migrate` installs what they need, and nobody misses it before.
#[tokio::test]
async fn what_locks_need_is_installed_without_being_declared() {
    let world = Watched::unmigrated("CREATE TABLE t (id int)", "").await;
    let (code, _, stderr) = world.run(&["check", "--connect"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    world.migrate().await;
    assert_eq!(fences(world.database.url()).mint(2).await.unwrap().len(), 2);
}

#[tokio::test]
async fn who_came_before_is_refused_once_a_newer_one_was_here() {
    let (world, minter) = world().await;
    let tokens = minter.mint(3).await.unwrap();
    let client = &world.client;
    fence(client, "reports", tokens[0]).await.unwrap();
    fence(client, "reports", tokens[0]).await.unwrap();
    fence(client, "reports", tokens[2]).await.unwrap();
    for old in &tokens[..2] {
        let outcome = fence(client, "reports", *old).await;
        assert!(is_refused(&outcome), "{outcome:?}");
        let error = outcome.unwrap_err();
        let hint = error.as_db_error().and_then(|refusal| refusal.hint());
        assert_eq!(hint, Some("acquire the lock again, and begin anew"));
    }
    // Another resource is another matter.
    fence(client, "exports", tokens[0]).await.unwrap();
}

#[tokio::test]
async fn an_old_holder_waits_for_the_newer_ones_transaction_and_fails_with_all_it_wrote() {
    let (world, minter) = world().await;
    let tokens = minter.mint(2).await.unwrap();
    let (old, new) = (world.database.client().await, world.database.client().await);
    new.batch_execute("BEGIN").await.unwrap();
    fence(&new, "reports", tokens[1]).await.unwrap();
    old.batch_execute("BEGIN; INSERT INTO t VALUES (1)")
        .await
        .unwrap();
    let refused = async { is_refused(&fence(&old, "reports", tokens[0]).await) };
    let committed = async {
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'";
        eventually(DEADLINE, async || match world.ask(waiting).await {
            none if none == "0" => Err(none),
            _ => Ok(()),
        })
        .await;
        new.batch_execute("INSERT INTO t VALUES (2); COMMIT")
            .await
            .unwrap();
    };
    let (refused, ()) = tokio::join!(refused, committed);
    assert!(refused);
    old.batch_execute("COMMIT").await.unwrap();
    assert_eq!(world.ask("SELECT array_agg(id) FROM t").await, "{2}");
}

#[tokio::test]
async fn a_transaction_that_is_rolled_back_has_shut_out_nobody() {
    let (world, minter) = world().await;
    let tokens = minter.mint(2).await.unwrap();
    world.execute("BEGIN").await;
    fence(&world.client, "reports", tokens[1]).await.unwrap();
    world.execute("ROLLBACK").await;
    fence(&world.client, "reports", tokens[0]).await.unwrap();
}

#[tokio::test]
async fn what_was_never_given_out_is_refused_and_shuts_out_nobody() {
    let (world, minter) = world().await;
    let client = &world.client;
    let unminted = fence(client, "reports", 1).await.unwrap_err();
    assert_eq!(unminted.code(), Some(&SqlState::INVALID_PARAMETER_VALUE));
    let token = minter.mint(1).await.unwrap()[0];
    for bad in [token + 1, i64::MAX, 0, -1, i64::MIN] {
        let error = fence(client, "reports", bad).await.unwrap_err();
        assert_eq!(
            error.code(),
            Some(&SqlState::INVALID_PARAMETER_VALUE),
            "{bad}"
        );
    }
    for bad in ["", &"x".repeat(513)] {
        let error = fence(client, bad, token).await.unwrap_err();
        assert_eq!(
            error.code(),
            Some(&SqlState::INVALID_PARAMETER_VALUE),
            "{bad}"
        );
    }
    let null = "SELECT cachewarden.fence(NULL, 1)";
    assert!(client.batch_execute(null).await.is_err());
    fence(client, "reports", token).await.unwrap();
}

#[tokio::test]
async fn programs_need_no_right_on_the_tables_behind_a_fence() {
    let (world, minter) = world().await;
    let token = minter.mint(1).await.unwrap()[0];
    let role = format!("program_{}", world.database.name());
    world
        .execute(&format!("CREATE ROLE {role}; SET ROLE {role}"))
        .await;
    fence(&world.client, "reports", token).await.unwrap();
    let peek = world
        .client
        .batch_execute("SELECT * FROM cachewarden.fences");
    assert!(peek.await.is_err());
}
