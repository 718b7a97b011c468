use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::*;

fn folder() -> Folder {
    Folder::new().unwrap()
}

/// What Redis answers to one inline command.
fn ask(redis: &Redis, command: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    write!(stream, "{command}\r\nQUIT\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn answer_of(postgres: &Postgres, url: &str, sql: &str) -> Result<String, String> {
    let output = std::process::Command::new(postgres.program("psql"))
        .args(["-X", "-A", "-t", "-d", url, "-c", sql])
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// Waits for processes to go that nobody can wait for.
fn gone(mut there: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + Duration::from_secs(20);
    while Instant::now() < deadline {
        if !there() {
            return true;
        }
        std::thread::yield_now();
    }
    false
}

#[test]
fn a_redis_answers_on_its_port_with_the_arguments_it_was_given() {
    let options = RedisOptions {
        args: vec!["--maxmemory".into(), "2mb".into()],
        ..RedisOptions::default()
    };
    let redis = Redis::start(&folder(), &options).unwrap();
    assert!(ask(&redis, "CONFIG GET maxmemory").contains("2097152"));
    assert_eq!(ask(&redis, "CONFIG GET save").lines().nth(3), Some("$0"));
}

#[test]
fn a_redis_that_was_killed_comes_back_empty_on_its_old_port() {
    let mut redis = Redis::start(&folder(), &RedisOptions::default()).unwrap();
    let port = redis.port();
    assert!(ask(&redis, "SET k v").starts_with("+OK"));
    redis.kill().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(matches!(
        redis.freeze(),
        Err(ServerError::NotRunning { .. })
    ));
    redis.start_again().unwrap();
    assert_eq!(redis.port(), port);
    assert!(ask(&redis, "GET k").starts_with("$-1"));
}

#[test]
fn a_frozen_redis_accepts_and_says_nothing_until_it_is_thawed() {
    let mut redis = Redis::start(&folder(), &RedisOptions::default()).unwrap();
    redis.freeze().unwrap();
    let mut stream = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    stream.write_all(b"PING\r\n").unwrap();
    let mut answer = [0; 7];
    assert!(stream.read_exact(&mut answer).is_err());
    redis.thaw().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+PONG\r\n");
}

#[test]
fn a_server_that_cannot_start_fails_with_the_end_of_its_log() {
    let options = RedisOptions {
        args: vec!["--no-such-option".into(), "1".into()],
        ..RedisOptions::default()
    };
    let error = Redis::start(&folder(), &options).unwrap_err();
    assert!(error.to_string().contains("no-such-option"), "{error}");
}

#[test]
fn a_postgres_keeps_its_rows_and_port_through_a_stop_and_a_kill() {
    let options = PostgresOptions {
        settings: vec![("max_connections".into(), "17".into())],
    };
    let mut postgres = Postgres::start(&folder(), &options).unwrap();
    let (tcp, socket) = (
        postgres.postgres_url("postgres"),
        postgres.postgres_socket_url("postgres"),
    );
    assert_eq!(
        answer_of(&postgres, &tcp, "SHOW max_connections").unwrap(),
        "17"
    );
    answer_of(&postgres, &tcp, "CREATE TABLE t AS SELECT 7 AS n").unwrap();
    postgres.stop().unwrap();
    assert!(answer_of(&postgres, &socket, "SELECT n FROM t").is_err());
    postgres.start_again().unwrap();
    postgres.kill().unwrap();
    postgres.start_again().unwrap();
    assert_eq!(
        answer_of(&postgres, &socket, "SELECT n FROM t").unwrap(),
        "7"
    );
}

#[test]
fn a_frozen_postgres_answers_no_open_connection_until_it_is_thawed() {
    let mut postgres = Postgres::start(&folder(), &PostgresOptions::default()).unwrap();
    let mut psql = postgres
        .psql("postgres")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = psql.stdin.take().unwrap();
    let mut output = psql.stdout.take().unwrap();
    input.write_all(b"SELECT 'one';\n").unwrap();
    let mut line = [0; 4];
    output.read_exact(&mut line).unwrap();
    let frozen = postgres.freeze().unwrap();
    assert!(
        frozen.len() > 2,
        "the backend and the helpers are frozen too: {frozen:?}"
    );
    input.write_all(b"SELECT 'two';\n").unwrap();
    postgres.thaw().unwrap();
    output.read_exact(&mut line).unwrap();
    assert_eq!(&line, b"two\n");
    drop(input);
    assert!(psql.wait().unwrap().success());
}

#[test]
fn a_folder_goes_with_everything_in_it_when_the_last_who_uses_it_goes() {
    let folder = folder();
    let redis = Redis::start(&folder, &RedisOptions::default()).unwrap();
    let (path, port) = (folder.path().to_owned(), redis.port());
    drop(folder);
    assert!(path.is_dir(), "a server still needs it");
    drop(redis);
    assert!(!path.exists());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

/// `Drop` never runs: all that happens is that the watchdog's pipe closes, as when we are killed.
#[test]
fn the_watchdog_alone_ends_even_frozen_servers_and_removes_the_folder() {
    let folder = folder();
    let mut redis = Redis::start(&folder, &RedisOptions::default()).unwrap();
    let mut postgres = Postgres::start(&folder, &PostgresOptions::default()).unwrap();
    postgres.freeze().unwrap();
    redis.freeze().unwrap();
    folder.close_watchdog_line();
    let (path, port) = (folder.path().to_owned(), postgres.port());
    // Reaping is ours: a zombie holds no port, no file and no memory.
    assert!(gone(|| path.exists()), "the folder is still there");
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
    assert!(TcpStream::connect(("127.0.0.1", redis.port())).is_err());
}
