//! What `migrate`, `check --connect` and `run` say of a database that is not as they need it, and of roles that may not.

use cachewarden::cli::demo::servers::{PostgresOptions, free_port};
use cachewarden::config::{Invalidation, Postgres, Secret};
use cachewarden::repository::Outbox;
use tokio::runtime::Handle;

use super::{BOOKS, CACHES, CATALOG, TABLES, with, world};
use crate::support::DEADLINE;
use crate::support::daemon::{Spawned, cachewarden, config, said};
use crate::support::servers::{database_in, own_postgres};
use crate::support::watched::Watched;

#[tokio::test]
async fn what_the_database_does_not_have_is_told_with_its_place_and_nothing_is_changed() {
    let world = world().await;
    let table = [
        (
            "table = \"nowhere\"\ninvalidate = [\"books:{id}\"]",
            "there is no table \"nowhere\"",
            "2:9",
        ),
        (
            "table = \"no.where\"\ninvalidate = [\"books:{id}\"]",
            "there is no table \"no\".\"where\"",
            "2:9",
        ),
        (
            "table = \"shown\"\ninvalidate = [\"books:{id}\"]",
            "public.shown is a view",
            "2:9",
        ),
        (
            "table = \"pg_class\"\ninvalidate = [\"books:{oid}\"]",
            "pg_catalog.pg_class is Postgres' own",
            "2:9",
        ),
        (
            "table = \"books\"\ninvalidate = [\"books:list:*\", \"books:{idd}\"]",
            "public.books has no column `idd`",
            "3:31",
        ),
        (
            "table = \"books\"\ninvalidate = ['books:{\"ID\"}']",
            "public.books has no column `ID`",
            "3:15",
        ),
    ];
    let before = world.ask(CATALOG).await;
    let mut world = world;
    for (watch, told, place) in table {
        world = with(
            world,
            &format!("{CACHES}{}[[invalidation.watch]]\n{watch}\n", BOOKS),
        )
        .await;
        let at = world.config.lines().count();
        let (line, column) = place.split_once(':').unwrap();
        let place = format!(
            "cachewarden.toml:{}:{column}\n",
            at - 3 + line.parse::<usize>().unwrap()
        );
        for args in [&["check", "--connect"][..], &["migrate"], &["run"]] {
            let (code, stdout, stderr) = world.run(args).await;
            assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
            assert!(
                stderr.contains(told) && stderr.contains(&place),
                "{told} {place}: {stderr}"
            );
        }
    }
    assert_eq!(world.ask(CATALOG).await, before);
}

#[tokio::test]
async fn a_daemon_does_not_run_without_the_triggers_it_declares() {
    let world = world().await;
    let (code, _, stderr) = world.run(&["run"]).await;
    assert_eq!(code, Some(78), "{stderr}");
    for part in [
        "there is no schema `cachewarden`",
        "run `cachewarden migrate`",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    world.migrate().await;
    let daemon = Spawned::start(
        world.database.url(),
        "redis://127.0.0.1:1",
        &format!("{CACHES}{BOOKS}"),
    )
    .await;
    drop(daemon);
}

#[tokio::test]
async fn who_may_not_is_told_so_and_a_table_in_use_is_not_waited_for_for_long() {
    let world = world().await;
    let role = format!("narrow_{}", world.database.name());
    world
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON courses, books TO {role}"
        ))
        .await;
    let narrow = world
        .config
        .replace("postgres://postgres@", &format!("postgres://{role}@"));
    assert_ne!(narrow, world.config);
    let (code, stdout, stderr) = said(&cachewarden(&narrow, &["migrate"]).await);
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    for part in [
        "postgres refused to make the schema `cachewarden`: permission denied",
        "migrate --dry-run",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    let other = world.database.client().await;
    other
        .batch_execute("BEGIN; UPDATE books SET id = 0")
        .await
        .unwrap();
    let (code, _, stderr) = world.run(&["migrate"]).await;
    assert_eq!(code, Some(1));
    assert!(
        stderr.contains("refused to watch public.books: canceling statement due to lock timeout"),
        "{stderr}"
    );
    other.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        world.migrate().await,
        "done: watch public.books\ndone: watch public.courses\n"
    );
    world
        .execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}"))
        .await;
}

