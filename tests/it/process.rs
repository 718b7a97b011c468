//! The daemon as a process: what it tells the service manager, how it starts without its servers, how it ends, and what
//! it never says.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cachewarden::cli::demo::servers::{PostgresOptions, free_port};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::support::DEADLINE;
use super::support::daemon::{Spawned, cachewarden, config, said};
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value, frame};
use super::support::servers::{database, database_in, own_postgres, redis, redis_with};
use super::support::world::leave_heartbeat;

const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'course-' || n FROM generate_series(1, 100) n";

const COURSE: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT id, title FROM courses WHERE id = :id"
    shape = "object"
    ttl = "10m"
    load_timeout = "1s"
"#;

fn course(id: usize) -> Value {
    Value::bulk(format!(r#"{{"id":{id},"title":"course-{id}"}}"#))
}

/// An address on which nobody listens.
fn nobody() -> String {
    format!("127.0.0.1:{}", free_port().unwrap())
}

fn nobodys_postgres() -> String {
    format!("postgres://nobody@{}/nothing", nobody())
}

fn nobodys_redis() -> String {
    format!("redis://{}", nobody())
}

#[tokio::test]
async fn the_service_manager_hears_of_the_start_the_stop_and_that_all_is_well() {
    let redis = redis();
    // Two looks a second would do; a hundred are over sooner.
    let mut daemon = Spawned::start_with(
        |address| {
            format!(
                "redis.url = {:?}\nresp.listen = [\"{address}\"]",
                redis.redis_url()
            )
        },
        |command| {
            command.env("WATCHDOG_USEC", "20000");
        },
    );
    daemon.notice("READY=1").await;
    let mut client = daemon.client().await;
    for _ in 0..3 {
        daemon.notice("WATCHDOG=1").await;
    }
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    daemon.signal(Signal::TERM);
    daemon.notice("STOPPING=1").await;
    assert_eq!(daemon.exit().await.code(), Some(0), "{}", daemon.stderr());
    assert!(client.read_to_end().await.unwrap().is_empty());
}

#[tokio::test]
async fn a_watchdog_that_is_meant_for_another_process_is_not_fed() {
    let redis = redis();
    let mut daemon = Spawned::start_with(
        |address| {
            format!(
                "redis.url = {:?}\nresp.listen = [\"{address}\"]",
                redis.redis_url()
            )
        },
        |command| {
            command
                .env("WATCHDOG_USEC", "2000")
                .env("WATCHDOG_PID", "1");
        },
    );
    daemon.notice("READY=1").await;
    let mut client = daemon.client().await;
    for _ in 0..100 {
        client.command(&["PING"]).await;
    }
    daemon.signal(Signal::TERM);
    let heard = daemon.notice("STOPPING=1").await;
    let fed = heard.iter().any(|line| line.starts_with("WATCHDOG"));
    assert!(!fed, "{heard:?}");
    assert_eq!(daemon.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_reload_is_told_with_its_time_and_its_end_whether_the_file_is_sound_or_not() {
    let redis = redis();
    let mut daemon = Spawned::start_with(
        |address| {
            let redis = redis.redis_url();
            format!("redis.url = {redis:?}\nresp.listen = [\"{address}\"]")
        },
        |_| {},
    );
    let began = daemon.notice("READY=1").await;
    assert!(began.contains(&"STATUS=starting".to_owned()), "{began:?}");
    let sound = fs::read_to_string(daemon.config()).unwrap();
    for text in ["redis.url = 7", &sound] {
        fs::write(daemon.config(), text).unwrap();
        daemon.signal(Signal::HUP);
        let heard = daemon.notice("READY=1").await;
        assert_eq!(heard[0], "RELOADING=1");
        let time = heard
            .iter()
            .find_map(|line| line.strip_prefix("MONOTONIC_USEC="));
        assert!(time.unwrap().parse::<u64>().unwrap() > 0);
        assert!(
            heard.last().unwrap().starts_with("STATUS=ready: "),
            "{heard:?}"
        );
    }
}

/// A client that asks, waits for the answer and asks again. Returns once the daemon has closed, which it may do between
/// answers only.
async fn ask_until_closed(mut client: Client, answered: Arc<AtomicUsize>) {
    for n in 0.. {
        let id = n % 100 + 1;
        let key = format!("courses:{id}");
        let pipeline = [
            frame(&["GET", &key]),
            frame(&["DEL", &key]),
            frame(&["PING"]),
        ]
        .concat();
        if client.send(&pipeline).await.is_err() {
            return;
        }
        match client.read().await {
            Ok(value) => assert_eq!(value, course(id)),
            Err(_) => {
                assert!(client.read_to_end().await.unwrap().is_empty());
                return;
            }
        }
        // What was read together is answered together.
        assert!(matches!(client.read().await.unwrap(), Value::Int(0 | 1)));
        assert_eq!(client.read().await.unwrap().text(), "PONG");
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn either_signal_under_load_ends_it_after_every_request_that_was_read_is_answered() {
    let database = database().await;
    database.execute(COURSES).await;
    for signal in [Signal::TERM, Signal::INT] {
        let redis = redis();
        let mut daemon = Spawned::start(database.url(), &redis.redis_url(), COURSE).await;
        let answered = Arc::new(AtomicUsize::new(0));
        let mut clients = Vec::new();
        for _ in 0..20 {
            let client = daemon.client().await;
            clients.push(tokio::spawn(ask_until_closed(
                client,
                Arc::clone(&answered),
            )));
        }
        eventually(DEADLINE, async || match answered.load(Ordering::Relaxed) {
            500.. => Ok(()),
            few => Err(few),
        })
        .await;
        daemon.signal(signal);
        for client in clients {
            client.await.unwrap();
        }
        assert_eq!(daemon.exit().await.code(), Some(0), "{}", daemon.stderr());
    }
}

#[tokio::test]
async fn a_client_that_never_pauses_does_not_hold_up_the_end() {
    let redis = redis();
    let mut daemon = Spawned::start_with(
        |address| {
            let redis = redis.redis_url();
            format!("redis.url = {redis:?}\nresp.listen = [\"{address}\"]")
        },
        |_| {},
    );
    daemon.notice("READY=1").await;
    let stream = TcpStream::connect(daemon.address()).await.unwrap();
    let (mut replies, mut requests) = stream.into_split();
    let asking = tokio::spawn(async move {
        let pings = frame(&["PING"]).repeat(10_000);
        while requests.write_all(&pings).await.is_ok() {}
    });
    let mut chunk = vec![0; 1 << 16];
    let mut count = replies.read(&mut chunk).await.unwrap();
    daemon.signal(Signal::TERM);
    let mut read = 0;
    while count > 0 {
        read += count;
        count = replies.read(&mut chunk).await.unwrap();
    }
    assert_eq!(read % b"+PONG\r\n".len(), 0, "an answer was cut");
    asking.abort();
    drop(asking.await);
    assert_eq!(daemon.exit().await.code(), Some(0), "{}", daemon.stderr());
}

#[tokio::test]
async fn a_load_that_is_under_way_is_waited_for_and_a_second_signal_ends_the_waiting() {
    let database = database().await;
    database
        .execute(&format!("{COURSES}; CREATE TABLE gate (); "))
        .await;
    let slow = r#"
        [caches.gated]
        key = "gated:{id:bigint}"
        query = "SELECT id, (SELECT count(*) FROM gate) AS passed FROM courses WHERE id = :id"
        shape = "object"
        ttl = "10m"
        load_timeout = "1m"
    "#;
    let slow = format!("postgres.statement_timeout = \"1m\"\n{slow}");
    for hurried in [false, true] {
        let redis = redis();
        let mut daemon = Spawned::start(database.url(), &redis.redis_url(), &slow).await;
        let gate = database.client().await;
        gate.batch_execute("BEGIN; LOCK TABLE gate IN ACCESS EXCLUSIVE MODE")
            .await
            .unwrap();
        let mut client = daemon.client().await;
        client.send(&frame(&["GET", "gated:7"])).await.unwrap();
        let watcher = database.client().await;
        eventually(DEADLINE, async || {
            let waiting =
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'gate'::regclass";
            let waiting: i64 = watcher.query_one(waiting, &[]).await.unwrap().get(0);
            if waiting > 0 { Ok(()) } else { Err(waiting) }
        })
        .await;
        daemon.signal(Signal::TERM);
        daemon.notice("STOPPING=1").await;
        if hurried {
            daemon.signal(Signal::TERM);
            assert_eq!(daemon.exit().await.code(), Some(1), "{}", daemon.stderr());
            assert!(daemon.stderr().contains("(hurried)"), "{}", daemon.stderr());
            gate.batch_execute("ROLLBACK").await.unwrap();
        } else {
            gate.batch_execute("ROLLBACK").await.unwrap();
            let answer = client.read().await.unwrap();
            assert_eq!(answer, Value::bulk(r#"{"id":7,"passed":0}"#));
            assert_eq!(daemon.exit().await.code(), Some(0), "{}", daemon.stderr());
        }
    }
}

#[tokio::test]
async fn without_postgres_it_starts_and_serves_hits_and_loads_once_postgres_is_there() {
    let redis = redis();
    let mut postgres = own_postgres(&PostgresOptions::default());
    let database = database_in(&postgres).await;
    database.execute(COURSES).await;
    postgres.stop().unwrap();
    let cached = r#"{"id":1,"title":"from before"}"#;
    let mut behind = Client::connect_unix(&redis.socket()).await;
    behind
        .command(&["SET", "courses:1", cached, "EX", "600"])
        .await;
    leave_heartbeat(&mut behind, &["courses:"]).await;

    let mut daemon = Spawned::start(database.url(), &redis.redis_url(), COURSE).await;
    let mut client = daemon.client().await;
    assert_eq!(
        client.command(&["GET", "courses:1"]).await,
        Value::bulk(cached)
    );
    let miss = client.command(&["GET", "courses:2"]).await;
    assert!(
        miss.error().starts_with("LOADFAIL 'courses:2': "),
        "{miss:?}"
    );
    let warned = "the queries could not be checked";
    assert!(daemon.stderr().contains(warned), "{}", daemon.stderr());

    postgres.start_again().unwrap();
    eventually(DEADLINE, async || {
        let answer = client.command(&["GET", "courses:2"]).await;
        if answer == course(2) {
            Ok(())
        } else {
            Err(answer)
        }
    })
    .await;
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit().await.code(), Some(0));
}

#[tokio::test]
async fn without_redis_it_starts_and_reads_postgres() {
    let database = database().await;
    database.execute(COURSES).await;
    let mut daemon = Spawned::start(database.url(), &nobodys_redis(), COURSE).await;
    let mut client = daemon.client().await;
    assert_eq!(client.command(&["GET", "courses:2"]).await, course(2));
    let gone = client.command(&["DEL", "courses:2"]).await;
    assert!(gone.error().starts_with("UNAVAILABLE "), "{gone:?}");
    assert!(
        daemon.stderr().contains("redis is away"),
        "{}",
        daemon.stderr()
    );
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit().await.code(), Some(0));
}

#[tokio::test]
async fn without_both_it_starts_and_says_so_to_whoever_asks() {
    let mut daemon = Spawned::start(&nobodys_postgres(), &nobodys_redis(), COURSE).await;
    let mut client = daemon.client().await;
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    let miss = client.command(&["GET", "courses:2"]).await;
    assert!(
        miss.error().starts_with("LOADFAIL 'courses:2': "),
        "{miss:?}"
    );
    daemon.signal(Signal::INT);
    assert_eq!(daemon.exit().await.code(), Some(0));
}

#[tokio::test]
async fn a_bad_configuration_and_a_broken_query_end_it_with_a_report() {
    let config_of = |query: &str, url: &str| {
        let cache = COURSE.replace("title FROM", query);
        config(url, &nobodys_redis(), &cache)
    };
    let bad = "redis.url = 7\n[resp]\nlisten = [\"nowhere\"]\nlissen = []\n";
    let (code, stdout, stderr) = said(&cachewarden(bad, &["run"]).await);
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
    for place in [
        "cachewarden.toml:1:13",
        "cachewarden.toml:3:11",
        "cachewarden.toml:4:1",
        "3 mistakes",
    ] {
        assert!(stderr.contains(place), "{place} is not in\n{stderr}");
    }
    let database = database().await;
    database.execute(COURSES).await;
    let broken = config_of("titel FROM", database.url());
    let (code, stdout, stderr) = said(&cachewarden(&broken, &["run"]).await);
    assert_eq!((code, stdout.as_str()), (Some(78), ""), "{stderr}");
    for part in ["column \"titel\" does not exist", "cachewarden.toml:9:25"] {
        assert!(stderr.contains(part), "{part} is not in\n{stderr}");
    }
}

#[tokio::test]
async fn an_address_in_use_ends_it_with_a_hint() {
    let redis = redis();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let text = format!(
        "redis.url = {:?}\nresp.listen = [\"{address}\"]",
        redis.redis_url()
    );
    let (code, _, stderr) = said(&cachewarden(&text, &["run"]).await);
    assert_eq!(code, Some(69), "{stderr}");
    for part in [address.to_string().as_str(), "in use", "ss -ltnp"] {
        assert!(stderr.contains(part), "{part} is not in\n{stderr}");
    }
}

#[tokio::test]
async fn what_is_not_served_yet_is_named_in_one_warning() {
    let (database, redis) = (database().await, redis());
    let parts = "[caches.one]\nkey = \"one:{id:int}\"\nquery = \"SELECT :id AS id\"\nshape = \"scalar\"\n\
        ttl = \"1m\"\nalert_below = 0.8\n";
    let daemon = Spawned::start(database.url(), &redis.redis_url(), parts).await;
    let stderr = daemon.stderr();
    let warnings: Vec<&str> = stderr
        .lines()
        .filter(|line| line.contains("not served"))
        .collect();
    assert_eq!(warnings.len(), 1, "{stderr}");
    assert!(warnings[0].contains("caches.one.alert_below"), "{stderr}");
}

/// Words that occur in secrets and nowhere else.
const CANARY: &str = "canary";

fn write_secret(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

#[tokio::test]
async fn no_secret_is_ever_said_whatever_goes_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| write_secret(folder.path(), name, text);
    let redis = redis_with(&["--requirepass", "canary-of-redis"]);
    let postgres = Proxy::before_port(free_port().unwrap()).await; // accepts, and ends at once
    let (postgres_port, redis_port) = (postgres.port(), redis.port());
    let postgres_url = format!("postgres://u:canary-of-postgres@127.0.0.1:{postgres_port}/d");
    let redis_url = format!("redis://:canary-of-redis@127.0.0.1:{redis_port}");
    let wrong_redis_url = format!("redis://:canary-wrong@127.0.0.1:{redis_port}");
    let nobodys_url = format!("redis://:canary-of-nobody@{}", nobody());
    let written_out = |redis: &str| {
        format!(
            "postgres.url = {postgres_url:?}\nredis.url = {redis:?}\nresp.password = \"canary-of-resp\"\nlog.level = \"trace\""
        )
    };
    let in_files = format!(
        "postgres.url_file = {:?}\nredis.url = \"redis://127.0.0.1:{redis_port}\"\nredis.password_file = {:?}\nresp.password_file = {:?}\nlog.level = \"trace\"\nlog.format = \"json\"",
        file("postgres", &postgres_url),
        file("redis", "canary-of-redis\n"),
        file("resp", "canary-of-resp\n")
    );
    let running = [
        written_out(&redis_url),
        written_out(&wrong_redis_url),
        written_out(&nobodys_url),
        in_files,
    ];
    for settings in running {
        let config = |address| format!("{settings}\nresp.listen = [\"{address}\"]\n{COURSE}");
        let mut daemon = Spawned::start_with(config, |command| {
            command.env("RUST_LOG", "trace");
        });
        daemon.notice("READY=1").await;
        let mut client = daemon.client().await;
        let mut heard = Vec::new();
        for command in [
            &["AUTH", "canary-guessed"][..],
            &["HELLO", "3", "AUTH", "default", "canary-guessed"],
            &["AUTH", "canary-of-resp"],
            &["GET", "courses:1"],
            &["DEL", "courses:1"],
            &["INFO"],
            &["CLIENT", "INFO"],
        ] {
            heard.push(format!("{:?}", client.command(command).await));
        }
        client.send(b"*1\r\n:canary-of-resp\r\n").await.unwrap();
        heard.push(String::from_utf8(client.read_to_end().await.unwrap()).unwrap());
        daemon.signal(Signal::TERM);
        daemon.exit().await;
        heard.extend([daemon.stdout(), daemon.stderr()]);
        let told = heard.iter().find(|text| text.contains(CANARY));
        assert!(told.is_none(), "{told:?}");
        assert!(
            heard.concat().contains("LOADFAIL"),
            "the errors were driven: {heard:?}"
        );
    }
    let mistaken = [
        "postgres.url = \"postgres://u:canary@h:port/d\"\nredis.url = \"redis://:canary@h:99999999\"".to_owned(),
        "postgres.url = \"mysql://u:canary@h\"\nredis.url = \"redis:/:canary@h\"\nresp.password = [\"canary\"]".to_owned(),
        "redis.url = \"redis://:canary@h\"\nredis.password_file = \"/nonexistent\"\nresp.password = \"canary\nlisten = 7".to_owned(),
        format!("{}\nresp.lissen = 1", written_out(&redis_url)),
    ];
    for text in mistaken {
        for args in [&["run"][..], &["check"], &["check", "--connect"]] {
            let (code, stdout, stderr) = said(&cachewarden(&text, args).await);
            assert_eq!(code, Some(78), "{text}\n{stderr}");
            assert!(
                !format!("{stdout}{stderr}").contains(CANARY),
                "{text}\n{stderr}"
            );
        }
    }
}
