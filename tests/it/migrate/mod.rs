//! `cachewarden migrate`: what it installs, mends and takes away; and what `check --connect` and `run` say without it.

mod refused;

use crate::support::watched::{Watched, queued};

const TABLES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, slug text);
    CREATE TABLE books (id int PRIMARY KEY);
    CREATE VIEW shown AS SELECT * FROM courses";

const CACHES: &str = r#"
[caches.course]
key = "courses:{id:bigint}"
query = "SELECT slug FROM courses WHERE id = :id"
shape = "object"
ttl = "1m"
depends_on = { table = "courses", on = { id = "id" } }
"#;

const BOOKS: &str = r#"
[caches.book]
key = "books:{id:int}"
query = "SELECT id FROM books WHERE id = :id"
shape = "object"
ttl = "1m"
[[invalidation.watch]]
table = "books"
invalidate = ["books:{id}", "books:list:*"]
"#;

/// All that could have been made or changed, by name and identity.
const CATALOG: &str = "SELECT string_agg(thing, E'\\n' ORDER BY thing) FROM (
    SELECT 'trigger ' || tgname || oid::text || tgenabled::text || tgfoid::text AS thing FROM pg_trigger WHERE NOT tgisinternal
    UNION ALL SELECT 'function ' || proname || p.oid::text || p.xmin::text FROM pg_proc p WHERE oid >= 16384
    UNION ALL SELECT 'relation ' || relname || oid::text FROM pg_class WHERE oid >= 16384
    UNION ALL SELECT 'type ' || typname || oid::text FROM pg_type WHERE oid >= 16384
    UNION ALL SELECT 'schema ' || nspname || coalesce(nspacl::text, '') FROM pg_namespace WHERE oid >= 16384) t";

async fn world() -> Watched {
    Watched::unmigrated(TABLES, &format!("{CACHES}{BOOKS}")).await
}

/// The same database with other caches.
async fn with(world: Watched, sections: &str) -> Watched {
    Watched::unmigrated_in(world.database, "", sections).await
}

