//! Postgres killed, frozen, locked or slow: hits go on, misses say so in time, and one table's trouble is not another's.

use cachewarden::cli::demo::servers::{Postgres, PostgresOptions};

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::servers::{database_in, own_postgres, redis};
use super::support::world::{World, figure, release};

const ITEMS: &str = "
    CREATE TABLE items (id bigint PRIMARY KEY, name text);
    INSERT INTO items SELECT g, 'item ' || g FROM generate_series(1, 1000) g;
    CREATE TABLE calm (id bigint PRIMARY KEY);
    INSERT INTO calm SELECT generate_series(1, 1000)";

const CACHES: &str = r#"
    [caches.item]
    key = "items:{id:bigint}"
    query = "SELECT name FROM items WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "400ms"
"#;

fn item(id: u64) -> Value {
    Value::bulk(format!("\"item {id}\""))
}

/// A world with a Postgres of its own.
async fn world(caches: &str) -> (Postgres, World) {
    let postgres = own_postgres(&PostgresOptions::default());
    let database = database_in(&postgres).await;
    let world = World::start_in(database, redis(), ITEMS, caches).await;
    // Commits wait for no disk here: without it, a kill could take the tables along.
    world.database.execute("CHECKPOINT").await;
    (postgres, world)
}

async fn assert_hits(client: &mut Client) {
    assert_eq!(client.command(&["GET", "items:1"]).await, item(1));
    assert_eq!(client.command(&["GET", "items:9999"]).await, Value::Nil);
    assert_eq!(client.command(&["EXISTS", "items:1"]).await, Value::Int(1));
}

/// Many readers of cold keys, all at once, and each is told.
async fn assert_misses_fail(world: &World, why: &str) {
    let mut readers = Vec::new();
    for id in 0..100 {
        let mut reader = world.client().await;
        let get = format!("GET items:{}\r\n", 100 + id / 2);
        reader.send(get.as_bytes()).await.unwrap();
        readers.push(reader);
    }
    for mut reader in readers {
        let answer = reader.read().await.unwrap();
        let error = answer.error();
        assert!(
            error.starts_with("LOADFAIL 'items:") && error.contains(why),
            "{error}"
        );
    }
}

