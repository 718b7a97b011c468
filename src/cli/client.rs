//! A small blocking client of the Redis protocol (RESP2): what the command line asks a running daemon with.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};

/// The longest bulk string and the most elements taken: the longest answer to the command line is a few kilobytes.
const MAX_LENGTH: usize = 1 << 20;

/// The deepest answer is an array of strings.
const MAX_DEPTH: u32 = 4;

/// One reply.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reply {
    Text(String),
    Error(String),
    Int(i64),
    Nil,
    List(Vec<Reply>),
}

/// As `redis-cli` would print it, on one line.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Error(line) => write!(f, "-{line}"),
            Self::Int(number) => write!(f, "{number}"),
            Self::Nil => f.write_str("(nil)"),
            Self::List(items) => {
                f.write_str("[")?;
                for (place, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if place == 0 { "" } else { ", " })?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Whatever a daemon is reached over.
pub(super) trait Line: Read + Write {}
impl<T: Read + Write> Line for T {}

/// One connection.
pub(super) struct Client {
    line: BufReader<Box<dyn Line>>,
}

impl Client {
    /// Over a stream that is connected; its own time-outs bound every wait.
    pub(super) fn over(stream: impl Line + 'static) -> Self {
        Self {
            line: BufReader::new(Box::new(stream)),
        }
    }

    /// Sends one command and waits for its reply.
    pub(super) fn ask<W: AsRef<[u8]>>(&mut self, words: &[W]) -> io::Result<Reply> {
        let mut request = format!("*{}\r\n", words.len()).into_bytes();
        for word in words.iter().map(AsRef::as_ref) {
            request.extend(format!("${}\r\n", word.len()).bytes());
            request.extend_from_slice(word);
            request.extend(b"\r\n");
        }
        let stream = self.line.get_mut();
        stream.write_all(&request)?;
        stream.flush()?;
        self.reply(MAX_DEPTH)
    }

    fn reply(&mut self, depth_left: u32) -> io::Result<Reply> {
        let mut line = String::new();
        self.line
            .by_ref()
            .take(MAX_LENGTH as u64)
            .read_line(&mut line)?;
        let line = line.strip_suffix("\r\n").ok_or(ErrorKind::UnexpectedEof)?;
        let (kind, rest) = line.split_at_checked(1).ok_or(ErrorKind::InvalidData)?;
        match kind {
            "+" => Ok(Reply::Text(rest.to_owned())),
            "-" => Ok(Reply::Error(rest.to_owned())),
            ":" => rest
                .parse()
                .map(Reply::Int)
                .map_err(|_broken| ErrorKind::InvalidData.into()),
            "$" | "*" if rest == "-1" => Ok(Reply::Nil),
            "$" => self.bulk(length(rest)?),
            "*" if depth_left > 0 => (0..length(rest)?)
                .map(|_| self.reply(depth_left - 1))
                .collect::<Result<_, _>>()
                .map(Reply::List),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    fn bulk(&mut self, length: usize) -> io::Result<Reply> {
        let mut bytes = vec![0; length + b"\r\n".len()];
        self.line.read_exact(&mut bytes)?;
        bytes.truncate(length);
        String::from_utf8(bytes)
            .map(Reply::Text)
            .map_err(|_broken| ErrorKind::InvalidData.into())
    }
}

fn length(digits: &str) -> io::Result<usize> {
    digits
        .parse()
        .ok()
        .filter(|length| *length <= MAX_LENGTH)
        .ok_or(ErrorKind::InvalidData.into())
}
