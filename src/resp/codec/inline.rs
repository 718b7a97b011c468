//! Inline requests: one line of words, as people type them into `nc`. The rules are those of Redis'
//! `sdssplitargs`, so that a line means here what it means there.

use super::error::{Foreign, ProtocolError};
use super::request::Request;

/// True if an inline request may begin with `byte`. Type bytes of RESP and control bytes are
/// refused at once: they are a client that lost its place, or another protocol, and answering
/// `unknown command` would hide that.
pub(super) fn may_begin_with(byte: u8) -> bool {
    is_blank(byte) || (byte.is_ascii_graphic() && !b"$:+-%~>_(#,!=|".contains(&byte))
}

/// Splits `line` (without its line end) into the arguments of `request`.
///
/// # Errors
/// Another protocol's first line, an unclosed quote, more than `max_args` words.
pub(super) fn split(
    line: &[u8],
    max_args: u32,
    request: &mut Request,
) -> Result<(), ProtocolError> {
    if let Some(foreign) = foreign_protocol(line) {
        return Err(ProtocolError::Foreign(foreign));
    }
    request.begin_inline();
    let mut rest = skip_blanks(line);
    while !rest.is_empty() {
        if request.len() == max_args as usize {
            return Err(ProtocolError::InlineTooManyArguments { max: max_args });
        }
        rest = skip_blanks(request.push_word(|text| word(rest, text))?);
    }
    Ok(())
}

/// Moves one word from the front of `rest` to `text`, and returns what follows it.
fn word<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        match rest {
            // Vertical tabs and form feeds part words only where a new one would begin: Redis'
            // rule, odd as it is.
            [] | [b' ' | b'\t' | b'\n' | b'\r', ..] => return Ok(rest),
            [b'"', quoted @ ..] => return double_quoted(quoted, text),
            [b'\'', quoted @ ..] => return single_quoted(quoted, text),
            [byte, after @ ..] => {
                text.push(*byte);
                rest = after;
            }
        }
    }
}

