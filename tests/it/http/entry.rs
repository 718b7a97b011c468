//! Who is let in, and what is too much.

use std::time::{Duration, Instant};

use cachewarden::cli::demo::servers::Folder;
use tokio::net::UnixStream;

use super::super::support::daemon::{cachewarden, config_without_postgres, said};
use super::super::support::eventually::eventually;
use super::super::support::servers::redis;
use super::super::support::world::{release, statements};
use super::*;

const TOKEN: &str = "http.token = \"open sesame\"\n";

#[tokio::test]
async fn without_the_token_only_health_is_told() {
    let world = world_with(TOKEN).await;
    let daemon = &world.daemon;
    for path in ["/health/live", "/health/ready"] {
        assert_ne!(get(daemon, path).await.status, 401, "{path}");
    }
    let basic = "Authorization: Basic open sesame";
    for path in [
        "/metrics",
        "/api/v1/stats",
        "/api/v1/keys/courses:1",
        "/nothing",
        "/",
    ] {
        for more in [&[] as &[&str], &[basic], &["Cookie: token=open sesame"]] {
            let refused = send(daemon, "GET", path, more, "").await;
            assert_eq!(
                (refused.status, refused.code().as_str()),
                (401, "NOAUTH"),
                "{path}"
            );
            assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
        }
    }
    let in_query = get(daemon, "/api/v1/stats?token=open%20sesame").await;
    assert_eq!(in_query.status, 401);
    let known = ["Authorization: Bearer open sesame"];
    for path in ["/metrics", "/api/v1/stats", "/api/v1/keys/courses:1"] {
        assert_eq!(
            send(daemon, "GET", path, &known, "").await.status,
            200,
            "{path}"
        );
    }
    world.daemon.stop().await;
}

/// A dotted key first.
async fn world_with(keys: &str) -> World {
    World::start(COURSES, &format!("{keys}{HTTP}{COURSE}")).await
}

