//! What is typed, and what is answered.

use super::super::support::daemon::{cachewarden, config_on, said};
use super::super::support::resp::Value;
use super::{LONG, World, acquired, info};

#[tokio::test]
async fn a_lock_is_its_tokens_until_that_releases_it() {
    let world = World::start().await;
    let (mut one, mut other) = (world.client().await, world.client().await);
    let (token, fence) = acquired(&mut one, &["reports", LONG]).await;
    assert_eq!(
        other.command(&["LOCK.ACQUIRE", "reports", LONG]).await,
        Value::Nil
    );
    // Asked again, as after a lost answer.
    let again = acquired(
        &mut other,
        &["reports", LONG, "token", &token.to_uppercase()],
    )
    .await;
    assert_eq!(again, (token.clone(), fence));
    let stranger = "0e1b6b7e-3b0a-4b0e-9d2c-2f6a7c1d9e10";
    for (words, wanted) in [
        (vec!["LOCK.EXTEND", "reports", stranger, LONG], 0),
        (vec!["LOCK.RELEASE", "reports", stranger], 0),
        (vec!["LOCK.EXTEND", "reports", &token, LONG], 1),
        (vec!["LOCK.RELEASE", "reports", &token], 1),
        (vec!["LOCK.RELEASE", "reports", &token], 0),
        (vec!["LOCK.EXTEND", "reports", &token, LONG], 0),
    ] {
        assert_eq!(other.command(&words).await, Value::Int(wanted), "{words:?}");
    }
    let (_, next) = acquired(&mut other, &["reports", LONG]).await;
    assert!(next > fence, "{next} after {fence}");
}

#[tokio::test]
async fn readers_share_writers_do_not_and_permits_are_counted() {
    let world = World::start().await;
    let mut client = world.client().await;
    let (first, _) = acquired(&mut client, &["table", LONG, "SHARED"]).await;
    let (second, _) = acquired(&mut client, &["table", LONG, "SHARED"]).await;
    assert_eq!(info(&mut client, "table", "held").await, Value::Int(2));
    let write = ["LOCK.ACQUIRE", "table", LONG];
    assert_eq!(client.command(&write).await, Value::Nil);
    for token in [first, second] {
        client.command(&["LOCK.RELEASE", "table", &token]).await;
    }
    acquired(&mut client, &["table", LONG]).await;
    let read = ["LOCK.ACQUIRE", "table", LONG, "SHARED"];
    assert_eq!(client.command(&read).await, Value::Nil);

    let permit = ["LOCK.ACQUIRE", "jobs", LONG, "PERMITS", "3"];
    let mut tokens = Vec::new();
    for _ in 0..3 {
        tokens.push(super::granted(&client.command(&permit).await).0);
    }
    assert_eq!(client.command(&permit).await, Value::Nil);
    client.command(&["LOCK.RELEASE", "jobs", &tokens[1]]).await;
    super::granted(&client.command(&permit).await);
    assert_eq!(client.command(&permit).await, Value::Nil);
}

#[tokio::test]
async fn who_holds_what_is_told_and_can_be_taken_away() {
    let world = World::start().await;
    let mut client = world.client().await;
    for protocol in ["2", "3"] {
        client.command(&["HELLO", protocol]).await;
        let nobody = client.command(&["LOCK.INFO", "a:1"]).await;
        assert_eq!(nobody.field("held"), Some(&Value::Int(0)));
        assert_eq!(nobody.field("fence"), Some(&Value::Nil));
        assert_eq!(
            client.command(&["LOCK.LIST"]).await,
            Value::Array(Vec::new())
        );
        let (token, fence) = acquired(&mut client, &["a:1", LONG]).await;
        acquired(&mut client, &["a:2", LONG]).await;
        acquired(&mut client, &["b*", LONG]).await;
        let one = client.command(&["LOCK.INFO", "a:1"]).await;
        assert_eq!(one.field("name"), Some(&Value::bulk("a:1")));
        assert_eq!(one.field("held"), Some(&Value::Int(1)));
        assert_eq!(one.field("fence"), Some(&Value::Int(fence)));
        assert_eq!(one.field("waiters"), Some(&Value::Int(0)));
        assert_eq!(one.field("yours"), Some(&Value::Nil));
        assert!(
            matches!(one.field("ttl_ms"), Some(Value::Int(50_000..=60_000))),
            "{one:?}"
        );
        for (prefix, wanted) in [
            (vec![], vec!["a:1", "a:2", "b*"]),
            (vec!["a:"], vec!["a:1", "a:2"]),
            (vec!["b*"], vec!["b*"]),
            (vec!["*"], vec![]),
            (vec![""], vec!["a:1", "a:2", "b*"]),
        ] {
            let listed = client.command(&[vec!["LOCK.LIST"], prefix].concat()).await;
            let Value::Array(locks) = &listed else {
                panic!("{listed:?}")
            };
            let names: Vec<&str> = locks
                .iter()
                .map(|lock| lock.field("name").unwrap().text())
                .collect();
            assert_eq!(names, wanted);
        }
        assert_eq!(client.command(&["LOCK.FORCE", "a:1"]).await, Value::Int(1));
        assert_eq!(client.command(&["LOCK.FORCE", "a:1"]).await, Value::Int(0));
        assert_eq!(
            client.command(&["LOCK.RELEASE", "a:1", &token]).await,
            Value::Int(0)
        );
        for name in ["a:2", "b*"] {
            assert_eq!(client.command(&["LOCK.FORCE", name]).await, Value::Int(1));
        }
    }
}

#[tokio::test]
async fn the_command_line_lists_tells_and_takes_away() {
    let world = World::start().await;
    let mut client = world.client().await;
    let address = world.daemon.address().to_string();
    let text = config_on(
        &address,
        world.database.database.url(),
        &world.redis.redis_url(),
        "[locks]\n",
    );
    let run = async |args: &[&str]| {
        let (code, stdout, stderr) = said(&cachewarden(&text, &[&["lock"], args].concat()).await);
        assert_eq!(stderr, "", "{args:?}");
        (code, stdout)
    };
    let none = (Some(0), "nobody holds a lock\n".to_owned());
    assert_eq!(run(&["list"]).await, none);
    let (_, fence) = acquired(&mut client, &["größe", LONG]).await;
    let (code, table) = run(&["list"]).await;
    assert_eq!(code, Some(0));
    let lines: Vec<Vec<&str>> = table
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        ["lock", "held", "by", "fence", "ms", "left", "waiting"]
    );
    let fence = fence.to_string();
    assert_eq!(lines[1][..3], ["größe", "1", &fence]);
    let (_, json) = run(&["list", "gr", "--json"]).await;
    assert!(json.contains(&format!("\"fence\":{fence}")), "{json}");
    let (_, json) = run(&["info", "größe", "--json"]).await;
    assert!(
        json.starts_with('{') && json.contains("\"held\":1"),
        "{json}"
    );
    assert_eq!(
        run(&["force", "größe"]).await,
        (Some(0), "taken away\n".to_owned())
    );
    assert_eq!(
        run(&["force", "größe"]).await,
        (Some(1), "nobody holds it\n".to_owned())
    );
    let (code, json) = run(&["force", "größe", "--json"]).await;
    assert_eq!((code, json.as_str()), (Some(1), "{\"forced\":false}\n"));
}
