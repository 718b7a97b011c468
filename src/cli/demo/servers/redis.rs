//! A private Redis.

use std::io::{Read, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use super::server::Launch;
use super::{Folder, Server, ServerError, find};

/// A server that loads or hangs is asked again; it need not be waited for in one look.
const PING_TIMEOUT: Duration = Duration::from_millis(500);

/// How a private Redis differs from the usual one.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    /// More arguments of `redis-server`, such as `["--maxmemory", "2mb"]`; they win over the usual ones.
    pub args: Vec<String>,
    /// Variables added to its environment.
    pub env: Vec<(String, String)>,
}

/// A private, empty Redis that writes nothing to disk: it comes back empty when started again.
#[derive(Debug)]
pub struct Redis(Server);

impl Redis {
    /// Starts one (some 20 ms).
    ///
    /// # Errors
    /// [`ServerError::NotInstalled`] without Redis; any other with the end of the log.
    pub fn start(folder: &Folder, options: &RedisOptions) -> Result<Self, ServerError> {
        let program = find::program("redis-server")?;
        let account = find::account()?;
        let dir = folder.subfolder("redis", account)?;
        let socket = socket_in(&dir).display().to_string();
        // Its title would hide its command line, by which the watchdog knows it.
        let usual = [
            "--save",
            "",
            "--appendonly",
            "no",
            "--bind",
            "127.0.0.1",
            "--set-proc-title",
            "no",
        ];
        let mut args: Vec<String> = usual.map(String::from).into();
        args.extend(["--unixsocket".into(), socket]);
        args.extend(options.args.iter().cloned());
        let launch = Launch {
            name: "redis-server",
            program,
            args,
            env: options.env.clone(),
            port_args: |port| vec!["--port".into(), port.to_string()],
            ready: |dir, _, _| answers_ping(dir).unwrap_or(false),
            dir,
            account,
            stop: Signal::TERM,
            end: Signal::KILL,
            end_name: "KILL",
        };
        Server::start(folder, launch).map(Self)
    }

    /// `redis://…` over TCP.
    pub fn redis_url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port())
    }

    /// The path of its unix socket.
    pub fn socket(&self) -> PathBuf {
        socket_in(self.dir())
    }
}

/// A Redis is a [`Server`] that has Redis' addresses.
impl Deref for Redis {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

impl DerefMut for Redis {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0
    }
}

fn socket_in(dir: &Path) -> PathBuf {
    dir.join("redis.sock")
}

/// Redis binds TCP first, then the socket: who answers here answers there.
fn answers_ping(dir: &Path) -> std::io::Result<bool> {
    let mut stream = UnixStream::connect(socket_in(dir))?;
    stream.set_read_timeout(Some(PING_TIMEOUT))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer)?;
    // One that asks for a password is up as well.
    Ok(matches!(&answer, b"+PONG\r\n" | b"-NOAUTH"))
}