#[tokio::test]
async fn wrong_tokens_are_answered_ever_later_and_the_right_one_at_once() {
    let world = world_with(TOKEN).await;
    let guess = ["Authorization: Bearer open sesam"];
    for guesses in 0..6 {
        let began = Instant::now();
        let refused = send(&world.daemon, "GET", "/metrics", &guess, "").await;
        assert_eq!(refused.status, 401);
        let least = Duration::from_millis(10 << guesses);
        assert!(began.elapsed() >= least, "{guesses}: {:?}", began.elapsed());
    }
    let right = ["Authorization: Bearer open sesame"];
    tokio::select! {
        biased;
        _ = send(&world.daemon, "GET", "/metrics", &guess, "") => panic!("the guess comes first"),
        response = send(&world.daemon, "GET", "/metrics", &right, "") => assert_eq!(response.status, 200),
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn names_that_others_gave_this_machine_and_pages_of_other_origins_are_refused() {
    let world = world_with("http.hosts = [\"cache.internal\"]\n").await;
    let address = world.daemon.warden.http_addr().unwrap();
    for (host, more, status) in [
        ("localhost", "", 200),
        ("127.0.0.1:9680", "", 200),
        ("[::1]", "", 200),
        ("Cache.Internal:9680", "", 200),
        ("evil.example", "", 421),
        ("127.0.0.1.evil.example:9680", "", 421),
        ("localhost", "Origin: http://localhost\r\n", 200),
        ("localhost:1", "Origin: https://localhost:1\r\n", 200),
        ("localhost:1", "Origin: http://localhost:2\r\n", 403),
        ("localhost", "Origin: http://evil.example\r\n", 403),
        ("localhost", "Origin: null\r\n", 403),
    ] {
        for path in ["/health/live", "/metrics", "/api/v1/keys/courses:1"] {
            let text =
                format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n");
            let response = exchange(address, text.as_bytes()).await;
            assert_eq!(response.status, status, "{path} {host} {more}");
            assert_eq!(response.header("access-control-allow-origin"), None);
            if status != 200 {
                response.code();
            }
        }
    }
    for (text, status) in [
        ("GET /metrics HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        ("GET /metrics HTTP/1.0\r\n\r\n", 400),
        (
            "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
            400,
        ),
        (
            "GET http://evil.example/metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            421,
        ),
    ] {
        assert_eq!(
            exchange(address, text.as_bytes()).await.status,
            status,
            "{text}"
        );
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_changes_something_takes_a_method_and_a_type_that_no_form_can_send() {
    let world = world("").await;
    let daemon = &world.daemon;
    let body = "{\"keys\": [\"courses:1\"]}";
    let wrong = get(daemon, "/api/v1/invalidate").await;
    assert_eq!((wrong.status, wrong.header("allow")), (405, Some("POST")));
    wrong.code();
    for kind in [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data",
    ] {
        let header = format!("Content-Type: {kind}");
        let refused = send(daemon, "POST", "/api/v1/invalidate", &[&header], body).await;
        assert_eq!(refused.status, 415, "{kind}");
    }
    let typed = ["Content-Type: Application/JSON; charset=utf-8"];
    let taken = send(daemon, "POST", "/api/v1/invalidate", &typed, body).await;
    assert_eq!(taken.status, 200, "{taken:?}");
    for path in [
        "/",
        "/nothing",
        "/api/v1/",
        "//health/live",
        "/../etc/passwd",
        "/health/live/",
        "/health/%2e%2e/metrics",
        "/metrics%00",
        "/api/v1/keys",
        "/\u{2025}/metrics",
    ] {
        let lost = send(daemon, "GET", path, &[], "").await;
        assert!([400, 404].contains(&lost.status), "{path}: {lost:?}");
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn heads_and_bodies_that_are_too_large_broken_or_ambiguous_are_refused() {
    let world = world("").await;
    let address = world.daemon.warden.http_addr().unwrap();
    let head =
        "POST /api/v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let huge = "x".repeat(200_000);
    let many = "X-Y: z\r\n".repeat(10_000);
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 16, "x".repeat(1 << 16));
    let cases = [
        (
            format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Huge: {huge}\r\n\r\n"),
            431,
        ),
        (
            format!("GET /metrics HTTP/1.1\r\nHost: localhost\r\n{many}\r\n"),
            431,
        ),
        (
            format!("{head}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{{}}"),
            400,
        ),
        (format!("{head}Content-Length: -1\r\n\r\n"), 400),
        (
            format!("{head}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{{}}"),
            400,
        ),
        (
            format!(
                "{head}Content-Length: 2000000\r\n\r\n{}",
                "x".repeat(1_100_000)
            ),
            413,
        ),
        (
            format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n{}",
                chunk.repeat(17)
            ),
            413,
        ),
        ("\u{0}\u{1}\u{2}\r\n\r\n".to_owned(), 400),
    ];
    for (bytes, status) in cases {
        let response = exchange_until_refused(address, bytes.as_bytes()).await;
        let shown: String = bytes.chars().take(150).collect();
        assert_eq!(response, status, "{shown}");
    }
    for body in [
        "{",
        "[]",
        "{\"keys\": 1}",
        "{\"keys\": [], \"keys\": []}",
        "{\"keys\": [NaN]}",
        "{\"nothing\": 1}",
        "{\"keys\": [], \"more\": 1}",
        &"[".repeat(100_000),
    ] {
        let refused = post(&world.daemon, "/api/v1/read", body).await;
        assert_eq!(
            (refused.status, refused.code().as_str()),
            (400, "ERR"),
            "{refused:?}"
        );
    }
    assert_eq!(get(&world.daemon, "/health/live").await.status, 200);
    world.daemon.stop().await;
}

/// The status, as soon as it is there: nobody reads the rest of what we send.
async fn exchange_until_refused(address: SocketAddr, bytes: &[u8]) -> u16 {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut from, mut to) = stream.into_split();
    let sending = async {
        let _refused_on_the_way = to.write_all(bytes).await;
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut status = [0; 12];
        from.read_exact(&mut status).await.map(|_| status)
    };
    let status = tokio::select! {
        () = sending => panic!("it never ends"),
        status = timeout(DEADLINE, reading) => status.expect("in time").expect("an answer"),
    };
    let status = std::str::from_utf8(&status).unwrap();
    status
        .strip_prefix("HTTP/1.1 ")
        .expect(status)
        .parse()
        .unwrap()
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_and_so_is_a_body() {
    let world = world("").await;
    let address = world.daemon.warden.http_addr().unwrap();
    let head =
        "POST /api/v1/read HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let (slow_head, slow_body) = tokio::join!(
        exchange(address, b"GET /metrics HTTP/1.1\r\nHost: loc"),
        exchange_until_refused(
            address,
            format!("{head}Content-Length: 20\r\n\r\n{{")
                .as_bytes()
                .to_vec()
                .leak()
        ),
    );
    assert_eq!((slow_head.status, slow_body), (408, 408));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_socket_of_the_file_system_is_served_as_well() {
    let folder = Folder::new().unwrap();
    let path = folder.path().join("http.sock");
    let redis = redis();
    let listen = format!("http.listen = \"unix:{}\"\n", path.display());
    let text = config_without_postgres(&redis.redis_url(), &listen);
    let daemon = InProcess::start(&text).await;
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert_eq!(Response::parse(&text).status, 200);
    daemon.stop().await;
    assert!(!path.exists());
}

#[tokio::test]
async fn an_address_in_use_ends_the_start_with_69_and_one_for_all_without_a_token_with_78() {
    let redis = redis();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (listen, code, parts) in [
        (address.as_str(), 69, ["http.listen", "ss -lntxp"]),
        ("0.0.0.0:0", 78, ["without a token", "token_file"]),
    ] {
        let text =
            config_without_postgres(&redis.redis_url(), &format!("http.listen = {listen:?}\n"));
        let (seen, _, stderr) = said(&cachewarden(&text, &["run"]).await);
        assert_eq!(seen, Some(code), "{stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{part} is not in\n{stderr}");
        }
    }
}

#[tokio::test]
async fn without_the_section_there_is_no_door() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), "")).await;
    assert_eq!(daemon.warden.http_addr(), None);
    daemon.stop().await;
}

#[tokio::test]
async fn a_stop_answers_what_was_read_and_takes_no_more() {
    let world = world("load_timeout = \"20s\"\n").await;
    let address = world.daemon.warden.http_addr().unwrap();
    let lock = world.lock("courses").await;
    let warden = world.daemon.warden.clone();
    let waiting =
        tokio::spawn(async move { get(&InProcess { warden }, "/api/v1/keys/courses:1").await });
    let mut client = world.client().await;
    eventually(DEADLINE, async || match statements(&mut client).await {
        1 => Ok(()),
        seen => Err(seen),
    })
    .await;
    drop(client);
    let warden = world.daemon.warden.clone();
    let stopping = tokio::spawn(async move { warden.stop().await });
    eventually(DEADLINE, async || match TcpStream::connect(address).await {
        Err(_) => Ok(()),
        Ok(_) => Err("a connection"),
    })
    .await;
    release(lock).await;
    let answered = waiting.await.unwrap();
    assert_eq!(
        (answered.status, answered.json()["id"].as_u64()),
        (200, Some(1))
    );
    assert_eq!(stopping.await.unwrap(), cachewarden::Ended::Stopped);
}
