//! Keys as clients spell them: one spelling is served, any other is told what is wrong with it.

use super::super::support::resp::{Value, frame};
use super::{Shop, course};

const TICKET: &str = "tickets:00000000-0000-4000-8000-00000000abcd:2024-02-29:true";

#[tokio::test]
async fn a_key_in_its_one_spelling_is_served() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let ticket =
        r#"{"ticket":"00000000-0000-4000-8000-00000000abcd","day":"2024-02-29","paid":true}"#;
    // As Postgres' `json_agg` spaces it: the bytes are passed on untouched.
    let first_two = "[{\"id\":1}, \n {\"id\":2}]";
    let cases = [
        ("courses:1", Value::bulk(course(1))),
        ("courses:1000000", Value::Nil),
        ("courses:count", Value::bulk("100")),
        ("courses:above:-2147483648", Value::bulk(first_two)),
        ("courses:above:2147483647", Value::bulk("[]")),
        ("inverse:-9223372036854775808", Value::bulk("0")),
        ("inverse:9223372036854775807", Value::bulk("0")),
        ("titled:course-3", Value::bulk("3")),
        // Characters that mean something elsewhere are text here.
        ("titled:*", Value::Nil),
        ("titled:[a-z]?\\", Value::Nil),
        ("titled:';DROP/**/TABLE/**/courses;--", Value::Nil),
        ("titled:Ünïcode→✓", Value::Nil),
        (TICKET, Value::bulk(ticket)),
    ];
    for (key, value) in cases {
        assert_eq!(client.command(&["GET", key]).await, value, "{key}");
    }
    shop.daemon.stop().await;
}

