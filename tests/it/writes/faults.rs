//! A table that is locked, a deadlock, a connection that dies, servers that are away or frozen, a daemon that is killed: what
//! is told is what happened, and nothing outdated is left.

use bytes::Bytes;
use cachewarden::cli::demo::servers::Postgres;
use cachewarden::config::Config;
use cachewarden::repository::{Repository, Write};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::super::support::daemon::{InProcess, Spawned, config};
use super::super::support::proxy::Proxy;
use super::super::support::resp::{Client, Value};
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::super::support::world::{get, raw, release};
use super::{CACHES, DEADLINE, Shop, TABLES, eventually, ok, refusal, title};

/// As long as a machine that is busy needs for what goes well; what does not takes as long.
const SHORT: &str = "load_timeout = \"1s\"";

fn short() -> String {
    CACHES.replace("load_timeout = \"20s\"", SHORT)
}

/// Sends a command and does not wait for its answer.
fn send(mut client: Client, words: &[&str]) -> JoinHandle<(Client, Value)> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    tokio::spawn(async move {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = client.command(&words).await;
        (client, answer)
    })
}

/// Waits until so many sessions wait for a lock.
async fn until_waiting(watched: &Watched, sessions: &str) {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    eventually(DEADLINE, async || match watched.ask(sql).await {
        seen if seen == sessions => Ok(()),
        seen => Err(seen),
    })
    .await;
}

