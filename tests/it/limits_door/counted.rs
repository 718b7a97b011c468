//! The commands before a real daemon and a real Redis: what is counted, what redis-cell documents, and what bad input leaves
//! behind.

use std::process::Command;

use super::typed::LIMITS;
use crate::support::daemon::{InProcess, config_without_postgres};
use crate::support::resp::{Client, Value};
use crate::support::servers::redis;
use crate::support::world::{count, raw};

fn numbers(reply: &Value) -> Vec<i64> {
    let Value::Array(elements) = reply else {
        panic!("{reply:?}")
    };
    let number = |element: &Value| match element {
        Value::Int(number) => Some(*number),
        _ => None,
    };
    elements.iter().filter_map(number).collect()
}

async fn ask(client: &mut Client, line: &str) -> Vec<i64> {
    let words: Vec<&str> = line.split(' ').collect();
    numbers(&client.command(&words).await)
}

#[tokio::test]
async fn a_rate_is_limited_as_the_documentation_of_redis_cell_says() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), "")).await;
    let mut client = daemon.client().await;
    // Its README's own example.
    let line = "CL.THROTTLE user123 15 30 60 1";
    assert_eq!(ask(&mut client, line).await, [0, 16, 15, -1, 2]);
    // At once and never more: no time passes that could be seen in an hour's window.
    let rows = [
        ("CL.THROTTLE hourly 2 1 3600", [0, 3, 2, -1, 3600]),
        ("CL.THROTTLE hourly 2 1 3600 0", [0, 3, 2, -1, 3600]),
        ("CL.THROTTLE hourly 2 1 3600 2", [0, 3, 0, -1, 10_800]),
        ("CL.THROTTLE hourly 2 1 3600", [1, 3, 0, 3600, 10_800]),
        ("CL.THROTTLE hourly 2 1 3600 0", [0, 3, 0, -1, 10_800]),
        ("CL.THROTTLE fresh 2 1 3600 4", [1, 3, 3, -1, 0]),
        ("CL.THROTTLE fresh 2 1 3600 0", [0, 3, 3, -1, 0]),
    ];
    for (line, expected) in rows {
        let answer = ask(&mut client, line).await;
        let close = |(given, wanted): (&i64, &i64)| (wanted - 60..=*wanted).contains(given);
        let times = answer[3..].iter().zip(&expected[3..]).all(close);
        assert!(
            answer[..3] == expected[..3] && times,
            "{line}: {answer:?}, not {expected:?}"
        );
    }
    daemon.stop().await;
}

