//! What the decoder takes and refuses, case by case.

use super::*;

fn limits() -> Limits {
    Limits::new(1 << 20)
}

/// Every request of `stream`, or what was wrong with the first that is none.
fn decode_all(stream: &[u8]) -> Result<Vec<Vec<Vec<u8>>>, ProtocolError> {
    let (mut decoder, mut request, mut rest) = (Decoder::new(limits()), Request::new(), stream);
    let mut requests = Vec::new();
    while let Some(used) = decoder.decode(rest, &mut request)? {
        requests.push(request.args(rest).map(<[u8]>::to_vec).collect());
        rest = &rest[used..];
    }
    Ok(requests)
}

#[test]
fn requests_are_decoded_in_order_and_leave_the_rest() {
    let input = b"*2\r\n$3\r\nGET\r\n$10\r\ncourses:42\r\nPING\n*1\r\n$0\r\n\r\n*2\r\n$3\r\nGE";
    let requests = decode_all(input).expect("valid");
    assert_eq!(
        requests,
        [vec![&b"GET"[..], b"courses:42"], vec![b"PING"], vec![b""]]
    );
}

#[test]
fn each_broken_frame_gets_its_own_error() {
    let cases: [(&[u8], &str); 34] = [
        (b"*1\r\n$-5\r\n", "invalid bulk length -5"),
        (b"*1\r\n$-1\r\n", "invalid bulk length -1"),
        (b"*99999999999\r\n", "invalid multibulk length (max 65536)"),
        (b"*65537\r\n", "invalid multibulk length (max 65536)"),
        (b"*1048576\r\n", "invalid multibulk length (max 65536)"),
        (
            b"*1\r\n$9999999999\r\n",
            "invalid bulk length (max 1048576)",
        ),
        (b"*1\r\n$1048577\r\n", "invalid bulk length (max 1048576)"),
        (b"*1\r\n$1048576\r\n", "too big request (max 1048576)"),
        (b"*1\r\n:1\r\n", "expected '$', got ':'"),
        (b"*1\r\n%1\r\n", "expected '$', got '%'"),
        (b"*1\r\n\n\r\n", "expected '$', got '\\n'"),
        (b"*1\r\n$4\r\nPINGxx", "bulk not terminated by CRLF"),
        (b"*1\r\n$4\r\nPING\rx", "bulk not terminated by CRLF"),
        (b"*1\r\n$4\r\nPING\n\n", "bulk not terminated by CRLF"),
        (
            b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$abc\r\n",
            "invalid bulk length",
        ),
        (b"*1\r\n$+4\r\n", "invalid bulk length"),
        (b"*1\r\n$ 4\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\n", "invalid bulk length"),
        (b"*1\r\n$-0\r\n", "invalid bulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*--5\r\n", "invalid multibulk length"),
        (
            b"*1\r\n$9223372036854775808\r\n",
            "invalid bulk length (max 1048576)",
        ),
        (
            b"*18446744073709551617\r\n",
            "invalid multibulk length (max 65536)",
        ),
        (b"*1\n$4\nPING\n", "expected CRLF"),
        (b"*1\r\n$4\nPING\r\n", "expected CRLF"),
        (b"*1\r\n*1\r\n$4\r\nPING\r\n", "nested arrays not allowed"),
        (b"GET \"a\r\n", "unbalanced quotes in request"),
        (b"$4\r\nPING\r\n", "expected '*', got '$'"),
        (b"%1\r\n", "expected '*', got '%'"),
        (b"_\r\n", "expected '*', got '_'"),
        (b"\xff\xfe", "expected '*', got '\\xff'"),
        (b"\r\n\r\n\0\r\nQUIT\n", "expected '*', got '\\x00'"),
        (&[b'a'; 70_000], "too big inline request (max 4096)"),
    ];
    for (input, expected) in cases {
        let error = decode_all(input).expect_err(expected);
        assert_eq!(error.to_string(), expected, "{}", input.escape_ascii());
        assert!(!error.closes_silently(), "{expected}");
    }
}

#[test]
fn a_frame_is_refused_at_its_first_wrong_byte() {
    let cases: [(&str, char); 13] = [
        ("", '$'),
        ("*", '+'),
        ("*1", ' '),
        ("*0", '1'),
        ("*6553", '7'),
        ("*1\r", 'x'),
        ("*1\r\n", ':'),
        ("*1\r\n$", '+'),
        ("*1\r\n$0", '4'),
        ("*1\r\n$104857", '7'),
        ("*1\r\n$1048576\r", '\n'),
        ("*1\r\n$4\r\nPING", 'x'),
        ("*1\r\n$4\r\nPING\r", 'x'),
    ];
    for (start, wrong) in cases {
        let (mut decoder, mut request) = (Decoder::new(limits()), Request::new());
        let waits = decoder.decode(start.as_bytes(), &mut request);
        assert_eq!(waits, Ok(None), "{start:?}");
        let input = format!("{start}{wrong}");
        let refused = decoder.decode(input.as_bytes(), &mut request);
        assert!(refused.is_err(), "{input:?}: {refused:?}");
    }
}

#[test]
fn a_request_may_be_as_long_as_its_limit() {
    let frame = b"*2\r\n$3\r\nGET\r\n$10\r\ncourses:42\r\n";
    let decode = |max_request, input: &[u8]| {
        let mut decoder = Decoder::new(Limits::new(max_request));
        decoder.decode(input, &mut Request::new())
    };
    assert_eq!(decode(frame.len(), frame), Ok(Some(frame.len())));
    let max = frame.len() as u32 - 1;
    let refused = Err(ProtocolError::RequestTooLong { max });
    assert_eq!(decode(frame.len() - 1, &frame[..18]), refused);
    assert_eq!(decode(frame.len() - 1, frame), refused);
}

