//! Clients that wait: in order, listened to, and never longer than they said.

use tokio::time::timeout;

use super::super::support::DEADLINE;
use super::super::support::daemon::{InProcess, config};
use super::super::support::resp::{Value, frame};
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::{LONG, SECOND, World, acquired, granted, info, until_free, until_waiting};

#[tokio::test]
async fn a_lock_goes_to_who_has_waited_longest_when_it_is_released() {
    let world = World::start().await;
    let mut holder = world.client().await;
    let (mut token, mut fence) = acquired(&mut holder, &["a", LONG]).await;
    let mut queue = Vec::new();
    for place in 0..5 {
        let mut waiter = world.client().await;
        let wait = ["LOCK.ACQUIRE", "a", LONG, "WAIT", LONG];
        waiter.send(&frame(&wait)).await.unwrap();
        until_waiting(&mut holder, "a", place + 1).await;
        queue.push(waiter);
    }
    for (place, waiter) in queue.iter_mut().enumerate() {
        let release = ["LOCK.RELEASE", "a", &token];
        assert_eq!(holder.command(&release).await, Value::Int(1));
        let before = fence;
        (token, fence) = granted(&waiter.read().await.unwrap());
        assert!(fence > before, "{fence} after {before}");
        let waiting = info(&mut holder, "a", "waiters").await;
        assert_eq!(waiting, Value::Int(4 - i64::try_from(place).unwrap()));
    }
}

#[tokio::test]
async fn a_wait_that_is_over_is_answered_with_nothing_and_leaves_the_queue() {
    let world = World::start().await;
    let (mut holder, mut waiter) = (world.client().await, world.client().await);
    acquired(&mut holder, &["a", LONG]).await;
    let wait = ["LOCK.ACQUIRE", "a", LONG, "WAIT", "50"];
    assert_eq!(waiter.command(&wait).await, Value::Nil);
    assert_eq!(info(&mut holder, "a", "waiters").await, Value::Int(0));
}

#[tokio::test]
async fn a_client_that_leaves_gives_its_place_to_the_next() {
    let world = World::start().await;
    let mut holder = world.client().await;
    let (token, _) = acquired(&mut holder, &["a", LONG]).await;
    let wait = frame(&["LOCK.ACQUIRE", "a", LONG, "WAIT", LONG]);
    let (mut leaver, mut stayer) = (world.client().await, world.client().await);
    leaver.send(&wait).await.unwrap();
    until_waiting(&mut holder, "a", 1).await;
    stayer.send(&wait).await.unwrap();
    until_waiting(&mut holder, "a", 2).await;
    drop(leaver);
    until_waiting(&mut holder, "a", 1).await;
    holder.command(&["LOCK.RELEASE", "a", &token]).await;
    granted(&stayer.read().await.unwrap());
}

/// The lock was free for nobody but the one who left; no other daemon, and nobody later, is kept from it.
#[tokio::test]
async fn a_lock_whose_only_waiter_has_left_is_free_when_it_is_released() {
    let world = World::start().await;
    let elsewhere = world.another().await;
    let mut holder = world.client().await;
    let (token, _) = acquired(&mut holder, &["a", LONG]).await;
    let mut leaver = world.client().await;
    let wait = frame(&["LOCK.ACQUIRE", "a", LONG, "WAIT", LONG]);
    leaver.send(&wait).await.unwrap();
    until_waiting(&mut holder, "a", 1).await;
    drop(leaver);
    until_waiting(&mut holder, "a", 0).await;
    holder.command(&["LOCK.RELEASE", "a", &token]).await;
    acquired(&mut elsewhere.client().await, &["a", LONG]).await;
}

#[tokio::test]
async fn requests_that_come_while_a_client_waits_are_answered_in_their_order() {
    let world = World::start().await;
    let (mut holder, mut waiter) = (world.client().await, world.client().await);
    let (token, _) = acquired(&mut holder, &["a", LONG]).await;
    let pipeline = [
        frame(&["ECHO", "before"]),
        frame(&["LOCK.ACQUIRE", "a", LONG, "WAIT", LONG]),
        frame(&["ECHO", "behind"]),
    ];
    waiter.send(&pipeline.concat()).await.unwrap();
    // What came before is not kept back.
    assert_eq!(waiter.read().await.unwrap(), Value::bulk("before"));
    until_waiting(&mut holder, "a", 1).await;
    // And more, in pieces: a whole request, and half of one.
    let later = [frame(&["ECHO", "later"]), frame(&["ECHO", "last"])].concat();
    waiter.send(&later[..later.len() - 5]).await.unwrap();
    holder.command(&["LOCK.RELEASE", "a", &token]).await;
    granted(&waiter.read().await.unwrap());
    assert_eq!(waiter.read().await.unwrap(), Value::bulk("behind"));
    assert_eq!(waiter.read().await.unwrap(), Value::bulk("later"));
    waiter.send(&later[later.len() - 5..]).await.unwrap();
    assert_eq!(waiter.read().await.unwrap(), Value::bulk("last"));
}

