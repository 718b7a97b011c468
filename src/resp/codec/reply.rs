//! Writing replies. Every function appends one frame, or the head of one whose elements follow, to
//! `out`; nothing is allocated but what `out` grows by.

use std::fmt::{self, Write};

/// Bytes of an error's line at most, without its CRLF: it is for logs and terminals.
const MAX_ERROR_BYTES: usize = 300;
/// Shows that an error's text was cut.
const ELLIPSIS: &str = "…";

/// The version of the protocol, as the client chose it with `HELLO`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// What every client speaks that did not ask for another.
    #[default]
    Resp2,
    /// Knows maps, nulls and texts for people by themselves.
    Resp3,
}

/// `+OK`: a fixed word of ours. What a client or a server said goes into [`bulk`].
pub fn simple(out: &mut Vec<u8>, text: &'static str) {
    debug_assert!(!text.contains(['\r', '\n']));
    out.push(b'+');
    out.extend_from_slice(text.as_bytes());
    end_line(out);
}

/// `-CODE text`. The text may quote what a client or a server sent: it is kept on one line by
/// escaping control characters, and cut at 300 bytes.
pub fn error(out: &mut Vec<u8>, code: &'static str, text: impl fmt::Display) {
    write_error(out, format_args!("-{code} {text}"));
}

/// An error as another server said it, its code in front.
pub fn passed_error(out: &mut Vec<u8>, line: &str) {
    write_error(out, format_args!("-{line}"));
}

fn write_error(out: &mut Vec<u8>, text: fmt::Arguments<'_>) {
    let mut line = ErrorLine {
        cut_at: out.len(),
        end: out.len() + MAX_ERROR_BYTES,
        out,
    };
    // It fails when the line is full, and there is nothing left to do then.
    let _ = line.write_fmt(text);
    end_line(line.out);
}

/// `:1`
pub fn integer(out: &mut Vec<u8>, value: i64) {
    out.push(b':');
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    end_line(out);
}

/// `$5 hello`: any bytes.
pub fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    // In one step: a large value would otherwise grow `out` twice. The head is at most 22 bytes.
    out.reserve(bytes.len() + 24);
    head(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    end_line(out);
}

/// Nothing: no such row.
pub fn null(out: &mut Vec<u8>, protocol: Protocol) {
    out.extend_from_slice(match protocol {
        Protocol::Resp2 => b"$-1\r\n",
        Protocol::Resp3 => b"_\r\n",
    });
}

/// The head of an array; `elements` frames follow.
pub fn array(out: &mut Vec<u8>, elements: usize) {
    head(out, b'*', elements);
}

/// The head of a map; `pairs` times a key and a value follow. For RESP2 a flat array.
pub fn map(out: &mut Vec<u8>, protocol: Protocol, pairs: usize) {
    match protocol {
        Protocol::Resp2 => head(out, b'*', pairs * 2),
        Protocol::Resp3 => head(out, b'%', pairs),
    }
}

/// The head of something that was not asked for; `elements` frames follow. Only clients of RESP3 know it.
pub fn push(out: &mut Vec<u8>, elements: usize) {
    head(out, b'>', elements);
}

/// Text for people, such as that of `INFO`; a bulk string for RESP2.
pub fn verbatim(out: &mut Vec<u8>, protocol: Protocol, text: &str) {
    const FORMAT: &[u8] = b"txt:";
    if protocol == Protocol::Resp2 {
        return bulk(out, text.as_bytes());
    }
    head(out, b'=', FORMAT.len() + text.len());
    out.extend_from_slice(FORMAT);
    out.extend_from_slice(text.as_bytes());
    end_line(out);
}

fn head(out: &mut Vec<u8>, kind: u8, length: usize) {
    out.push(kind);
    out.extend_from_slice(itoa::Buffer::new().format(length).as_bytes());
    end_line(out);
}

fn end_line(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Takes text until the line is full.
struct ErrorLine<'a> {
    out: &'a mut Vec<u8>,
    /// Where `out` must end.
    end: usize,
    /// The last place behind a whole character that leaves room for the ellipsis.
    cut_at: usize,
}

impl ErrorLine<'_> {
    /// Appends a character whole, or ends the line.
    fn push(&mut self, character: char) -> fmt::Result {
        if self.out.len() + character.len_utf8() > self.end {
            self.out.truncate(self.cut_at);
            self.out.extend_from_slice(ELLIPSIS.as_bytes());
            return Err(fmt::Error);
        }
        self.out
            .extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        if self.out.len() + ELLIPSIS.len() <= self.end {
            self.cut_at = self.out.len();
        }
        Ok(())
    }
}

impl Write for ErrorLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.chars()
            .try_for_each(|character| match character.is_control() {
                true => character
                    .escape_default()
                    .try_for_each(|escaped| self.push(escaped)),
                false => self.push(character),
            })
    }
}