#[tokio::test]
async fn several_limits_take_all_or_nothing_and_the_one_that_refuses_is_named() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), LIMITS)).await;
    let mut client = daemon.client().await;
    let first = ask(&mut client, "RATE.CHECK wide,api user:1 COST 3").await;
    assert_eq!(first[..4], [1, 3, 0, 0]);
    let refused = client.command(&["RATE.CHECK", "wide,api", "user:1"]).await;
    assert_eq!(numbers(&refused)[..3], [0, 3, 0]);
    let Value::Array(elements) = &refused else {
        panic!("{refused:?}")
    };
    assert_eq!(elements[5], Value::bulk("api"));
    assert_eq!(
        ask(&mut client, "RATE.PEEK wide user:1").await[..3],
        [1, 1000, 997]
    );
    for (line, expected) in [
        ("RATE.CHECK api,api user:1", "ERR 'api,api' of 'user:1': "),
        (
            "RATE.CHECK api,,wide user:1",
            "ERR 'api,,wide' of 'user:1': ",
        ),
        (
            "RATE.CHECK api,nothing user:1",
            "ERR no limit 'nothing' is declared (known: api, wide, jobs)",
        ),
        (
            "RATE.REFUND api,wide user:1 1",
            "ERR no limit 'api,wide' is declared",
        ),
        ("RATE.REFUND jobs user:1 1", "ERR 'jobs' of 'user:1': "),
        ("RATE.RELEASE api user:1 r1", "ERR 'api' of 'user:1': "),
        ("RATE.CHECK jobs user:1 COST 2", "ERR 'jobs' of 'user:1': "),
    ] {
        let words: Vec<&str> = line.split(' ').collect();
        let told = client.command(&words).await;
        assert!(told.error().starts_with(expected), "{line}: {told:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_in_flight_is_named_by_a_seventh_element_until_it_is_released() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), LIMITS)).await;
    let mut client = daemon.client().await;
    let taken = client.command(&["RATE.CHECK", "jobs", "user:1"]).await;
    let Value::Array(elements) = &taken else {
        panic!("{taken:?}")
    };
    assert_eq!((elements.len(), &elements[0]), (7, &Value::Int(1)));
    let id = elements[6].text();
    assert_eq!(
        ask(&mut client, "RATE.CHECK jobs user:1 ID mine").await[0],
        0
    );
    let release = ["RATE.RELEASE", "jobs", "user:1", id];
    assert_eq!(client.command(&release).await, Value::Int(1));
    assert_eq!(client.command(&release).await, Value::Int(0));
    for _ in 0..2 {
        let mine = client
            .command(&["RATE.CHECK", "jobs", "user:1", "ID", "mine"])
            .await;
        let Value::Array(elements) = &mine else {
            panic!("{mine:?}")
        };
        assert_eq!((&elements[0], elements[6].text()), (&Value::Int(1), "mine"));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_refused_leaves_nothing_behind_in_redis() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), LIMITS)).await;
    let mut behind = raw(&redis).await;
    let before = count(&mut behind).await;
    for protocol in ["2", "3"] {
        let mut client = daemon.client().await;
        client.command(&["HELLO", protocol]).await;
        for (words, begin, _) in super::refusals::mistakes() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let told = client.command(&words).await;
            assert!(told.error().starts_with(&begin), "{words:?}: {told:?}");
        }
        for line in [
            "RATE.CHECK nothing s",
            "RATE.PEEK api s",
            "CL.THROTTLE s 1 1 1 0",
            "RATE.RESET api s",
        ] {
            let words: Vec<&str> = line.split(' ').collect();
            client.command(&words).await;
        }
    }
    assert_eq!(count(&mut behind).await, before);
    daemon.stop().await;
}

#[tokio::test]
async fn redis_cli_shows_a_refusal_over_both_protocols() {
    let redis = redis();
    let daemon = InProcess::start(&config_without_postgres(&redis.redis_url(), LIMITS)).await;
    let port = daemon.address().port().to_string();
    for protocol in ["-2", "-3"] {
        let subject = format!("user:{protocol}");
        let rows = [
            (
                &["RATE.CHECK", "wide", &subject, "COST", "400"][..],
                "1\n1000\n600\n0\n…",
            ),
            (
                &["RATE.CHECK", "wide", &subject, "COST", "700"],
                "0\n1000\n600\n…",
            ),
            (&["RATE.REFUND", "wide", &subject, "400"], "400"),
            (
                &["RATE.CHECK", "wide", &subject, "COST", "0"],
                "ERR COST '0' is no whole number from 1 to 1000000000",
            ),
            (
                &["CL.THROTTLE", &subject, "15", "30", "60", "1"],
                "0\n16\n15\n-1\n2",
            ),
        ];
        for (words, expected) in rows {
            let mut command = Command::new("redis-cli");
            command.args(["-p", &port, protocol]).args(words);
            let output = tokio::task::spawn_blocking(move || command.output())
                .await
                .unwrap();
            let output =
                output.unwrap_or_else(|error| panic!("`redis-cli`: {error}\nhint: `make deps`"));
            let said = String::from_utf8_lossy(&output.stdout)
                .trim_end()
                .to_owned();
            let fits = match expected.strip_suffix('…') {
                Some(begin) => said.starts_with(begin),
                None => said == expected,
            };
            assert!(fits, "{protocol} {words:?}: {said:?}, not {expected:?}");
        }
    }
    daemon.stop().await;
}
