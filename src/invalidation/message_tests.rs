use super::*;
use crate::keyspace::{KeyTemplate, Reach};

pub fn scope() -> Scope {
    let template = |text| KeyTemplate::parse(text).expect("a template");
    let caches = [
        ("user".to_owned(), template("users:{id:bigint}")),
        ("order".to_owned(), template("orders:{id:uuid}")),
        ("count".to_owned(), template("users:count")),
    ];
    let prefixes = ["users:", "orders:", "legacy:"].map(str::to_owned);
    Scope::new(&caches, &[], Reach::new(prefixes))
}

/// Keys, other keys and patterns of a message, and the reasons of what was refused.
fn told(payload: &str) -> (Vec<String>, Vec<&'static str>) {
    let message = read(&scope(), payload.as_bytes());
    let names = message.targets.names().into_iter();
    let mut told: Vec<String> = names
        .map(|name| String::from_utf8_lossy(&name).into_owned())
        .collect();
    told.extend(
        message
            .targets
            .patterns
            .iter()
            .map(|pattern| pattern.shown()),
    );
    let reasons = message.refused.iter().map(|refusal| refusal.reason);
    (told, reasons.collect())
}

#[test]
fn messages_say_what_is_outdated() {
    for (payload, expected) in [
        ("users:*", vec!["users:*"]),
        ("users:42", vec!["users:42"]),
        ("legacy:x y", vec!["legacy:x y"]),
        (
            r#"{"id":"7","keys":["users:42"],"patterns":["legacy:*"],"caches":["user","count"],"reason":"import"}"#,
            vec!["users:42", "users:count", "legacy:*", "users:*"],
        ),
        // A key that is said to be one is one, whatever it holds.
        (r#"{"keys":["legacy:a*"]}"#, vec!["legacy:a*"]),
        ("\n {\"keys\":[\"users:1\"]} ", vec!["users:1"]),
    ] {
        assert_eq!(told(payload).0, expected, "{payload}");
    }
}

#[test]
fn whatever_is_no_message_is_refused_and_what_is_fine_of_one_is_carried_out() {
    let deep = format!(
        "{{\"keys\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let many = format!("{{\"keys\":[{}\"users:1\"]}}", "\"users:1\",".repeat(1000));
    let huge = "x".repeat(MAX_MESSAGE_BYTES + 1);
    for (payload, expected, reason) in [
        ("", vec![], "malformed"),
        ("*", vec![], "too_wide"),
        ("{", vec![], "broken"),
        ("{}", vec![], "broken"),
        ("[]", vec![], "too_wide"),
        ("null", vec![], "foreign"),
        ("\"users:*\"", vec![], "foreign"),
        ("sess:*", vec![], "foreign"),
        ("sess:1", vec![], "foreign"),
        ("cachewarden:*", vec![], "foreign"),
        ("users:[", vec![], "malformed"),
        ("users:007", vec![], "malformed"),
        ("users:*********", vec![], "malformed"),
        (r#"{"keys":"users:1"}"#, vec![], "broken"),
        (r#"{"keys":["users:1"],"keyz":[]}"#, vec![], "broken"),
        (r#"{"keys":["users:1"],"keys":[]}"#, vec![], "broken"),
        (r#"{"v":99,"keys":["users:1"]}"#, vec![], "broken"),
        (r#"{"keys":["users:1"]} {}"#, vec![], "broken"),
        (r#"{"keys":["\ud800"]}"#, vec![], "broken"),
        (r#"{"caches":["nobody"]}"#, vec![], "foreign"),
        (
            r#"{"keys":["users:1","sess:1"]}"#,
            vec!["users:1"],
            "foreign",
        ),
        (
            r#"{"patterns":["*","users:*"]}"#,
            vec!["users:*"],
            "too_wide",
        ),
        (&deep, vec![], "broken"),
        (&many, vec![], "huge"),
        (&huge, vec![], "huge"),
    ] {
        let shown = &payload[..payload.len().min(60)];
        let (told, reasons) = told(payload);
        assert_eq!(told, expected, "{shown}");
        assert_eq!(reasons.first(), Some(&reason), "{shown}");
    }
}

#[test]
fn an_id_is_repeated_as_it_was_written_also_of_a_broken_message() {
    let id = |payload: &str| {
        let message = read(&scope(), payload.as_bytes());
        message.id.map(|id| id.get().to_owned())
    };
    assert_eq!(
        id(r#"{"id":"a-1","keys":["users:1"]}"#).as_deref(),
        Some("\"a-1\"")
    );
    assert_eq!(id(r#"{"id":17,"keyz":[]}"#).as_deref(), Some("17"));
    assert_eq!(id("{"), None);
    let long = format!("{{\"id\":\"{}\",\"keys\":[\"users:1\"]}}", "x".repeat(200));
    assert_eq!(id(&long), None);
}

#[test]
fn what_is_logged_of_a_message_is_its_beginning_which_the_log_escapes() {
    assert_eq!(shown(br#"{"id":"7"}"#), r#"{"id":"7"}"#);
    let huge = [b'\xff'; 1000];
    assert!(shown(&huge).len() < 1000);
}
