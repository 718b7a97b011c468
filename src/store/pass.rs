//! Commands of clients, passed on as they are; and what Redis says to them, its errors included.

use super::connection::NOT_NOW;
use super::{Script, Store, StoreError};
use bytes::Bytes;
use redis::{Pipeline, Value};

/// A command for Redis.
#[derive(Debug)]
pub struct Call {
    name: &'static str,
    words: Vec<Bytes>,
    /// Of a script: how many of the words are keys.
    script: Option<(&'static Script, usize)>,
}

/// What Redis said to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Passed {
    Nil,
    /// `OK`
    Okay,
    Integer(i64),
    Text(Bytes),
    List(Vec<Passed>),
    /// Redis' own line, code first.
    Error(String),
}

impl Call {
    /// The command `name` with these words behind it.
    pub fn new(name: &'static str, words: Vec<Bytes>) -> Self {
        Self {
            name,
            words,
            script: None,
        }
    }

    /// A script. It is sent with its text: were it asked for by its hash, and unknown, what stands behind it would have run
    /// by the time it is sent again.
    pub fn script(script: &'static Script, keys: Vec<Bytes>, args: Vec<Bytes>) -> Self {
        let count = keys.len();
        Self {
            name: script.name(),
            words: keys.into_iter().chain(args).collect(),
            script: Some((script, count)),
        }
    }

    /// How much is sent, about, in bytes.
    pub fn bytes(&self) -> usize {
        self.words.iter().map(Bytes::len).sum()
    }

    fn write(&self, pipeline: &mut Pipeline) {
        match self.script {
            None => pipeline.cmd(self.name),
            Some((script, keys)) => pipeline.cmd("EVAL").arg(script.source()).arg(keys),
        };
        for word in &self.words {
            pipeline.arg(word.as_ref());
        }
    }
}

impl Store {
    /// Sends commands together; what Redis says to each, in their order. An error that it gives for one is an answer.
    ///
    /// # Errors
    /// See [`StoreError`]: then any of them may have run, from the first up to some other.
    pub async fn pass(&self, calls: &[&Call]) -> Result<Vec<Passed>, StoreError> {
        let Some(first) = calls.first() else {
            return Ok(Vec::new());
        };
        let mut pipeline = redis::pipe();
        for call in calls {
            call.write(&mut pipeline);
        }
        let replies = self
            .send(first.name, async |mut connection| {
                let replies = connection.send_packed_commands(&pipeline, 0, calls.len());
                let replies = replies.await?;
                match replies.into_iter().map(heard).collect() {
                    Err(Unheard::NotNow(error)) => Err(error),
                    Err(Unheard::Odd) => Ok(None),
                    Ok(replies) => Ok(Some(replies)),
                }
            })
            .await?;
        let command = first.name;
        replies.ok_or(StoreError::Unexpected { command })
    }
}

/// Why a reply cannot be passed on.
enum Unheard {
    /// Redis serves nobody now.
    NotNow(redis::RedisError),
    /// Of a shape that none of these commands has.
    Odd,
}

fn heard(reply: Value) -> Result<Passed, Unheard> {
    Ok(match reply {
        Value::Nil => Passed::Nil,
        Value::Okay => Passed::Okay,
        Value::Int(number) => Passed::Integer(number),
        Value::BulkString(bytes) => Passed::Text(Bytes::from(bytes)),
        Value::Array(items) => {
            Passed::List(items.into_iter().map(heard).collect::<Result<_, _>>()?)
        }
        Value::ServerError(error) if NOT_NOW.contains(&error.code()) => {
            return Err(Unheard::NotNow(error.into()));
        }
        Value::ServerError(error) => Passed::Error(match error.details() {
            Some(details) => format!("{} {details}", error.code()),
            None => error.code().to_owned(),
        }),
        _ => return Err(Unheard::Odd),
    })
}
