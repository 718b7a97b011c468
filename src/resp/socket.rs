//! A client's stream, whatever it runs over. Buffers are taken only when there is something to read.

use futures_util::FutureExt;
use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// Bytes read at a time.
const READ_CHUNK: usize = 16 * 1024;
/// Idle buffers a thread keeps for the next connection that has something to say.
const SPARE_BUFFERS: usize = 64;
/// Buffers that grew beyond this are not kept.
const SPARE_CAPACITY: usize = 64 * 1024;
/// A client that takes none of what is sent to it for so long is cut.
const WRITE_STALLED: Duration = Duration::from_secs(30);
/// Closing a connection in good manners takes no longer.
const FAREWELL: Duration = Duration::from_secs(1);

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, used before if there is one.
pub(super) fn take_buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_default()
}

/// Gives a buffer back.
pub(super) fn give_buffer(mut buffer: Vec<u8>) {
    if buffer.capacity() == 0 || buffer.capacity() > SPARE_CAPACITY {
        return;
    }
    buffer.clear();
    SPARE.with_borrow_mut(|spare| {
        if spare.len() < SPARE_BUFFERS {
            spare.push(buffer);
        }
    });
}

pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Appends what has arrived; 0 at the end of the stream. Cancel safe. Whoever waits here with an empty buffer holds none.
    pub(super) async fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        loop {
            reserve(buffer);
            match self.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            if buffer.is_empty() {
                give_buffer(std::mem::take(buffer));
            }
            self.readable().await?;
        }
    }

    fn try_read(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_read_buf(buffer),
            Socket::Unix(stream) => stream.try_read_buf(buffer),
            Socket::Tls(stream) => {
                let read = stream.read_buf(buffer).now_or_never();
                read.unwrap_or_else(|| Err(io::ErrorKind::WouldBlock.into()))
            }
        }
    }

    async fn readable(&self) -> io::Result<()> {
        match self {
            Socket::Tcp(stream) => stream.readable().await,
            Socket::Unix(stream) => stream.readable().await,
            // What was decrypted has been taken: only more of the encrypted can help.
            Socket::Tls(stream) => stream.get_ref().0.readable().await,
        }
    }

    /// Sends all of it, and empties the buffer.
    pub(super) async fn write_all(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut sent = 0;
        while sent < buffer.len() {
            sent += match self.try_write(&buffer[sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    unless_stalled(self.write(&buffer[sent..])).await?
                }
                Err(error) => return Err(error),
            };
        }
        if let Socket::Tls(stream) = self {
            unless_stalled(stream.flush()).await?;
        }
        buffer.clear();
        Ok(())
    }

    /// Tells the client that nothing more comes. Errors no longer matter.
    pub(super) async fn close(mut self) {
        let farewell = async {
            match &mut self {
                Socket::Tcp(stream) => stream.shutdown().await?,
                Socket::Unix(stream) => stream.shutdown().await?,
                Socket::Tls(stream) => stream.shutdown().await?,
            }
            self.discard_unread().await
        };
        let _closed_either_way = tokio::time::timeout(FAREWELL, farewell).await;
    }

    /// Closing a socket on bytes that nobody read resets it, and the reset may overtake the last replies: if something
    /// came that was not read, reads on until the client has closed, too.
    async fn discard_unread(&mut self) -> io::Result<()> {
        let mut unread = take_buffer();
        let mut read = self.read(&mut unread).now_or_never();
        while let Some(Ok(1..)) = read {
            unread.clear();
            read = Some(self.read(&mut unread).await);
        }
        give_buffer(unread);
        read.transpose().map(|_end| ())
    }

    /// The client's address, for what is counted per address.
    pub(super) fn peer(&self) -> Option<IpAddr> {
        match self {
            Socket::Tcp(stream) => stream.peer_addr().ok().map(|peer| peer.ip()),
            Socket::Tls(stream) => stream.get_ref().0.peer_addr().ok().map(|peer| peer.ip()),
            Socket::Unix(_) => None,
        }
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(bytes),
            Socket::Unix(stream) => stream.try_write(bytes),
            Socket::Tls(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.write(bytes).await,
            Socket::Unix(stream) => stream.write(bytes).await,
            Socket::Tls(stream) => stream.write(bytes).await,
        }
    }
}

/// The outcome of sending, unless the client takes nothing for too long.
async fn unless_stalled<T>(sending: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let sent = tokio::time::timeout(WRITE_STALLED, sending).await;
    sent.map_err(|_elapsed| io::ErrorKind::TimedOut)?
}

fn reserve(buffer: &mut Vec<u8>) {
    if buffer.capacity() == 0 {
        *buffer = take_buffer();
    }
    if buffer.capacity() - buffer.len() < READ_CHUNK / 4 {
        buffer.reserve(READ_CHUNK);
    }
}
