//! Listening sockets that somebody else has bound and passes on. They outlive the daemon: while it is restarted, clients wait in
//! the kernel's queue, where a socket of its own would refuse them.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;

/// The sockets that were passed on and are not in use yet. None, unless a service manager holds them.
#[derive(Debug, Default)]
pub struct Passed {
    tcp: Vec<TcpListener>,
    unix: Vec<UnixListener>,
}

impl Passed {
    /// One more.
    pub fn add_tcp(&mut self, listener: TcpListener) {
        self.tcp.push(listener);
    }

    /// One more.
    pub fn add_unix(&mut self, listener: UnixListener) {
        self.unix.push(listener);
    }

    /// The one that listens there.
    pub(super) fn take_tcp(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let listens = |listener: &TcpListener| {
            let bound = listener.local_addr();
            bound.is_ok_and(|bound| bound == address)
        };
        let place = self.tcp.iter().position(listens)?;
        Some(self.tcp.swap_remove(place))
    }

    /// The one that listens there.
    pub(super) fn take_unix(&mut self, path: &Path) -> Option<UnixListener> {
        let listens = |listener: &UnixListener| {
            let bound = listener.local_addr();
            bound.is_ok_and(|bound| bound.as_pathname() == Some(path))
        };
        let place = self.unix.iter().position(listens)?;
        Some(self.unix.swap_remove(place))
    }

    /// Where one of those listens that nobody has taken, spelled as in `[resp] listen`.
    pub(super) fn left(&self) -> Option<String> {
        if let Some(listener) = self.tcp.first() {
            let bound = listener.local_addr();
            return Some(bound.map_or_else(|_| "?".to_owned(), |bound| bound.to_string()));
        }
        let bound = self.unix.first()?.local_addr().ok();
        let path = bound.as_ref().and_then(|bound| bound.as_pathname());
        Some(match path {
            Some(path) => format!("unix:{}", path.display()),
            None => "a unix socket without a path".to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn each_is_taken_once_by_the_address_it_listens_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = tcp.local_addr().unwrap();
        let mut passed = Passed::default();
        passed.add_tcp(tcp);
        passed.add_unix(UnixListener::bind(&path).unwrap());

        let other = SocketAddr::new(address.ip(), address.port() ^ 1);
        assert!(passed.take_tcp(other).is_none());
        assert!(passed.take_unix(Path::new("/elsewhere")).is_none());
        assert_eq!(passed.left(), Some(address.to_string()));
        assert!(passed.take_tcp(address).is_some());
        assert!(passed.take_tcp(address).is_none());
        assert_eq!(passed.left(), Some(format!("unix:{}", path.display())));
        assert!(passed.take_unix(&path).is_some());
        assert_eq!(passed.left(), None);
    }
}
