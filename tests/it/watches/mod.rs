//! Every way to change a watched table, and the keys that its triggers queue in the same transaction.

mod rights;
mod tables;
mod values;

use futures_util::SinkExt;

use super::support::watched::{Queued, Watched, queued};

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, slug text, title text);
    INSERT INTO courses SELECT g, 'slug-' || g, 'x' FROM generate_series(1, 5) g;";

const CACHES: &str = r#"
[caches.course]
key = "courses:{id:bigint}"
query = "SELECT title FROM courses WHERE id = :id"
shape = "object"
ttl = "1m"
[caches.course_by_slug]
key = "courses:slug:{slug:text}"
query = "SELECT title FROM courses WHERE slug = :slug"
shape = "object"
ttl = "1m"
[caches.course_count]
key = "courses:count"
query = "SELECT count(*) FROM courses"
shape = "scalar"
ttl = "1m"
[caches.similar]
key = "similar:{slug:text}:{page:int}"
query = "SELECT title FROM courses WHERE slug = :slug OFFSET :page"
shape = "array"
ttl = "1m"
"#;

const WATCH: &str = r#"
[[invalidation.watch]]
table = "public.courses"
invalidate = ["courses:{id}", "courses:slug:{slug}", "similar:{slug}:*", "courses:list:*", "courses:count"]
"#;

async fn courses() -> Watched {
    Watched::start(COURSES, &format!("{CACHES}{WATCH}")).await
}

/// What a statement queues that changes these rows.
fn rows(rows: &[(i64, &str)]) -> Queued {
    let mut keys = vec!["courses:count".to_owned()];
    let mut patterns = vec!["courses:list:*".to_owned()];
    for (id, slug) in rows {
        keys.push(format!("courses:{id}"));
        keys.push(format!("courses:slug:{slug}"));
        patterns.push(format!("similar:{slug}:*"));
    }
    keys.sort();
    patterns.sort();
    keys.dedup();
    patterns.dedup();
    Queued { keys, patterns }
}

/// What is queued when the rows cannot be named.
fn all() -> Queued {
    queued(
        &["courses:count"],
        &[
            "courses:*",
            "courses:list:*",
            "courses:slug:*",
            "similar:*:*",
        ],
    )
}

#[tokio::test]
async fn every_statement_queues_the_keys_of_the_rows_it_changes_old_and_new() {
    let world = courses().await;
    let table: &[(&str, &[Queued])] = &[
        (
            "INSERT INTO courses VALUES (7, 'seven'), (8, 'eight')",
            &[rows(&[(7, "seven"), (8, "eight")])],
        ),
        (
            "UPDATE courses SET title = 'y' WHERE id = 7",
            &[rows(&[(7, "seven")])],
        ),
        // The key column itself: who has the old key must hear of it, too.
        (
            "UPDATE courses SET id = 70, slug = 'seventy' WHERE id = 7",
            &[rows(&[(7, "seven"), (70, "seventy")])],
        ),
        (
            "DELETE FROM courses WHERE id IN (8, 70)",
            &[rows(&[(8, "eight"), (70, "seventy")])],
        ),
        ("UPDATE courses SET title = 'y' WHERE id = 12345", &[]),
        ("DELETE FROM courses WHERE false", &[]),
        (
            "INSERT INTO courses VALUES (1, 'new'), (9, 'nine') ON CONFLICT (id) DO UPDATE SET slug = EXCLUDED.slug",
            &[rows(&[(9, "nine")]), rows(&[(1, "slug-1"), (1, "new")])],
        ),
        (
            "WITH gone AS (DELETE FROM courses WHERE id = 9 RETURNING *) INSERT INTO courses SELECT 10, 'ten' FROM gone",
            &[rows(&[(9, "nine")]), rows(&[(10, "ten")])],
        ),
        (
            "MERGE INTO courses c USING (VALUES (10), (11)) v (id) ON c.id = v.id
             WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (v.id, 'eleven')",
            &[rows(&[(11, "eleven")]), rows(&[(10, "ten")])],
        ),
        ("TRUNCATE courses", &[all()]),
        (
            "DO $$ BEGIN INSERT INTO courses VALUES (1, 'a'); UPDATE courses SET slug = 'b'; END $$",
            &[rows(&[(1, "a")]), rows(&[(1, "a"), (1, "b")])],
        ),
    ];
    for (sql, expected) in table {
        let mut got = world.queues(sql).await;
        let mut expected = expected.to_vec();
        // The order of the triggers of one statement is not ours.
        got.sort_by_key(|queued| format!("{queued:?}"));
        expected.sort_by_key(|queued| format!("{queued:?}"));
        assert_eq!(got, expected, "{sql}");
    }
}