#[tokio::test]
async fn without_watches_the_schema_is_all_there_is_to_make_and_without_postgres_there_is_no_way_to()
 {
    let world = Watched::unmigrated("", "").await;
    assert_eq!(
        world.migrate().await,
        "done: make the schema `cachewarden`\n"
    );
    let before = world.ask(CATALOG).await;
    assert_eq!(world.migrate().await, "nothing to do\n");
    assert_eq!(world.ask(CATALOG).await, before);
    let nobody = format!(
        "redis.url = \"redis://h\"\npostgres.url = \"postgres://u@127.0.0.1:{}/d\"\n{CACHES}",
        free_port().unwrap()
    );
    let (code, _, stderr) = said(&cachewarden(&nobody, &["migrate"]).await);
    assert_eq!(code, Some(69));
    assert!(stderr.contains("postgres cannot be reached"), "{stderr}");
}

#[tokio::test]
async fn who_may_more_runs_the_printed_sql_and_the_daemon_has_what_it_needs() {
    let world = world().await;
    let role = format!("daemon_{}", world.database.name());
    world
        .execute(&format!(
            "CREATE ROLE {role} LOGIN; GRANT SELECT ON courses, books TO {role}"
        ))
        .await;
    let url = world
        .database
        .url()
        .replace("postgres://postgres@", &format!("postgres://{role}@"));
    let narrow = world.config.replace(world.database.url(), &url);
    let (code, sql, stderr) = said(&cachewarden(&narrow, &["migrate", "--dry-run"]).await);
    assert_eq!(code, Some(0), "{stderr}");
    world.execute(&sql).await;
    let (code, stdout, _) = said(&cachewarden(&narrow, &["migrate"]).await);
    assert_eq!((code, stdout.as_str()), (Some(0), "nothing to do\n"));
    let (code, _, stderr) = said(&cachewarden(&narrow, &["check", "--connect"]).await);
    assert_eq!(code, Some(0), "{stderr}");
    world
        .execute("INSERT INTO books VALUES (1), (2); INSERT INTO books VALUES (3)")
        .await;
    let postgres = Postgres {
        url: Secret::new(&url),
        pool_size: 1,
        statement_timeout: DEADLINE,
    };
    let outbox = Outbox::new(&postgres, &Invalidation::default(), Handle::current()).unwrap();
    let mut claim = outbox.claim(10).await.unwrap().unwrap();
    let last = claim.rows()[1].id;
    claim.bury(last, "for a test");
    claim.done().await.unwrap();
    assert_eq!(outbox.backlog().await.unwrap().rows, 0);
    world.execute(&format!("DROP OWNED BY {role}")).await;
    // Its connections end a little after it does.
    drop(outbox);
    world.execute(&format!("DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_server_that_follows_another_is_refused() {
    let mut postgres = own_postgres(&PostgresOptions::default());
    let world = Watched::unmigrated_in(
        database_in(&postgres).await,
        TABLES,
        &format!("{CACHES}{BOOKS}"),
    )
    .await;
    world.migrate().await;
    postgres.stop().unwrap();
    std::fs::write(postgres.dir().join("data/standby.signal"), "").unwrap();
    postgres.start_again().unwrap();
    for args in [&["check", "--connect"][..], &["run"]] {
        let (code, _, stderr) = world.run(args).await;
        assert_eq!(code, Some(78), "{stderr}");
        assert!(
            stderr.contains("only follows another one") && stderr.contains("name the primary"),
            "{stderr}"
        );
    }
    // Nor does its queue prove anything to a daemon that was there before.
    let settings = Postgres {
        url: Secret::new(world.database.url()),
        pool_size: 2,
        statement_timeout: DEADLINE,
    };
    let outbox = Outbox::new(&settings, &Invalidation::default(), Handle::current()).unwrap();
    let refused = outbox.look(10).await.unwrap_err().to_string();
    assert!(refused.contains("only follows another one"), "{refused}");
}

#[tokio::test]
async fn a_database_whose_texts_may_be_none_is_refused() {
    let world = world().await;
    let name = format!("{}_ascii", world.database.name());
    let create = format!(
        "CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    );
    world.execute(&create).await;
    let url = world.database.url();
    let url = format!("{}/{name}", url.rsplit_once('/').unwrap().0);
    let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    client.batch_execute(TABLES).await.unwrap();
    drop(client);
    driver.await.unwrap().unwrap();
    let text = config(&url, "redis://127.0.0.1:1", &format!("{CACHES}{BOOKS}"));
    let (code, _, stderr) = said(&cachewarden(&text, &["migrate"]).await);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("stores texts as SQL_ASCII"), "{stderr}");
    world.execute(&format!("DROP DATABASE {name}")).await;
}