/// Who sends more than is read ahead waits for its answers, as it would for any slow command.
#[tokio::test]
async fn a_waiting_client_that_sends_a_flood_is_answered_all_of_it() {
    let world = World::start().await;
    let (mut holder, waiter) = (world.client().await, world.client().await);
    let (token, _) = acquired(&mut holder, &["a", LONG]).await;
    let wait = frame(&["LOCK.ACQUIRE", "a", LONG, "WAIT", LONG]);
    let mut waiter = waiter;
    waiter.send(&wait).await.unwrap();
    until_waiting(&mut holder, "a", 1).await;
    let word = "x".repeat(1000);
    let flood = frame(&["ECHO", &word]).repeat(300);
    waiter.send(&flood).await.unwrap();
    holder.command(&["LOCK.RELEASE", "a", &token]).await;
    granted(&waiter.read().await.unwrap());
    for _ in 0..300 {
        assert_eq!(waiter.read().await.unwrap(), Value::bulk(&word));
    }
}

#[tokio::test]
async fn a_stop_answers_who_waits_and_does_not_wait_itself() {
    let world = World::start().await;
    let (mut holder, mut waiter) = (world.client().await, world.client().await);
    acquired(&mut holder, &["a", LONG]).await;
    let wait = frame(&["LOCK.ACQUIRE", "a", LONG, "WAIT", "3600000"]);
    waiter.send(&wait).await.unwrap();
    until_waiting(&mut holder, "a", 1).await;
    let ended = timeout(DEADLINE, world.daemon.warden.stop_within(8 * SECOND)).await;
    assert_eq!(ended.unwrap(), cachewarden::Ended::Stopped);
    let answer = waiter.read().await.unwrap();
    assert!(
        answer.error().starts_with("UNAVAILABLE the daemon stops"),
        "{answer:?}"
    );
}

#[tokio::test]
async fn a_release_in_one_daemon_wakes_who_waits_in_another() {
    let world = World::start().await;
    let elsewhere = world.another().await;
    let (mut holder, mut waiter) = (world.client().await, elsewhere.client().await);
    for _ in 0..10 {
        let (token, _) = acquired(&mut holder, &["a", LONG]).await;
        let wait = frame(&["LOCK.ACQUIRE", "a", LONG, "WAIT", LONG]);
        waiter.send(&wait).await.unwrap();
        until_waiting(&mut holder, "a", 1).await;
        holder.command(&["LOCK.RELEASE", "a", &token]).await;
        let (token, _) = granted(&waiter.read().await.unwrap());
        waiter.command(&["LOCK.RELEASE", "a", &token]).await;
    }
}

/// A Postgres that hangs keeps nobody waiting for longer than they said, and no lock of theirs afterwards.
#[tokio::test]
async fn the_deadline_holds_while_postgres_does_not_answer() {
    let sections = "postgres.statement_timeout = \"10m\"\n[locks]\n";
    let (mut postgres, database) = Watched::start_apart("SELECT 1", sections).await;
    let redis = redis();
    let text = config(database.database.url(), &redis.redis_url(), sections);
    let daemon = InProcess::start(&text).await;
    let (mut client, mut other) = (daemon.client().await, daemon.client().await);
    acquired(&mut client, &["warm", LONG]).await;
    postgres.freeze().unwrap();
    let wait = ["LOCK.ACQUIRE", "a", LONG, "WAIT", "300"];
    assert_eq!(client.command(&wait).await, Value::Nil);
    let brief = ["LOCK.ACQUIRE", "b", "300"];
    let answer = other.command(&brief).await;
    assert!(answer.error().starts_with("UNAVAILABLE "), "{answer:?}");
    postgres.thaw().unwrap();
    for name in ["a", "b"] {
        until_free(&mut client, name).await;
        acquired(&mut client, &[name, LONG]).await;
    }
}
