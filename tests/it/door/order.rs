//! Pipelines: answers come in the order of the requests, each as if it had been asked alone.

use super::super::support::resp::Value;
use super::{Shop, course};

#[tokio::test]
async fn a_pipeline_is_answered_in_order_whatever_stands_in_it() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let requests: &[&[&str]] = &[
        &["GET", "courses:1"],
        &["PING"],
        &["GET", "courses:count"],
        &["GET", "courses:oops"],
        &["NOSUCH"],
        &["MGET", "courses:2", "courses:999", "titled:course-3"],
        &["GET"],
        &["GET", "inverse:0"],
        &["GET", "inverse:50"],
        &["EXISTS", "courses:1"],
        &["ECHO", "last"],
    ];
    let replies = client.pipeline(requests).await;
    let error = |place: usize| replies[place].error();
    assert_eq!(replies[0], Value::bulk(course(1)));
    assert_eq!(replies[1].text(), "PONG");
    assert_eq!(replies[2], Value::bulk("100"));
    assert!(error(3).starts_with("BADKEY 'oops'"), "{}", error(3));
    assert!(error(4).starts_with("ERR unknown command 'NOSUCH'"));
    assert_eq!(
        replies[5],
        Value::Array(vec![Value::bulk(course(2)), Value::Nil, Value::bulk("3")])
    );
    assert_eq!(error(6), "ERR wrong number of arguments for 'get' command");
    assert!(
        error(7).starts_with("LOADFAIL 'inverse:0': "),
        "{}",
        error(7)
    );
    assert!(error(7).contains("division by zero"), "{}", error(7));
    assert_eq!(replies[8], Value::bulk("2"));
    assert_eq!(replies[9], Value::Int(1));
    assert_eq!(replies[10], Value::bulk("last"));
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_read_behind_a_deletion_in_one_pipeline_sees_it() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    client.command(&["GET", "courses:1"]).await;
    for deletion in ["DEL", "UNLINK", "CACHE.INVALIDATE"] {
        let title = format!("after {deletion}");
        let before = client.command(&["GET", "courses:1"]).await;
        shop.database
            .execute(&format!(
                "UPDATE courses SET title = '{title}' WHERE id = 1"
            ))
            .await;
        let replies = client
            .pipeline(&[
                &["GET", "courses:1"],
                &[deletion, "courses:1"],
                &["GET", "courses:1"],
            ])
            .await;
        let after = Value::bulk(format!(r#"{{"id":1,"title":"{title}"}}"#));
        assert_eq!(replies, [before, Value::Int(1), after], "{deletion}");
    }
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_pipeline_longer_than_any_buffer_is_answered_whole_and_in_order() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let keys: Vec<String> = (0..20_000)
        .map(|n| format!("courses:{}", n % 120 + 1))
        .collect();
    let gets: Vec<[&str; 2]> = keys.iter().map(|key| ["GET", key.as_str()]).collect();
    let gets: Vec<&[&str]> = gets.iter().map(<[&str; 2]>::as_slice).collect();
    // In parts, each larger than what is read at once: whoever writes all of it before reading could wait for ever.
    for gets in gets.chunks(5_000) {
        for (get, reply) in gets.iter().zip(client.pipeline(gets).await) {
            let id = get[1].trim_start_matches("courses:").parse().unwrap();
            let expected = if id <= 100 {
                Value::bulk(course(id))
            } else {
                Value::Nil
            };
            assert_eq!(reply, expected, "{get:?}");
        }
    }
    shop.daemon.stop().await;
}

#[tokio::test]
async fn a_bad_key_among_many_is_an_error_in_its_place_and_its_neighbours_have_their_values() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let keys = [
        "MGET",
        "courses:1",
        "courses:007",
        "courses:2",
        "nothing:1",
        "inverse:0",
        "inverse:4",
        "",
    ];
    let Value::Array(values) = client.command(&keys).await else {
        panic!("no array")
    };
    let error = |place: usize| values[place].error();
    assert_eq!(values.len(), 7);
    assert_eq!(values[0], Value::bulk(course(1)));
    assert!(error(1).starts_with("BADKEY '007'"), "{}", error(1));
    assert_eq!(values[2], Value::bulk(course(2)));
    assert!(error(3).starts_with("ERR no cache is declared for key 'nothing:1'"));
    assert!(error(4).starts_with("LOADFAIL 'inverse:0'"), "{}", error(4));
    assert_eq!(values[5], Value::bulk("25"));
    assert_eq!(error(6), "BADKEY key is empty");
    // Who counts or deletes is refused as a whole: half a count would be a lie.
    for command in ["EXISTS", "DEL", "UNLINK", "CACHE.INVALIDATE"] {
        let refused = client.command(&[command, "courses:1", "courses:007"]).await;
        assert!(refused.error().starts_with("BADKEY '007'"), "{command}");
    }
    assert_eq!(
        client.command(&["EXISTS", "courses:1"]).await,
        Value::Int(1)
    );
    shop.daemon.stop().await;
}
