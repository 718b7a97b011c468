//! Start, status, reload, stop.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::support::DEADLINE;
use super::super::support::booted::{Booted, boxed};
use super::super::support::daemon::said;
use super::super::support::eventually::eventually;
use super::super::support::resp::{Client, frame};
use super::super::support::servers::redis;
use super::{READY, Service, course};

#[tokio::test]
async fn the_unit_as_it_is_becomes_active_and_says_what_it_serves() {
    let service = Service::started("").await;
    let booted = &service.booted;
    assert_eq!(booted.property("ActiveState").await, "active");
    booted.until("StatusText", |text| text == READY).await;
    service.serves().await;
    let mode = |path: &str| {
        let file = fs::metadata(booted.file(path)).unwrap();
        file.permissions().mode() & 0o777
    };
    assert_eq!(mode("/run/cachewarden"), 0o750);
    assert_eq!(mode("/run/cachewarden/resp.sock"), 0o660);
    let over_tcp = ["-p", "6380", "GET", "courses:7"];
    let (_, answer, errors) = said(&booted.inside("redis-cli", &over_tcp).await);
    assert_eq!(answer.trim(), r#"{"id":7,"title":"course-7"}"#, "{errors}");
    let wanted = [
        ("MemoryHigh", "805306368"),
        ("MemoryMax", "1073741824"),
        ("TasksMax", "1024"),
        ("LimitNOFILE", "65536"),
        ("NRestarts", "0"),
    ];
    for (name, value) in wanted {
        assert_eq!(booted.property(name).await, value, "{name}");
    }
    let groups = Path::new("/sys/fs/cgroup");
    let lent = fs::read_to_string(booted.file("/sys/fs/cgroup/cgroup.controllers")).unwrap();
    for (controller, file, value) in [
        ("memory", "memory.max", "1073741824"),
        ("pids", "pids.max", "1024"),
    ] {
        if lent.split_whitespace().any(|name| name == controller) {
            let group = groups.join("system.slice/cachewarden.service").join(file);
            let kept = fs::read_to_string(booted.file(&group.display().to_string())).unwrap();
            assert_eq!(kept.trim(), value, "{file}");
        } else {
            eprintln!(
                "not proven: this kernel lends the box no `{controller}`, so nobody keeps {file}"
            );
        }
    }
}

#[tokio::test]
async fn a_start_waits_for_its_servers_and_says_so_and_who_asks_meanwhile_is_answered() {
    let service = Service::alone("").await;
    let booted = &service.booted;
    booted
        .systemctl(&["start", "--no-block", "cachewarden"])
        .await;
    let waiting = "waiting for redis and postgres, try ";
    booted
        .until("StatusText", |text| text.starts_with(waiting))
        .await;
    booted
        .until("StatusText", |text| text.ends_with("try 4"))
        .await;
    assert_eq!(booted.property("ActiveState").await, "activating");
    let mut client = booted.client().await;
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    service.link();
    booted.until("ActiveState", |state| state == "active").await;
    booted.until("StatusText", |text| text == READY).await;
    service.serves().await;
}

#[tokio::test]
async fn what_the_database_does_not_know_is_found_out_when_it_comes_and_ends_the_start() {
    let service = Service::alone("").await;
    let booted = &service.booted;
    service.database.execute("DROP TABLE courses").await;
    booted
        .systemctl(&["start", "--no-block", "cachewarden"])
        .await;
    booted
        .until("StatusText", |text| text.starts_with("waiting for "))
        .await;
    service.link();
    booted.until("ActiveState", |state| state == "failed").await;
    assert_eq!(booted.property("ExecMainStatus").await, "78");
    assert_eq!(booted.property("NRestarts").await, "0");
    let journal = booted.journal().await;
    assert!(journal.contains("courses\" does not exist"), "{journal}");
}

#[tokio::test]
async fn what_goes_away_while_it_serves_stands_in_its_status() {
    let mut service = Service::started("").await;
    service.redis.kill().unwrap();
    service.serves().await;
    let away = format!("{READY}; redis is away");
    service
        .booted
        .until("StatusText", |text| text == away)
        .await;
}

#[tokio::test]
async fn a_reload_applies_the_file_and_a_file_with_mistakes_changes_nothing() {
    let redis = redis();
    let limit = |rate: u32| {
        let limit = format!(
            "[limits.api]\nalgorithm = \"fixed_window\"\nlimit = {rate}\nwindow = \"1h\"\n"
        );
        boxed(None, &limit)
    };
    let booted = Booted::boot(&limit(1)).await;
    booted.link_redis(&redis);
    booted.systemctl(&["start", "cachewarden"]).await;
    let file = booted.folder().join("cachewarden.toml");
    let until_said = async |wanted: &str| {
        eventually(DEADLINE, async || {
            let journal = booted.journal().await;
            if journal.contains(wanted) {
                Ok(())
            } else {
                Err(journal)
            }
        })
        .await;
    };
    fs::write(&file, "redis.url = 7\n").unwrap();
    booted.systemctl(&["reload", "cachewarden"]).await;
    until_said("nothing is applied").await;
    fs::write(&file, limit(2)).unwrap();
    booted.systemctl(&["reload", "cachewarden"]).await;
    until_said("changed: api").await;
    booted.until("ActiveState", |state| state == "active").await;
    booted
        .until("StatusText", |text| text.starts_with("ready: "))
        .await;
    assert_eq!(booted.property("NRestarts").await, "0");
    let mut client = booted.client().await;
    for _ in 0..2 {
        let check = client.raw(&["RATE.CHECK", "api", "somebody"]).await;
        assert!(check.contains(":1"), "{check}");
    }
}

/// Asks in pipelines of three until the daemon closes, which it may do between pipelines only.
async fn ask_until_closed(mut client: Client, answered: Arc<AtomicUsize>) {
    for n in 0.. {
        let id = n % 10 + 1;
        let key = format!("courses:{id}");
        let ping = frame(&["PING"]);
        let pipeline = [frame(&["GET", &key]), ping.clone(), ping].concat();
        if client.send(&pipeline).await.is_err() {
            return;
        }
        match client.read().await {
            Ok(value) => assert_eq!(value, course(id)),
            Err(_) => {
                let rest = client.read_to_end().await.unwrap();
                assert!(rest.is_empty(), "an answer was cut: {rest:?}");
                return;
            }
        }
        for _ in 0..2 {
            assert_eq!(client.read().await.unwrap().text(), "PONG");
        }
        answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_stop_under_load_answers_every_request_that_was_read() {
    let service = Service::started("").await;
    let booted = &service.booted;
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..20 {
        let client = booted.client().await;
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
    // One request has certainly been read and not been answered when the stop begins.
    let gate = service.database.client().await;
    let hold = "BEGIN; LOCK TABLE courses IN ACCESS EXCLUSIVE MODE";
    gate.batch_execute(hold).await.unwrap();
    let mut slow = booted.client().await;
    slow.send(&frame(&["GET", "courses:50"])).await.unwrap();
    let watcher = service.database.client().await;
    eventually(DEADLINE, async || {
        let waiting =
            "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'courses'::regclass";
        let waiting: i64 = watcher.query_one(waiting, &[]).await.unwrap().get(0);
        if waiting > 0 { Ok(()) } else { Err(waiting) }
    })
    .await;
    booted
        .systemctl(&["stop", "--no-block", "cachewarden"])
        .await;
    booted
        .until("StatusText", |text| text == "stopping: 1 connection")
        .await;
    gate.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(slow.read().await.unwrap(), course(50));
    for client in clients {
        client.await.unwrap();
    }
    booted
        .until("ActiveState", |state| state == "inactive")
        .await;
    assert_eq!(booted.property("Result").await, "success");
    assert_eq!(booted.property("ExecMainStatus").await, "0");
    let journal = booted.journal().await;
    let late = "still running at the deadline";
    assert!(!journal.contains(late), "{journal}");
}
