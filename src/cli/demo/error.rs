//! What can go wrong in the demo, apart from the daemon itself.

use std::io;
use std::path::PathBuf;

use super::servers::ServerError;

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// A private server did not do what was asked.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// `psql` could not be started or fed.
    #[error("cannot run `psql` to {action}")]
    Psql {
        /// What it was for.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Postgres refused a statement of ours.
    #[error("postgres refused to {action}:\n{message}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// What `psql` said.
        message: String,
    },
    /// What the configuration needs could not be installed.
    #[error("cannot install what the configuration needs: {report}")]
    Migrate {
        /// What `cachewarden migrate` would say.
        report: String,
    },
    /// Postgres gave something that is no JSON for a query that gives JSON.
    #[error("postgres gave no JSON for `{sql}`")]
    NotJson {
        /// The query.
        sql: String,
        /// Why it is none.
        source: serde_json::Error,
    },
    /// The configuration file could not be written.
    #[error("cannot write `{}`", path.display())]
    Config {
        /// Where to.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A connection to the daemon or to Redis could not be opened.
    #[error("cannot connect to {server} on 127.0.0.1:{port}")]
    Connect {
        /// Which of them.
        server: &'static str,
        /// Its port.
        port: u16,
        /// Why it failed.
        source: io::Error,
    },
    /// An open connection broke, hung, or sent what is no reply.
    #[error("no reply to `{command}`")]
    NoReply {
        /// The command sent.
        command: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The screen could not be written to, or Ctrl-C not be waited for.
    #[error("cannot {action}")]
    Terminal {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}
