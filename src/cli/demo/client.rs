//! Connections to the private servers, so that the tour sees what any client sees.

use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use super::super::client;
use super::DemoError;

pub(super) use super::super::client::Reply;

/// The daemon promises an answer, if only an error, well before.
const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// One connection to a port of 127.0.0.1.
pub(super) struct Client(client::Client);

impl Client {
    pub(super) fn connect(server: &'static str, port: u16) -> Result<Self, DemoError> {
        let open = || {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
            Ok(Self(client::Client::over(stream)))
        };
        open().map_err(|source| DemoError::Connect {
            server,
            port,
            source,
        })
    }

    /// Sends one command and waits for its reply.
    pub(super) fn ask(&mut self, words: &[&str]) -> Result<Reply, DemoError> {
        self.0.ask(words).map_err(|source| DemoError::NoReply {
            command: words.join(" "),
            source,
        })
    }
}
