//! A line of words and what it is answered: over both protocols, on one connection that no refusal ends.

use super::scripted::Stage;
use crate::support::resp::Value;

const RANGE: &str = "is no whole number from 1 to 1000000000";

/// What is answered, as it comes over the wire.
fn answers() -> Vec<(Vec<&'static str>, &'static str)> {
    let words = |line: &'static str| line.split(' ').collect::<Vec<_>>();
    vec![
        (
            words("RATE.CHECK api user:1"),
            "*6\r\n:1\r\n:16\r\n:1\r\n:0\r\n:2000\r\n$0\r\n\r\n",
        ),
        (
            words("rate.check api refused cost 2"),
            "*6\r\n:0\r\n:16\r\n:2\r\n:1001\r\n:2000\r\n$3\r\napi\r\n",
        ),
        (
            words("RATE.CHECK api user:1 ID r1"),
            "*7\r\n:1\r\n:16\r\n:3\r\n:0\r\n:2000\r\n$0\r\n\r\n$2\r\nr1\r\n",
        ),
        (
            words("RATE.PEEK api user:1 COST 1000000000"),
            "*6\r\n:1\r\n:16\r\n:4\r\n:0\r\n:2000\r\n$0\r\n\r\n",
        ),
        (
            words("RATE.FIXED refused 16 31536000"),
            "*6\r\n:0\r\n:16\r\n:15\r\n:1001\r\n:2000\r\n$10\r\nRATE.FIXED\r\n",
        ),
        (words("RATE.RESET api user:1"), ":1\r\n"),
        (words("RATE.REFUND api user:1 3"), ":3\r\n"),
        (words("RATE.RELEASE api user:1 r1"), ":0\r\n"),
        (
            words("CL.THROTTLE user123 15 30 60"),
            "*5\r\n:0\r\n:16\r\n:15\r\n:-1\r\n:2\r\n",
        ),
        (
            words("CL.THROTTLE refused 0 1 1 0"),
            "*5\r\n:1\r\n:16\r\n:15\r\n:1\r\n:2\r\n",
        ),
    ]
}

#[actix_rt::test]
async fn each_command_has_the_answer_of_its_documentation_over_both_protocols() {
    for protocol in ["2", "3"] {
        let stage = Stage::open();
        let mut client = stage.client(protocol).await;
        for (words, expected) in answers() {
            assert_eq!(client.raw(&words).await, expected, "{protocol} {words:?}");
        }
        let seen = stage.seen();
        assert_eq!(seen[4], "fixed refused 16 31536000s");
        assert_eq!(seen[8], "throttle user123 15 30 60s 1");
        assert_eq!(seen[9], "throttle refused 0 1 1s 0");
        stage.close().await;
    }
}

/// What is refused before anybody is asked, and how the refusal begins and ends.
pub fn mistakes() -> Vec<(Vec<String>, String, String)> {
    let mut rows = Vec::new();
    let mut row = |line: &str, begin: &str, end: &str| {
        let words = line.split(' ').map(String::from).collect();
        rows.push((words, begin.to_owned(), end.to_owned()));
    };
    for bad in [
        "0",
        "-1",
        "1.5",
        "abc",
        "+1",
        "01",
        "1000000001",
        "18446744073709551617",
    ] {
        for (line, what) in [
            ("RATE.CHECK api s COST #", "COST"),
            ("RATE.PEEK api s COST #", "COST"),
            ("RATE.REFUND api s #", "n"),
            ("RATE.FIXED s # 60", "limit"),
            ("CL.THROTTLE s 15 # 60", "count"),
        ] {
            row(
                &line.replace('#', bad),
                &format!("ERR {what} '{bad}' "),
                RANGE,
            );
        }
        if bad != "0" {
            let end = "is no whole number from 0 to 1000000000";
            row(
                &format!("CL.THROTTLE s {bad} 1 1"),
                &format!("ERR max_burst '{bad}'"),
                end,
            );
            row(
                &format!("CL.THROTTLE s 1 1 1 {bad}"),
                &format!("ERR quantity '{bad}'"),
                end,
            );
        }
    }
    for bad in ["0", "-60", "1m", "31536001", "99999999999999999999"] {
        let end = "is no whole number from 1 to 31536000";
        row(
            &format!("RATE.FIXED s 1 {bad}"),
            &format!("ERR window '{bad}'"),
            end,
        );
        row(
            &format!("CL.THROTTLE s 1 1 {bad}"),
            &format!("ERR period '{bad}'"),
            end,
        );
    }
    for (line, end) in [
        ("RATE.CHECK api s COST", "nothing stands behind COST"),
        ("RATE.CHECK api s ID", "nothing stands behind ID"),
        (
            "RATE.CHECK api s COST 1 COST 1",
            "COST is given twice; leave one of them out",
        ),
        (
            "RATE.CHECK api s ID a ID b",
            "ID is given twice; leave one of them out",
        ),
        (
            "RATE.CHECK api s PRICE 1",
            "unknown option 'PRICE'; RATE.CHECK takes COST n and ID id",
        ),
        (
            "RATE.CHECK api s 5",
            "unknown option '5'; RATE.CHECK takes COST n and ID id",
        ),
        (
            "RATE.PEEK api s ID a",
            "unknown option 'ID'; RATE.PEEK takes COST n",
        ),
    ] {
        row(line, "ERR syntax error: ", end);
    }
    row(
        "CL.THROTTLE s 1 1 1 1 1",
        "ERR wrong number",
        "for 'cl.throttle' command",
    );
    rows.extend(bad_subjects());
    rows
}