async fn until_loading(client: &mut Client) {
    for id in 500..520 {
        eventually(DEADLINE, async || {
            match client.command(&["GET", &format!("items:{id}")]).await {
                answer if answer == item(id) => Ok(()),
                other => Err(other),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn with_postgres_killed_hits_go_on_misses_fail_and_loading_resumes_when_it_is_back() {
    let (mut postgres, world) = world(CACHES).await;
    let mut client = world.client().await;
    assert_hits(&mut client).await;
    postgres.kill().unwrap();
    for _ in 0..2 {
        assert_misses_fail(&world, "postgres is not available").await;
        assert_hits(&mut client).await;
    }
    assert_eq!(client.command(&["DEL", "items:2"]).await, Value::Int(0));
    assert_eq!(figure(&mut client, "cachewarden_postgres_up", "").await, 0);
    postgres.start_again().unwrap();
    until_loading(&mut client).await;
    assert_eq!(figure(&mut client, "cachewarden_postgres_up", "").await, 1);
    world.daemon.stop().await;
}

#[tokio::test]
async fn with_postgres_frozen_hits_go_on_misses_fail_in_time_and_loading_resumes_when_it_thaws() {
    let (mut postgres, world) = world(CACHES).await;
    let mut client = world.client().await;
    assert_hits(&mut client).await;
    postgres.freeze().unwrap();
    for _ in 0..2 {
        assert_misses_fail(&world, "400 ms").await;
        assert_hits(&mut client).await;
    }
    postgres.thaw().unwrap();
    until_loading(&mut client).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_that_starts_without_postgres_serves_hits_and_loads_once_it_is_there() {
    let (mut postgres, world) = world(CACHES).await;
    assert_hits(&mut world.client().await).await;
    postgres.kill().unwrap();
    let text = config(world.database.url(), &world.redis.redis_url(), CACHES);
    let late = InProcess::start(&text).await;
    let mut client = late.client().await;
    assert_hits(&mut client).await;
    let failure = client.command(&["GET", "items:2"]).await;
    assert!(failure.error().starts_with("LOADFAIL "), "{failure:?}");
    postgres.start_again().unwrap();
    until_loading(&mut client).await;
    late.stop().await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn five_caches_over_a_locked_table_do_not_stop_another_cache() {
    let mut caches = String::from(
        "[caches.calm]\nkey = \"calm:{id:bigint}\"\nshape = \"scalar\"\nttl = \"10m\"\nload_timeout = \"10s\"\n\
         query = \"SELECT id FROM calm WHERE id = :id\"\n",
    );
    for name in ["a", "b", "c", "d", "e"] {
        caches += &CACHES
            .replace("caches.item", &format!("caches.{name}"))
            .replace("items:{id", &format!("{name}:{{id"))
            .replace("400ms", "1m");
    }
    let world = World::start(ITEMS, &caches).await;
    let mut client = world.client().await;
    let lock = world.lock("items").await;
    let mut stuck = Vec::new();
    for id in 1..=20_u64 {
        for name in ["a", "b", "c", "d", "e"] {
            let mut reader = world.client().await;
            reader
                .send(format!("GET {name}:{id}\r\n").as_bytes())
                .await
                .unwrap();
            stuck.push((id, reader));
        }
    }
    for id in 1..=200 {
        let answer = client.command(&["GET", &format!("calm:{id}")]).await;
        assert_eq!(answer, Value::bulk(id.to_string()));
    }
    release(lock).await;
    for (id, mut reader) in stuck {
        assert_eq!(reader.read().await.unwrap(), item(id));
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_query_that_would_write_fails_and_writes_nothing() {
    let sql = "
        CREATE TABLE written (id bigint);
        CREATE FUNCTION write(id bigint) RETURNS bigint LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO written VALUES (id); RETURN id; END $$;
        CREATE FUNCTION insist(id bigint) RETURNS bigint LANGUAGE plpgsql AS
            $$ BEGIN SET LOCAL transaction_read_only = off; RETURN write(id); END $$";
    let caches = r#"
        [caches.write]
        key = "write:{id:bigint}"
        query = "SELECT write(:id)"
        shape = "scalar"
        ttl = "10m"

        [caches.insist]
        key = "insist:{id:bigint}"
        query = "SELECT insist(:id)"
        shape = "scalar"
        ttl = "10m"
    "#;
    let world = World::start(sql, caches).await;
    let mut client = world.client().await;
    for (key, why) in [
        ("write:1", "read-only transaction"),
        ("insist:1", "read-write mode"),
    ] {
        let answer = client.command(&["GET", key]).await;
        let error = answer.error();
        assert!(
            error.starts_with("LOADFAIL ") && error.contains(why),
            "{error}"
        );
    }
    let session = world.database.client().await;
    let written = session
        .query_one("SELECT count(*) FROM written", &[])
        .await
        .unwrap();
    assert_eq!(written.get::<_, i64>(0), 0);
    world.daemon.stop().await;
}

#[tokio::test]
async fn the_servers_own_limit_ends_a_load_that_nobody_else_ends() {
    let caches = r#"
        postgres.statement_timeout = "300ms"

        [caches.setting]
        key = "setting:{name:text}"
        query = "SELECT current_setting(:name)"
        shape = "scalar"
        ttl = "10m"

        [caches.slow]
        key = "slow:{seconds:int}"
        query = "SELECT pg_sleep(:seconds)::text"
        shape = "scalar"
        ttl = "10m"
        load_timeout = "1m"
    "#;
    let world = World::start(ITEMS, caches).await;
    let mut client = world.client().await;
    for (setting, value) in [
        ("statement_timeout", "\"300ms\""),
        ("default_transaction_read_only", "\"on\""),
    ] {
        let shown = client
            .command(&["GET", &format!("setting:{setting}")])
            .await;
        assert_eq!(shown, Value::bulk(value));
    }
    let answer = client.command(&["GET", "slow:30"]).await;
    let error = answer.error();
    assert!(
        error.starts_with("LOADFAIL ") && error.contains("300 ms"),
        "{error}"
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn there_are_never_more_connections_than_pool_size() {
    const POOL: i64 = 3;
    let caches = CACHES.replace("400ms", "1m");
    let (mut postgres, world) = world(&format!("postgres.pool_size = {POOL}\n{caches}")).await;
    let session = world.database.client().await;
    for round in 0..3 {
        let lock = world.lock("items").await;
        let mut readers = Vec::new();
        for id in 1..=100_u64 {
            let mut reader = world.client().await;
            let id = round * 100 + id;
            reader
                .send(format!("GET items:{id}\r\n").as_bytes())
                .await
                .unwrap();
            readers.push((id, reader));
            assert!(connections(&session).await <= POOL);
        }
        let some = eventually(DEADLINE, async || match connections(&session).await {
            0 => Err("no connection"),
            some => Ok(some),
        })
        .await;
        assert!(some <= POOL, "{some}");
        release(lock).await;
        for (id, mut reader) in readers {
            assert_eq!(reader.read().await.unwrap(), item(id));
        }
    }
    // All come back at once when the server does: still no more.
    postgres.kill().unwrap();
    assert_storm_is_contained(&mut postgres, &world, POOL).await;
    world.daemon.stop().await;
}

async fn assert_storm_is_contained(postgres: &mut Postgres, world: &World, pool: i64) {
    let mut clients = Vec::new();
    for _ in 0..50 {
        clients.push(world.client().await);
    }
    postgres.start_again().unwrap();
    let session = world.database.client().await;
    eventually(DEADLINE, async || {
        for client in &mut clients {
            client
                .send(b"GET items:900\r\nDEL items:900\r\n")
                .await
                .unwrap();
        }
        let mut right = 0;
        for client in &mut clients {
            right += usize::from(client.read().await.unwrap() == item(900));
            client.read().await.unwrap();
            assert!(connections(&session).await <= pool);
        }
        if right == 50 { Ok(()) } else { Err(right) }
    })
    .await;
}

/// The daemon's connections to the session's database.
async fn connections(session: &tokio_postgres::Client) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'cachewarden'";
    session.query_one(sql, &[]).await.unwrap().get(0)
}
