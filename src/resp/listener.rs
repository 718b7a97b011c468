//! Opens the doors, accepts, and deals connections out to the cores in turn.

use super::connection::{Connection, Stop};
use super::door::Door;
use super::passed::Passed;
use super::socket::Socket;
use crate::config::{Listen, Resp, TlsFiles};
use actix_rt::ArbiterHandle;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

/// Connections the kernel may hold for us before they are accepted.
const BACKLOG: u32 = 4096;
/// The pause after an accept that failed for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// A TLS handshake must be done within this time.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);

/// A door that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("listen {address}: {source}{}", in_use(.source))]
    Tcp {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("listen unix:{}: {source}{}", .path.display(), in_use_path(.source))]
    Unix { path: PathBuf, source: io::Error },
    #[error("resp.tls: {0}")]
    Tls(String),
    #[error(
        "the service manager passes on a socket that listens on `{address}`, which is not in `[resp] listen`\n\
         hint: add it there, or take its ListenStream= out of cachewarden.socket"
    )]
    Undeclared { address: String },
}

fn in_use(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; see who has it with `ss -ltnp`, or choose another port",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need CAP_NET_BIND_SERVICE",
        _ => "",
    }
}

fn in_use_path(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another daemon answers there, or it is no socket: stop that, or choose another path"
        }
        io::ErrorKind::NotFound => "; make the folder first",
        _ => "",
    }
}

/// Doors that are bound but do not accept yet: clients wait in the kernel's queue.
pub struct Listening {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
    /// Socket files that were made here.
    made: Vec<PathBuf>,
    tls: Option<TlsAcceptor>,
}

impl Listening {
    /// The real addresses of the TCP doors: a configured port 0 is chosen by the kernel.
    pub fn tcp_addresses(&self) -> Vec<SocketAddr> {
        let address = |door: &TcpListener| door.local_addr().ok();
        self.tcp.iter().filter_map(address).collect()
    }
}

/// Binds every address of `[resp] listen` on which no passed socket listens.
///
/// # Errors
/// See [`OpenError`]; what was bound before is closed again.
pub fn open(config: &Resp, mut passed: Passed) -> Result<Listening, OpenError> {
    let mut listening = Listening {
        tcp: Vec::new(),
        unix: Vec::new(),
        made: Vec::new(),
        tls: config.tls.as_ref().map(acceptor).transpose()?,
    };
    for listen in &config.listen {
        match listen {
            Listen::Tcp(address) => listening.tcp.push(match passed.take_tcp(*address) {
                Some(listener) => adopt_tcp(listener, *address)?,
                None => bind_tcp(*address)?,
            }),
            Listen::Unix(path) => listening.unix.push(match passed.take_unix(path) {
                Some(listener) => adopt_unix(listener, path)?,
                None => {
                    listening.made.push(path.clone());
                    bind_unix(path)?
                }
            }),
        }
    }
    match passed.left() {
        // Its clients would wait for ever.
        Some(address) => Err(OpenError::Undeclared { address }),
        None => Ok(listening),
    }
}

fn adopt_tcp(
    listener: std::net::TcpListener,
    address: SocketAddr,
) -> Result<TcpListener, OpenError> {
    let adopt = || {
        listener.set_nonblocking(true)?;
        TcpListener::from_std(listener)
    };
    adopt().map_err(|source| OpenError::Tcp { address, source })
}

fn adopt_unix(
    listener: std::os::unix::net::UnixListener,
    path: &Path,
) -> Result<UnixListener, OpenError> {
    let adopt = || {
        listener.set_nonblocking(true)?;
        UnixListener::from_std(listener)
    };
    adopt().map_err(|source| OpenError::Unix {
        path: path.to_owned(),
        source,
    })
}

fn bind_tcp(address: SocketAddr) -> Result<TcpListener, OpenError> {
    let bind = || {
        let socket = match address {
            SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
            SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
        };
        // Not SO_REUSEPORT: a second daemon would start without a word and take half of the clients.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)
    };
    bind().map_err(|source| OpenError::Tcp { address, source })
}

