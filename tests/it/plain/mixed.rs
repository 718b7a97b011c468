//! Plain keys beside cached ones: in one command, in one pipeline, and where they are no such thing.

use super::PASSTHROUGHS;
use crate::support::resp::Value;
use crate::support::world::World;

const COURSES: &str = "
    CREATE TABLE courses (id bigint PRIMARY KEY, title text NOT NULL);
    INSERT INTO courses SELECT n, 'course ' || n FROM generate_series(1, 100) n";

pub(super) fn caches() -> String {
    format!(
        r#"
        [caches.course]
        key = "courses:{{id:bigint}}"
        query = "SELECT title FROM courses WHERE id = :id"
        shape = "scalar"
        ttl = "10m"

        [caches.kept]
        key = "kept:{{id:bigint}}"
        query = "SELECT title FROM courses WHERE id = :id"
        shape = "scalar"
        ttl = "10m"
        l1 = true

        [namespaces.calc]
        prefix = "calc:"
        ttl = "5m"
        {PASSTHROUGHS}"#
    )
}

pub(super) async fn world() -> World {
    World::start(COURSES, &caches()).await
}

pub(super) fn course(id: u32) -> Value {
    Value::bulk(format!("\"course {id}\""))
}

#[tokio::test]
async fn one_mget_answers_of_caches_namespaces_and_plain_keys_in_order() {
    let world = world().await;
    let mut client = world.client().await;
    world.daemon.warden.set("calc:1", &42, None).await.unwrap();
    client
        .command(&["MSET", "sess:1", "one", "shop:cart:1", "two"])
        .await;
    world
        .raw()
        .await
        .command(&["RPUSH", "sess:list", "x"])
        .await;
    let mget: &[&str] = &[
        "MGET",
        "sess:1",
        "courses:1",
        "kept:3",
        "sess:none",
        "calc:1",
        "courses:2000",
        "sess:list",
        "shop:cart:1",
        "courses:2",
    ];
    let all = Value::Array(vec![
        Value::bulk("one"),
        course(1),
        course(3),
        Value::Nil,
        Value::bulk("42"),
        Value::Nil,
        Value::Nil,
        Value::bulk("two"),
        course(2),
    ]);
    for round in 0..3 {
        assert_eq!(client.command(mget).await, all, "{round}");
    }
    // Beginning with a cached key, and with nothing but plain ones.
    let first = Value::Array(vec![course(1), Value::bulk("one")]);
    assert_eq!(
        client.command(&["MGET", "courses:1", "sess:1"]).await,
        first
    );
    let plain = Value::Array(vec![Value::bulk("one"), Value::Nil]);
    assert_eq!(
        client.command(&["MGET", "sess:1", "sess:list"]).await,
        plain
    );
    // A key that leads nowhere is told in its place.
    let Value::Array(values) = client
        .command(&["MGET", "sess:1", "courses:007", "nobody:1"])
        .await
    else {
        panic!("no array")
    };
    assert_eq!(values[0], Value::bulk("one"));
    assert!(values[1].error().starts_with("BADKEY"), "{values:?}");
    assert!(
        values[2].error().contains("no cache is declared"),
        "{values:?}"
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_pipeline_of_both_kinds_keeps_its_order() {
    let world = world().await;
    let mut client = world.client().await;
    let replies = client
        .pipeline(&[
            &["GET", "courses:1"],
            &["GET", "sess:1"],
            &["SET", "sess:1", "a"],
            &["GET", "sess:1"],
            &["GET", "courses:2"],
            &["MGET", "courses:1", "sess:1"],
            &["SET", "sess:1", "b"],
            &["EXISTS", "courses:1", "sess:1", "sess:2"],
            &["CACHE.GET", "sess:1"],
            &["GET", "sess:1"],
            &["DEL", "sess:1", "courses:1", "courses:3", "shop:cart:1"],
            &["GET", "sess:1"],
            &["EXISTS", "courses:1", "courses:2"],
        ])
        .await;
    let ok = || Value::Simple("OK".into());
    let wanted = [
        course(1),
        Value::Nil,
        ok(),
        Value::bulk("a"),
        course(2),
        Value::Array(vec![course(1), Value::bulk("a")]),
        ok(),
        Value::Int(2),
    ];
    assert_eq!(replies[..8], wanted);
    assert!(
        replies[8]
            .error()
            .contains("is a plain key (passthrough session)"),
        "{replies:?}"
    );
    let wanted = [Value::bulk("b"), Value::Int(2), Value::Nil, Value::Int(1)];
    assert_eq!(replies[9..], wanted);
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_is_deleted_with_a_key_that_leads_nowhere_stays() {
    let world = world().await;
    let mut client = world.client().await;
    client
        .pipeline(&[&["SET", "sess:1", "a"], &["GET", "courses:1"]])
        .await;
    for verb in ["DEL", "UNLINK"] {
        let refused = client
            .command(&[verb, "sess:1", "courses:1", "courses:007"])
            .await;
        assert!(refused.error().starts_with("BADKEY"), "{refused:?}");
    }
    assert_eq!(
        client.command(&["EXISTS", "sess:1", "courses:1"]).await,
        Value::Int(2)
    );
    assert_eq!(
        client
            .command(&["UNLINK", "courses:1", "sess:1", "sess:1"])
            .await,
        Value::Int(2)
    );
    world.daemon.stop().await;
}

#[tokio::test]
async fn commands_for_plain_keys_are_refused_of_others_with_the_reason() {
    let world = world().await;
    let mut client = world.client().await;
    let writes: [&[&str]; 10] = [
        &["SETEX", "KEY", "10", "x"],
        &["PSETEX", "KEY", "10", "x"],
        &["SETNX", "KEY", "x"],
        &["GETEX", "KEY", "EX", "10"],
        &["GETDEL", "KEY"],
        &["EXPIRE", "KEY", "10"],
        &["PEXPIRE", "KEY", "10"],
        &["INCR", "KEY"],
        &["INCRBY", "KEY", "1"],
        &["DECR", "KEY"],
    ];
    for (key, begin) in [
        ("courses:1", "READONLY cache 'course' takes no"),
        ("calc:1", "READONLY namespace 'calc' takes no"),
        ("courses:007", "BADKEY"),
        (
            "nobody:1",
            "ERR no cache is declared for key 'nobody:1' (known: calc:, courses:, kept:, sess:, shop:cart:)",
        ),
        ("cachewarden:leases", "BADKEY"),
        ("{sess:1}:lease", "BADKEY"),
    ] {
        for words in writes {
            let words: Vec<&str> = words
                .iter()
                .map(|word| if *word == "KEY" { key } else { word })
                .collect();
            let refused = client.command(&words).await;
            assert!(refused.error().starts_with(begin), "{words:?}: {refused:?}");
        }
        let mset = client.command(&["MSET", "sess:1", "x", key, "y"]).await;
        let begin = begin.trim_end_matches(" takes no");
        assert!(mset.error().starts_with(begin), "{mset:?}");
    }
    assert_eq!(
        client.command(&["EXISTS", "sess:1"]).await,
        Value::Int(0),
        "nothing of it was set"
    );
    for words in [
        &["CACHE.GET", "sess:1"][..],
        &["CACHE.EXPLAIN", "sess:1"],
        &["CACHE.INVALIDATE", "sess:1"],
    ] {
        let refused = client.command(words).await;
        let begin = "ERR 'sess:1' is a plain key (passthrough session)";
        assert!(refused.error().starts_with(begin), "{words:?}: {refused:?}");
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn without_redis_plain_keys_are_errors_in_their_places_and_others_are_answered() {
    let mut world = world().await;
    let mut client = world.client().await;
    client.command(&["SET", "sess:1", "a"]).await;
    world.redis.kill().unwrap();
    let mget = ["MGET", "courses:1", "sess:1", "courses:2"];
    let Value::Array(values) = client.command(&mget).await else {
        panic!("no array")
    };
    assert_eq!((&values[0], &values[2]), (&course(1), &course(2)));
    let refused = values[1].error();
    assert!(refused.starts_with("UNAVAILABLE "), "{refused}");
    for verb in ["DEL", "EXISTS"] {
        let refused = client.command(&[verb, "courses:1", "sess:1"]).await;
        assert!(refused.error().starts_with("UNAVAILABLE "), "{refused:?}");
    }
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_without_plain_keys_says_so() {
    let world = World::start(
        COURSES,
        "[namespaces.calc]\nprefix = \"calc:\"\nttl = \"5m\"",
    )
    .await;
    let mut client = world.client().await;
    let refused = client.command(&["SCAN", "0"]).await;
    assert_eq!(
        refused.error(),
        "ERR SCAN is for plain keys, and no [passthrough.*] is declared"
    );
    let refused = client.command(&["EXPIRE", "sess:1", "10"]).await;
    assert!(
        refused.error().starts_with("ERR no cache is declared"),
        "{refused:?}"
    );
    world.daemon.stop().await;
}
