//! Why a load, or the repository itself, could not be served.

use std::sync::Arc;

use thiserror::Error;

/// The longest text of Postgres' that is repeated in an error, in bytes.
const MAX_TEXT_BYTES: usize = 300;

/// Why one key could not be loaded.
///
/// Texts are shared: one broken connection answers a thousand keys with the same words. No text
/// holds a connection string or a password.
#[derive(Error, Clone, Debug, PartialEq, Eq)]
pub enum LoadError {
    /// No connection could be had, or it was lost before the answer came.
    #[error("postgres is not available: {reason}")]
    Unavailable { reason: Arc<str> },
    /// The cache's `load_timeout` passed first.
    #[error("postgres did not answer within {after_ms} ms")]
    TimedOut { after_ms: u64 },
    /// The cache, or namespace, has as many keys to load as it may have.
    #[error("`{cache}` is loading as many keys as it may (max_loads = {limit}); try again soon")]
    Busy { cache: Arc<str>, limit: usize },
    /// Postgres ran the query and refused it for this key, in Postgres' words.
    #[error("postgres refused the query: {message}")]
    Refused { message: Arc<str> },
    /// The value is longer than the longest one that is fetched at all.
    #[error("the value has {bytes} bytes, more than the {limit} that are loaded")]
    TooLarge { bytes: usize, limit: usize },
}

/// Why something was not saved, or deleted.
#[derive(Error, Clone, Debug, PartialEq, Eq)]
pub enum WriteError {
    /// The cache declares no such write.
    #[error("cache `{cache}` declares no `write.{statement}`")]
    Undeclared {
        cache: Arc<str>,
        statement: &'static str,
    },
    /// The statement touched no row.
    #[error("no row was saved for '{key}'")]
    NoRow { key: Arc<str> },
    /// Postgres refused it, in Postgres' words.
    #[error("postgres refused the write of '{key}': {message}")]
    Refused {
        key: Arc<str>,
        /// With its SQLSTATE.
        message: Arc<str>,
        /// The SQLSTATE.
        code: Arc<str>,
    },
    /// As many transactions of the cache, or of all, are under way as may be.
    #[error(
        "`{cache}` is written to as often as it may be at once; nothing was written; try again soon"
    )]
    Busy { cache: Arc<str> },
    /// It took too long, and was rolled back.
    #[error("postgres was not done within {after_ms} ms, and nothing was written")]
    TimedOut { after_ms: u64 },
    /// No connection could be had, or it was lost before the commit.
    #[error("postgres is not available, and nothing was written: {reason}")]
    Unavailable { reason: Arc<str> },
    /// The commit was sent and not confirmed.
    #[error("it is not known whether it was written, for the commit was not confirmed: {reason}")]
    Unknown { reason: Arc<str> },
}

impl WriteError {
    /// Whether Postgres may have committed all the same.
    pub fn may_be_committed(&self) -> bool {
        matches!(self, WriteError::Unknown { .. })
    }

    /// Whether the same would be refused again: what was written is at fault, and not the moment.
    pub fn is_final(&self) -> bool {
        match self {
            WriteError::Undeclared { .. } | WriteError::NoRow { .. } => true,
            // Neither a transaction that met another one nor a lock that was not to be had says anything of the value.
            WriteError::Refused { code, .. } => {
                !["40", "55"].iter().any(|class| code.starts_with(class))
            }
            WriteError::Busy { .. }
            | WriteError::TimedOut { .. }
            | WriteError::Unavailable { .. }
            | WriteError::Unknown { .. } => false,
        }
    }
}

/// Why the repository cannot be made or asked.
#[derive(Error, Clone, Debug, PartialEq, Eq)]
pub enum RepositoryError {
    /// The connection string is not one that can be used.
    #[error("the url in [postgres] cannot be used: {0}")]
    Url(String),
    /// No connection could be made.
    #[error("postgres cannot be reached: {0}")]
    Connect(String),
    /// Postgres did not do what was asked of it to install or take away what is declared.
    #[error("postgres refused to {title}: {message}")]
    Step { title: String, message: String },
    /// What was never saved stands in a table of ours, and nowhere else.
    #[error("cachewarden.dead_writes holds {count} acknowledged writes that were never saved")]
    DeadWrites { count: i64 },
    /// The queue of invalidations did not do what was asked of it.
    #[error("cannot {action} the queue of invalidations: {message}")]
    Queue {
        action: &'static str,
        message: String,
    },
    /// The query for the keys to warm a cache with was refused, or took too long.
    #[error("postgres does not give the keys to warm: {message}")]
    WarmKeys { message: String },
    /// The keys that were asked for most could not be remembered, or read.
    #[error("postgres does not keep the hottest keys: {message}")]
    HotKeys { message: String },
    /// Postgres mints no fencing tokens: what they need is not installed, or it says no.
    #[error("postgres mints no fencing token: {message}")]
    Fence { message: String, is_installed: bool },
    /// The runtime that the repository was given is gone.
    #[error("the runtime of the postgres connections has stopped")]
    Stopped,
}

/// `text` on one line and cut to a length that a log line bears.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    if line.len() > MAX_TEXT_BYTES {
        line.truncate(line.floor_char_boundary(MAX_TEXT_BYTES));
        line.push('…');
    }
    line
}

/// What a driver error says, with the cause that the driver keeps out of its own text.
pub(super) fn describe(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    let text = match (error.as_db_error(), error.source()) {
        (Some(refusal), _) => format!("{} (SQLSTATE {})", refusal.message(), refusal.code().code()),
        (None, Some(cause)) => format!("{error}: {cause}"),
        (None, None) => error.to_string(),
    };
    one_line(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_many_lines_becomes_one_short_line() {
        let line = one_line(&format!("a\nb\u{0}{}", "ä".repeat(400)));
        assert!(line.starts_with("a b ä"));
        assert!(line.len() <= MAX_TEXT_BYTES + '…'.len_utf8());
        assert!(!line.contains(char::is_control));
    }
}
