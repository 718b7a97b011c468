//! A large backlog of the queue is taken as a whole, and nothing of it is lost on the way.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::{Invalidation, Postgres, Secret};
use cachewarden::repository::Outbox;
use tokio::runtime::Handle;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::redis;
use super::support::watched::Watched;
use super::support::world::{figure, raw};

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'old' FROM generate_series(1, 100) n";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [caches.plain]
    key = "plain:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "1h"

    [invalidation]
    [[invalidation.watch]]
    table = "courses"
    invalidate = ["courses:{id}", "plain:{id}"]
"#;

/// More than is applied row by row.
const ROWS: u64 = 300_000;

fn outbox(watched: &Watched) -> Outbox {
    let postgres = Postgres {
        url: Secret::new(watched.database.url()),
        pool_size: 2,
        statement_timeout: DEADLINE,
    };
    Outbox::new(&postgres, &Invalidation::default(), Handle::current()).unwrap()
}

/// Changes all courses, which is told in the last rows of many, one each.
async fn flood(watched: &Watched) {
    let before = ROWS - 100;
    let flood = format!(
        "BEGIN; UPDATE courses SET title = 'new'; DELETE FROM cachewarden.outbox;
         INSERT INTO cachewarden.outbox (source, keys)
         SELECT 'public.courses', ARRAY['courses:' || CASE WHEN n > {before} THEN n - {before} ELSE 1000 END]
         FROM generate_series(1, {ROWS}) n;
         COMMIT"
    );
    watched.execute(&flood).await;
}

async fn rows(watched: &Watched) -> u64 {
    let rows = watched.ask("SELECT count(*) FROM cachewarden.outbox");
    rows.await.parse().unwrap()
}

async fn until_empty(watched: &Watched) {
    // Debug builds on a machine that does other things.
    eventually(3 * DEADLINE, async || match rows(watched).await {
        0 => Ok(()),
        rows => Err(rows),
    })
    .await;
}

async fn get(client: &mut Client, key: &str) -> String {
    client.command(&["GET", key]).await.text().to_owned()
}

async fn whole_rows(client: &mut Client) -> u64 {
    figure(client, "cachewarden_outbox_whole_rows_total", "").await
}

/// Changes whose time from the commit on was taken.
async fn measured(client: &mut Client) -> u64 {
    let name = "cachewarden_invalidation_seconds_count";
    figure(client, name, "source=\"outbox\"").await
}

/// Fills both caches, by a daemon that is gone then.
async fn filled(watched: &Watched) -> Redis {
    let redis = redis();
    let text = config(watched.database.url(), &redis.redis_url(), CACHES);
    let daemon = InProcess::start(&text).await;
    let mut client = daemon.client().await;
    for id in 1..=100 {
        for key in [format!("courses:{id}"), format!("plain:{id}")] {
            assert_eq!(get(&mut client, &key).await, "\"old\"");
        }
    }
    daemon.stop().await;
    redis
}