#[test]
fn a_larger_request_may_have_more_arguments_up_to_those_of_redis() {
    let args = |max_request| Limits::new(max_request).max_args;
    assert_eq!(args(1 << 10), 1024);
    assert_eq!(args(1 << 20), 65_536);
    assert_eq!(args(4 << 20), 262_144);
    assert_eq!(args(64 << 20), 1_048_576);
}

#[test]
fn a_depth_bomb_fails_at_its_second_level() {
    assert_eq!(
        decode_all(&b"*1\r\n".repeat(10_000)),
        Err(ProtocolError::NestedArray)
    );
}

#[test]
fn other_protocols_are_closed_without_an_answer() {
    let cases: [(&[u8], Foreign); 4] = [
        (b"POST / HTTP/1.1\r\n", Foreign::Http),
        (b"PING\r\nHost: x\r\n", Foreign::Http),
        (b"\x16\x03\x01\x02\x00", Foreign::Tls),
        (
            b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n",
            Foreign::ProxyHeader,
        ),
    ];
    for (input, foreign) in cases {
        let error = decode_all(input).expect_err("not RESP");
        assert_eq!(error, ProtocolError::Foreign(foreign));
        assert!(error.closes_silently());
    }
}

#[test]
fn empty_requests_are_consumed() {
    for input in ["*0\r\n", "*-1\r\n", "*-5\r\n", "\r\n", "\n", "  \r\n"] {
        let (mut decoder, mut request) = (Decoder::new(limits()), Request::new());
        assert_eq!(
            decoder.decode(input.as_bytes(), &mut request),
            Ok(Some(input.len())),
            "{input:?}"
        );
        assert!(request.is_empty());
    }
}

#[test]
fn an_inline_line_may_be_as_long_as_its_limit() {
    let longest = [&[b'a'; 4096][..], b"\n"].concat();
    assert_eq!(decode_all(&longest).map(|requests| requests.len()), Ok(1));
    assert_eq!(decode_all(&longest[..4096]), Ok(vec![]));
    assert_eq!(
        decode_all(&[b'a'; 4097]),
        Err(ProtocolError::InlineTooLong { max: 4096 })
    );
}

#[test]
fn strangers_may_ask_for_less() {
    let mut decoder = Decoder::new(Limits::unauthenticated());
    let mut request = Request::new();
    assert_eq!(
        decoder.decode(b"*11\r\n", &mut request),
        Err(ProtocolError::ArrayTooLong { max: 10 })
    );
    let long = b"*1\r\n$16385\r\n";
    assert_eq!(
        decoder.decode(long, &mut request),
        Err(ProtocolError::BulkTooLong { max: 16384 })
    );
    decoder.set_limits(limits());
    assert_eq!(decoder.decode(long, &mut request), Ok(None));
}

#[test]
fn a_half_received_request_says_how_much_it_waits_for_and_keeps_nothing_else() {
    let (mut decoder, mut request) = (Decoder::new(limits()), Request::new());
    assert_eq!((decoder.is_midway(), decoder.wanted()), (false, 0));
    assert_eq!(
        decoder.decode(b"*65536\r\n$1000000\r\n", &mut request),
        Ok(None)
    );
    assert_eq!(
        (decoder.is_midway(), decoder.wanted()),
        (true, 18 + 1_000_000 + 2)
    );
    assert_eq!(
        (decoder.parked.capacity(), request.spans.capacity()),
        (0, 0)
    );
}

#[test]
fn a_decoder_fits_a_cache_line_and_is_empty_between_requests() {
    assert!(size_of::<Decoder>() <= 64, "{}", size_of::<Decoder>());
    let (mut decoder, mut request) = (Decoder::new(limits()), Request::new());
    assert_eq!(
        decoder.decode(b"*2\r\n$1\r\na\r\n$1", &mut request),
        Ok(None)
    );
    assert_eq!(decoder.parked.len(), 1);
    assert_eq!(
        decoder.decode(b"*2\r\n$1\r\na\r\n$1\r\nb\r\n", &mut request),
        Ok(Some(18))
    );
    assert_eq!(decoder.parked.capacity(), 0);
    assert!(!decoder.is_midway());
}

#[test]
fn a_byte_that_was_parsed_is_not_looked_at_again() {
    let (mut decoder, mut request) = (Decoder::new(limits()), Request::new());
    assert_eq!(
        decoder.decode(b"*2\r\n$3\r\nGET\r\n$1", &mut request),
        Ok(None)
    );
    let altered = b"!!!!!!!!!!!!!$1\r\nk\r\n";
    assert_eq!(
        decoder.decode(altered, &mut request),
        Ok(Some(altered.len()))
    );
    assert_eq!(
        request.args(altered).collect::<Vec<_>>(),
        [&b"!!!"[..], b"k"]
    );
}

#[test]
fn inline_requests_do_not_pile_up_in_the_request_they_share() {
    let (mut decoder, mut request) = (Decoder::new(limits()), Request::new());
    for _ in 0..1000 {
        assert_eq!(decoder.decode(b"ECHO hello\n", &mut request), Ok(Some(11)));
    }
    assert!(request.text.capacity() <= 64, "{}", request.text.capacity());
}
