//! What the demo shows, as data: the tour walks it and checks it, the invitation prints it.

use std::fmt;

use super::servers::ServerError;
use super::shop::Shop;

/// A few steps that show one thing.
pub(super) struct Chapter {
    pub(super) title: &'static str,
    pub(super) steps: &'static [Step],
}

/// Something to do, and what must come of it.
pub(super) struct Step {
    pub(super) act: Act,
    pub(super) want: Want,
    /// Whether the value must have been in Redis before the step.
    pub(super) found: Option<Found>,
    /// Whether it is done again and again until the answer is as wanted: for what comes by itself.
    pub(super) waits: bool,
    /// Whether the invitation prints it, too.
    pub(super) invites: bool,
}

pub(super) enum Act {
    /// A command for the daemon.
    Ask(&'static [&'static str]),
    /// A command for Redis itself, past the daemon.
    AskRedis(&'static [&'static str]),
    /// A statement for Postgres, past the daemon.
    Sql(&'static str),
    /// Something is done to a server.
    Break(&'static str, fn(&mut Shop) -> Result<(), ServerError>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Hit,
    Miss,
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
        })
    }
}

/// What an answer must be. SQL is asked of Postgres itself, after the answer: that is the truth.
#[derive(Debug)]
pub(super) enum Want {
    /// The one row of this query, as JSON.
    Row(&'static str),
    /// All rows of this query, as a JSON array.
    Rows(&'static str),
    /// The one value of this query, as JSON.
    Scalar(&'static str),
    /// What the same command gave the last time.
    AsBefore,
    /// This very text.
    Text(&'static str),
    /// This very number.
    Int(i64),
    /// A number from the first to the last.
    Between(i64, i64),
    Nil,
    /// An error that begins with this; of SQL, too.
    Error(&'static str),
    /// A list of answers, each as wanted.
    Each(&'static [Want]),
    /// A map that has (at least) these.
    Fields(&'static [(&'static str, Want)]),
    /// Nothing is answered.
    Nothing,
}

pub(super) const fn step(act: Act, want: Want) -> Step {
    Step {
        act,
        want,
        found: None,
        waits: false,
        invites: true,
    }
}

pub(super) const fn reading(found: Found, words: &'static [&'static str], want: Want) -> Step {
    Step {
        found: Some(found),
        ..step(Act::Ask(words), want)
    }
}

/// The answer may have to come first.
pub(super) const fn until(step: Step) -> Step {
    Step {
        waits: true,
        ..step
    }
}

/// The tour checks it; the invitation is shorter without.
pub(super) const fn detail(step: Step) -> Step {
    Step {
        invites: false,
        ..step
    }
}