#[tokio::test]
async fn it_says_what_it_did_and_the_second_time_there_is_nothing_to_do() {
    let world = world().await;
    let done = "done: make the schema `cachewarden`\ndone: watch public.books\ndone: watch public.courses\n";
    assert_eq!(world.migrate().await, done);
    let before = world.ask(CATALOG).await;
    assert_eq!(world.migrate().await, "nothing to do\n");
    assert_eq!(world.ask(CATALOG).await, before);
    let (code, stdout, stderr) = world.run(&["check", "--connect"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.contains("every watched table has its triggers\n"),
        "{stdout}"
    );
}

#[tokio::test]
async fn uninstall_leaves_nothing_behind() {
    let world = world().await;
    let before = world.ask(CATALOG).await;
    assert_eq!(
        world.run(&["migrate", "--uninstall"]).await.1,
        "nothing to do\n"
    );
    world.migrate().await;
    world.execute("INSERT INTO books VALUES (1)").await;
    let (code, sql, _) = world.run(&["migrate", "--uninstall", "--dry-run"]).await;
    assert_eq!(code, Some(0));
    assert!(sql.contains("DROP SCHEMA cachewarden;"), "{sql}");
    assert_ne!(world.ask(CATALOG).await, before, "a dry run has run");
    let (code, stdout, _) = world.run(&["migrate", "--uninstall"]).await;
    let done = "done: take away the triggers on public.books, the triggers on public.courses, the schema `cachewarden`\n";
    assert_eq!((code, stdout.as_str()), (Some(0), done));
    assert_eq!(world.ask(CATALOG).await, before);
    world.execute("INSERT INTO books VALUES (2)").await;
    world.migrate().await;
}

#[tokio::test]
async fn uninstall_takes_nothing_away_that_others_have_built_upon() {
    let world = world().await;
    world.migrate().await;
    world
        .execute("CREATE VIEW public.backlog AS SELECT count(*) FROM cachewarden.outbox")
        .await;
    let before = world.ask(CATALOG).await;
    let (code, stdout, stderr) = world.run(&["migrate", "--uninstall"]).await;
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    for part in ["other objects depend on it", "nothing was changed"] {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
    assert_eq!(world.ask(CATALOG).await, before);
}

#[tokio::test]
async fn a_schema_of_that_name_that_is_not_ours_is_left_alone() {
    let world = world().await;
    world
        .execute("CREATE SCHEMA cachewarden; CREATE TABLE cachewarden.theirs ()")
        .await;
    let before = world.ask(CATALOG).await;
    assert_eq!(
        world.run(&["migrate", "--uninstall"]).await.1,
        "nothing to do\n"
    );
    world.migrate().await;
    let (code, _, stderr) = world.run(&["migrate", "--uninstall"]).await;
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("cannot drop schema cachewarden because other objects depend on it"),
        "{stderr}"
    );
    world.execute("DROP TABLE cachewarden.theirs").await;
    world.run(&["migrate", "--uninstall"]).await;
    assert_ne!(world.ask(CATALOG).await, before);
}

#[tokio::test]
async fn a_dry_run_prints_what_would_run_and_running_that_is_the_same() {
    let world = world().await;
    let before = world.ask(CATALOG).await;
    let (code, sql, stderr) = world.run(&["migrate", "--dry-run"]).await;
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert_eq!(world.ask(CATALOG).await, before);
    world.execute(&sql).await;
    assert_eq!(world.migrate().await, "nothing to do\n");
    assert_eq!(
        world.run(&["migrate", "--dry-run"]).await.1,
        "-- nothing to do\n"
    );
    assert_eq!(
        world.queues("INSERT INTO books VALUES (1)").await,
        [queued(&["books:1"], &["books:list:*"])]
    );
}

#[tokio::test]
async fn check_tells_what_is_missing_or_was_changed_and_migrate_mends_it() {
    let world = world().await;
    let table = [
        ("SELECT 1", "there is no schema `cachewarden`"),
        ("DROP TRIGGER cachewarden_update ON books", "the triggers on public.books are not all installed"),
        ("ALTER TABLE books DISABLE TRIGGER cachewarden_insert", "the triggers on public.books are disabled"),
        ("ALTER TABLE books ENABLE TRIGGER cachewarden_truncate", "the triggers on public.books are disabled, or do not fire always"),
        ("ALTER TABLE books DISABLE TRIGGER ALL", "the triggers on public.books are disabled"),
        (
            "DROP TRIGGER cachewarden_delete ON books; CREATE TRIGGER cachewarden_delete AFTER DELETE ON books
             FOR EACH STATEMENT EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "the triggers on public.books are not all installed",
        ),
        (
            "DO $$ BEGIN EXECUTE (SELECT format('CREATE OR REPLACE FUNCTION cachewarden.%I() RETURNS trigger LANGUAGE plpgsql
             AS %L', proname, 'BEGIN RETURN NULL; END') FROM pg_proc WHERE proname LIKE 'watch%' LIMIT 1); END $$",
            "are changed by hand",
        ),
    ];
    for (sql, told) in table {
        world.execute(sql).await;
        let (code, stdout, stderr) = world.run(&["check", "--connect"]).await;
        assert_eq!((code, stdout.as_str()), (Some(78), ""), "{sql}: {stderr}");
        let place = world
            .config
            .lines()
            .position(|line| line == "table = \"books\"")
            .unwrap()
            + 1;
        for part in [told, "help: run `cachewarden migrate`"] {
            assert!(stderr.contains(part), "{sql}: {part} is not in {stderr}");
        }
        if told.contains("public.books") {
            assert!(
                stderr.contains(&format!("cachewarden.toml:{place}:9\n")),
                "{stderr}"
            );
        }
        if sql.contains("suppress") {
            world
                .execute("DROP TRIGGER cachewarden_delete ON books")
                .await;
        }
        world.migrate().await;
        assert_eq!(world.run(&["check", "--connect"]).await.0, Some(0), "{sql}");
        world.execute("DELETE FROM books").await;
        world.take().await;
        let changes = "INSERT INTO books VALUES (1); UPDATE books SET id = 2; DELETE FROM books";
        let list = &["books:list:*"];
        let expected = [
            queued(&["books:1"], list),
            queued(&["books:1", "books:2"], list),
            queued(&["books:2"], list),
        ];
        assert_eq!(world.queues(changes).await, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_watch_that_is_changed_or_taken_out_is_so_in_the_database() {
    let world = world().await;
    world.migrate().await;
    let changed = BOOKS.replace(", \"books:list:*\"", "");
    let world = with(world, &format!("{CACHES}{changed}")).await;
    let (_, _, stderr) = world.run(&["check", "--connect"]).await;
    assert!(
        stderr.contains("the triggers on public.books are outdated"),
        "{stderr}"
    );
    let done = "done: watch public.books\ndone: drop the functions of earlier watches\n";
    assert_eq!(world.migrate().await, done);
    assert_eq!(
        world.queues("INSERT INTO books VALUES (1)").await,
        [queued(&["books:1"], &[])]
    );
    let world = with(world, CACHES).await;
    assert_eq!(world.run(&["check", "--connect"]).await.0, Some(0));
    let done = "done: watch public.books no more\ndone: drop the functions of earlier watches\n";
    assert_eq!(world.migrate().await, done);
    assert_eq!(world.queues("INSERT INTO books VALUES (2)").await, []);
    assert_eq!(world.migrate().await, "nothing to do\n");
}

#[tokio::test]
async fn watches_of_one_table_are_one() {
    let again = r#"
[[invalidation.watch]]
table = "PUBLIC.Books"
invalidate = ["books:{id}", "courses:list:*"]
"#;
    let world = Watched::start(TABLES, &format!("{CACHES}{BOOKS}{again}")).await;
    let expected = queued(&["books:1"], &["books:list:*", "courses:list:*"]);
    assert_eq!(
        world.queues("INSERT INTO books VALUES (1)").await,
        [expected]
    );
}

#[tokio::test]
async fn four_that_install_at_once_install_once() {
    let world = world().await;
    let all = futures_util::future::join_all((0..4).map(|_| world.run(&["migrate"]))).await;
    let mut said: Vec<String> = all
        .into_iter()
        .map(|(code, stdout, stderr)| {
            assert_eq!(code, Some(0), "{stderr}");
            stdout
        })
        .collect();
    said.sort();
    assert_eq!(
        said.iter()
            .filter(|said| *said == "nothing to do\n")
            .count(),
        3,
        "{said:?}"
    );
    assert_eq!(world.run(&["check", "--connect"]).await.0, Some(0));
}

#[tokio::test]
async fn the_doorbell_comes_and_goes_with_the_configuration() {
    let quiet = format!("{CACHES}{BOOKS}");
    // Of `[invalidation]`, which comes last.
    let ringing = format!("{quiet}[invalidation]\nnotify = true\n");
    let world = with(world().await, &quiet).await;
    world.migrate().await;
    let before = world.ask(CATALOG).await;

    let world = with(world, &ringing).await;
    is_refused(&world, "the doorbell (`notify = true`) is not installed").await;
    let (_, sql, _) = world.run(&["migrate", "--dry-run"]).await;
    assert!(
        sql.contains("AFTER INSERT ON cachewarden.outbox FOR EACH STATEMENT")
            && sql.contains("pg_notify('cachewarden', '')"),
        "{sql}"
    );
    assert_eq!(world.ask(CATALOG).await, before);
    assert_eq!(world.migrate().await, "done: hang the doorbell\n");
    assert_eq!(world.migrate().await, "nothing to do\n");
    assert_eq!(world.run(&["check", "--connect"]).await.0, Some(0));
    for (mischief, flaw) in [
        (
            "ALTER TABLE cachewarden.outbox DISABLE TRIGGER cachewarden_ring",
            "is disabled, or do not fire always",
        ),
        (
            "DROP TRIGGER cachewarden_ring ON cachewarden.outbox",
            "is not installed",
        ),
        (
            "CREATE OR REPLACE FUNCTION cachewarden.ring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
            "is changed by hand",
        ),
    ] {
        world.execute(mischief).await;
        is_refused(&world, flaw).await;
        assert_eq!(world.migrate().await, "done: hang the doorbell\n");
        assert_eq!(world.run(&["check", "--connect"]).await.0, Some(0));
    }

    let world = with(world, &quiet).await;
    is_refused(&world, "a doorbell is installed that is not asked for").await;
    assert_eq!(world.migrate().await, "done: take the doorbell down\n");
    // Not one of the other triggers and functions was made anew.
    assert_eq!(world.ask(CATALOG).await, before);
    assert_eq!(world.run(&["check", "--connect"]).await.0, Some(0));

    let world = with(world, &ringing).await;
    world.migrate().await;
    let (code, stdout, stderr) = world.run(&["migrate", "--uninstall"]).await;
    assert_eq!(code, Some(0), "{stdout}");
    // There is no Redis here, and nothing else to tell.
    assert!(
        stderr.starts_with("warning: redis cannot be asked"),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let left = "SELECT count(*) FROM pg_namespace WHERE nspname = 'cachewarden'";
    assert_eq!(world.ask(left).await, "0");
}

#[tokio::test]
async fn what_hangs_on_the_queue_beside_the_doorbell_is_told_and_only_what_is_ours_is_dropped() {
    let ringing = format!("{CACHES}{BOOKS}[invalidation]\nnotify = true\n");
    let world = with(world().await, &ringing).await;
    world.migrate().await;
    world
        .execute(
            "CREATE FUNCTION cachewarden.chime() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER chime AFTER INSERT ON cachewarden.outbox FOR EACH STATEMENT EXECUTE FUNCTION cachewarden.chime()",
        )
        .await;
    is_refused(
        &world,
        "the doorbell (`notify = true`) is not alone: an older version",
    )
    .await;
    assert_eq!(world.migrate().await, "done: hang the doorbell\n");
    assert_eq!(world.run(&["check", "--connect"]).await.0, Some(0));

    world
        .execute(
            "CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER \"Keep\" AFTER INSERT ON cachewarden.outbox FOR EACH ROW EXECUTE FUNCTION keep()",
        )
        .await;
    let (code, _, stderr) = world.run(&["check", "--connect"]).await;
    assert_eq!(code, Some(78), "{stderr}");
    for part in [
        "a trigger that is not ours on cachewarden.outbox: Keep",
        "help: DROP TRIGGER \"Keep\" ON cachewarden.outbox",
    ] {
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    }
    assert_eq!(world.migrate().await, "nothing to do\n");
    world
        .execute("DROP TRIGGER \"Keep\" ON cachewarden.outbox")
        .await;
    assert_eq!(world.run(&["check", "--connect"]).await.0, Some(0));
}

/// `check --connect` and `run` both end with exit 78, and say why.
async fn is_refused(world: &Watched, why: &str) {
    for args in [&["check", "--connect"][..], &["run"]] {
        let (code, _, stderr) = world.run(args).await;
        assert_eq!(code, Some(78), "{stderr}");
        assert!(
            stderr.contains(why) && stderr.contains("run `cachewarden migrate`"),
            "{stderr}"
        );
    }
}
