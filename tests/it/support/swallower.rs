//! A proxy before Postgres that swallows what is notified, as a pooler in transaction mode does: everything else goes through,
//! and nobody is told.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The type of a message that notifies.
const NOTIFICATION: u8 = b'A';
/// A message's type, and its length, which counts itself and not the type.
const HEAD_BYTES: usize = 5;

/// Listens on a port of its own until it is dropped.
pub struct Swallower {
    address: SocketAddr,
    swallows: watch::Sender<bool>,
    listening: JoinHandle<()>,
}

impl Swallower {
    /// Before the server of this URL.
    pub async fn before(port: u16, swallows: bool) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (swallows, swallowing) = watch::channel(swallows);
        let listening = tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
                tokio::spawn(carry(client, server.unwrap(), swallowing.clone()));
            }
        });
        Self {
            address,
            swallows,
            listening,
        }
    }

    /// The URL of a database, through here. Not encrypted, so that messages can be told apart.
    pub fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@{}/{database}?sslmode=disable",
            self.address
        )
    }

    /// From now on.
    pub fn swallow(&self, swallows: bool) {
        self.swallows.send_replace(swallows);
    }
}

impl Drop for Swallower {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn carry(client: TcpStream, server: TcpStream, swallowing: watch::Receiver<bool>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = answer(from_server, to_client, swallowing) => {}
    }
}

/// Message by message, but for those that notify.
async fn answer(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    swallowing: watch::Receiver<bool>,
) -> std::io::Result<()> {
    loop {
        let mut message = vec![0; HEAD_BYTES];
        from.read_exact(&mut message).await?;
        let length = u32::from_be_bytes(message[1..].try_into().unwrap());
        message.resize(1 + usize::try_from(length).unwrap(), 0);
        from.read_exact(&mut message[HEAD_BYTES..]).await?;
        if !(message[0] == NOTIFICATION && *swallowing.borrow()) {
            to.write_all(&message).await?;
        }
    }
}
