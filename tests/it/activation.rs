//! Listening sockets that are passed on by a service manager: here by systemd's program for trying that, which listens, waits for
//! the first client and becomes the daemon.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use rustix::process::Signal;
use tokio::net::{TcpStream, UnixStream};

use super::door::entry::{make_certificate, tls};
use super::support::DEADLINE;
use super::support::daemon::{Spawned, cachewarden, said};
use super::support::eventually::eventually;
use super::support::resp::{Client, frame};
use super::support::servers::redis;

/// The program that passes on what listens on `addresses`.
fn passing_on(addresses: &[&str]) -> Vec<String> {
    let mut words = vec!["systemd-socket-activate", "-E", "NOTIFY_SOCKET"];
    for address in addresses {
        words.extend(["-l", address]);
    }
    words.into_iter().map(String::from).collect()
}

/// A daemon that is passed its TCP address, and `path` if there is one; it declares the former, `declared`, and `more`.
fn spawn(path: Option<&Path>, declared: &str, more: &str) -> Spawned {
    let listen = |address: SocketAddr| {
        let path = path.map(|path| path.display().to_string());
        let address = address.to_string();
        let addresses: Vec<&str> = [address.as_str()]
            .into_iter()
            .chain(path.as_deref())
            .collect();
        passing_on(&addresses)
    };
    // None of these tests needs a Redis.
    let config = |address| {
        format!(
            "redis.url = \"redis://127.0.0.1:1\"\nresp.listen = [\"{address}\"{declared}]\n{more}"
        )
    };
    Spawned::start_through(listen, config, |_| {})
}

/// Whoever listens before the daemon runs: it takes a moment until it does.
async fn first_client(daemon: &Spawned) -> Client {
    let address = daemon.address();
    let stream = eventually(DEADLINE, async || TcpStream::connect(address).await).await;
    Client::over(stream)
}

#[tokio::test]
async fn sockets_that_are_passed_on_are_served_and_their_files_are_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resp.sock");
    let own = folder.path().join("own.sock");
    let declared = format!(", \"unix:{}\", \"unix:{}\"", path.display(), own.display());
    let mut daemon = spawn(Some(&path), &declared, "");
    let mut client = first_client(&daemon).await;
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    for path in [&path, &own] {
        let stream = UnixStream::connect(path).await.unwrap();
        let reply = Client::over(stream).command(&["PING"]).await;
        assert_eq!(reply.text(), "PONG");
    }
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.exit().await.code(), Some(0), "{}", daemon.stderr());
    // Clients go on to come to the socket of the service manager, and our own is gone.
    assert!(path.exists());
    assert!(!own.exists());
}

#[tokio::test]
async fn a_socket_that_is_not_declared_ends_the_start_with_its_address() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resp.sock");
    let mut daemon = spawn(Some(&path), "", "");
    let _client = first_client(&daemon).await;
    assert_eq!(daemon.exit().await.code(), Some(78), "{}", daemon.stderr());
    let told = format!("`unix:{}`, which is not in `[resp] listen`", path.display());
    assert!(daemon.stderr().contains(&told), "{}", daemon.stderr());
}

#[tokio::test]
async fn a_socket_of_another_kind_ends_the_start() {
    let listen = |address: SocketAddr| {
        let mut words = passing_on(&[&address.to_string()]);
        words.push("--datagram".to_owned());
        words
    };
    let config =
        |address| format!("redis.url = \"redis://127.0.0.1:1\"\nresp.listen = [\"{address}\"]");
    let mut daemon = Spawned::start_through(listen, config, |_| {});
    // Whatever comes starts it; until it listens, nothing does.
    let knock = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = daemon.address();
    let told = eventually(DEADLINE, async || {
        let _unheard = knock.send_to(b"PING", address);
        let said = daemon.stderr();
        if said.contains("is no stream socket that listens") {
            Ok(())
        } else {
            Err(said)
        }
    });
    told.await;
    assert_eq!(daemon.exit().await.code(), Some(78));
}

#[tokio::test]
async fn sockets_that_are_passed_to_another_process_are_not_touched() {
    let redis = redis();
    let mut daemon = Spawned::start_with(
        |address| {
            let redis = redis.redis_url();
            format!("redis.url = {redis:?}\nresp.listen = [\"{address}\"]")
        },
        |command| {
            command.env("LISTEN_FDS", "1").env("LISTEN_PID", "1");
        },
    );
    daemon.notice("READY=1").await;
    let mut client = daemon.client().await;
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
}

#[tokio::test]
async fn a_socket_that_is_passed_on_speaks_tls_where_the_daemons_own_would() {
    let folder = tempfile::tempdir().unwrap();
    let (cert, key) = make_certificate(folder.path());
    let prefixes = "[invalidation]\nprefixes = [\"legacy:\"]\n";
    let more = format!("{}\n{prefixes}", tls(&cert, &key));
    let daemon = spawn(None, "", &more);
    let mut plain = first_client(&daemon).await;
    // No reply of ours, but TLS' own word for it.
    plain.send(&frame(&["PING"])).await.unwrap();
    let told = plain.read_to_end().await.unwrap();
    assert!(!told.starts_with(b"+"), "{told:?}");
    let text = fs::read_to_string(daemon.config()).unwrap();
    let (_, _, errors) = said(&cachewarden(&text, &["invalidate", "legacy:1"]).await);
    // The daemon's own answer: without Redis nothing is removed.
    assert!(errors.starts_with("UNAVAILABLE"), "{errors}");
}
