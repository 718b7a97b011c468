//! Plain keys are nobody's to invalidate, to compare or to sweep, however they are named.

use super::PASSTHROUGHS;
use super::mixed::{caches, world};
use crate::support::DEADLINE;
use crate::support::daemon::{InProcess, config};
use crate::support::eventually::eventually;
use crate::support::monitor::Monitor;
use crate::support::resp::{Client, Value};
use crate::support::servers::redis;
use crate::support::watched::Watched;
use crate::support::world::{figure, raw, until};

async fn plant(client: &mut Client) {
    client
        .command(&["MSET", "sess:1", "a", "sess:2", "b", "shop:cart:1", "c"])
        .await;
}

async fn assert_there(client: &mut Client) {
    let all = ["EXISTS", "sess:1", "sess:2", "shop:cart:1"];
    assert_eq!(client.command(&all).await, Value::Int(3));
}

#[tokio::test]
async fn neither_commands_nor_messages_nor_programs_invalidate_them() {
    let world = world().await;
    let mut client = world.client().await;
    plant(&mut client).await;
    for name in [
        "sess:1",
        "sess:*",
        "sess:1*",
        "shop:*",
        "shop:cart:*",
        "s*",
        "*",
    ] {
        for verb in ["CACHE.INVALIDATE", "CACHE.COUNT"] {
            let refused = client.command(&[verb, name]).await;
            assert!(
                matches!(refused, Value::Error(_)),
                "{verb} {name}: {refused:?}"
            );
        }
        assert!(
            world.daemon.warden.invalidate(&[name]).await.is_err(),
            "{name}"
        );
    }
    let before = figure(&mut client, "cachewarden_messages_refused_total", "").await;
    let messages = [
        "sess:1",
        "sess:*",
        "shop:*",
        r#"{"keys":["sess:1"]}"#,
        r#"{"patterns":["sess:*"]}"#,
    ];
    for message in messages {
        client
            .command(&["PUBLISH", "cache:invalidate", message])
            .await;
    }
    let refused = before + u64::try_from(messages.len()).unwrap();
    until(&mut client, "cachewarden_messages_refused_total", refused).await;
    assert_there(&mut client).await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_other_daemons_declare_around_them_is_swept_without_them() {
    let sections = format!(
        "[caches.c]\nkey = \"c:{{id:bigint}}\"\nquery = \"SELECT id FROM t WHERE id = :id\"\nshape = \"scalar\"\nttl = \"1h\"\n\
         [invalidation]\nwatch = [{{ table = \"t\", invalidate = [\"c:{{id}}\"] }}]\n{PASSTHROUGHS}"
    );
    let watched = Watched::start("CREATE TABLE t (id bigint PRIMARY KEY)", &sections).await;
    let redis = redis();
    let daemon = InProcess::start(&config(
        watched.database.url(),
        &redis.redis_url(),
        &sections,
    ))
    .await;
    let (mut client, mut raw) = (daemon.client().await, raw(&redis).await);
    plant(&mut client).await;
    raw.command(&["MSET", "shop:stock:1", "x", "other:1", "x"])
        .await;
    watched
        .execute("SELECT cachewarden.invalidate('sess:1', 'sess:*', 'shop:cart:1', 'shop:cart:*', 'shop:*', 'other:1')")
        .await;
    eventually(DEADLINE, async || {
        match raw.command(&["EXISTS", "shop:stock:1", "other:1"]).await {
            Value::Int(0) => Ok(()),
            left => Err(left),
        }
    })
    .await;
    watched.until_empty().await;
    assert_there(&mut client).await;
    daemon.stop().await;
}

#[tokio::test]
async fn the_auditor_does_not_look_at_them() {
    let world = world().await;
    let text = format!("audit.rate = 1000\n{}", caches());
    let text = config(world.database.url(), &world.redis.redis_url(), &text);
    let auditing = InProcess::start(&text.replacen("audit.rate = 0\n", "", 1)).await;
    let mut client = auditing.client().await;
    let keys: Vec<String> = (0..200).map(|key| format!("sess:{key}")).collect();
    for key in &keys {
        client.command(&["SET", key, "x"]).await;
    }
    client.command(&["MGET", "courses:1", "courses:2"]).await;
    let mut monitor = Monitor::start(&world.redis).await;
    let checked = figure(&mut client, "cachewarden_audit_checked_total", "").await;
    eventually(DEADLINE, async || {
        match figure(&mut client, "cachewarden_audit_checked_total", "").await {
            now if now >= checked + 10 => Ok(()),
            now => Err(now),
        }
    })
    .await;
    let seen = monitor.commands().await;
    let looked: Vec<_> = seen
        .iter()
        .filter(|command| command.names("sess:"))
        .collect();
    assert!(looked.is_empty(), "{looked:?}");
    auditing.stop().await;
    world.daemon.stop().await;
}
