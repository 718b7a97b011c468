//! Tables that are changed through others: cascades, partitions, children, replication.

use cachewarden::cli::demo::servers::{Postgres, PostgresOptions};

use super::{CACHES, COURSES, WATCH, all, rows};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::servers::{Database, database_in, own_postgres};
use crate::support::watched::{Queued, Watched, queued};

#[tokio::test]
async fn a_cascade_from_another_table_is_a_change_of_this_one() {
    let sql = "CREATE TABLE authors (id int PRIMARY KEY);
        CREATE TABLE books (id int PRIMARY KEY, author int REFERENCES authors ON DELETE CASCADE ON UPDATE CASCADE);
        INSERT INTO authors VALUES (1), (2), (3); INSERT INTO books VALUES (10, 1), (11, 1), (12, 2), (13, 3)";
    let caches = r#"
[caches.book]
key = "books:{id:int}:by:{author:int}"
query = "SELECT id FROM books WHERE id = :id AND author = :author"
shape = "object"
ttl = "1m"
depends_on = { table = "books", on = { id = "id", author = "author" } }
"#;
    let world = Watched::start(sql, caches).await;
    assert_eq!(
        world.queues("DELETE FROM authors WHERE id = 1").await,
        [queued(&["books:10:by:1", "books:11:by:1"], &[])]
    );
    assert_eq!(
        world
            .queues("UPDATE authors SET id = 20 WHERE id = 2")
            .await,
        [queued(&["books:12:by:2", "books:12:by:20"], &[])]
    );
    let truncated = world.queues("TRUNCATE authors CASCADE").await;
    assert_eq!(truncated, [queued(&[], &["books:*:by:*"])]);
}

#[tokio::test]
async fn rows_that_leave_a_partition_and_arrive_nowhere_are_told_however_many_they_are() {
    // An update of them has old rows, and no new ones.
    let sql = "CREATE TABLE m (id bigint, day date) PARTITION BY RANGE (day);
        CREATE TABLE m1 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE m2 PARTITION OF m FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
        CREATE TRIGGER refuse BEFORE INSERT ON m2 FOR EACH ROW EXECUTE FUNCTION refuse();
        INSERT INTO m SELECT g, '2026-01-05' FROM generate_series(1, 9) g";
    let caches = r#"
[invalidation]
max_keys = 2
[caches.m]
key = "m:{id:bigint}"
query = "SELECT id FROM m WHERE id = :id"
shape = "object"
ttl = "1m"
depends_on = { table = "m", on = { id = "id" } }
"#;
    let world = Watched::start(sql, caches).await;
    let leave = |ids: &str| format!("UPDATE m SET day = '2026-02-05' WHERE id IN ({ids})");
    let told = world.queues(&leave("1, 2, 3, 4")).await;
    assert_eq!(told, [queued(&["m:1", "m:2", "m:3", "m:4"], &[])]);
    let told = world.queues(&leave("5, 6, 7, 8, 9")).await;
    assert_eq!(told, [queued(&[], &["m:*"])]);
}

#[tokio::test]
async fn partitions_are_watched_however_they_are_written_to() {
    let sql = "CREATE TABLE m (id bigint, day date) PARTITION BY RANGE (day);
        CREATE TABLE m1 PARTITION OF m FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        CREATE TABLE m2 PARTITION OF m FOR VALUES FROM ('2026-02-01') TO ('2027-01-01') PARTITION BY LIST (id);
        CREATE TABLE m2a PARTITION OF m2 FOR VALUES IN (1, 2);
        CREATE TABLE old (note text, day date, id bigint)";
    let caches = r#"
[caches.m]
key = "m:{id:bigint}:{day:date}"
query = "SELECT id FROM m WHERE id = :id AND day = :day"
shape = "object"
ttl = "1m"
depends_on = { table = "m", on = { id = "id", day = "day" } }
"#;
    let world = Watched::start(sql, caches).await;
    let key = |id: i64, day: &str| format!("m:{id}:2026-{day}");
    let one = |key: String| {
        vec![Queued {
            keys: vec![key],
            patterns: vec![],
        }]
    };
    let table = [
        (
            "INSERT INTO m VALUES (1, '2026-01-05')",
            one(key(1, "01-05")),
        ),
        (
            "INSERT INTO m1 VALUES (2, '2026-01-06')",
            one(key(2, "01-06")),
        ),
        (
            "INSERT INTO m2 VALUES (1, '2026-02-06')",
            one(key(1, "02-06")),
        ),
        (
            "INSERT INTO m2a VALUES (2, '2026-02-07')",
            one(key(2, "02-07")),
        ),
        (
            "UPDATE m SET day = '2026-02-05' WHERE day = '2026-01-05'",
            vec![Queued {
                keys: vec![key(1, "01-05"), key(1, "02-05")],
                patterns: vec![],
            }],
        ),
        ("TRUNCATE m2a", vec![queued(&[], &["m:*:*"])]),
    ];
    for (sql, expected) in table {
        assert_eq!(world.queues(sql).await, expected, "{sql}");
    }
    // A partition that came later is found, and mended.
    world.execute("ALTER TABLE old DROP COLUMN note; ALTER TABLE m ATTACH PARTITION old FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')").await;
    let (code, _, stderr) = world.run(&["check", "--connect"]).await;
    assert_eq!(code, Some(78));
    assert!(
        stderr.contains("the triggers on public.old are not all installed"),
        "{stderr}"
    );
    world.migrate().await;
    let direct = world
        .queues("INSERT INTO old (id, day) VALUES (9, '2027-03-04')")
        .await;
    assert_eq!(direct, [queued(&["m:9:2027-03-04"], &[])]);
}

