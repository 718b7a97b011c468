//! Opens the door, and closes it: one thread of its own, whatever clients do with it.

use super::door::Door;
use super::{api, guard, pages};
use crate::config::{self, Listen};
use actix_web::dev::ServerHandle;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Connections at once; others wait in the kernel until one closes. Metrics and orders, not reads by the thousand.
const MAX_CONNECTIONS: usize = 1024;
/// The head of a request must be there within this time of its first byte, or of the connection.
const HEAD_WITHIN: Duration = Duration::from_secs(5);
/// A connection that asks nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(15);
/// Closing a connection in good manners takes no longer.
const FAREWELL: Duration = Duration::from_secs(1);
/// What is still being answered so long after a stop is cut: less than a stop may take.
const DRAIN_SECONDS: u64 = 7;

/// The door cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("http.listen {address}: {source}{}", mend(.source))]
pub struct OpenError {
    pub address: String,
    pub source: io::Error,
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; see who has it with `ss -lntxp`, or choose another address in [http]"
        }
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        io::ErrorKind::NotFound => "; make the folder first",
        _ => "",
    }
}

/// A door that is bound but does not accept yet: clients wait in the kernel's queue.
pub enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

impl Listening {
    /// The real address of a TCP door: a configured port 0 is chosen by the kernel.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Listening::Tcp(listener) => listener.local_addr().ok(),
            Listening::Unix(..) => None,
        }
    }
}

/// Binds the address of `[http] listen`.
///
/// # Errors
/// See [`OpenError`].
pub fn open(config: &config::Http) -> Result<Listening, OpenError> {
    let told = |address: String| move |source| OpenError { address, source };
    match &config.listen {
        Listen::Tcp(address) => TcpListener::bind(address)
            .map(Listening::Tcp)
            .map_err(told(address.to_string())),
        Listen::Unix(path) => bind_unix(path)
            .map(|listener| Listening::Unix(listener, path.clone()))
            .map_err(told(format!("unix:{}", path.display()))),
    }
}

/// A socket file that nobody answers on is left from a daemon that was killed, and is replaced.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if is_socket && UnixStream::connect(path).is_err() {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// The open door.
pub struct Server {
    handle: ServerHandle,
    socket: Option<PathBuf>,
}

impl Server {
    /// Begins to accept. Its accept loop and its worker have threads of their own: an answer that takes long delays no read
    /// of the other door. Runs in an actor system.
    ///
    /// # Errors
    /// If the listener cannot be used.
    pub fn start(listening: Listening, door: Door) -> io::Result<Self> {
        let door = web::Data::new(door);
        let server = HttpServer::new(move || {
            App::new()
                .app_data(door.clone())
                .configure(pages::serve)
                .configure(api::serve)
                .default_service(web::to(api::nothing_here))
                .wrap(from_fn(guard::guard))
        })
        .workers(1)
        .max_connections(MAX_CONNECTIONS)
        .client_request_timeout(HEAD_WITHIN)
        .keep_alive(IDLE)
        .client_disconnect_timeout(FAREWELL)
        .shutdown_timeout(DRAIN_SECONDS)
        // Whoever closes has gone, and waits for nothing any more, least of all for a lock.
        .h1_allow_half_closed(false)
        // They belong to the binary, or to the program that this is a part of.
        .disable_signals();
        let (server, socket) = match listening {
            Listening::Tcp(listener) => (server.listen(listener)?, None),
            Listening::Unix(listener, path) => (server.listen_uds(listener)?, Some(path)),
        };
        let server = server.run();
        let handle = server.handle();
        tokio::task::spawn_local(async move {
            if let Err(error) = server.await {
                tracing::error!(%error, "the http door is closed");
            }
        });
        Ok(Self { handle, socket })
    }

    /// Stops accepting, and lets be answered what was read, until `deadline` has passed. Whether all of it was.
    pub async fn stop(self, deadline: Duration) -> bool {
        if let Some(path) = &self.socket {
            let _gone_either_way = std::fs::remove_file(path);
        }
        let stopped = tokio::time::timeout(deadline, self.handle.stop(true)).await;
        stopped.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on(path: &Path) -> config::Http {
        config::Http {
            listen: Listen::Unix(path.to_owned()),
            token: None,
            hosts: Vec::new(),
        }
    }

    #[test]
    fn a_socket_that_nobody_answers_on_is_replaced_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("http.sock");
        drop(open(&on(&path)).expect("the first"));
        let second = open(&on(&path)).expect("nobody answers there");
        let error = open(&on(&path)).err().expect("somebody does").to_string();
        assert!(
            error.contains("http.sock") && error.contains("ss -lntxp"),
            "{error}"
        );
        drop(second);
    }
}