fn double_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'"', after @ ..] => return closed(after),
            [b'\\', b'x', high, low, after @ ..]
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                (hex_digit(*high) << 4 | hex_digit(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        text.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], text: &mut Vec<u8>) -> Result<&'a [u8], ProtocolError> {
    loop {
        let (byte, after) = match rest {
            [] => return Err(ProtocolError::UnbalancedQuotes),
            [b'\'', after @ ..] => return closed(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        text.push(byte);
        rest = after;
    }
}

/// A closing quote ends the word: `"a"b` is refused rather than guessed at.
fn closed(after: &[u8]) -> Result<&[u8], ProtocolError> {
    match after.first() {
        Some(&byte) if !is_blank(byte) => Err(ProtocolError::UnbalancedQuotes),
        _ => Ok(after),
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

fn skip_blanks(bytes: &[u8]) -> &[u8] {
    let blanks = bytes.iter().take_while(|byte| is_blank(**byte)).count();
    &bytes[blanks..]
}

/// C's `isspace`; Rust's own leaves the vertical tab out.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r')
}

/// Recognises the first line of another protocol, without taking inline commands such as `GET
/// courses:42` for one.
///
/// A web page can make a browser send `POST /` with a body of its choice to this port, and each
/// line of the body would run as a command; so the connection must end before the body is read.
/// Every line is looked at, so that the `Host:` line stops what got past the first.
fn foreign_protocol(line: &[u8]) -> Option<Foreign> {
    let name_end = line
        .iter()
        .position(|byte| *byte == b' ')
        .unwrap_or(line.len());
    let (name, target) = line.split_at(name_end);
    let is_url = |target: &[u8]| {
        [&b" /"[..], b" http://", b" https://"]
            .iter()
            .any(|start| starts_with(target, start))
    };
    let is_http = match name.to_ascii_uppercase().as_slice() {
        b"GET" | b"HEAD" | b"PUT" | b"DELETE" | b"PATCH" | b"TRACE" => is_url(target),
        b"POST" | b"OPTIONS" | b"CONNECT" | b"PRI" => true,
        b"PROXY" => return Some(Foreign::ProxyHeader),
        _ => starts_with(name, b"host:"),
    };
    is_http.then_some(Foreign::Http)
}

fn starts_with(bytes: &[u8], start: &[u8]) -> bool {
    bytes
        .get(..start.len())
        .is_some_and(|head| head.eq_ignore_ascii_case(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Result<Vec<Vec<u8>>, ProtocolError> {
        let mut request = Request::new();
        split(line.as_bytes(), 8, &mut request)?;
        Ok(request.args(&[]).map(<[u8]>::to_vec).collect())
    }

    #[test]
    fn words_are_split_as_redis_splits_them() {
        let cases: [(&str, &[&[u8]]); 14] = [
            ("PING", &[b"PING"]),
            ("  GET \t courses:42  ", &[b"GET", b"courses:42"]),
            ("", &[]),
            (" \t\x0b\x0c\r ", &[]),
            ("a\x0bb", &[b"a\x0bb"]),
            (r#"ECHO "hello world""#, &[b"ECHO", b"hello world"]),
            (r#""\n\r\t\b\a\"\\\q""#, &[b"\n\r\t\x08\x07\"\\q"]),
            (r#""\x00\xfF\xZ1\x4""#, &[b"\x00\xffxZ1x4"]),
            (r"'it\'s' '\n'", &[b"it's", b"\\n"]),
            (r#"'"' "'""#, &[b"\"", b"'"]),
            (r#""" ''"#, &[b"", b""]),
            (r#"a"b c""#, &[b"ab c"]),
            (r"back\slash", &[b"back\\slash"]),
            ("a\0b", &[b"a\0b"]),
        ];
        for (line, expected) in cases {
            let expected: Vec<Vec<u8>> = expected.iter().map(|word| word.to_vec()).collect();
            assert_eq!(words(line), Ok(expected), "{line:?}");
        }
    }

    #[test]
    fn quotes_that_do_not_match_are_refused() {
        for line in [
            r#"""#, r#"a "b"#, "'", r"'\'", r#""a"b"#, "'a'b", r#""a\"#, r#""a\""#, r#"''"""#,
        ] {
            assert_eq!(
                words(line),
                Err(ProtocolError::UnbalancedQuotes),
                "{line:?}"
            );
        }
    }

    #[test]
    fn more_words_than_arguments_are_allowed_are_refused() {
        assert_eq!(words("1 2 3 4 5 6 7 8").map(|words| words.len()), Ok(8));
        assert_eq!(
            words("1 2 3 4 5 6 7 8 9"),
            Err(ProtocolError::InlineTooManyArguments { max: 8 })
        );
    }

    #[test]
    fn first_lines_of_http_and_of_load_balancers_are_recognised() {
        let http = [
            "GET / HTTP/1.1",
            "get /courses HTTP/1.0",
            "GET http://example.com/ HTTP/1.1",
            "HEAD / HTTP/1.1",
            "POST / HTTP/1.1",
            "post x",
            "PUT /x HTTP/1.1",
            "DELETE /x HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "CONNECT example.com:443 HTTP/1.1",
            "PRI * HTTP/2.0",
            "Host: localhost:6380",
            "host:localhost",
        ];
        for line in http {
            assert_eq!(
                words(line),
                Err(ProtocolError::Foreign(Foreign::Http)),
                "{line:?}"
            );
        }
        let proxy = "PROXY TCP4 10.0.0.1 10.0.0.2 4711 6380";
        assert_eq!(
            words(proxy),
            Err(ProtocolError::Foreign(Foreign::ProxyHeader))
        );
    }

    #[test]
    fn commands_that_resemble_http_are_still_commands() {
        for line in [
            "GET courses:42",
            "GET",
            "get http:1",
            "DEL /x",
            "ECHO /",
            "GET host:1",
            "ECHO POST",
            "HOST",
        ] {
            assert!(words(line).is_ok(), "{line:?}");
        }
    }
}