#[tokio::test]
async fn children_by_inheritance_are_watched() {
    let caches = format!("{CACHES}{WATCH}");
    let world = Watched::start(
        &format!("{COURSES} CREATE TABLE child () INHERITS (courses)"),
        &caches,
    )
    .await;
    assert_eq!(
        world.queues("INSERT INTO child VALUES (30, 'kid')").await,
        [rows(&[(30, "kid")])]
    );
    assert_eq!(
        world
            .queues("UPDATE courses SET title = 'p' WHERE id = 30")
            .await,
        [rows(&[(30, "kid")])]
    );
}

/// A publisher, and a server that takes what is published.
async fn replicated(prepare: &str) -> (Postgres, Database, Watched) {
    let settings = vec![("wal_level".to_owned(), "logical".to_owned())];
    let postgres = own_postgres(&PostgresOptions { settings });
    let publisher = database_in(&postgres).await;
    let sql = "CREATE TABLE courses (id bigint PRIMARY KEY, slug text, title text)";
    publisher
        .execute(&format!("{sql}; CREATE PUBLICATION p FOR TABLE courses"))
        .await;
    // Made here: a subscription to the same server would wait for its own transaction.
    publisher
        .execute("SELECT pg_create_logical_replication_slot('s', 'pgoutput')")
        .await;
    let world = Watched::unmigrated_in(
        database_in(&postgres).await,
        sql,
        &format!("{CACHES}{WATCH}"),
    )
    .await;
    world.migrate().await;
    world.execute(prepare).await;
    let url = publisher.url();
    world
        .execute(&format!(
            "CREATE SUBSCRIPTION s CONNECTION '{url}' PUBLICATION p WITH (create_slot = false, slot_name = 's', copy_data = false)"
        ))
        .await;
    (postgres, publisher, world)
}

/// Waits until so many rows are queued.
async fn queued_at_last(world: &Watched, expected: &[Queued]) {
    let mut got = Vec::new();
    eventually(DEADLINE, async || {
        got.extend(world.take().await);
        if got.len() < expected.len() {
            Err(got.clone())
        } else {
            Ok(())
        }
    })
    .await;
    assert_eq!(got, expected);
}

const NO_MORE: &str = "ALTER SUBSCRIPTION s DISABLE; ALTER SUBSCRIPTION s SET (slot_name = NONE); DROP SUBSCRIPTION s";

#[tokio::test]
async fn what_logical_replication_applies_is_queued() {
    let (_postgres, publisher, world) = replicated("").await;
    publisher.execute("INSERT INTO courses VALUES (1, 'a'), (2, 'b'); UPDATE courses SET id = 10 WHERE id = 1; DELETE FROM courses WHERE id = 2; TRUNCATE courses").await;
    let expected = [
        rows(&[(1, "a")]),
        rows(&[(2, "b")]),
        rows(&[(1, "a"), (10, "a")]),
        rows(&[(2, "b")]),
        all(),
    ];
    queued_at_last(&world, &expected).await;
    // The same trigger keeps still in a session that only restores.
    let restored = world
        .queues(
            "SET session_replication_role = replica; INSERT INTO courses VALUES (3, 'c'), (4, 'd')",
        )
        .await;
    assert_eq!(restored, [rows(&[(3, "c"), (4, "d")])]);
    world.execute(NO_MORE).await;
}

#[tokio::test]
async fn what_logical_replication_applies_is_queued_by_triggers_of_a_role_that_may_not_see_it() {
    // As if it had installed them.
    let prepare = "CREATE ROLE plain; GRANT USAGE ON SCHEMA cachewarden TO plain;
        GRANT INSERT ON cachewarden.outbox TO plain;
        GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA cachewarden TO plain;
        DO $$ DECLARE f regprocedure; BEGIN
            FOR f IN SELECT oid FROM pg_proc WHERE pronamespace = 'cachewarden'::regnamespace AND proname LIKE 'watch%' LOOP
                EXECUTE format('ALTER FUNCTION %s OWNER TO plain', f);
            END LOOP; END $$";
    let (_postgres, publisher, world) = replicated(prepare).await;
    publisher
        .execute("INSERT INTO courses VALUES (1, 'a'); DELETE FROM courses")
        .await;
    queued_at_last(&world, &[rows(&[(1, "a")]), rows(&[(1, "a")])]).await;
    world.execute(NO_MORE).await;
}