#[tokio::test]
async fn a_large_backlog_is_taken_as_a_whole_and_other_rows_as_ever() {
    let watched = Watched::start(COURSES, CACHES).await;
    let redis = filled(&watched).await;
    flood(&watched).await;
    // Another daemon's key, and one that makes a row no mere row of courses.
    watched
        .execute(
            "INSERT INTO cachewarden.outbox (source, keys) VALUES
             ('public.others', '{others:1}'), ('public.courses', '{courses:1,plain:1}')",
        )
        .await;
    let mut raw = raw(&redis).await;
    raw.command(&["SET", "others:1", "old", "EX", "600"]).await;
    let text = config(watched.database.url(), &redis.redis_url(), CACHES);
    let (one, two) = tokio::join!(InProcess::start(&text), InProcess::start(&text));
    until_empty(&watched).await;
    let mut client = one.client().await;
    let taken = whole_rows(&mut client).await + whole_rows(&mut two.client().await).await;
    // The others were claimed meanwhile, and applied row by row.
    assert_ne!(taken, 0);
    // Of each it is told how long it took, however it was applied.
    eventually(DEADLINE, async || {
        match measured(&mut client).await + measured(&mut two.client().await).await {
            told if told == ROWS + 2 => Ok(()),
            told => Err(told),
        }
    })
    .await;
    for id in 1..=100 {
        assert_eq!(get(&mut client, &format!("courses:{id}")).await, "\"new\"");
    }
    assert_eq!(raw.command(&["GET", "others:1"]).await, Value::Nil);
    assert_eq!(raw.command(&["GET", "plain:1"]).await, Value::Nil);
    let kept = raw.command(&["GET", "plain:2"]).await;
    assert_eq!(kept, Value::bulk("\"old\""), "nobody named it");
    let noted = "SELECT count(*) > 0 FROM cachewarden.applied WHERE 'courses:*' = ANY (patterns)";
    assert_eq!(watched.ask(noted).await, "t");
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_daemon_that_is_killed_on_the_way_leaves_every_row() {
    let watched = Watched::start(COURSES, CACHES).await;
    let redis = filled(&watched).await;
    flood(&watched).await;
    // Nothing can be noted as applied, and so nothing removed.
    let session = watched.database.client().await;
    session
        .batch_execute(
            "SELECT pg_advisory_lock(1);
             CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NULL; END';
             CREATE TRIGGER hold BEFORE INSERT ON cachewarden.applied EXECUTE FUNCTION hold()",
        )
        .await
        .unwrap();
    let doomed = Spawned::start_unready(watched.database.url(), &redis.redis_url(), CACHES);
    let noting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                  AND datname = current_database() AND query LIKE '%VALUES ($1, $2)'";
    eventually(3 * DEADLINE, async || {
        match watched.ask(noting).await.as_str() {
            "0" => Err(doomed.stderr()),
            _ => Ok(()),
        }
    })
    .await;
    drop(doomed);
    drop(session);
    assert_eq!(rows(&watched).await, ROWS);
    // As if it had been killed before it swept: the next one has to sweep again.
    let mut raw = raw(&redis).await;
    raw.command(&["SET", "courses:1", "\"old\"", "EX", "600"])
        .await;
    let text = config(watched.database.url(), &redis.redis_url(), CACHES);
    let daemon = InProcess::start(&text).await;
    until_empty(&watched).await;
    let mut client = daemon.client().await;
    assert_ne!(whole_rows(&mut client).await, 0);
    assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
    daemon.stop().await;
}

const WRITERS: usize = 20;
const TRANSACTIONS: usize = 60;

/// Queues rows in transactions that take their time until they commit, so that ids become visible out of order. Those committed.
async fn write(watched: &Watched, writer: usize) -> BTreeSet<i64> {
    let client = watched.database.client().await;
    let mut committed = BTreeSet::new();
    for n in 0..TRANSACTIONS {
        client.batch_execute("BEGIN").await.unwrap();
        let insert =
            "INSERT INTO cachewarden.outbox (source, keys) VALUES ('t', ARRAY[$1]) RETURNING id";
        let key = format!("courses:{writer}-{n}");
        let row = client.query_one(insert, &[&key]).await.unwrap();
        let end = if n % 5 == 4 { "ROLLBACK" } else { "COMMIT" };
        let sql = format!("SELECT pg_sleep(random() * 0.02); {end}");
        client.batch_execute(&sql).await.unwrap();
        if end == "COMMIT" {
            committed.insert(row.get(0));
        }
    }
    committed
}

/// Has all writers write while `take` goes on: those committed, and those that `take` saw.
async fn while_all_write(
    watched: &Watched,
    take: impl AsyncFn() -> BTreeSet<i64>,
) -> (BTreeSet<i64>, BTreeSet<i64>) {
    let is_over = AtomicBool::new(false);
    let writing = async {
        let writers = (0..WRITERS).map(|writer| write(watched, writer));
        let committed = futures_util::future::join_all(writers).await;
        is_over.store(true, Ordering::SeqCst);
        committed.into_iter().flatten().collect()
    };
    let taking = async {
        let mut seen = BTreeSet::new();
        loop {
            let ends = is_over.load(Ordering::SeqCst);
            seen.extend(take().await);
            if ends && rows(watched).await == 0 {
                return seen;
            }
        }
    };
    tokio::join!(writing, taking)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_twenty_writers_commit_out_of_order_only_what_was_seen_is_removed() {
    let watched = Watched::start(COURSES, CACHES).await;
    let outbox = outbox(&watched);
    let prefixes = ["courses:".to_owned()];
    let take = async || {
        let seen = outbox.naming_only(&prefixes, 1_000_000).await.unwrap();
        // Here everything under the prefix would be swept.
        outbox.remove_seen(&seen, drop).await.unwrap();
        seen.ids().iter().copied().collect()
    };
    let (committed, seen) = while_all_write(&watched, take).await;
    assert_eq!(committed.len(), WRITERS * TRANSACTIONS * 4 / 5);
    assert_eq!(
        seen, committed,
        "removed unseen, or seen though rolled back"
    );
}

/// The same, but what is removed is told from the highest id that was seen.
#[tokio::test(flavor = "multi_thread")]
async fn control_who_removes_up_to_the_highest_id_removes_what_was_not_seen() {
    let watched = Watched::start(COURSES, CACHES).await;
    let take = async || {
        let client = &watched.client;
        let sql = "SELECT id FROM cachewarden.outbox";
        let seen: BTreeSet<i64> = client
            .query(sql, &[])
            .await
            .unwrap()
            .iter()
            .map(|row| row.get(0))
            .collect();
        // As long as a quick sweep takes.
        client
            .batch_execute("SELECT pg_sleep(0.005)")
            .await
            .unwrap();
        let remove = "DELETE FROM cachewarden.outbox WHERE id <= $1";
        client
            .execute(remove, &[&seen.last().copied().unwrap_or(0)])
            .await
            .unwrap();
        seen
    };
    let (committed, seen) = while_all_write(&watched, take).await;
    assert_ne!(committed.difference(&seen).count(), 0);
}

#[tokio::test]
async fn what_is_claimed_younger_or_names_anything_else_is_not_removed_with_the_backlog() {
    let watched = Watched::start(COURSES, CACHES).await;
    let (outbox, other) = (outbox(&watched), outbox(&watched));
    let queue = async |names: &str| {
        let sql = format!(
            "INSERT INTO cachewarden.outbox (source, keys, patterns) VALUES ('t', {names})"
        );
        watched.execute(&sql).await;
    };
    queue("'{courses:1}', '{}'").await;
    let claim = other.claim(1).await.unwrap().unwrap();
    for names in [
        "'{courses:2}', '{courses:*}'",
        "'{courses:3,plain:3}', '{}'",
        "'{courses:4}', '{plain:*}'",
        "'{}', '{c*:5}'",
        "'{course}', '{}'",
        "'{}', '{}'",
        "'{courses:6,NULL}', ARRAY['courses\\:*']",
    ] {
        queue(names).await;
    }
    let prefixes = ["courses:".to_owned()];
    let seen = outbox.naming_only(&prefixes, 1_000_000).await.unwrap();
    assert_eq!(seen.rows(), 3, "{seen:?}");
    // As if the queue had been installed anew meanwhile, and given the id of a row that was seen to another one.
    watched
        .execute("UPDATE cachewarden.outbox SET at = at + interval '1 hour' WHERE keys = '{}' AND patterns = '{}'")
        .await;
    assert_eq!(outbox.remove_seen(&seen, drop).await.unwrap(), 1);
    drop(claim);
    let left = "SELECT string_agg(keys[1], ' ' ORDER BY id) FROM cachewarden.outbox";
    assert_eq!(
        watched.ask(left).await,
        "courses:1 courses:3 courses:4 course courses:6"
    );
    let segments = outbox.segments(3).await.unwrap();
    assert_eq!(segments, ["courses:"]);
}
