//! One token, asked for again: whoever goes away takes nothing from what the others were answered.

use std::time::Duration;

use super::super::support::DEADLINE;
use super::super::support::daemon::{InProcess, config};
use super::super::support::eventually::eventually;
use super::super::support::proxy::Proxy;
use super::super::support::resp::{Client, Value, frame};
use super::super::support::servers::redis;
use super::super::support::watched::Watched;
use super::super::support::world::raw;
use super::{LONG, acquired, granted, info, until_free};

/// Between Redis and the daemons, so that a client can go while its request is on its way.
const LATE: Duration = Duration::from_millis(300);
const TOKEN: &str = "6f1c2c0e-57a1-4a0e-9a52-0f0b6a6e8a11";

/// What Redis has of the token's lock `a`: its fence, and who was told of it.
async fn record(raw: &mut Client) -> Option<(String, String)> {
    let field = format!("h:{TOKEN}");
    let record = raw.command(&["HGET", "cachewarden:lock:a", &field]).await;
    let Value::Bulk(_) = record else { return None };
    let words: Vec<_> = record.text().split(' ').map(str::to_owned).collect();
    Some((words[2].clone(), words[3].clone()))
}

async fn until_other(raw: &mut Client, before: &Option<(String, String)>) {
    eventually(DEADLINE, async || match record(raw).await {
        now if now == *before => Err(now),
        _ => Ok(()),
    })
    .await;
}

async fn until_as(raw: &mut Client, before: &Option<(String, String)>) {
    eventually(DEADLINE, async || match record(raw).await {
        now if now == *before => Ok(()),
        None => panic!("the lock is gone"),
        now => Err(now),
    })
    .await;
}

fn ask(more: &[&'static str]) -> Vec<&'static str> {
    [&["LOCK.ACQUIRE", "a", LONG, "TOKEN", TOKEN], more].concat()
}

#[tokio::test]
async fn a_repeat_whose_client_is_gone_takes_nothing_from_the_lock_that_was_answered() {
    let sections = "redis.timeout = \"10s\"\n[locks]\n";
    let database = Watched::start("SELECT 1", sections).await;
    let redis = redis();
    let mut link = Proxy::before_port(redis.port()).await;
    let url = format!("redis://{}", link.address());
    let text = config(database.database.url(), &url, sections);
    let daemons = [InProcess::start(&text).await, InProcess::start(&text).await];
    let (mut raw, mut watcher) = (raw(&redis).await, daemons[0].client().await);
    let repeats: [&[&str]; 3] = [&["WAIT", LONG], &["SESSION"], &["WAIT", LONG, "SESSION"]];
    for first in [&[][..], &["SESSION"]] {
        for (repeat, asked) in repeats.iter().flat_map(|one| [(one, 0), (one, 1)]) {
            let mut holder = daemons[0].client().await;
            let (token, fence) = granted(&holder.command(&ask(first)).await);
            let before = record(&mut raw).await;
            let mut again = daemons[asked].client().await;
            link.delay(LATE);
            again.send(&frame(&ask(repeat))).await.unwrap();
            until_other(&mut raw, &before).await;
            drop(again);
            until_as(&mut raw, &before).await;
            link.pass().await;
            assert_eq!(info(&mut watcher, "a", "fence").await, Value::Int(fence));
            let extend = ["LOCK.EXTEND", "a", &token, LONG];
            assert_eq!(holder.command(&extend).await, Value::Int(1));
            // And it is let go by those who may.
            if first.is_empty() {
                let release = ["LOCK.RELEASE", "a", &token];
                assert_eq!(holder.command(&release).await, Value::Int(1));
            }
            drop(holder);
            until_free(&mut watcher, "a").await;
        }
    }
}

#[tokio::test]
async fn of_two_who_ask_with_one_token_each_may_go_while_a_fence_is_minted() {
    let sections = "postgres.statement_timeout = \"10m\"\n[locks]\n";
    let (mut postgres, database) = Watched::start_apart("SELECT 1", sections).await;
    let redis = redis();
    let text = config(database.database.url(), &redis.redis_url(), sections);
    let daemon = InProcess::start(&text).await;
    let (mut raw, mut watcher) = (raw(&redis).await, daemon.client().await);
    let (warm, _) = acquired(&mut watcher, &["warm", LONG]).await;
    assert_eq!(
        watcher.command(&["LOCK.RELEASE", "warm", &warm]).await,
        Value::Int(1)
    );
    let wait = frame(&ask(&["WAIT", LONG]));
    for going in [&[1][..], &[0], &[0, 1]] {
        postgres.freeze().unwrap();
        let (mut clients, mut told) = (Vec::new(), Vec::new());
        for _ in 0..2 {
            let before = record(&mut raw).await;
            let mut client = daemon.client().await;
            client.send(&wait).await.unwrap();
            until_other(&mut raw, &before).await;
            let (_, all) = record(&mut raw).await.unwrap();
            let latest = all.rsplit(',').next().unwrap();
            told.push(latest.to_owned());
            clients.push(Some(client));
        }
        going.iter().for_each(|at| drop(clients[*at].take()));
        eventually(DEADLINE, async || {
            match daemon.warden.locks().acquire.in_flight() {
                seen if seen + going.len() == 2 => Ok(()),
                seen => Err(seen),
            }
        })
        .await;
        postgres.thaw().unwrap();
        let clients = clients.into_iter().zip(told);
        for (mut client, told) in clients.filter_map(|(client, told)| Some((client?, told))) {
            let (token, fence) = granted(&client.read().await.unwrap());
            // Who has gone is forgotten in Redis, and nobody else is.
            until_as(&mut raw, &Some((fence.to_string(), told))).await;
            let release = ["LOCK.RELEASE", "a", &token];
            assert_eq!(watcher.command(&release).await, Value::Int(1));
        }
        until_free(&mut watcher, "a").await;
    }
}
