//! A TCP proxy that breaks on command: between the daemon and Redis, Postgres, or its own clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use cachewarden::cli::demo::servers::free_port;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Read at once from one side; while the proxy holds, at most this much has been taken from the sender.
const CHUNK_BYTES: usize = 16 * 1024;

/// The clock of the runtime counts in milliseconds, and wakes late rather than early: what was lost by that is made up for.
const PACE_SLACK: Duration = Duration::from_millis(10);

/// What happens to bytes on their way.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Weather {
    /// Where new connections lead.
    target: SocketAddr,
    held: bool,
    delay: Duration,
    /// How long a byte takes; chunks follow one another, each way by itself.
    per_byte: Duration,
    /// Connections of an older cut end.
    cut: u64,
}

/// A listening port in front of a target. It passes everything until told otherwise; dropping it ends all its connections.
pub struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    listening: Option<JoinHandle<()>>,
}

impl Proxy {
    /// In front of a port of 127.0.0.1.
    pub async fn before_port(port: u16) -> Self {
        Self::before(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await
    }

    /// In front of any address.
    pub async fn before(target: SocketAddr) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
        let (weather, _) = watch::channel(Weather {
            target,
            held: false,
            delay: Duration::ZERO,
            per_byte: Duration::ZERO,
            cut: 0,
        });
        let mut proxy = Self {
            address,
            weather,
            listening: None,
        };
        proxy.pass().await;
        proxy
    }

    /// Where to connect instead of to the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port of [`address`](Self::address), on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Everything goes through, what was held included.
    pub async fn pass(&mut self) {
        self.weather
            .send_modify(|weather| (weather.held, weather.delay) = (false, Duration::ZERO));
        if self.listening.is_none() {
            let listener = TcpListener::bind(self.address).await.unwrap();
            self.listening = Some(tokio::spawn(accept(listener, self.weather.subscribe())));
        }
    }

    /// Connections stand and new ones are accepted, but no byte gets through, either way: a network that swallows.
    pub fn hold(&self) {
        self.weather.send_modify(|weather| weather.held = true);
    }

    /// Every chunk of bytes comes this much later.
    pub fn delay(&self, delay: Duration) {
        self.weather.send_modify(|weather| weather.delay = delay);
    }

    /// Every connection carries so many megabytes a second, each way: a network instead of a loopback.
    pub fn narrow(&self, megabytes_a_second: u32) {
        let per_byte = Duration::from_micros(1) / megabytes_a_second;
        self.weather
            .send_modify(|weather| weather.per_byte = per_byte);
    }

    /// New connections lead to another port of 127.0.0.1, and those of now stand.
    pub fn lead_to(&self, port: u16) {
        let target = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.weather.send_modify(|weather| weather.target = target);
    }

    /// Ends all connections of now; new ones are accepted.
    pub fn cut(&self) {
        self.weather.send_modify(|weather| weather.cut += 1);
    }

    /// Ends all connections, and refuses new ones until [`pass`](Self::pass).
    pub async fn refuse(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _ = listening.await; // its listener is closed now
        }
        self.cut();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
        self.cut();
    }
}

async fn accept(listener: TcpListener, weather: watch::Receiver<Weather>) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            continue;
        };
        tokio::spawn(carry(client, weather.clone()));
    }
}

/// Carries one connection until either side ends it or it is cut.
async fn carry(client: TcpStream, mut weather: watch::Receiver<Weather>) {
    let Weather {
        target, cut: born, ..
    } = *weather.borrow_and_update();
    let mut upward = weather.clone();
    let mut downward = weather.clone();
    let both_ways = async {
        upward.wait_for(|now| !now.held).await.ok()?;
        let server = TcpStream::connect(target).await.ok()?;
        for stream in [&client, &server] {
            stream.set_nodelay(true).ok()?;
        }
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        tokio::join!(
            pump(from_client, to_server, &mut upward),
            pump(from_server, to_client, &mut downward)
        );
        Some(())
    };
    tokio::select! {
        _ = both_ways => {}
        _ = weather.wait_for(|now| now.cut != born) => {}
    }
}

/// One direction. An end of file is passed on, so that half-closed connections stay half-open.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    weather: &mut watch::Receiver<Weather>,
) {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut carried = Instant::now();
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        let Weather {
            delay, per_byte, ..
        } = *weather.borrow();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        carried =
            carried.max(Instant::now() - PACE_SLACK) + per_byte * u32::try_from(count).unwrap();
        if carried > Instant::now() + Duration::from_millis(1) {
            tokio::time::sleep_until(carried).await;
        }
        if weather.wait_for(|now| !now.held).await.is_err()
            || to.write_all(&chunk[..count]).await.is_err()
        {
            return;
        }
    }
    let _ = to.shutdown().await;
}
