//! A reply of a script, without the redis crate's types.

use bytes::Bytes;
use redis::Value;

/// What a script returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Lua `false` or `nil`.
    Nil,
    /// A Lua number.
    Integer(i64),
    /// A Lua string.
    Text(Bytes),
    /// A Lua table.
    List(Vec<Reply>),
}

impl Reply {
    pub(super) fn of(value: Value) -> Option<Reply> {
        Some(match value {
            Value::Nil => Reply::Nil,
            Value::Int(number) => Reply::Integer(number),
            Value::BulkString(bytes) => Reply::Text(Bytes::from(bytes)),
            Value::SimpleString(text) => Reply::Text(Bytes::from(text)),
            Value::Okay => Reply::Text(Bytes::from_static(b"OK")),
            Value::Array(items) => {
                Reply::List(items.into_iter().map(Reply::of).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    /// The items of a list.
    pub fn into_list(self) -> Option<Vec<Reply>> {
        match self {
            Reply::List(items) => Some(items),
            _ => None,
        }
    }

    /// The number.
    pub fn as_integer(&self) -> Option<i64> {
        match self {
            Reply::Integer(number) => Some(*number),
            _ => None,
        }
    }
}
