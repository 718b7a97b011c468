//! A stand-in with the shapes the repository reads, until the real room is merged.
use std::ops::Range;
use std::time::Duration;

use crate::keyspace::{KeyTemplate, Param};

#[derive(Clone)]
pub struct Secret(String);
impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
    pub fn expose(&self) -> &str {
        &self.0
    }
}
#[derive(Clone)]
pub struct Postgres {
    pub url: Secret,
    pub pool_size: usize,
    pub statement_timeout: Duration,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Object,
    Array,
    Scalar,
}
#[derive(Clone, Debug)]
pub struct Cache {
    pub name: String,
    pub key: KeyTemplate,
    pub query: Query,
    pub shape: Shape,
    pub ttl: Duration,
    pub ttl_jitter: f64,
    pub missing_ttl: Duration,
    pub max_value: usize,
    pub load_timeout: Duration,
    pub max_loads: usize,
}
#[derive(Clone, Debug)]
pub struct Namespace {
    pub name: String,
    pub prefix: String,
    pub ttl: Duration,
    pub load_timeout: Duration,
    pub max_value: usize,
}
pub struct Redis {
    pub url: Secret,
    pub timeout: Duration,
}
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}
pub enum LogFormat {
    Text,
    Json,
    Journald,
}

#[derive(Clone, Debug)]
pub struct Query {
    pub text: String,
    pub pieces: Vec<Piece>,
}
#[derive(Clone, Debug)]
pub enum Piece {
    Sql(Range<usize>),
    Param { index: usize, at: Range<usize> },
}
#[derive(Debug)]
pub struct QueryError;
impl Query {
    /// Knows just enough of SQL for the tests of the repository.
    pub fn parse(text: &str, params: &[Param]) -> Result<Query, Vec<QueryError>> {
        let (bytes, mut pieces, mut from, mut i) = (text.as_bytes(), Vec::new(), 0, 0);
        while i < bytes.len() {
            let skip = match bytes[i] {
                b'\'' => text[i + 1..].find('\'').map(|n| n + 2),
                b'-' if text[i..].starts_with("--") => text[i..].find('\n'),
                b':' if text[i..].starts_with("::") => Some(2),
                b':' => {
                    let end = i
                        + 1
                        + text[i + 1..]
                            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                            .unwrap_or(text.len() - i - 1);
                    let index = params
                        .iter()
                        .position(|p| p.name == text[i + 1..end])
                        .ok_or(vec![QueryError])?;
                    pieces.push(Piece::Sql(from..i));
                    pieces.push(Piece::Param { index, at: i..end });
                    from = end;
                    Some(end - i)
                }
                _ => Some(1),
            };
            i += skip.unwrap_or(text.len() - i);
        }
        pieces.push(Piece::Sql(from..text.len()));
        Ok(Query {
            text: text.to_owned(),
            pieces,
        })
    }
}
