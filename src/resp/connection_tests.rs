//! Connections that keep the daemon waiting: over a real socket pair, with less patience than the daemon has.

use super::*;
use crate::audit::AuditHandle;
use crate::cache::{CacheHandle, L1};
use crate::config::Config;
use crate::invalidation::InvalidationHandle;
use crate::lock::LockHandle;
use crate::rate_limit::{Declared, Denied, RateLimitHandle};
use crate::resp::patience::Patience;
use crate::resp::{Asked, RateLimits};
use crate::telemetry::Metrics;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// Longer than anything takes that will ever happen; only a failing test waits for it.
const DEADLINE: Duration = Duration::from_secs(20);
const BRIEF: Duration = Duration::from_secs(1);

/// A door with a password, and this much patience.
fn door(patience: Patience) -> Arc<Door> {
    let text = "redis.url = \"redis://127.0.0.1:1\"\nresp.password = \"open sesame\"";
    let config = Config::from_toml(text).expect("a sound configuration");
    let asked = Asked {
        audit: AuditHandle::unbound(),
        plain: Arc::from([]),
        caches: Arc::from([CacheHandle::unbound(DEADLINE)]),
        invalidation: InvalidationHandle::unbound(),
        l1: L1::default(),
        rate_limits: RateLimits {
            actor: RateLimitHandle::unbound(Declared::default()),
            names: watch::channel(Vec::new()).1,
            denied: Denied::new(Metrics::new()),
        },
        locks: LockHandle::unbound(),
        warmup: None,
    };
    let mut door = Door::new(&config, asked, Metrics::new(), Arc::new(Vec::new));
    door.patience = patience;
    Arc::new(door)
}

fn in_a_hurry_to_authenticate() -> Arc<Door> {
    door(Patience {
        authenticate: BRIEF,
        request: DEADLINE,
        ..Patience::default()
    })
}

/// A client of `door`.
struct Client(UnixStream);

impl Client {
    fn connect(door: &Arc<Door>) -> Self {
        Self::connect_until(door, &watch::Sender::new(Stop::Running))
    }

    fn connect_until(door: &Arc<Door>, running: &watch::Sender<Stop>) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let running = running.clone();
        let stop = running.subscribe();
        let connection = Connection::new(Arc::clone(door), 0, Socket::Unix(theirs), stop);
        tokio::spawn(async move {
            let _running = running;
            connection.run().await;
        });
        Self(ours)
    }

    async fn send(&mut self, requests: &str) {
        let sent = self.0.write_all(requests.as_bytes()).await;
        sent.expect("a connection that is open");
    }

    /// The next bytes, of which so many are known to come.
    async fn read(&mut self, length: usize) -> String {
        let mut reply = vec![0; length];
        let read = timeout(DEADLINE, self.0.read_exact(&mut reply)).await;
        read.expect("a reply in time")
            .expect("a connection that is open");
        String::from_utf8(reply).expect("text")
    }

    async fn says(&mut self, requests: &str, replies: &str) {
        self.send(requests).await;
        assert_eq!(self.read(replies.len()).await, replies);
    }

    /// Waits until the daemon closes the connection, to which it has nothing more to say.
    async fn until_cut(&mut self) {
        let mut rest = Vec::new();
        let read = timeout(DEADLINE, self.0.read_to_end(&mut rest)).await;
        read.expect("the connection is never cut")
            .expect("a clean end");
        assert_eq!(rest, b"");
    }
}

fn cut(door: &Door, reason: &str) -> bool {
    let line = format!("cachewarden_connections_refused_total{{reason=\"{reason}\"}} 1");
    door.metrics.render().contains(&line)
}

#[tokio::test]
async fn who_never_authenticates_is_cut_whatever_else_is_sent() {
    let door = in_a_hurry_to_authenticate();
    let began = Instant::now();
    let mut client = Client::connect(&door);
    client
        .says("PING\r\n", "-NOAUTH Authentication required.\r\n")
        .await;
    client.until_cut().await;
    assert!(began.elapsed() >= BRIEF);
    assert!(cut(&door, "unauthenticated"));
}

#[tokio::test]
async fn a_reset_gives_the_whole_time_to_authenticate_to_a_connection_of_any_age() {
    let door = in_a_hurry_to_authenticate();
    let mut client = Client::connect(&door);
    client.says("AUTH \"open sesame\"\r\n", "+OK\r\n").await;
    // One that came later, and is cut: so the first has lived for longer than the time to authenticate.
    Client::connect(&door).until_cut().await;
    client
        .says(
            "RESET\r\nPING\r\nAUTH \"open sesame\"\r\nPING\r\n",
            "+RESET\r\n-NOAUTH Authentication required.\r\n+OK\r\n+PONG\r\n",
        )
        .await;
    Client::connect(&door).until_cut().await;
    client.says("PING\r\n", "+PONG\r\n").await;
    let reset = Instant::now();
    client.says("RESET\r\n", "+RESET\r\n").await;
    client.until_cut().await;
    assert!(reset.elapsed() >= BRIEF, "{:?}", reset.elapsed());
}

#[tokio::test]
async fn a_request_that_is_never_finished_is_cut_and_an_idle_client_is_not() {
    let door = door(Patience {
        authenticate: DEADLINE,
        request: BRIEF,
        ..Patience::default()
    });
    let (mut slow, mut idle) = (Client::connect(&door), Client::connect(&door));
    for client in [&mut slow, &mut idle] {
        client.says("AUTH \"open sesame\"\r\n", "+OK\r\n").await;
    }
    slow.send("PIN").await;
    slow.until_cut().await;
    assert!(cut(&door, "slow"));
    idle.says("PING\r\n", "+PONG\r\n").await;
}

#[tokio::test]
async fn who_has_only_just_come_when_the_daemon_stops_is_answered_and_who_says_nothing_is_not_waited_for_long()
 {
    let door = door(Patience {
        first_word: BRIEF,
        ..Patience::default()
    });
    let running = watch::Sender::new(Stop::Running);
    let mut old = Client::connect_until(&door, &running);
    old.says("AUTH \"open sesame\"\r\n", "+OK\r\n").await;
    let mut new = Client::connect_until(&door, &running);
    let mut silent = Client::connect_until(&door, &running);
    // By then both connections wait, too.
    old.says("PING\r\n", "+PONG\r\n").await;
    running.send_replace(Stop::Draining);
    old.until_cut().await;
    new.says("PING\r\n", "-NOAUTH Authentication required.\r\n")
        .await;
    new.until_cut().await;
    silent.until_cut().await;
}
