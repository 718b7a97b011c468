//! Many clients, greedy clients and clients that vanish: what each costs, and that the others are served. The daemon is
//! a process of its own here: its memory can be told from ours, and each needs its own open files.

use std::collections::HashMap;
use std::net::SocketAddr;

use cachewarden::cli::demo::servers::Redis;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::super::support::DEADLINE;
use super::super::support::daemon::Spawned;
use super::super::support::eventually::eventually;
use super::super::support::resp::{Client, Value, frame};
use super::super::support::servers::{Database, database, redis};
use super::{CACHES, course};

const CROWD: usize = 10_000;
/// What an idle connection may cost the daemon, in bytes of memory. Unoptimised, as tests are built, it costs about twice
/// what it does in a release.
const IDLE_BYTES: usize = 8 * 1024;
/// What a client that asks and never reads may cost, in bytes of memory.
const GREEDY_BYTES: usize = 4 << 20;

struct World {
    daemon: Spawned,
    _redis: Redis,
    _database: Database,
}

async fn world() -> World {
    let database = database().await;
    database
        .execute(
            "CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
             INSERT INTO courses SELECT n, 'course-' || n FROM generate_series(1, 100) n",
        )
        .await;
    let redis = redis();
    // Started with few open files, as shells and services do: it asks for what it needs by itself.
    let text = format!("resp.max_connections = {}\n{CACHES}", CROWD + 100);
    let daemon = Spawned::start(database.url(), &redis.redis_url(), &text).await;
    World {
        daemon,
        _redis: redis,
        _database: database,
    }
}

async fn info(client: &mut Client) -> HashMap<String, String> {
    let info = client.command(&["INFO"]).await;
    let lines = info.text().split("\r\n");
    let pairs = lines.filter_map(|line| line.split_once(':'));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

async fn wait_until_alone(client: &mut Client) {
    eventually(DEADLINE, async || {
        let connected = info(client).await.remove("connected_clients");
        if connected.as_deref() == Some("1") {
            Ok(())
        } else {
            Err(connected)
        }
    })
    .await;
}

#[tokio::test]
async fn ten_thousand_idle_clients_cost_little_and_disturb_nobody() {
    let limits = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limits.maximum,
        ..limits
    };
    setrlimit(Resource::Nofile, raised).unwrap();
    let World { daemon, .. } = &world().await;
    let mut neighbour = daemon.client().await;
    assert_eq!(
        neighbour.command(&["GET", "courses:1"]).await,
        Value::bulk(course(1))
    );
    let before = daemon.resident_bytes();

    let mut crowd = Vec::with_capacity(CROWD);
    for _ in 0..CROWD {
        let mut client = TcpStream::connect(daemon.address()).await.unwrap();
        // Each has been served once: what it needed for that is given back.
        client.write_all(b"PING\r\n").await.unwrap();
        crowd.push(client);
    }
    for client in &mut crowd {
        let mut pong = [0; 7];
        client.read_exact(&mut pong).await.unwrap();
        assert_eq!(&pong, b"+PONG\r\n");
    }

    let each = daemon.resident_bytes().saturating_sub(before) / CROWD;
    assert!(each < IDLE_BYTES, "an idle client costs {each} bytes");
    println!("an idle client costs {each} bytes");
    let connected = info(&mut neighbour).await.remove("connected_clients");
    assert_eq!(connected, Some((CROWD + 1).to_string()));
    assert_eq!(
        neighbour.command(&["GET", "courses:2"]).await,
        Value::bulk(course(2))
    );
    let mut newcomer = daemon.client().await;
    assert_eq!(
        newcomer.command(&["GET", "courses:3"]).await,
        Value::bulk(course(3))
    );
    drop((crowd, newcomer));
    wait_until_alone(&mut neighbour).await;
}

/// A connection whose own buffer takes little, so that what is not read soon waits in the daemon.
async fn narrow(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(address).await.unwrap()
}