#[tokio::test]
async fn what_copy_brings_is_queued() {
    let world = courses().await;
    let sink = world
        .client
        .copy_in("COPY courses FROM STDIN")
        .await
        .unwrap();
    let mut sink = std::pin::pin!(sink);
    sink.send(bytes::Bytes::from_static(b"20\ttwenty\tx\n21\tnext\tx\n"))
        .await
        .unwrap();
    sink.close().await.unwrap();
    assert_eq!(world.take().await, [rows(&[(20, "twenty"), (21, "next")])]);
}

#[tokio::test]
async fn what_is_rolled_back_is_not_queued_and_a_savepoint_is_a_rollback_of_its_part() {
    let world = courses().await;
    let rolled_back = "BEGIN; UPDATE courses SET slug = 'never' WHERE id = 1; SELECT cachewarden.invalidate('courses:9'); ROLLBACK";
    assert_eq!(world.queues(rolled_back).await, []);
    let part = "BEGIN; UPDATE courses SET title = 'a' WHERE id = 1; SAVEPOINT s; UPDATE courses SET title = 'b' WHERE id = 2;
                ROLLBACK TO s; UPDATE courses SET title = 'c' WHERE id = 3; COMMIT";
    assert_eq!(
        world.queues(part).await,
        [rows(&[(1, "slug-1")]), rows(&[(3, "slug-3")])]
    );
    let failed = world
        .client
        .batch_execute("UPDATE courses SET id = 1")
        .await;
    assert!(failed.is_err());
    assert_eq!(world.take().await, []);
}

#[tokio::test]
async fn a_statement_of_a_million_rows_is_a_few_patterns() {
    let world = courses().await;
    let filled = world
        .queues("INSERT INTO courses SELECT g, 's' || g, 'x' FROM generate_series(6, 1000000) g")
        .await;
    assert_eq!(filled, [all()]);
    assert_eq!(
        world.queues("UPDATE courses SET title = 'z'").await,
        [all()]
    );
    // One more than may be named, and as many as may be.
    let many = world
        .queues("UPDATE courses SET title = 'z' WHERE id <= 1001")
        .await;
    assert_eq!(many, [all()]);
    let few = world
        .queues("UPDATE courses SET title = 'z' WHERE id <= 1000")
        .await;
    assert_eq!(
        (few.len(), few[0].keys.len(), few[0].patterns.len()),
        (1, 2001, 1001)
    );
    assert_eq!(world.queues("DELETE FROM courses").await, [all()]);
}

#[tokio::test]
async fn how_many_rows_a_statement_may_name_is_declared() {
    let more = "[invalidation]\nmax_keys = 2\n";
    let world = Watched::start(COURSES, &format!("{CACHES}{more}{WATCH}")).await;
    let two = world
        .queues("UPDATE courses SET title = 'z' WHERE id <= 2")
        .await;
    assert_eq!(two, [rows(&[(1, "slug-1"), (2, "slug-2")])]);
    for more in [
        "UPDATE courses SET title = 'z' WHERE id <= 3",
        "DELETE FROM courses WHERE id <= 3",
        "INSERT INTO courses SELECT g FROM generate_series(11, 13) g",
    ] {
        assert_eq!(world.queues(more).await, [all()], "{more}");
    }
}

#[tokio::test]
async fn triggers_fire_where_rows_are_restored_and_replayed() {
    let world = courses().await;
    let sql = "SET session_replication_role = replica; UPDATE courses SET title = 'y' WHERE id = 1; TRUNCATE courses; RESET session_replication_role";
    assert_eq!(world.queues(sql).await, [rows(&[(1, "slug-1")]), all()]);
}

