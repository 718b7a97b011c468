//! The queue of invalidations: what is committed is handed out until it was applied, whoever dies meanwhile.

use std::collections::BTreeSet;
use std::time::Duration;

use cachewarden::config::{Invalidation, Postgres, Secret};
use cachewarden::repository::{Claim, Outbox, RepositoryError};
use tokio::runtime::Handle;
use tokio_postgres::Client;

use super::support::DEADLINE;
use super::support::eventually::eventually;
use super::support::servers::database;
use super::support::watched::Watched;

const WATCH: &str = r#"
[namespaces.k]
prefix = "k:"
ttl = "1m"
[[invalidation.watch]]
table = "t"
invalidate = ["k:{id}"]
"#;

async fn world() -> Watched {
    Watched::start("CREATE TABLE t (id text)", WATCH).await
}

fn postgres(url: &str) -> Postgres {
    Postgres {
        url: Secret::new(url),
        pool_size: 2,
        statement_timeout: DEADLINE,
    }
}

/// The queue as one more daemon sees it.
fn outbox(world: &Watched) -> Outbox {
    remembering(world, Duration::from_secs(60))
}

fn remembering(world: &Watched, replay_window: Duration) -> Outbox {
    let invalidation = Invalidation {
        replay_window,
        ..Invalidation::default()
    };
    Outbox::new(
        &postgres(world.database.url()),
        &invalidation,
        Handle::current(),
    )
    .unwrap()
}

async fn claimed(outbox: &Outbox) -> Claim {
    outbox.claim(100).await.unwrap().expect("there are rows")
}

fn keys(claim: &Claim) -> Vec<&str> {
    claim
        .rows()
        .iter()
        .flat_map(|row| row.keys.iter().map(String::as_str))
        .collect()
}

const COUNTS: &str = "SELECT concat_ws(' ', (SELECT count(*) FROM cachewarden.outbox),
    (SELECT count(*) FROM cachewarden.dead), (SELECT count(*) FROM cachewarden.applied))";

#[tokio::test]
async fn what_is_claimed_is_handed_to_nobody_else_and_gone_when_it_is_done() {
    let world = world().await;
    let (one, other) = (outbox(&world), outbox(&world));
    assert!(one.claim(10).await.unwrap().is_none());
    world
        .execute("INSERT INTO t VALUES ('a'), ('b'); SELECT cachewarden.invalidate('k:c', 'k:*')")
        .await;
    let first = one.claim(1).await.unwrap().unwrap();
    assert_eq!(keys(&first), ["k:a", "k:b"]);
    assert_eq!(first.rows()[0].source, "public.t");
    assert!(first.rows()[0].since.elapsed() < DEADLINE);
    let second = claimed(&other).await;
    assert_eq!(
        (keys(&second), second.rows()[0].patterns.as_slice()),
        (vec!["k:c"], &["k:*".to_owned()][..])
    );
    assert!(outbox(&world).claim(10).await.unwrap().is_none());
    assert_eq!(one.backlog().await.unwrap().rows, 2);
    first.done().await.unwrap();
    second.done().await.unwrap();
    assert_eq!(world.ask(COUNTS).await, "0 0 2");
    let applied =
        "SELECT array_agg(k ORDER BY k) FROM cachewarden.applied, unnest(keys || patterns) AS k";
    assert_eq!(world.ask(applied).await, "{k:*,k:a,k:b,k:c}");
    assert!(one.claim(10).await.unwrap().is_none());
}

