//! What can go wrong between us and a private server.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a private server could not be started, stopped or signalled.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A program of the server is neither in `PATH` nor where Debian puts it.
    #[error(
        "`{program}` is not installed\nhint: `make deps`, or as root `apt-get install -y postgresql redis-server`"
    )]
    NotInstalled {
        /// The program looked for.
        program: &'static str,
    },
    /// Root started us, and there is no account to hand the servers to.
    #[error(
        "servers do not run as root, and `/etc/passwd` names neither `postgres` nor `nobody`\nhint: `apt-get install -y postgresql` makes the account `postgres`"
    )]
    NoAccount,
    /// A file or folder could not be made, read or handed over.
    #[error("cannot {action} `{}`", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("cannot start `{}`", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// `initdb` refused to make a database folder.
    #[error("`initdb` ended with {status}:\n{output}")]
    InitDb {
        /// How it ended.
        status: ExitStatus,
        /// The end of what it printed.
        output: String,
    },
    /// The server ended while we waited for it to answer.
    #[error(
        "{server} on port {port} ended with {status} before it answered; its log ends with:\n{log}"
    )]
    Ended {
        /// `postgres` or `redis-server`.
        server: &'static str,
        /// The port it was to listen on.
        port: u16,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server runs, but did not answer in time.
    #[error("{server} on port {port} did not answer within {waited:?}; its log ends with:\n{log}")]
    Silent {
        /// `postgres` or `redis-server`.
        server: &'static str,
        /// The port it was to listen on.
        port: u16,
        /// How long it was given.
        waited: Duration,
        /// The end of its log.
        log: String,
    },
    /// A signal or a stop was asked of a server that does not run.
    #[error("{server} on port {port} is not running")]
    NotRunning {
        /// `postgres` or `redis-server`.
        server: &'static str,
        /// Its port.
        port: u16,
    },
    /// A signal was refused, or a process outlived SIGKILL.
    #[error("cannot {action} {server} on port {port}")]
    Signal {
        /// What was tried.
        action: &'static str,
        /// `postgres` or `redis-server`.
        server: &'static str,
        /// Its port.
        port: u16,
        /// Why it failed.
        source: io::Error,
    },
    /// No port of the range we draw from is free.
    #[error("no free port was found on 127.0.0.1 in {tried} draws")]
    NoPort {
        /// How many were tried.
        tried: u32,
    },
}

impl ServerError {
    /// Turns an I/O error into one that says what was tried on which path.
    pub(super) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File {
            action,
            path,
            source,
        }
    }

    /// Whether another program took the port between our look and the server's bind.
    pub(super) fn lost_its_port(&self) -> bool {
        matches!(self, Self::Ended { log, .. } if log.contains("Address already in use"))
    }
}
