//! The HTTP door: health, metrics, the JSON API, and who is let in.

mod caches;
mod entry;
mod health;
mod keys;
mod limits;
mod locks;
mod metrics;
mod openapi;

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::DEADLINE;
use super::support::daemon::InProcess;
use super::support::world::World;

/// A door on a free port, for a text as `config` takes it.
const HTTP: &str = "http.listen = \"127.0.0.1:0\"\n";

/// Ten courses, and a cache of them.
const COURSES: &str = "CREATE TABLE courses (id bigint PRIMARY KEY, title text);
    INSERT INTO courses SELECT i, 'title ' || i FROM generate_series(1, 10) i";
const COURSE: &str = r#"
[caches.course]
key = "courses:{id:bigint}"
query = "SELECT id, title FROM courses WHERE id = :id"
shape = "object"
ttl = "10m"
missing_ttl = "1m"
"#;

async fn world(more: &str) -> World {
    World::start(COURSES, &format!("{HTTP}{COURSE}{more}")).await
}

/// What came back.
#[derive(Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    /// Of a text that is all of it.
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1));
        let headers = lines.map(|line| {
            let (name, value) = line.split_once(": ").unwrap();
            (name.to_ascii_lowercase(), value.to_owned())
        });
        Self {
            status: status
                .unwrap_or_else(|| panic!("{text:?}"))
                .parse()
                .unwrap(),
            headers: headers.collect(),
            body: body.to_owned(),
        }
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The code of a problem; its form is looked at, too.
    fn code(&self) -> String {
        let kind = self.header("content-type");
        assert_eq!(kind, Some("application/problem+json"), "{self:?}");
        let problem = self.json();
        assert_eq!(problem["status"], self.status, "{self:?}");
        assert!(!problem["detail"].as_str().unwrap().is_empty(), "{self:?}");
        problem["code"].as_str().unwrap().to_owned()
    }
}

/// Sends these bytes, and reads until the door closes.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut text = Vec::new();
    let read = timeout(DEADLINE, stream.read_to_end(&mut text)).await;
    let text = String::from_utf8_lossy(&text).into_owned();
    // What is reset behind its answer was answered.
    let _closed = read.unwrap_or_else(|_| panic!("it does not close: {text}"));
    Response::parse(&text)
}

async fn send(daemon: &InProcess, method: &str, path: &str, more: &[&str], body: &str) -> Response {
    let address = daemon.warden.http_addr().expect("[http]");
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    for header in more {
        text.push_str(&format!("{header}\r\n"));
    }
    if !body.is_empty() {
        text.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    text.push_str("\r\n");
    text.push_str(body);
    exchange(address, text.as_bytes()).await
}

async fn get(daemon: &InProcess, path: &str) -> Response {
    send(daemon, "GET", path, &[], "").await
}

async fn post(daemon: &InProcess, path: &str, body: &str) -> Response {
    send(daemon, "POST", path, &[JSON], body).await
}

const JSON: &str = "Content-Type: application/json";