#[tokio::test]
async fn a_deadlock_is_tried_again_and_nobody_is_told() {
    let shop = Shop::open().await;
    let other = shop.watched.database.client().await;
    // It is the daemon that gives way.
    let hold = "SET deadlock_timeout = '1h'; BEGIN; UPDATE courses SET slug = 'b' WHERE id = 2";
    other.batch_execute(hold).await.unwrap();
    let (one, two) = (title("one"), title("two"));
    let words = ["MSET", "courses:1", &one, "courses:2", &two];
    let saving = send(shop.client().await, &words);
    until_waiting(&shop.watched, "1").await;
    let update = "UPDATE courses SET slug = 'a' WHERE id = 1";
    other.batch_execute(update).await.unwrap();
    release(other).await;
    let (_, answer) = saving.await.unwrap();
    assert_eq!(answer, ok());
    assert_eq!(
        (shop.title(1).await, shop.title(2).await),
        ("one".to_owned(), "two".to_owned())
    );
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_locked_table_is_waited_for_in_time_and_nothing_of_it_is_saved_later() {
    // So that it is not the server's own limit that ends what waits there.
    let caches = format!("postgres.statement_timeout = \"1m\"\n{}", short());
    let shop = Shop::open_with("", &caches).await;
    let session = shop.watched.database.client().await;
    let lock = "BEGIN; LOCK TABLE courses";
    session.batch_execute(lock).await.unwrap();
    let mut client = shop.client().await;
    let error = refusal(&mut client, &["SET", "courses:1", &title("late")]).await;
    let told =
        "LOADFAIL 'courses:1': postgres was not done within 1000 ms, and nothing was written";
    assert!(error.starts_with(told), "{error}");
    // Nor does it wait on in the server.
    until_waiting(&shop.watched, "0").await;
    release(session).await;
    assert_eq!(shop.title(1).await, "old");
    let saved = client.command(&["SET", "courses:1", &title("new")]).await;
    assert_eq!(saved, ok());
    shop.daemon.stop().await;
}

#[tokio::test]
async fn those_that_wait_for_a_locked_table_leave_other_caches_alone() {
    let shop = Shop::open().await;
    let session = shop.watched.database.client().await;
    let lock = "BEGIN; LOCK TABLE courses";
    session.batch_execute(lock).await.unwrap();
    let mut waiting = Vec::new();
    for id in 1..=8 {
        let (client, key) = (shop.client().await, format!("courses:{id}"));
        waiting.push(send(client, &["SET", &key, &title("late")]));
    }
    until_waiting(&shop.watched, "2").await;
    let mut client = shop.client().await;
    assert_eq!(client.command(&["SET", "settings:a", "1"]).await, ok());
    release(session).await;
    for waiting in waiting {
        let (_, answer) = waiting.await.unwrap();
        assert_eq!(answer, ok());
    }
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_transaction_whose_caller_goes_away_is_committed_with_its_invalidation() {
    let watched = Watched::start(TABLES, CACHES).await;
    let config = Config::from_toml(&watched.config).unwrap();
    let postgres = config.postgres.as_ref().unwrap();
    let repository = Repository::new(postgres, &config.caches, Handle::current()).unwrap();
    let session = watched.database.client().await;
    let lock = "BEGIN; SELECT FROM courses WHERE id = 1 FOR UPDATE";
    session.batch_execute(lock).await.unwrap();
    let route = config.router().route(b"courses:1").unwrap();
    let key = route.with_key(Bytes::from_static(b"courses:1"));
    let value = Some(Bytes::from(title("new")));
    let writing = tokio::spawn({
        let repository = repository.clone();
        async move { repository.write(vec![Write { key, value }]).await }
    });
    until_waiting(&watched, "1").await;
    writing.abort();
    assert!(writing.await.is_err());
    release(session).await;
    repository.close().await;
    let saved = "SELECT title FROM courses WHERE id = 1";
    assert_eq!(
        (watched.ask(saved).await.as_str(), watched.rows().await),
        ("new", 1)
    );
}

#[tokio::test]
async fn who_gets_no_turn_in_time_is_told_that_it_is_busy() {
    let caches = format!(
        "postgres.pool_size = 2\n{}",
        CACHES.replace(
            "ttl = \"1h\"\n    [caches.setting.write]",
            "ttl = \"1h\"\n    load_timeout = \"300ms\"\n    [caches.setting.write]"
        )
    );
    let caches = format!(
        "{caches}\n[caches.third]\nkey = \"third:{{id:int}}\"\nquery = \"SELECT :id\"\nshape = \"scalar\"\nttl = \"1m\"\nload_timeout = \"20s\"\nwrite.delete = \"DELETE FROM courses WHERE id = :id\""
    );
    let shop = Shop::open_with("", &caches).await;
    let session = shop.watched.database.client().await;
    session
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let first = send(shop.client().await, &["DEL", "courses:1"]);
    let second = send(shop.client().await, &["DEL", "third:2"]);
    until_waiting(&shop.watched, "2").await;
    let error = refusal(&mut shop.client().await, &["SET", "settings:a", "1"]).await;
    assert!(error.starts_with("BUSY 'settings:a': `setting`"), "{error}");
    release(session).await;
    for deleting in [first, second] {
        let (_, answer) = deleting.await.unwrap();
        assert_eq!(answer, Value::Int(1));
    }
    shop.daemon.stop().await;
}

/// A shop on a Postgres of its own.
async fn apart(caches: &str) -> (Postgres, Shop) {
    let (postgres, watched) = Watched::start_apart(TABLES, caches).await;
    // Commits wait for no disk here: without it, a kill could take the tables along.
    watched.execute("CHECKPOINT").await;
    (postgres, Shop::open_on(watched, caches).await)
}

#[tokio::test]
async fn with_postgres_away_nothing_is_written_and_writing_goes_on_when_it_is_back() {
    let (mut postgres, shop) = apart(&short()).await;
    let mut client = shop.client().await;
    assert_eq!(
        client.command(&["SET", "courses:1", &title("a")]).await,
        ok()
    );
    postgres.kill().unwrap();
    for _ in 0..3 {
        let error = refusal(&mut client, &["SET", "courses:1", &title("b")]).await;
        let head = "LOADFAIL 'courses:1': postgres is not available, and nothing was written";
        assert!(error.starts_with(head), "{error}");
    }
    postgres.start_again().unwrap();
    eventually(DEADLINE, async || {
        match client.command(&["SET", "courses:1", &title("c")]).await {
            answer if answer == ok() => Ok(()),
            answer => Err(answer),
        }
    })
    .await;
    assert_eq!(get(&mut client, "courses:1").await, "\"c\"");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_connection_that_died_while_it_lay_idle_is_replaced_and_nobody_is_told() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    for round in 0..5 {
        let text = format!("t{round}");
        assert_eq!(
            client.command(&["SET", "courses:1", &title(&text)]).await,
            ok()
        );
        let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND datname = current_database()";
        shop.watched.execute(kill).await;
    }
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_frozen_postgres_is_given_up_in_time_and_what_it_was_sent_is_not_saved() {
    let (mut postgres, shop) = apart(&short()).await;
    let mut client = shop.client().await;
    assert_eq!(
        client.command(&["SET", "courses:1", &title("a")]).await,
        ok()
    );
    postgres.freeze().unwrap();
    let error = refusal(&mut client, &["SET", "courses:1", &title("b")]).await;
    assert!(
        error.starts_with(
            "LOADFAIL 'courses:1': postgres was not done within 1000 ms, and nothing was written"
        ),
        "{error}"
    );
    postgres.thaw().unwrap();
    eventually(DEADLINE, async || {
        match client.command(&["SET", "courses:2", &title("c")]).await {
            answer if answer == ok() => Ok(()),
            answer => Err(answer),
        }
    })
    .await;
    // Whatever was sent before has been seen by now.
    let active =
        "SELECT count(*) FROM pg_stat_activity WHERE state <> 'idle' AND pid <> pg_backend_pid()
        AND datname = current_database() AND query LIKE 'UPDATE courses%'";
    eventually(DEADLINE, async || {
        match shop.watched.ask(active).await.as_str() {
            "0" => Ok(()),
            seen => Err(seen.to_owned()),
        }
    })
    .await;
    assert_eq!(shop.title(1).await, "a");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_commit_that_is_not_confirmed_is_said_to_be_unknown_and_is_invalidated_when_it_happens() {
    // What is checked at the end takes longer than a commit is waited for, until the test lets it go on.
    let tables = "
        CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER slowly AFTER UPDATE ON courses DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION slowly();";
    let shop = Shop::open_with(tables, CACHES).await;
    let mut client = shop.client().await;
    let session = shop.watched.database.client().await;
    session
        .batch_execute("BEGIN; SELECT pg_advisory_xact_lock(7)")
        .await
        .unwrap();
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    let error = refusal(&mut client, &["SET", "courses:1", &title("new")]).await;
    assert!(
        error.starts_with("LOADFAIL 'courses:1': it is not known whether it was written"),
        "{error}"
    );
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    assert_eq!(shop.cached("courses:1").await, Value::bulk("\"old\""));
    release(session).await;
    // It was committed after all, and its row of the queue with it.
    shop.until_gone("courses:1", "\"old\"").await;
    assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn who_leaves_while_a_transaction_waits_has_it_saved_and_invalidated_all_the_same() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    let session = shop.watched.database.client().await;
    session
        .batch_execute("BEGIN; SELECT FROM courses WHERE id = 1 FOR UPDATE")
        .await
        .unwrap();
    let leaving = send(shop.client().await, &["SET", "courses:1", &title("new")]);
    until_waiting(&shop.watched, "1").await;
    leaving.abort();
    release(session).await;
    shop.until_gone("courses:1", "\"old\"").await;
    assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
    shop.daemon.stop().await;
}

#[tokio::test]
async fn with_redis_away_a_write_is_acknowledged_and_what_it_makes_outdated_is_gone_when_redis_is_back()
 {
    let watched = Watched::start(TABLES, CACHES).await;
    let redis = redis();
    let mut proxy = Proxy::before_port(redis.port()).await;
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let text = config(watched.database.url(), &url, CACHES);
    let daemon = InProcess::start(&text).await;
    let mut client = daemon.client().await;
    assert_eq!(get(&mut client, "courses:1").await, "\"old\"");
    proxy.refuse().await;
    assert_eq!(
        client.command(&["SET", "courses:1", &title("new")]).await,
        ok()
    );
    assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
    let mut raw = raw(&redis).await;
    assert_eq!(
        raw.command(&["GET", "courses:1"]).await,
        Value::bulk("\"old\"")
    );
    assert_eq!(watched.rows().await, 1);
    proxy.pass().await;
    watched.until_empty().await;
    assert_ne!(
        raw.command(&["GET", "courses:1"]).await,
        Value::bulk("\"old\"")
    );
    assert_eq!(get(&mut client, "courses:1").await, "\"new\"");
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_killed_between_the_commit_and_the_invalidation_leaves_nothing_outdated() {
    let watched = Watched::start(TABLES, CACHES).await;
    let mut redis = redis();
    let caches = format!("redis.timeout = \"20s\"\n{CACHES}");
    let start = async || Spawned::start(watched.database.url(), &redis.redis_url(), &caches).await;
    let killed = start().await;
    assert_eq!(
        get(&mut killed.client().await, "courses:1").await,
        "\"old\""
    );
    redis.freeze().unwrap();
    let saving = send(killed.client().await, &["SET", "courses:1", &title("new")]);
    let committed = "SELECT title FROM courses WHERE id = 1";
    eventually(DEADLINE, async || {
        match watched.ask(committed).await.as_str() {
            "new" => Ok(()),
            seen => Err(seen.to_owned()),
        }
    })
    .await;
    drop(killed);
    saving.abort();
    // What the frozen server was sent it must not see: it is the queue that is tried here.
    redis.kill().unwrap();
    redis.start_again().unwrap();
    let mut raw = raw(&redis).await;
    raw.command(&["SET", "courses:1", "\"old\"", "EX", "3600"])
        .await;
    let run = raw.command(&["INFO", "server"]).await;
    assert!(run.text().contains("run_id"));
    super::super::support::world::leave_heartbeat(&mut raw, &["courses:", "settings:"]).await;
    let next = Spawned::start(watched.database.url(), &redis.redis_url(), &caches).await;
    assert_eq!(get(&mut next.client().await, "courses:1").await, "\"new\"");
    watched.until_empty().await;
}