#[tokio::test]
async fn any_other_spelling_is_told_what_is_wrong_with_it() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let cases: &[(&str, &str)] = &[
        ("", "BADKEY key is empty"),
        (
            "courses:abc",
            "BADKEY 'abc' is not a bigint in 'courses:abc' (cache course)",
        ),
        (
            "courses:",
            "BADKEY '' is not a bigint in 'courses:' (cache course)",
        ),
        (
            "courses:007",
            "BADKEY '007' is not the one spelling of a bigint (write '7') in 'courses:007' (cache course)",
        ),
        (
            "courses:+7",
            "BADKEY '+7' is not the one spelling of a bigint (write '7') in 'courses:+7' (cache course)",
        ),
        (
            "courses:-0",
            "BADKEY '-0' is not the one spelling of a bigint (write '0') in 'courses:-0' (cache course)",
        ),
        (
            "courses:1.0",
            "BADKEY '1.0' is not a bigint in 'courses:1.0' (cache course)",
        ),
        (
            "courses:1e3",
            "BADKEY '1e3' is not a bigint in 'courses:1e3' (cache course)",
        ),
        (
            "courses:0x10",
            "BADKEY '0x10' is not a bigint in 'courses:0x10' (cache course)",
        ),
        (
            "courses: 7",
            "BADKEY ' 7' is not a bigint in 'courses: 7' (cache course)",
        ),
        (
            "courses:٣",
            "BADKEY '٣' is not a bigint in 'courses:٣' (cache course)",
        ),
        (
            "courses:*",
            "BADKEY '*' is not a bigint in 'courses:*' (cache course)",
        ),
        (
            "courses:0",
            "BADKEY '0' is out of bounds (min 1, max 1000000) in 'courses:0' (cache course)",
        ),
        (
            "courses:1000001",
            "BADKEY '1000001' is out of bounds (min 1, max 1000000) in 'courses:1000001' (cache course)",
        ),
        (
            "courses:99999999999999999999",
            "BADKEY '99999999999999999999' is out of range for bigint in 'courses:99999999999999999999' (cache course)",
        ),
        (
            "courses:above:2147483648",
            "BADKEY '2147483648' is out of range for int in 'courses:above:2147483648' (cache courses_above)",
        ),
        (
            "courses:1;DROP TABLE courses",
            "BADKEY '1;DROP TABLE courses' is not a bigint in 'courses:1;DROP TABLE courses' (cache course)",
        ),
        (
            "titled:",
            "BADKEY '' is empty, a text has 1 to 200 bytes in 'titled:' (cache titled)",
        ),
        (
            "titled:two words",
            "BADKEY 'two words' holds a space, which a text may not in 'titled:two words' (cache titled)",
        ),
        (
            "titled:{x}",
            "BADKEY '{x}' holds a brace or `:`, which a text may not in 'titled:{x}' (cache titled)",
        ),
        (
            "titled:a\0b",
            r"BADKEY 'a\u{0}b' holds a control character, which a text may not in 'titled:a\u{0}b' (cache titled)",
        ),
        (
            "titled:a\r\nPING",
            r"BADKEY 'a\r\nPING' holds a control character, which a text may not in 'titled:a\r\nPING' (cache titled)",
        ),
        (
            "tickets:00000000-0000-4000-8000-00000000ABCD:2024-02-29:true",
            "BADKEY '00000000-0000-4000-8000-00000000ABCD' is not the one spelling of a uuid (write it in lower case) in…",
        ),
        (
            "tickets:abc:2024-02-29:true",
            "BADKEY 'abc' is not a uuid in 'tickets:abc:2024-02-29:true' (cache ticket)",
        ),
        (
            "tickets:00000000-0000-4000-8000-00000000abcd:2023-02-29:true",
            "BADKEY '2023-02-29' is not a date (write YYYY-MM-DD) in…",
        ),
        (
            "tickets:00000000-0000-4000-8000-00000000abcd:2024-02-29:yes",
            "BADKEY 'yes' is not a bool (write true or false) in…",
        ),
        (
            "nothing",
            "ERR no cache is declared for key 'nothing' (known: …",
        ),
        (
            "COURSES:1",
            "ERR no cache is declared for key 'COURSES:1' (known: …",
        ),
        (
            "courses",
            "ERR no cache is declared for key 'courses' (known: …",
        ),
        (
            "courses:1:2",
            "ERR no cache is declared for key 'courses:1:2' (known: …",
        ),
        (
            "courses:1:",
            "ERR no cache is declared for key 'courses:1:' (known: …",
        ),
        (
            "cachewarden:lease:courses:1",
            "BADKEY 'cachewarden:lease:courses:1' is reserved for cachewarden's own keys",
        ),
    ];
    for (key, expected) in cases {
        for command in [
            &["GET", key][..],
            &["CACHE.GET", key],
            &["EXISTS", key],
            &["PTTL", key],
            &["DEL", key],
        ] {
            let answer = client.command(command).await;
            let line = answer.error();
            match expected.strip_suffix('…') {
                Some(start) => assert!(line.starts_with(start), "{command:?}: {line}"),
                None => assert_eq!(line, *expected, "{command:?}"),
            }
            assert!(
                line.len() < 300 && !line.contains(char::is_control),
                "{line}"
            );
        }
    }
    let asked = client.command(&["INFO", "cachewarden"]).await;
    let statements = |line: &&str| line.starts_with("postgres_statements:");
    let statements = asked
        .text()
        .split("\r\n")
        .find(statements)
        .unwrap_or("none");
    assert_eq!(
        statements, "postgres_statements:0",
        "a bad key reached Postgres"
    );
    shop.daemon.stop().await;
}

#[tokio::test]
async fn keys_of_any_length_and_any_bytes_get_one_short_line() {
    let shop = Shop::open().await;
    let mut client = shop.client().await;
    let mut sent: Vec<Vec<u8>> = [512, 513, 70_000, 1_000_000]
        .map(|length| [b"titled:".as_slice(), &vec![b'x'; length - 7]].concat())
        .into();
    sent.push(b"titled:\xff\xfe".into());
    sent.push(b"courses:\x80".into());
    sent.push((0..=255).collect());
    let expected = [
        "-BADKEY 'xxx",
        "-BADKEY length 513 exceeds 512",
        "-BADKEY length 70000 exceeds 512",
        "-BADKEY length 1000000 exceeds 512",
        r"-BADKEY '\xff\xfe' is not valid UTF-8",
        r"-BADKEY '\x80' is not a bigint",
        r"-ERR no cache is declared for key '\u{0}\u{1}",
    ];
    for (key, expected) in sent.iter().zip(expected) {
        let mut request = format!("*2\r\n$3\r\nGET\r\n${}\r\n", key.len()).into_bytes();
        request.extend(key);
        request.extend(b"\r\n");
        request.extend(frame(&["PING"]));
        client.send(&request).await.unwrap();
        let answer = client.read().await.unwrap();
        let line = format!("-{}", answer.error());
        assert!(line.starts_with(expected) && line.len() <= 300, "{line}");
        assert!(!line.contains(char::is_control), "{line}");
        assert_eq!(client.read().await.unwrap().text(), "PONG");
    }
    shop.daemon.stop().await;
}