#[tokio::test]
async fn a_client_that_asks_a_million_times_and_does_not_read_costs_little_and_loses_nothing() {
    const ASKED: usize = 1_000_000;
    let World { daemon, .. } = &world().await;
    let mut neighbour = daemon.client().await;
    neighbour.command(&["PING"]).await;
    let before = daemon.resident_bytes();
    let (mut replies, mut requests) = narrow(daemon.address()).await.into_split();
    let flood = tokio::spawn(async move {
        let pings = frame(&["PING"]).repeat(ASKED / 100);
        for _ in 0..100 {
            requests.write_all(&pings).await.unwrap();
        }
        requests
    });
    for _ in 0..500 {
        assert_eq!(neighbour.command(&["PING"]).await.text(), "PONG");
    }
    assert!(!flood.is_finished(), "nothing held it back");
    let grown = daemon.resident_bytes().saturating_sub(before);
    assert!(grown < GREEDY_BYTES, "it holds {grown} bytes more");

    // Now it reads.
    let mut rest = vec![0; 1 << 16];
    let mut read = 0;
    while read < ASKED * b"+PONG\r\n".len() {
        let count = replies.read(&mut rest).await.unwrap();
        assert_ne!(count, 0, "closed after {read} bytes");
        let in_order = rest[..count]
            .iter()
            .zip(read..)
            .all(|(byte, at)| *byte == b"+PONG\r\n"[at % 7]);
        assert!(in_order, "{}", rest[..count].escape_ascii());
        read += count;
    }
    drop(flood.await.unwrap());
    let grown = daemon.resident_bytes().saturating_sub(before);
    assert!(grown < GREEDY_BYTES, "it holds {grown} bytes more");
}

#[tokio::test]
async fn a_client_that_never_pauses_leaves_room_for_the_others_of_its_core() {
    let World { daemon, .. } = &world().await;
    // Connections are dealt out to the cores in turn: one of these shares its core with the one that follows.
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut neighbours = Vec::new();
    for _ in 0..cores {
        neighbours.push(daemon.client().await);
    }
    let (mut replies, mut requests) = TcpStream::connect(daemon.address())
        .await
        .unwrap()
        .into_split();
    let asking = tokio::spawn(async move {
        let pings = frame(&["PING"]).repeat(10_000);
        while requests.write_all(&pings).await.is_ok() {}
    });
    let reading = tokio::spawn(async move {
        let mut chunk = vec![0; 1 << 16];
        while replies.read(&mut chunk).await.is_ok_and(|count| count > 0) {}
    });
    for _ in 0..100 {
        for neighbour in &mut neighbours {
            assert_eq!(neighbour.command(&["PING"]).await.text(), "PONG");
        }
    }
    assert!(!asking.is_finished() && !reading.is_finished());
    asking.abort();
    reading.abort();
}

#[tokio::test]
async fn clients_that_vanish_with_answers_on_their_way_leave_nothing_behind() {
    let World { daemon, .. } = &world().await;
    let mut neighbour = daemon.client().await;
    let gets: Vec<u8> = (1..=100)
        .flat_map(|id| frame(&["GET", &format!("courses:{id}")]))
        .collect();
    let mut held = Vec::new();
    // The first two times take what any such crowd takes, in the allocator's large steps; a crowd that left its answers
    // behind would add more than the limit in each of the other three.
    for _ in 0..5 {
        for round in 0..200 {
            let mut client = narrow(daemon.address()).await;
            // Some in the middle of a request, some with a reset, some after the last.
            let sent = gets.len() - round % 3 * 7;
            client.write_all(&gets[..sent]).await.unwrap();
            if round % 2 == 0 {
                client.set_zero_linger().unwrap();
            }
        }
        let answer = neighbour.command(&["GET", "courses:1"]).await;
        assert_eq!(answer, Value::bulk(course(1)));
        wait_until_alone(&mut neighbour).await;
        held.push(daemon.resident_bytes());
    }
    assert!(
        held[4].saturating_sub(held[1]) < GREEDY_BYTES,
        "it holds {held:?} bytes"
    );
    let counted = info(&mut neighbour).await;
    assert_eq!(counted["postgres_keys_waiting"], "0");
    assert!(!daemon.stderr().contains("panicked"), "{}", daemon.stderr());
}
