//! A small blocking client of the Redis protocol (RESP2), so that the tour sees what any client sees.

use std::fmt;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::DemoError;

/// The daemon promises an answer, if only an error, well before.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest bulk string and the most elements taken: the shop's answers are a few kilobytes.
const MAX_LENGTH: usize = 1 << 20;

/// The shop's deepest answer is an array of strings.
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

/// One connection to a port of 127.0.0.1.
pub(super) struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub(super) fn connect(server: &'static str, port: u16) -> Result<Self, DemoError> {
        let open = || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
            Ok(Self {
                stream: BufReader::new(stream),
            })
        };
        open().map_err(|source| DemoError::Connect {
            server,
            port,
            source,
        })
    }

    /// Sends one command and waits for its reply.
    pub(super) fn ask(&mut self, words: &[&str]) -> Result<Reply, DemoError> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream
            .get_mut()
            .write_all(request.as_bytes())
            .and_then(|()| self.reply(MAX_DEPTH))
            .map_err(|source| DemoError::NoReply {
                command: words.join(" "),
                source,
            })
    }

    fn reply(&mut self, depth_left: u32) -> io::Result<Reply> {
        let mut line = String::new();
        self.stream
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
        self.stream.read_exact(&mut bytes)?;
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