/// In the place of a subject, a key or an id.
fn bad_subjects() -> Vec<(Vec<String>, String, String)> {
    let long = "k".repeat(513);
    let bad = [
        (String::new(), "is empty"),
        (long, "has 513 bytes, and may have 512"),
        ("a\nb".to_owned(), "holds a control character"),
        ("a\0b".to_owned(), "holds a control character"),
        ("\u{7f}".to_owned(), "holds a control character"),
        ("\u{85}".to_owned(), "holds a control character"),
    ];
    let lines = [
        ("RATE.CHECK api # COST 1", "subject"),
        ("RATE.CHECK api s ID #", "id"),
        ("RATE.PEEK api #", "subject"),
        ("RATE.RESET api #", "subject"),
        ("RATE.REFUND api # 1", "subject"),
        ("RATE.RELEASE api # r1", "subject"),
        ("RATE.RELEASE api s #", "id"),
        ("RATE.FIXED # 1 1", "subject"),
        ("CL.THROTTLE # 1 1 1", "key"),
    ];
    let mut rows = Vec::new();
    for (bad, end) in &bad {
        for (line, what) in lines {
            let words = line.split(' ').map(|word| match word {
                "#" => bad.clone(),
                word => word.to_owned(),
            });
            rows.push((
                words.collect(),
                format!("BADKEY {what} "),
                (*end).to_owned(),
            ));
        }
    }
    rows
}

#[actix_rt::test]
async fn each_mistake_is_told_on_a_line_and_nobody_is_asked() {
    let stage = Stage::open();
    for protocol in ["2", "3"] {
        let mut client = stage.client(protocol).await;
        for (words, begin, end) in mistakes() {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            let reply = client.raw(&words).await;
            let told = reply
                .strip_prefix('-')
                .and_then(|line| line.strip_suffix("\r\n"));
            let told = told.unwrap_or_else(|| panic!("{words:?}: {reply:?}"));
            assert!(
                told.starts_with(&begin) && told.ends_with(&end) && !told.contains('\n'),
                "{words:?}: {told:?}, not {begin:?}…{end:?}"
            );
        }
    }
    assert!(stage.seen().is_empty());
    stage.close().await;
}

#[actix_rt::test]
async fn bytes_that_are_no_text_are_no_subject_and_no_limit() {
    let stage = Stage::open();
    let mut client = stage.client("2").await;
    let subject = b"*3\r\n$10\r\nRATE.CHECK\r\n$3\r\napi\r\n$2\r\n\xff\xfe\r\n";
    client.send(subject).await.unwrap();
    let told = client.read().await.unwrap();
    assert!(
        told.error().starts_with("BADKEY subject '")
            && told.error().ends_with("is not valid UTF-8"),
        "{told:?}"
    );
    assert_eq!(client.command(&["PING"]).await.text(), "PONG");
    stage.close().await;
}

#[actix_rt::test]
async fn what_the_actor_says_is_told_by_its_class_with_limit_subject_cause_and_mend() {
    let rows = [
        (
            "nothing",
            "ERR no limit 'nothing' is declared (known: api, day)",
        ),
        (
            "wrong",
            "ERR 'wrong' of 's': `wrong` counts no time; mend the request",
        ),
        (
            "busy",
            "BUSY 'busy' of 's': `rate-limit` has 1 requests in flight, its limit; ask again",
        ),
        (
            "late",
            "UNAVAILABLE 'late' of 's': `rate-limit` did not answer within 5 ms; ask again",
        ),
        (
            "away",
            "UNAVAILABLE 'away' of 's': redis is away; start Redis, or check [redis] url",
        ),
    ];
    let stage = Stage::open();
    let mut client = stage.client("3").await;
    for (limit, expected) in rows {
        for words in [
            &["RATE.CHECK", limit, "s"][..],
            &["RATE.PEEK", limit, "s"],
            &["RATE.RESET", limit, "s"],
            &["RATE.REFUND", limit, "s", "1"],
            &["RATE.RELEASE", limit, "s", "id"],
        ] {
            assert_eq!(client.command(words).await.error(), expected, "{words:?}");
        }
    }
    stage.close().await;
}

#[actix_rt::test]
async fn an_undeclared_limit_is_told_with_a_few_of_those_that_are() {
    let many: Vec<String> = (1..=40).map(|n| format!("limit_{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let rows = [
        (&[][..], "(none is declared)"),
        (&["api"][..], "(known: api)"),
        (&many, "limit_7, limit_8, …)"),
    ];
    for (names, end) in rows {
        let stage = Stage::open_with(names);
        let mut client = stage.client("2").await;
        let told = client.command(&["RATE.CHECK", "nothing", "s"]).await;
        assert!(told.error().ends_with(end), "{told:?}");
        let long = ["RATE.CHECK", &"x".repeat(513), "s"];
        let told = client.command(&long).await;
        let expected = "ERR the names of limits have 513 bytes, and may have 512; name fewer";
        assert_eq!(told, Value::Error(expected.to_owned()));
        stage.close().await;
    }
}
