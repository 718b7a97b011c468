//! Doors that systemd holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::net::UnixStream;

use super::super::support::DEADLINE;
use super::super::support::daemon::said;
use super::super::support::eventually::eventually;
use super::super::support::resp::Client;
use super::{Service, course};

#[tokio::test]
async fn the_first_client_starts_the_service_over_either_door() {
    let service = Service::edited("").await;
    let booted = &service.booted;
    booted.systemctl(&["start", "cachewarden.socket"]).await;
    assert_eq!(booted.property("ActiveState").await, "inactive");
    service.serves().await;
    assert_eq!(booted.property("ActiveState").await, "active");
    booted.systemctl(&["stop", "cachewarden"]).await;
    let over_tcp = ["-p", "6380", "GET", "courses:7"];
    let (_, answer, errors) = said(&booted.inside("redis-cli", &over_tcp).await);
    assert_eq!(answer.trim(), r#"{"id":7,"title":"course-7"}"#, "{errors}");
    assert_eq!(booted.property("ActiveState").await, "active");
}

/// Connects, asks once, leaves, and again: whoever is refused or not answered panics.
async fn come_and_go(socket: PathBuf, over: Arc<AtomicBool>, answered: Arc<AtomicUsize>) {
    while !over.load(Ordering::Relaxed) {
        let id = answered.load(Ordering::Relaxed) % 100 + 1;
        let stream = UnixStream::connect(&socket).await;
        let stream = stream.unwrap_or_else(|error| panic!("refused: {error}"));
        let mut client = Client::over(stream);
        let key = format!("courses:{id}");
        assert_eq!(client.command(&["GET", &key]).await, course(id));
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn restarts_under_load_refuse_nobody_and_lose_no_reply() {
    let service = Service::edited("").await;
    let booted = &service.booted;
    booted.systemctl(&["start", "cachewarden.socket"]).await;
    booted.systemctl(&["start", "cachewarden"]).await;
    let (over, answered) = <(Arc<AtomicBool>, Arc<AtomicUsize>)>::default();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (over, answered) = (Arc::clone(&over), Arc::clone(&answered));
            tokio::spawn(come_and_go(booted.socket(), over, answered))
        })
        .collect();
    // The same over TCP, by a client that ends at the first connection that fails.
    let benchmark = async {
        let come_and_go = "-p 6380 -k 0 -c 4 -n 400 -t ping_mbulk -q".split(' ');
        let args: Vec<&str> = come_and_go.collect();
        while !over.load(Ordering::Relaxed) {
            let (code, out, errors) = said(&booted.inside("redis-benchmark", &args).await);
            assert_eq!(code, Some(0), "{out}{errors}");
            assert!(out.contains("requests per second"), "{out}{errors}");
        }
    };
    let restarts = async {
        for _ in 0..3 {
            let before = answered.load(Ordering::Relaxed);
            eventually(DEADLINE, async || {
                match answered.load(Ordering::Relaxed) - before {
                    100.. => Ok(()),
                    few => Err(few),
                }
            })
            .await;
            booted.systemctl(&["restart", "cachewarden"]).await;
        }
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(benchmark, restarts);
    for client in clients {
        client.await.unwrap();
    }
}
