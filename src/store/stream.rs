//! Connecting, over a stream that takes much from the kernel at once and lets others have their turn.

use futures_util::future::select_ok;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ConnectionAddr, RedisResult};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpStream, UnixStream, lookup_host};

/// Bytes taken from the kernel at once. The redis crate asks for 8 KiB, which is thirty values of 256 bytes.
const READ_CHUNK: usize = 64 * 1024;

/// Bytes handed on in a row. While one reply is read, a busy Redis writes the next one, and the crate reads on for as long as
/// there is more: without an end to it the readers of the first reply wait for the last, ask again all at the same moment,
/// and then Redis and we take turns in waiting for one another.
const TURN: usize = 16 * 1024;

/// Connects. The connection's driver runs on the runtime that polls this future.
pub(super) async fn connect(
    client: &Client,
    config: AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection> {
    match client.get_connection_info().addr() {
        ConnectionAddr::Tcp(host, port) => {
            let stream = tcp(host, *port).await?;
            drive(client, stream, config).await
        }
        ConnectionAddr::Unix(path) => {
            let stream = UnixStream::connect(path).await?;
            drive(client, stream, config).await
        }
        // TLS is the crate's own matter, its reads included.
        _ => {
            let connecting = client.get_multiplexed_async_connection_with_config(&config);
            connecting.await
        }
    }
}

async fn tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    let attempts: Vec<_> = lookup_host((host, port))
        .await?
        .map(|address| Box::pin(TcpStream::connect(address)))
        .collect();
    if attempts.is_empty() {
        return Err(io::ErrorKind::HostUnreachable.into());
    }
    let (stream, _slower) = select_ok(attempts).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn drive<S>(
    client: &Client,
    stream: S,
    config: AsyncConnectionConfig,
) -> RedisResult<MultiplexedConnection>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let settings = client.get_connection_info().redis_settings();
    let (connection, driver) =
        MultiplexedConnection::new_with_config(settings, Fair::new(stream), config).await?;
    // Ends when the last clone of the connection is gone.
    tokio::spawn(driver);
    Ok(connection)
}

/// A stream that pauses after each [`TURN`].
struct Fair<S> {
    stream: BufReader<S>,
    in_a_row: usize,
}

impl<S: AsyncRead> Fair<S> {
    fn new(stream: S) -> Self {
        Self {
            stream: BufReader::with_capacity(READ_CHUNK, stream),
            in_a_row: 0,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Fair<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.in_a_row >= TURN {
            self.in_a_row = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        match &read {
            Poll::Ready(_) => self.in_a_row += into.filled().len() - before,
            Poll::Pending => self.in_a_row = 0,
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Fair<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn a_long_reply_is_read_whole_and_others_have_their_turn_meanwhile() {
        let reply: Vec<u8> = (0..5 * TURN).map(|at| (at % 251) as u8).collect();
        let (ours, mut theirs) = tokio::io::duplex(reply.len());
        theirs.write_all(&reply).await.expect("room");
        let mut fair = Fair::new(ours);
        let (mut read, mut pauses) = (Vec::new(), 0);
        while read.len() < reply.len() {
            let mut piece = [0; 8192];
            match fair.read(&mut piece).now_or_never() {
                Some(length) => read.extend_from_slice(&piece[..length.expect("open")]),
                None => pauses += 1,
            }
        }
        assert!(read == reply);
        assert_eq!(pauses, 4);
    }

    #[tokio::test]
    async fn after_its_pause_a_stream_wakes_its_reader_though_nothing_new_comes() {
        let (ours, mut theirs) = tokio::io::duplex(4 * TURN);
        theirs.write_all(&vec![0; 2 * TURN]).await.expect("room");
        let mut read = vec![0; 2 * TURN];
        // Would wait for ever if the pause were not ended by itself.
        let mut fair = Fair::new(ours);
        fair.read_exact(&mut read).await.expect("open");
    }
}