#[tokio::test]
async fn who_writes_needs_no_right_on_our_schema_and_gets_none() {
    let world = courses().await;
    let role = format!("writer_{}", world.database.name());
    world
        .execute(&format!(
            "CREATE ROLE {role}; GRANT SELECT, INSERT, UPDATE ON courses TO {role}; SET ROLE {role};
             CREATE TEMP TABLE outbox (id int); SET search_path = pg_temp, public;
             UPDATE courses SET title = 'y' WHERE id = 1; SELECT cachewarden.invalidate('courses:5')"
        ))
        .await;
    for refused in [
        "SELECT * FROM cachewarden.outbox",
        "DELETE FROM cachewarden.outbox",
        "INSERT INTO cachewarden.outbox (source) VALUES ('x')",
        "SELECT cachewarden.as_int('1')",
        "CREATE TABLE cachewarden.mine ()",
    ] {
        let error = world.client.batch_execute(refused).await.unwrap_err();
        let message = error.as_db_error().unwrap().message();
        assert!(
            message.contains("permission denied"),
            "{refused}: {message}"
        );
    }
    world.execute("RESET ROLE").await;
    assert_eq!(
        world.take().await,
        [rows(&[(1, "slug-1")]), queued(&["courses:5"], &[])]
    );
    world
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

#[tokio::test]
async fn a_table_that_has_lost_a_column_can_still_be_written_and_everything_is_invalidated() {
    let world = courses().await;
    world
        .execute("ALTER TABLE courses RENAME COLUMN slug TO path")
        .await;
    assert_eq!(
        world
            .queues("UPDATE courses SET title = 'y' WHERE id = 1")
            .await,
        [all()]
    );
    assert_eq!(
        world.queues("DELETE FROM courses WHERE id = 2").await,
        [all()]
    );
    let (code, _, stderr) = world.run(&["check", "--connect"]).await;
    assert_eq!(code, Some(78));
    for part in [
        "public.courses has no column `slug`",
        "its columns are id, path, title",
        "\"courses:slug:{slug}\"",
    ] {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
}

#[tokio::test]
async fn of_many_rows_that_share_a_key_each_is_queued_once() {
    let world = courses().await;
    world
        .execute("INSERT INTO courses SELECT g, 'same' FROM generate_series(101, 120) g")
        .await;
    world.take().await;
    world
        .execute("UPDATE courses SET title = 'y' WHERE slug = 'same'")
        .await;
    let sizes = "SELECT cardinality(keys) || ' ' || cardinality(patterns) FROM cachewarden.outbox";
    // 20 by id, one by slug, the count; the list, and those similar to one slug.
    assert_eq!(world.ask(sizes).await, "22 2");
}

#[tokio::test]
async fn a_key_column_of_any_type_may_go_and_the_table_can_still_be_written() {
    let watch = "[[invalidation.watch]]\ntable = \"courses\"\ninvalidate = [\"courses:{id}\"]";
    for change in [
        "RENAME COLUMN id TO number",
        "DROP COLUMN id",
        "ALTER COLUMN id TYPE point USING point(id, 0)",
    ] {
        let world = Watched::start(COURSES, &format!("{CACHES}{watch}")).await;
        world
            .execute("ALTER TABLE courses DROP CONSTRAINT courses_pkey")
            .await;
        world
            .execute(&format!("ALTER TABLE courses {change}"))
            .await;
        let update = "UPDATE courses SET title = 'y' WHERE slug = 'slug-1'";
        let queued = world.queues(update).await;
        match change.starts_with("ALTER") {
            // No key ends like it.
            true => assert_eq!(queued, [], "{change}"),
            false => assert_eq!(queued, [self::queued(&[], &["courses:*"])], "{change}"),
        }
    }
}

#[tokio::test]
async fn programs_invalidate_within_their_own_transaction() {
    let world = courses().await;
    let mixed = r"SELECT cachewarden.invalidate('courses:1', NULL, 'courses:*', 'courses:\*', 'similar:?', 'a:[x]')";
    assert_eq!(
        world.queues(mixed).await,
        [queued(
            &["courses:1"],
            &["a:[x]", "courses:*", r"courses:\*", "similar:?"]
        )]
    );
    assert_eq!(
        world
            .ask("SELECT cachewarden.invalidate('a:1', 'a:*')")
            .await,
        "2"
    );
    assert_eq!(world.ask("SELECT cachewarden.invalidate(NULL)").await, "0");
    assert_eq!(
        world
            .ask("SELECT cachewarden.invalidate(VARIADIC ARRAY['a:1'])")
            .await,
        "1"
    );
    assert_eq!(world.take().await.len(), 2);
    for refused in ["''", "'*'", "'a*:b'", "repeat('x', 513)"] {
        let sql = format!("SELECT cachewarden.invalidate({refused})");
        let error = world.client.batch_execute(&sql).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "22023", "{refused}");
    }
}
