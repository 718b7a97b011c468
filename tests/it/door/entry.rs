//! Ways in: addresses, sockets, TLS, the password, and how many may come.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use cachewarden::config::Config;
use cachewarden::{StartError, Warden};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::super::support::DEADLINE;
use super::super::support::daemon::InProcess;
use super::super::support::eventually::eventually;
use super::super::support::resp::{Client, Value};
use super::super::support::servers::redis;

fn config(redis_url: &str, listen: &[String], more: &str) -> String {
    format!("redis.url = {redis_url:?}\nresp.listen = {listen:?}\n{more}")
}

async fn refusal(config: &str) -> StartError {
    match Warden::start(Config::from_toml(config).unwrap()).await {
        Ok(_) => panic!("it started on\n{config}"),
        Err(error) => error,
    }
}

fn socket_in(folder: &TempDir) -> (PathBuf, String) {
    let path = folder.path().join("resp.sock");
    let listen = format!("unix:{}", path.display());
    (path, listen)
}

#[tokio::test]
async fn one_daemon_serves_at_every_address_it_listens_on() {
    let (redis, folder) = (redis(), tempfile::tempdir().unwrap());
    let (path, unix) = socket_in(&folder);
    let any = || "127.0.0.1:0".to_owned();
    let config = config(&redis.redis_url(), &[any(), unix, any()], "");
    let daemon = InProcess::start(&config).await;
    let addresses = daemon.warden.resp_addrs();
    assert_eq!(addresses.len(), 2);
    let mut clients = vec![Client::connect_unix(&path).await];
    for address in addresses {
        clients.push(Client::connect(*address).await);
    }
    for client in &mut clients {
        assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    }
    daemon.stop().await;
    assert!(!path.exists(), "a stopped daemon leaves no socket behind");
    for client in &mut clients {
        assert!(client.read_to_end().await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_unix_socket_is_open_to_owner_and_group_only() {
    let (redis, folder) = (redis(), tempfile::tempdir().unwrap());
    let (path, unix) = socket_in(&folder);
    let daemon = InProcess::start(&config(&redis.redis_url(), &[unix], "")).await;
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    daemon.stop().await;
}

#[tokio::test]
async fn a_socket_that_nobody_answers_on_is_replaced() {
    let (redis, folder) = (redis(), tempfile::tempdir().unwrap());
    let (path, unix) = socket_in(&folder);
    drop(UnixListener::bind(&path).unwrap()); // what a killed daemon leaves behind
    let daemon = InProcess::start(&config(&redis.redis_url(), &[unix], "")).await;
    let mut client = Client::connect_unix(&path).await;
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    daemon.stop().await;
}

#[tokio::test]
async fn a_socket_that_somebody_answers_on_and_a_file_that_is_none_are_left_alone() {
    let (redis, folder) = (redis(), tempfile::tempdir().unwrap());
    let (path, unix) = socket_in(&folder);
    let first =
        InProcess::start(&config(&redis.redis_url(), std::slice::from_ref(&unix), "")).await;
    let error = refusal(&config(&redis.redis_url(), std::slice::from_ref(&unix), "")).await;
    let text = error.to_string();
    assert!(matches!(error, StartError::Address(_)), "{text}");
    assert!(
        text.contains(&unix) && text.contains("another daemon answers there"),
        "{text}"
    );
    let mut client = Client::connect_unix(&path).await;
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    first.stop().await;

    fs::write(&path, "somebody's notes").unwrap();
    refusal(&config(&redis.redis_url(), &[unix], "")).await;
    assert_eq!(fs::read_to_string(&path).unwrap(), "somebody's notes");
}

#[tokio::test]
async fn an_address_in_use_is_refused_and_what_was_bound_before_is_free_again() {
    let (redis, folder) = (redis(), tempfile::tempdir().unwrap());
    let (_, unix) = socket_in(&folder);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let listen = [unix.clone(), address.clone()];
    let text = refusal(&config(&redis.redis_url(), &listen, ""))
        .await
        .to_string();
    assert!(
        text.contains(&address) && text.contains("choose another port"),
        "{text}"
    );
    let daemon = InProcess::start(&config(&redis.redis_url(), &[unix], "")).await;
    daemon.stop().await;
}

/// A certificate for `localhost` that signs itself, and its key.
pub fn make_certificate(folder: &Path) -> (PathBuf, PathBuf) {
    const REQUEST: &str = "[req]\ndistinguished_name = name\nx509_extensions = extensions\nprompt = no\n\
        [name]\nCN = localhost\n[extensions]\nsubjectAltName = DNS:localhost\nbasicConstraints = critical, CA:FALSE\n";
    let file = |name: &str| folder.join(name);
    fs::write(file("request"), REQUEST).unwrap();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .arg("-config")
        .arg(file("request"))
        .arg("-out")
        .arg(file("cert.pem"))
        .arg("-keyout")
        .arg(file("key.pem"))
        .output()
        .unwrap_or_else(|error| panic!("`openssl`: {error}\nhint: apt-get install -y openssl"));
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    (file("cert.pem"), file("key.pem"))
}

pub fn tls(cert: &Path, key: &Path) -> String {
    format!("resp.tls_cert_file = {cert:?}\nresp.tls_key_file = {key:?}")
}

async fn connect_tls(address: std::net::SocketAddr, cert: &Path) -> Client {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(cert).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Client::over(stream.await.unwrap())
}

#[tokio::test]
async fn with_a_certificate_tcp_is_encrypted_and_unix_sockets_are_as_ever() {
    let (redis, folder) = (redis(), tempfile::tempdir().unwrap());
    let (cert, key) = make_certificate(folder.path());
    let (path, unix) = socket_in(&folder);
    let listen = ["127.0.0.1:0".to_owned(), unix];
    let daemon = InProcess::start(&config(&redis.redis_url(), &listen, &tls(&cert, &key))).await;
    let mut encrypted = connect_tls(daemon.address(), &cert).await;
    let mut local = Client::connect_unix(&path).await;

    // A client that speaks in the clear is not served, and is told so in the terms of TLS.
    let mut plain = daemon.client().await;
    plain.send(b"*1\r\n$4\r\nPING\r\n").await.unwrap();
    let alert = plain.read_to_end().await.unwrap();
    assert!(matches!(alert.as_slice(), [] | [0x15, 3, ..]), "{alert:?}");

    // More than a record, a buffer and a socket hold.
    let large = "x".repeat(300_000);
    for client in [&mut encrypted, &mut local] {
        assert_eq!(
            client.command(&["HELLO", "3"]).await.field("proto"),
            Some(&Value::Int(3))
        );
        for _ in 0..3 {
            let echo = client.command(&["ECHO", &large]).await;
            assert!(echo == Value::bulk(&large));
        }
        assert_eq!(client.command(&["QUIT"]).await.text(), "OK");
        assert!(
            client.read_to_end().await.unwrap().is_empty(),
            "a clean end"
        );
    }
    daemon.stop().await;
}

#[tokio::test]
async fn certificates_that_cannot_be_used_are_named() {
    let (redis, folder) = (redis(), tempfile::tempdir().unwrap());
    let (cert, key) = make_certificate(folder.path());
    let (other, empty) = (folder.path().join("other"), folder.path().join("empty"));
    fs::create_dir(&other).unwrap();
    let (_, foreign_key) = make_certificate(&other);
    fs::write(&empty, "").unwrap();
    let missing = folder.path().join("missing.pem");
    let listen = ["127.0.0.1:0".to_owned()];
    for (cert, key, named) in [
        (&missing, &key, &missing),
        (&cert, &missing, &missing),
        (&empty, &key, &empty),
        (&cert, &empty, &empty),
        (&key, &key, &key),
        (&cert, &foreign_key, &cert),
    ] {
        let error = refusal(&config(&redis.redis_url(), &listen, &tls(cert, key))).await;
        let text = error.to_string();
        assert!(text.contains(&format!("`{}`", named.display())), "{text}");
    }
}

#[tokio::test]
async fn the_password_opens_the_door_in_every_way_that_clients_say_it() {
    let redis = redis();
    let listen = ["127.0.0.1:0".to_owned()];
    let password = "resp.password = \"correct horse\"";
    let daemon = InProcess::start(&config(&redis.redis_url(), &listen, password)).await;
    let ways: [&[&str]; 4] = [
        &["AUTH", "correct horse"],
        &["AUTH", "default", "correct horse"],
        &["HELLO", "2", "AUTH", "default", "correct horse"],
        &[
            "hello",
            "3",
            "setname",
            "me",
            "auth",
            "default",
            "correct horse",
        ],
    ];
    for way in ways {
        let mut client = daemon.client().await;
        for refused in [
            &["GET", "courses:1"][..],
            &["PING"],
            &["INFO"],
            &["COMMAND"],
            &["NOSUCH"],
            &["GET"],
        ] {
            let answer = client.command(refused).await;
            assert_eq!(
                answer.error(),
                "NOAUTH Authentication required.",
                "{refused:?}"
            );
        }
        assert!(
            client
                .command(&["HELLO", "3"])
                .await
                .error()
                .starts_with("NOAUTH HELLO must")
        );
        for wrong in [
            &["AUTH", "correct hors"][..],
            &["AUTH", "default", ""],
            &["AUTH", "root", "correct horse"],
            &["HELLO", "3", "AUTH", "default", "x"],
        ] {
            assert!(
                client
                    .command(wrong)
                    .await
                    .error()
                    .starts_with("WRONGPASS "),
                "{wrong:?}"
            );
        }
        let answer = client.command(way).await;
        assert!(!matches!(answer, Value::Error(_)), "{way:?}: {answer:?}");
        assert_eq!(client.command(&["PING"]).await.text(), "PONG");
        // Once in, a request may be as long as configured.
        let large = "x".repeat(100_000);
        assert!(client.command(&["ECHO", &large]).await == Value::bulk(&large));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_place_that_was_given_up_is_free_again_however_it_was_given_up() {
    let redis = redis();
    let listen = ["127.0.0.1:0".to_owned()];
    let daemon = InProcess::start(&config(
        &redis.redis_url(),
        &listen,
        "resp.max_connections = 2",
    ))
    .await;
    let mut stays = daemon.client().await;
    stays.command(&["PING"]).await;
    let endings: [&[u8]; 4] = [
        b"QUIT\r\n",
        b"*1\r\n:1\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"*1\r\n$4\r\nPI",
    ];
    for ending in endings {
        let mut second = daemon.client().await;
        assert_eq!(
            second.command(&["PING"]).await.text(),
            "PONG",
            "the place is free"
        );
        let refused = daemon.client().await.read_to_end().await.unwrap();
        assert_eq!(refused, b"-ERR max number of clients reached\r\n");
        second.send(ending).await.unwrap();
        drop(second);
        eventually(DEADLINE, async || {
            let info = stays.command(&["INFO", "clients"]).await;
            let alone = info.text().contains("connected_clients:1\r\n");
            if alone { Ok(()) } else { Err(info) }
        })
        .await;
    }
    daemon.stop().await;
}