#[cfg(test)]
mod tests {
    use redis_protocol::resp2::types::{OwnedFrame as Resp2, Resp2Frame};
    use redis_protocol::resp3::types::{OwnedFrame as Resp3, Resp3Frame, VerbatimStringFormat};
    use redis_protocol::{resp2, resp3};

    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        // What is there already belongs to earlier replies.
        let mut out = b"+EARLIER\r\n".to_vec();
        write(&mut out);
        out.split_off(b"+EARLIER\r\n".len())
    }

    /// The one frame that another implementation reads out of what was written.
    fn as_resp2(write: impl FnOnce(&mut Vec<u8>)) -> Resp2 {
        let bytes = written(write);
        let (frame, used) = resp2::decode::decode(&bytes)
            .expect("valid")
            .expect("complete");
        assert_eq!(used, bytes.len(), "{}", bytes.escape_ascii());
        frame
    }

    fn as_resp3(write: impl FnOnce(&mut Vec<u8>)) -> Resp3 {
        let bytes = written(write);
        let (frame, used) = resp3::decode::complete::decode(&bytes)
            .expect("valid")
            .expect("complete");
        assert_eq!(used, bytes.len(), "{}", bytes.escape_ascii());
        frame
    }

    fn error_line(text: &str) -> String {
        match as_resp2(|out| error(out, "ERR", text)) {
            Resp2::Error(line) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn flat_replies_are_read_by_another_implementation() {
        assert_eq!(
            as_resp2(|out| simple(out, "OK")),
            Resp2::SimpleString(b"OK".to_vec())
        );
        assert_eq!(
            as_resp2(|out| integer(out, i64::MIN)),
            Resp2::Integer(i64::MIN)
        );
        assert_eq!(
            as_resp2(|out| bulk(out, b"a\r\n\0\xff")),
            Resp2::BulkString(b"a\r\n\0\xff".to_vec())
        );
        assert_eq!(
            as_resp2(|out| bulk(out, b"")),
            Resp2::BulkString(Vec::new())
        );
    }

    #[test]
    fn each_protocol_gets_its_own_null_and_text() {
        assert_eq!(as_resp2(|out| null(out, Protocol::Resp2)), Resp2::Null);
        assert_eq!(as_resp3(|out| null(out, Protocol::Resp3)), Resp3::Null);
        assert_eq!(
            as_resp2(|out| verbatim(out, Protocol::Resp2, "# Server")).as_str(),
            Some("# Server")
        );
        let text = b"# Server\r\nuptime:1".to_vec();
        let frame = as_resp3(|out| verbatim(out, Protocol::Resp3, "# Server\r\nuptime:1"));
        assert_eq!(
            frame,
            Resp3::VerbatimString {
                data: text,
                format: VerbatimStringFormat::Text,
                attributes: None
            }
        );
    }

    #[test]
    fn a_map_is_an_array_of_twice_the_length_for_older_clients() {
        let write = |protocol| {
            move |out: &mut Vec<u8>| {
                map(out, protocol, 2);
                bulk(out, b"state");
                bulk(out, b"hit");
                bulk(out, b"values");
                array(out, 2);
                integer(out, 1);
                null(out, protocol);
            }
        };
        let Resp2::Array(elements) = as_resp2(write(Protocol::Resp2)) else {
            panic!("not an array")
        };
        assert_eq!(
            elements[3],
            Resp2::Array(vec![Resp2::Integer(1), Resp2::Null])
        );
        let Resp3::Map { data, .. } = as_resp3(write(Protocol::Resp3)) else {
            panic!("not a map")
        };
        let state = Resp3::BlobString {
            data: b"state".to_vec(),
            attributes: None,
        };
        assert_eq!((data.len(), data[&state].as_str()), (2, Some("hit")));
    }

    #[test]
    fn an_error_cannot_end_its_line_early() {
        assert_eq!(
            error_line("key `a\r\n+OK\r\n\u{1b}[2J\0`"),
            r"ERR key `a\r\n+OK\r\n\u{1b}[2J\u{0}`"
        );
        assert_eq!(error_line("key `größe`"), "ERR key `größe`");
    }

    #[test]
    fn a_long_error_is_cut_between_characters_and_says_so() {
        let line_of = |bytes: usize| error_line(&"x".repeat(bytes - "-ERR ".len()));
        assert!(!line_of(MAX_ERROR_BYTES).contains(ELLIPSIS));
        for pad in 0..4 {
            let line = error_line(&("x".repeat(pad) + &"ß€😀\n".repeat(10_000)));
            assert!(line.ends_with(ELLIPSIS), "{line}");
            let bytes = 1 + line.len();
            assert!(
                (MAX_ERROR_BYTES - 6..=MAX_ERROR_BYTES).contains(&bytes),
                "{bytes}"
            );
        }
        assert_eq!(1 + line_of(MAX_ERROR_BYTES + 1).len(), MAX_ERROR_BYTES);
    }
}
