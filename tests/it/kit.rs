//! The test kit itself, as far as a mistake in it would make other tests pass that should fail.

use std::time::Duration;

use super::support::DEADLINE;
use super::support::eventually::eventually;
use super::support::proxy::Proxy;
use super::support::resp::{Client, Value};
use super::support::servers::{database, redis, redis_with};

#[tokio::test]
async fn every_test_gets_a_database_and_a_redis_of_its_own() {
    let (one, other) = tokio::join!(database(), database());
    one.execute("CREATE TABLE t (n int)").await;
    assert!(
        other
            .client()
            .await
            .batch_execute("SELECT * FROM t")
            .await
            .is_err()
    );
    let (one, other) = (redis(), redis());
    let set = Client::connect(([127, 0, 0, 1], one.port()).into())
        .await
        .command(&["SET", "k", "v"])
        .await;
    assert_eq!(set, Value::Simple("OK".into()));
    let mut client = Client::connect_unix(&other.socket()).await;
    assert_eq!(client.command(&["GET", "k"]).await, Value::Nil);
}

#[tokio::test]
async fn the_raw_client_reads_every_kind_of_reply_of_a_real_redis() {
    let redis = redis_with(&["--enable-debug-command", "yes"]);
    let mut client = Client::connect_unix(&redis.socket()).await;
    assert_eq!(
        client
            .command(&["NONSENSE"])
            .await
            .error()
            .split(' ')
            .next(),
        Some("ERR")
    );
    let hello = client.command(&["HELLO", "3"]).await;
    assert_eq!(hello.field("proto"), Some(&Value::Int(3)));
    let kinds = [
        ("string", Value::bulk("Hello World")),
        ("integer", Value::Int(12345)),
        ("double", "3.141".parse().map(Value::Double).unwrap()),
        ("null", Value::Nil),
        ("array", Value::Array([0, 1, 2].map(Value::Int).into())),
        ("set", Value::Set([0, 1, 2].map(Value::Int).into())),
        (
            "map",
            Value::Map(
                (0..3)
                    .map(|n| (Value::Int(n), Value::Bool(n == 1)))
                    .collect(),
            ),
        ),
        (
            "bignum",
            Value::BigNumber("1234567999999999999999999999999999999".into()),
        ),
        ("true", Value::Bool(true)),
        ("verbatim", Value::bulk("txt:This is a verbatim\nstring")),
    ];
    for (kind, reply) in kinds {
        assert_eq!(
            client.command(&["DEBUG", "PROTOCOL", kind]).await,
            reply,
            "{kind}"
        );
    }
    client.send(b"*1\r\n$1000000000\r\n").await.unwrap();
    assert_eq!(
        client.read().await.unwrap().error(),
        "ERR Protocol error: invalid bulk length"
    );
    assert!(client.read_to_end().await.unwrap().is_empty());
}

#[tokio::test]
async fn the_proxy_holds_what_is_sent_and_lets_it_through_when_it_passes() {
    let redis = redis();
    let mut proxy = Proxy::before_port(redis.port()).await;
    let mut client = Client::connect(proxy.address()).await;
    proxy.hold();
    client.send(b"SET k v\r\n").await.unwrap();
    let mut newcomer = Client::connect(proxy.address()).await;
    newcomer.send(b"PING\r\n").await.unwrap();
    // A round trip past the proxy: were the bytes on their way, they would be there.
    let mut beside = Client::connect_unix(&redis.socket()).await;
    assert_eq!(beside.command(&["GET", "k"]).await, Value::Nil);
    proxy.pass().await;
    assert_eq!(client.read().await.unwrap().text(), "OK");
    assert_eq!(newcomer.read().await.unwrap().text(), "PONG");
}

#[tokio::test]
async fn a_cut_ends_open_connections_and_accepts_new_ones() {
    let redis = redis();
    let proxy = Proxy::before_port(redis.port()).await;
    proxy.delay(Duration::from_millis(1));
    let mut client = Client::connect(proxy.address()).await;
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    proxy.cut();
    assert!(client.read_to_end().await.unwrap().is_empty());
    assert_eq!(
        Client::connect(proxy.address())
            .await
            .command(&["PING"])
            .await
            .text(),
        "PONG"
    );
}

#[tokio::test]
async fn a_refusing_proxy_refuses_until_it_passes_on_the_same_port() {
    let redis = redis();
    let mut proxy = Proxy::before_port(redis.port()).await;
    let mut client = Client::connect(proxy.address()).await;
    proxy.refuse().await;
    assert!(client.read_to_end().await.unwrap().is_empty());
    assert!(
        tokio::net::TcpStream::connect(proxy.address())
            .await
            .is_err()
    );
    proxy.pass().await;
    assert_eq!(
        Client::connect(proxy.address())
            .await
            .command(&["PING"])
            .await
            .text(),
        "PONG"
    );
}

#[tokio::test]
#[should_panic(expected = "last saw: \"a closed door\"")]
async fn waiting_in_vain_says_what_it_last_saw() {
    eventually(Duration::from_millis(1), async || {
        Err::<(), _>("a closed door")
    })
    .await;
}

#[tokio::test]
async fn waiting_ends_with_what_came() {
    let mut looks = 0;
    let seen = eventually(DEADLINE, async || {
        looks += 1;
        if looks == 3 { Ok("three") } else { Err(looks) }
    })
    .await;
    assert_eq!(seen, "three");
}
