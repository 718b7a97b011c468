//! What is asked for and what is answered, word by word; the rest is in `tests/it/limits_door/`.

use super::*;
use crate::rate_limit::Policy;
use std::sync::Arc;

fn check(verb: Verb, words: &[&str]) -> Result<Asked, Fault> {
    let (limits, subject) = (words[0].as_bytes(), words[1].as_bytes());
    asked(
        verb,
        limits,
        subject,
        words[2..].iter().map(|word| word.as_bytes()),
    )
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

#[test]
fn options_come_in_any_order_and_any_case() {
    let plain = Asked {
        limits: bytes("api,day"),
        subject: bytes("user:1"),
        cost: 1,
        id: None,
        ask: Ask::Take,
    };
    let full = Asked {
        cost: 5,
        id: Some(bytes("r1")),
        ..plain.clone()
    };
    let words = ["api,day", "user:1"];
    assert_eq!(check(Verb::RateCheck, &words), Ok(plain.clone()));
    for options in [["COST", "5", "ID", "r1"], ["id", "r1", "cost", "5"]] {
        let words = [&words[..], &options].concat();
        assert_eq!(check(Verb::RateCheck, &words), Ok(full.clone()));
    }
    let peeked = Asked {
        ask: Ask::Peek,
        ..plain
    };
    assert_eq!(check(Verb::RatePeek, &words), Ok(peeked));
}

fn decided(allowed: bool, retry_after: Option<Duration>, reset_after: Duration) -> Decision {
    Decision {
        allowed,
        policy: Arc::new(Policy {
            name: "api".to_owned(),
            limit: 16,
            window: None,
        }),
        remaining: 3,
        retry_after,
        reset_after,
        id: None,
    }
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    let text = String::from_utf8(out).expect("text");
    text.replace("\r\n", " ")
}

#[test]
fn milliseconds_are_rounded_up_so_that_who_comes_back_then_is_let_through() {
    let micros = Duration::from_micros;
    let rows = [
        (true, None, 0, ":1 :16 :3 :0 :0 $0  "),
        (true, Some(micros(5)), 1, ":1 :16 :3 :0 :1 $0  "),
        (false, None, 1_000, ":0 :16 :3 :-1 :1 $3 api "),
        (false, Some(micros(1)), 1_001, ":0 :16 :3 :1 :2 $3 api "),
        (false, Some(micros(2_000)), 0, ":0 :16 :3 :2 :0 $3 api "),
        (
            false,
            Some(Duration::MAX),
            0,
            ":0 :16 :3 :9223372036854775807 :0 $3 api ",
        ),
    ];
    for (allowed, retry, reset, expected) in rows {
        let answer = decided(allowed, retry, micros(reset));
        assert_eq!(
            written(|out| decision(out, &answer)),
            format!("*6 {expected}")
        );
    }
    let in_flight = Decision {
        id: Some(bytes("r1")),
        ..decided(true, None, Duration::ZERO)
    };
    let expected = "*7 :1 :16 :3 :0 :0 $0  $2 r1 ";
    assert_eq!(written(|out| decision(out, &in_flight)), expected);
}

#[test]
fn seconds_of_cl_throttle_are_rounded_as_redis_cell_does() {
    let millis = Duration::from_millis;
    let rows = [
        (true, None, millis(2000), ":0 :16 :3 :-1 :2 "),
        (
            true,
            Some(Duration::ZERO),
            millis(2001),
            ":0 :16 :3 :-1 :3 ",
        ),
        (false, Some(millis(1)), millis(1999), ":1 :16 :3 :1 :2 "),
        (
            false,
            Some(Duration::from_micros(1_000_999)),
            millis(0),
            ":1 :16 :3 :1 :0 ",
        ),
        (false, None, millis(1), ":1 :16 :3 :-1 :1 "),
    ];
    for (allowed, retry, reset, expected) in rows {
        let answer = decided(allowed, retry, reset);
        assert_eq!(
            written(|out| throttled(out, &answer)),
            format!("*5 {expected}")
        );
    }
}

#[test]
fn numbers_are_digits_within_their_bounds() {
    for word in ["1", "9", "1000000000"] {
        assert_eq!(
            number("n", word.as_bytes(), 1, MAX_AMOUNT).ok(),
            word.parse().ok()
        );
    }
    let refused = [
        "",
        "0",
        "01",
        "-1",
        "+1",
        " 1",
        "1 ",
        "1.5",
        "1e3",
        "0x1",
        "one",
        "1000000001",
        "18446744073709551616",
        "99999999999999999999999",
        "١",
        "1\r\n",
    ];
    for word in refused {
        let fault = number("COST", word.as_bytes(), 1, MAX_AMOUNT).expect_err(word);
        assert_eq!(fault.code, "ERR");
        let end = "is no whole number from 1 to 1000000000";
        assert!(
            fault.text.starts_with("COST '") && fault.text.ends_with(end),
            "{fault:?}"
        );
    }
    assert!(number("n", b"\xff", 1, 9).is_err());
    assert_eq!(number("n", b"0", 0, 9), Ok(0));
}

#[test]
fn whatever_is_refused_fits_on_one_line() {
    let long = "é".repeat(100_000);
    for word in [
        long.as_bytes(),
        b"\xff".repeat(1000).as_slice(),
        b"a\r\n+OK",
    ] {
        for fault in [
            number("COST", word, 1, 9).expect_err("no number"),
            name_of("subject", word).expect_err("no subject"),
            unknown_option(Verb::RateCheck, word),
        ] {
            let mut out = Vec::new();
            fault.write(&mut out);
            let line = out.strip_suffix(b"\r\n").expect("a line");
            assert!(line.len() <= 300 && !line.contains(&b'\n'), "{fault:?}");
        }
    }
}