/// A socket file that nobody answers on is left from a daemon that was killed, and is replaced.
fn bind_unix(path: &Path) -> Result<UnixListener, OpenError> {
    let bind = || {
        let stale = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
            && std::os::unix::net::UnixStream::connect(path).is_err();
        if stale {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(listener)
    };
    bind().map_err(|source| OpenError::Unix {
        path: path.to_owned(),
        source,
    })
}

fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, OpenError> {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let tell = |path: &Path, error: &dyn std::fmt::Display| {
        OpenError::Tls(format!("`{}`: {error}", path.display()))
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(&files.cert)
        .map_err(|error| tell(&files.cert, &error))?
        .collect();
    let chain = chain.map_err(|error| tell(&files.cert, &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|error| tell(&files.key, &error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| OpenError::Tls(error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|error| tell(&files.cert, &error))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// The open doors.
pub struct Server {
    stop: watch::Sender<Stop>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
    open: watch::Receiver<usize>,
    /// Socket files to remove. One that was passed on stays: clients go on to come to it.
    made: Vec<PathBuf>,
}

/// A client's stream between its acceptor and its core.
enum Accepted {
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

/// What every accept loop needs.
#[derive(Clone)]
struct Dealer {
    door: Arc<Door>,
    cores: Arc<[ArbiterHandle]>,
    next: Arc<AtomicUsize>,
    open: Arc<watch::Sender<usize>>,
    stop: watch::Sender<Stop>,
    tls: Option<TlsAcceptor>,
}

impl Server {
    /// Begins to accept. Each connection becomes a task on one of `cores`, dealt in turn: the kernel's own distribution
    /// over several listeners is uneven with few clients.
    pub fn start(listening: Listening, door: Arc<Door>, cores: Arc<[ArbiterHandle]>) -> Self {
        let (open, open_now) = watch::channel(0);
        let stop = watch::Sender::new(Stop::Running);
        let dealer = Dealer {
            door,
            cores,
            next: Arc::new(AtomicUsize::new(0)),
            open: Arc::new(open),
            stop: stop.clone(),
            tls: listening.tls,
        };
        let mut accepting = Vec::new();
        for listener in listening.tcp {
            accepting.push(tokio::spawn(accept_tcp(listener, dealer.clone())));
        }
        for listener in listening.unix {
            accepting.push(tokio::spawn(accept_unix(listener, dealer.clone())));
        }
        Self {
            stop,
            accepting,
            open: open_now,
            made: listening.made,
        }
    }

    /// Closes the doors, lets connections answer what they have read until `deadline` has passed, then cuts them.
    /// Returns how many had to be cut.
    pub async fn stop(self, deadline: Duration) -> usize {
        for accepting in &self.accepting {
            accepting.abort();
        }
        for path in &self.made {
            let _gone_either_way = std::fs::remove_file(path);
        }
        self.stop.send_replace(Stop::Draining);
        let mut open = self.open.clone();
        let drained = tokio::time::timeout(deadline, open.wait_for(|open| *open == 0)).await;
        if drained.is_ok() {
            return 0;
        }
        let cut = *self.open.borrow();
        self.stop.send_replace(Stop::Now);
        cut
    }
}

async fn accept_tcp(listener: TcpListener, dealer: Dealer) {
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                failures = 0;
                // Replies are small and complete; waiting to join them only costs time.
                let _without_it_too = stream.set_nodelay(true);
                if let Ok(stream) = stream.into_std() {
                    dealer.deal(Accepted::Tcp(stream));
                }
            }
            Err(error) => pause_after(&error, &mut failures, &dealer).await,
        }
    }
}

async fn accept_unix(listener: UnixListener, dealer: Dealer) {
    let mut failures = 0;
    loop {
        match listener.accept().await {
            Ok((stream, _peer)) => {
                failures = 0;
                if let Ok(stream) = stream.into_std() {
                    dealer.deal(Accepted::Unix(stream));
                }
            }
            Err(error) => pause_after(&error, &mut failures, &dealer).await,
        }
    }
}

/// Out of descriptors: what is open goes on, what waits is accepted when some are free again.
async fn pause_after(error: &io::Error, failures: &mut u64, dealer: &Dealer) {
    // Once for all that follow: it fails again after every pause until something is closed.
    if *failures == 0 {
        tracing::warn!(%error, "cannot accept connections");
    }
    *failures += 1;
    dealer.refused("accept");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

impl Dealer {
    fn deal(&self, accepted: Accepted) {
        let Some(place) = Place::take(self) else {
            self.refused("max_connections");
            return match (&accepted, &self.tls) {
                // Before its handshake a client could make nothing of it.
                (Accepted::Tcp(_), Some(_)) => {}
                _ => refuse(accepted),
            };
        };
        let core = self.next.fetch_add(1, Ordering::Relaxed) % self.cores.len();
        let dealer = self.clone();
        let dealt = self.cores[core].spawn_fn(move || {
            tokio::task::spawn_local(dealer.serve(core, accepted, place));
        });
        if !dealt {
            tracing::error!(core, "the core of a new connection is gone");
        }
    }

    async fn serve(self, core: usize, accepted: Accepted, place: Place) {
        let socket = match self.socket(accepted).await {
            Ok(socket) => socket,
            Err(error) => {
                tracing::debug!(%error, "connection lost before it began");
                return self.refused("handshake");
            }
        };
        let stop = self.stop.subscribe();
        let door = Arc::clone(&self.door);
        drop(self);
        Connection::new(door, core, socket, stop).run().await;
        drop(place);
    }

    async fn socket(&self, accepted: Accepted) -> io::Result<Socket> {
        match accepted {
            Accepted::Unix(stream) => Ok(Socket::Unix(UnixStream::from_std(stream)?)),
            Accepted::Tcp(stream) => {
                let stream = TcpStream::from_std(stream)?;
                let Some(tls) = &self.tls else {
                    return Ok(Socket::Tcp(stream));
                };
                let handshake = tokio::time::timeout(HANDSHAKE_DEADLINE, tls.accept(stream));
                let stream = handshake
                    .await
                    .map_err(|_elapsed| io::ErrorKind::TimedOut)??;
                Ok(Socket::Tls(Box::new(stream)))
            }
        }
    }

    fn refused(&self, reason: &'static str) {
        self.door.metrics.refused_connection(reason);
    }
}

/// Says so and closes, without waiting for anything.
fn refuse(accepted: Accepted) {
    use std::io::Write;
    const FULL: &[u8] = b"-ERR max number of clients reached\r\n";
    // Fits a fresh socket's buffer; a client that is gone needs no answer.
    let _told_or_gone = match accepted {
        Accepted::Tcp(mut stream) => stream.write_all(FULL),
        Accepted::Unix(mut stream) => stream.write_all(FULL),
    };
}

/// One of the `max_connections` places; free again when dropped.
struct Place {
    open: Arc<watch::Sender<usize>>,
    door: Arc<Door>,
}

impl Place {
    fn take(dealer: &Dealer) -> Option<Place> {
        let most = dealer.door.max_connections;
        let taken = dealer.open.send_if_modified(|open| {
            let free = *open < most;
            *open += usize::from(free);
            free
        });
        taken.then(|| {
            dealer.door.metrics.connections.inc();
            Place {
                open: Arc::clone(&dealer.open),
                door: Arc::clone(&dealer.door),
            }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.send_modify(|open| *open -= 1);
        self.door.metrics.connections.dec();
    }
}
