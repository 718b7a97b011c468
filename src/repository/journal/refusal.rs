//! Why writes were not saved, and what could help.

use thiserror::Error;
use tokio_postgres::error::SqlState;

use crate::repository::error::{describe, one_line};

/// What `cachewarden.fence` says to who was replaced.
const FENCED: &str = "55W01";
/// Classes of errors that say nothing of what was asked: the connection, the server's means, its operator, its disk.
const AWAY_CLASSES: [&str; 4] = ["08", "53", "57", "58"];
/// The server only follows another one by now.
const READ_ONLY: &str = "25006";

/// Why a transaction was not committed.
#[derive(Error, Clone, Debug, PartialEq, Eq)]
pub enum SaveError {
    /// Another daemon leads by now.
    #[error("another daemon has taken over: {0}")]
    Fenced(String),
    /// It is nothing about the writes.
    #[error("postgres saves nothing now: {0}")]
    Away(String),
    /// A write cannot be saved as it is.
    #[error("{0}")]
    Refused(Refusal),
}

/// Postgres' objection to a write, or ours.
#[derive(Error, Clone, Debug, PartialEq, Eq)]
#[error("{message}")]
pub struct Refusal {
    /// Which of the writes; `None` where Postgres does not say.
    pub at: Option<usize>,
    /// With its SQLSTATE, on one line.
    pub message: String,
    pub sqlstate: Option<String>,
    pub remedy: Remedy,
}

/// What has to happen before a write can be saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Others have to let go of something: it is tried for ever.
    Wait,
    /// The statement, or the table, has to be mended: perhaps the next deploy does.
    Mend,
    /// Nothing that could be expected.
    None,
}

impl SaveError {
    /// The runtime has ended.
    pub(super) fn stopped() -> Self {
        SaveError::Away("the daemon stops".to_owned())
    }

    /// What an error of the transaction itself means.
    pub(super) fn of_transaction(error: &tokio_postgres::Error) -> Self {
        match error.code().map(SqlState::code) {
            Some(FENCED) => SaveError::Fenced(describe(error)),
            _ => SaveError::Away(describe(error)),
        }
    }

    /// What an error means that came of the write at `at`, or of all of them together.
    pub(super) fn of_write(error: &tokio_postgres::Error, at: Option<usize>) -> Self {
        let message = describe(error);
        let Some(code) = error.code().filter(|_| !error.is_closed()) else {
            // The driver's own: what it could not send or read.
            return SaveError::Away(message);
        };
        match remedy(code.code()) {
            None => SaveError::Away(message),
            Some(remedy) => SaveError::Refused(Refusal {
                at,
                message,
                sqlstate: Some(code.code().to_owned()),
                remedy,
            }),
        }
    }

    /// The statement ran, and there was no row for it.
    pub(super) fn no_row(at: usize, key: &[u8]) -> Self {
        let key = one_line(&String::from_utf8_lossy(key));
        SaveError::Refused(Refusal {
            at: Some(at),
            message: format!("no row was saved for '{key}'"),
            sqlstate: None,
            remedy: Remedy::None,
        })
    }

    /// No statement is declared for it.
    pub(super) fn no_statement(at: usize) -> Self {
        SaveError::Refused(Refusal {
            at: Some(at),
            message: "no statement is declared for it".to_owned(),
            sqlstate: None,
            remedy: Remedy::Mend,
        })
    }
}

/// By the SQLSTATE; `None`: Postgres is away, or as good as.
fn remedy(code: &str) -> Option<Remedy> {
    let class = code.get(..2).unwrap_or_default();
    match code {
        // Cancelled by the limit of a statement: it waited for a lock, or is slow.
        "57014" | "55P03" | "55006" => Some(Remedy::Wait),
        READ_ONLY => None,
        _ if AWAY_CLASSES.contains(&class) => None,
        _ if class == "40" => Some(Remedy::Wait),
        // What the statement names is not there, or not ours; what it does is not supported.
        _ if ["42", "3D", "3F", "0A"].contains(&class) => Some(Remedy::Mend),
        _ => Some(Remedy::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_help_is_told_by_the_sqlstate() {
        for (code, expected) in [
            ("23505", Some(Remedy::None)),
            ("22P02", Some(Remedy::None)),
            ("P0001", Some(Remedy::None)),
            ("42P01", Some(Remedy::Mend)),
            ("42501", Some(Remedy::Mend)),
            ("40P01", Some(Remedy::Wait)),
            ("55P03", Some(Remedy::Wait)),
            ("57014", Some(Remedy::Wait)),
            ("57P01", None),
            ("53300", None),
            ("08006", None),
            ("25006", None),
        ] {
            assert_eq!(remedy(code), expected, "{code}");
        }
    }
}