#[tokio::test]
async fn what_is_dropped_lost_or_held_too_long_is_handed_out_again() {
    let world = world().await;
    world.execute("INSERT INTO t VALUES ('a')").await;
    let again = async |outbox: &Outbox| {
        let claim = eventually(DEADLINE, async || {
            outbox.claim(10).await.unwrap().ok_or("no rows")
        })
        .await;
        assert_eq!(keys(&claim), ["k:a"]);
        claim
    };
    let one = outbox(&world);
    let other = outbox(&world);

    drop(again(&one).await);
    let claim = again(&other).await;

    // kill -9 of its session; as of a daemon's, Postgres sees the connection end.
    world.ask("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE state = 'idle in transaction'
               AND datname = current_database()").await;
    let kept = again(&one).await;
    assert!(matches!(
        claim.done().await,
        Err(RepositoryError::Queue { .. })
    ));
    assert_eq!(world.ask(COUNTS).await, "1 0 0");
    drop(kept);

    // A daemon that is frozen keeps its connection.
    let short = Duration::from_millis(300);
    let (postgres, invalidation) = (postgres(world.database.url()), Invalidation::default());
    let frozen =
        Outbox::holding_at_most(short, &postgres, &invalidation, Handle::current()).unwrap();
    let held = again(&frozen).await;
    again(&one).await.done().await.unwrap();
    assert!(matches!(
        held.done().await,
        Err(RepositoryError::Queue { .. })
    ));
    assert_eq!(world.ask(COUNTS).await, "0 0 1");
    // It goes on with another connection.
    world.execute("INSERT INTO t VALUES ('a')").await;
    // As quickly as it must, which a busy machine may not let it at once.
    eventually(DEADLINE, async || again(&frozen).await.done().await).await;
}

#[tokio::test]
async fn a_row_that_cannot_be_applied_is_put_aside_with_its_reason() {
    let world = world().await;
    let outbox = outbox(&world);
    world
        .execute(
            "INSERT INTO t VALUES ('a'); INSERT INTO t VALUES ('b'); INSERT INTO t VALUES ('c')",
        )
        .await;
    let mut claim = claimed(&outbox).await;
    let poisoned = claim.rows()[1].id;
    claim.bury(poisoned, "too wide");
    claim.done().await.unwrap();
    assert_eq!(world.ask(COUNTS).await, "0 1 1");
    assert_eq!(
        world
            .ask("SELECT source || keys::text || reason FROM cachewarden.dead")
            .await,
        "public.t{k:b}too wide"
    );
    assert_eq!(
        world
            .ask("SELECT array_agg(k ORDER BY k) FROM cachewarden.applied, unnest(keys) AS k")
            .await,
        "{k:a,k:b,k:c}",
        "what it could mean was invalidated, and may have to be once more"
    );
    // All of a claim, too.
    world.execute("INSERT INTO t VALUES ('d')").await;
    let mut claim = claimed(&outbox).await;
    let poisoned = claim.rows()[0].id;
    claim.bury(poisoned, "too wide");
    claim.done().await.unwrap();
    assert_eq!(world.ask(COUNTS).await, "0 2 2");
}

#[tokio::test]
async fn what_is_claimed_again_is_free_wanted_and_nothing_else() {
    let world = world().await;
    let (one, other) = (outbox(&world), outbox(&world));
    world
        .execute(
            "INSERT INTO t VALUES ('a'); INSERT INTO t VALUES ('b'); INSERT INTO t VALUES ('c')",
        )
        .await;
    let claim = claimed(&one).await;
    let ids: Vec<i64> = claim.rows().iter().map(|row| row.id).collect();
    assert!(other.claim_again(&ids, |_| true).await.unwrap().is_none());
    drop(claim);
    let held = eventually(DEADLINE, async || {
        one.claim(1).await.unwrap().ok_or("no rows")
    })
    .await;
    let mut again = eventually(DEADLINE, async || {
        let again = other.claim_again(&ids, |row| row.id != ids[2]);
        again.await.unwrap().ok_or("no rows")
    })
    .await;
    assert_eq!(keys(&again), ["k:b"]);
    // A row that is not of the claim is not waited for.
    again.bury(held.rows()[0].id, "too wide");
    again.done().await.unwrap();
    held.done().await.unwrap();
    assert_eq!(world.ask(COUNTS).await, "1 0 2");
    assert!(
        other
            .claim_again(&ids[..2], |_| true)
            .await
            .unwrap()
            .is_none()
    );
    assert_eq!(keys(&claimed(&other).await), ["k:c"]);
}

#[tokio::test]
async fn what_was_applied_is_kept_for_the_replay_window_and_no_longer() {
    let world = world().await;
    let outbox = remembering(&world, Duration::from_secs(60));
    for (age, kept) in [("10 seconds", "2"), ("2 minutes", "1")] {
        world
            .execute("DELETE FROM cachewarden.applied; INSERT INTO t VALUES ('a')")
            .await;
        claimed(&outbox).await.done().await.unwrap();
        let older = format!(
            "UPDATE cachewarden.applied SET at = at - interval '{age}'; INSERT INTO t VALUES ('b')"
        );
        world.execute(&older).await;
        claimed(&outbox).await.done().await.unwrap();
        assert_eq!(
            world.ask("SELECT count(*) FROM cachewarden.applied").await,
            kept,
            "{age}"
        );
    }
}

#[tokio::test]
async fn large_rows_are_handed_out_a_few_at_a_time() {
    let world = world().await;
    let outbox = outbox(&world);
    world
        .execute(
            "INSERT INTO cachewarden.outbox (source, keys)
             SELECT 's', array_agg('k:' || n) FROM generate_series(1, 4) g, generate_series(1, 60000) n GROUP BY g",
        )
        .await;
    for expected in [2, 2] {
        let claim = claimed(&outbox).await;
        assert_eq!(claim.rows().len(), expected);
        claim.done().await.unwrap();
    }
    assert!(outbox.claim(10).await.unwrap().is_none());
}

#[tokio::test]
async fn the_backlog_tells_how_much_waits_and_how_long() {
    let world = world().await;
    let outbox = outbox(&world);
    let backlog = outbox.backlog().await.unwrap();
    assert_eq!((backlog.rows, backlog.oldest), (0, None));
    world.execute("INSERT INTO t VALUES ('a'); INSERT INTO t VALUES ('b'); UPDATE cachewarden.outbox SET at = at - interval '1 hour' WHERE keys = '{k:a}'").await;
    let backlog = outbox.backlog().await.unwrap();
    assert_eq!(backlog.rows, 2);
    let hour = Duration::from_secs(3600);
    assert!(
        (hour..hour + DEADLINE).contains(&backlog.oldest.unwrap()),
        "{backlog:?}"
    );
    let claim = claimed(&outbox).await;
    assert!(claim.rows()[0].since.elapsed() >= hour);
}

#[tokio::test]
async fn without_the_queue_a_claim_says_what_is_missing() {
    let database = database().await;
    let outbox = Outbox::new(
        &postgres(database.url()),
        &Invalidation::default(),
        Handle::current(),
    )
    .unwrap();
    let error = outbox.claim(1).await.err().unwrap().to_string();
    assert_eq!(
        error,
        "cannot open the queue of invalidations: relation \"cachewarden.outbox\" does not exist (SQLSTATE 42P01)"
    );
}

/// Why there is no cursor: the smallest case in which one loses a row.
#[tokio::test]
async fn a_row_that_becomes_visible_after_one_with_a_higher_id_is_handed_out() {
    let world = world().await;
    let (late, early) = (world.database.client().await, world.database.client().await);
    late.batch_execute("BEGIN; INSERT INTO t VALUES ('late')")
        .await
        .unwrap();
    early
        .batch_execute("INSERT INTO t VALUES ('early')")
        .await
        .unwrap();
    let mut cursor = Cursor::default();
    cursor.read(&world.client).await;
    let claim = claimed(&outbox(&world)).await;
    assert_eq!(keys(&claim), ["k:early"]);
    late.batch_execute("COMMIT").await.unwrap();
    cursor.read(&world.client).await;
    assert_eq!(
        cursor.seen,
        BTreeSet::from(["k:early".to_owned()]),
        "the control loses no row"
    );
    assert_eq!(keys(&claimed(&outbox(&world)).await), ["k:late"]);
}

/// What the queue is not: a log, read from the last id seen.
#[derive(Default)]
struct Cursor {
    last: i64,
    seen: BTreeSet<String>,
}

impl Cursor {
    async fn read(&mut self, client: &Client) {
        let sql = "SELECT id, keys FROM cachewarden.outbox WHERE id > $1 ORDER BY id";
        for row in client.query(sql, &[&self.last]).await.unwrap() {
            self.last = row.get(0);
            self.seen.extend(row.get::<_, Vec<String>>(1));
        }
    }
}

const WRITERS: usize = 8;
const CLAIMERS: usize = 4;
const TRANSACTIONS: usize = 60;

/// Changes rows in transactions that take their time between change and commit, so that ids become visible out of order; every
/// fifth is rolled back. The keys of those committed.
async fn write(world: &Watched, writer: usize) -> BTreeSet<String> {
    let client = world.database.client().await;
    let mut committed = BTreeSet::new();
    for n in 0..TRANSACTIONS {
        let id = format!("{writer}-{n}");
        let end = if n % 5 == 4 { "ROLLBACK" } else { "COMMIT" };
        let sql = format!(
            "BEGIN; INSERT INTO t VALUES ('{id}'); SELECT pg_sleep(random() * 0.02); {end}"
        );
        client.batch_execute(&sql).await.unwrap();
        if end == "COMMIT" {
            committed.insert(format!("k:{id}"));
        }
    }
    committed
}

async fn write_all(world: &Watched) -> BTreeSet<String> {
    let all = futures_util::future::join_all((0..WRITERS).map(|writer| write(world, writer))).await;
    all.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn of_eight_writers_and_four_claimers_that_fail_at_times_no_row_is_lost_and_none_is_left() {
    let world = world().await;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let claimer = async |n: usize| {
        let outbox = outbox(&world);
        let mut applied = BTreeSet::new();
        for round in 0.. {
            let ends = is_over.load(std::sync::atomic::Ordering::SeqCst);
            let Some(claim) = outbox.claim(5).await.unwrap() else {
                // Rows that another one holds are its own to remove, or to drop: then they are seen again.
                if ends && outbox.backlog().await.unwrap().rows == 0 {
                    break;
                }
                tokio::task::yield_now().await;
                continue;
            };
            let seen: Vec<String> = keys(&claim).into_iter().map(String::from).collect();
            // Dies between having been given the rows and having applied them.
            if (round + n).is_multiple_of(7) {
                drop(claim);
                continue;
            }
            applied.extend(seen);
            claim.done().await.unwrap();
        }
        applied
    };
    let writing = async {
        let committed = write_all(&world).await;
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        committed
    };
    let claiming = futures_util::future::join_all((0..CLAIMERS).map(claimer));
    let (committed, applied) = tokio::join!(writing, claiming);
    let applied: BTreeSet<String> = applied.into_iter().flatten().collect();
    assert_eq!(committed.len(), WRITERS * TRANSACTIONS * 4 / 5);
    assert_eq!(
        applied, committed,
        "lost, or applied though it was rolled back"
    );
    assert_eq!(
        world.ask("SELECT count(*) FROM cachewarden.outbox").await,
        "0"
    );
    let kept = "SELECT count(DISTINCT name) FROM cachewarden.applied, unnest(keys) AS name";
    assert_eq!(world.ask(kept).await, committed.len().to_string());
}

/// The control of the test above: the same writers, read as a log.
#[tokio::test(flavor = "multi_thread")]
async fn of_eight_writers_a_cursor_loses_rows() {
    let world = world().await;
    let is_over = std::sync::atomic::AtomicBool::new(false);
    let reading = async {
        let mut cursor = Cursor::default();
        loop {
            let ends = is_over.load(std::sync::atomic::Ordering::SeqCst);
            cursor.read(&world.client).await;
            if ends {
                return cursor.seen;
            }
        }
    };
    let writing = async {
        let committed = write_all(&world).await;
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        committed
    };
    let (committed, seen) = tokio::join!(writing, reading);
    let lost = committed.difference(&seen).count();
    assert!(
        lost > committed.len() / 100,
        "the control lost {lost} of {}",
        committed.len()
    );
}
