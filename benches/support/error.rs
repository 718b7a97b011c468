//! Why a figure could not be measured. A bench that cannot measure says so; it never prints a guess.

use std::io;
use std::path::PathBuf;

use cachewarden::cli::demo::DemoError;
use cachewarden::cli::demo::servers::ServerError;

/// Why a target has no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A private server did not start.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The demo's shop did not open.
    #[error(transparent)]
    Shop(#[from] DemoError),
    /// The daemon did not start inside this process.
    #[error("the daemon did not start: {0}")]
    Start(#[from] cachewarden::StartError),
    /// The configuration that was written for the daemon is wrong.
    #[error("{0}")]
    Config(#[from] cachewarden::config::Problems),
    /// A read through the library failed.
    #[error("a read failed: {0}")]
    Read(#[from] cachewarden::WardenError),
    /// A peer is not installed.
    #[error(
        "`{program}` is not installed\nhint: `make deps`, or as root `apt-get install -y {package}`"
    )]
    NotInstalled {
        /// The program looked for.
        program: &'static str,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// A file, socket or process could not be used.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A process ended, or did not get ready.
    #[error("{name} {how}; its log ends with:\n{log}")]
    NotReady {
        /// Which process.
        name: &'static str,
        /// What it did instead.
        how: String,
        /// The end of its log.
        log: String,
    },
    /// A server answered something else than the value that was asked for.
    #[error("the server on port {port} answered `{reply}` where `{expected}` was due")]
    Reply {
        /// The server's port.
        port: u16,
        /// The beginning of what it said.
        reply: String,
        /// What it should have said.
        expected: String,
    },
    /// A helper program failed.
    #[error("`{program}` failed: {message}")]
    Helper {
        /// The program.
        program: &'static str,
        /// What it said.
        message: String,
    },
    /// A file does not read as its format says.
    #[error("cannot make sense of `{}`", path.display())]
    Format {
        /// The file.
        path: PathBuf,
    },
}

impl BenchError {
    /// Turns an I/O error into one that says what was tried.
    pub fn io(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::Io { action, source }
    }
}
