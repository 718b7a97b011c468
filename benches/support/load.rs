//! Clients of the Redis protocol: so many connections, each with so many requests on the way, all on one thread.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::BenchError;
use super::request::{Draw, Ids, Template};

/// A reply later than this is none: the run ends with an error instead of hanging.
const RUN_DEADLINE: Duration = Duration::from_secs(60);

/// So much of an unexpected reply is shown.
const SHOWN_BYTES: usize = 120;

/// When clients stop sending.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After so long.
    Elapsed(Duration),
    /// After one batch each.
    Once,
    /// When there are no ids left.
    NoneLeft,
}

/// What a run did.
#[derive(Debug, Clone, Copy)]
pub struct Sample {
    /// Requests answered, or keys for `MGET`.
    pub units: u64,
    /// From the first byte sent to the last reply read.
    pub elapsed: Duration,
}

impl Sample {
    /// Units a second.
    pub fn rate(&self) -> f64 {
        self.units as f64 / self.elapsed.as_secs_f64()
    }
}

/// Open connections; they stay open between runs.
pub struct Clients {
    clients: Vec<Client>,
}

struct Client {
    port: u16,
    stream: TcpStream,
    template: Template,
    input: Vec<u8>,
}

impl Clients {
    /// Opens `connections` to a port of this machine.
    pub async fn connect(
        port: u16,
        connections: usize,
        template: &Template,
    ) -> Result<Self, BenchError> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            let open = async {
                let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                stream.set_nodelay(true)?;
                Ok(stream)
            };
            let stream = open
                .await
                .map_err(BenchError::io(format!("connect to port {port}")))?;
            clients.push(Client {
                port,
                stream,
                template: template.clone(),
                input: vec![0; template.reply_bytes],
            });
        }
        Ok(Self { clients })
    }

    /// Lets all clients send at once, each its next batch when the last one is answered.
    pub async fn run(&mut self, draw: &Draw, until: Until) -> Result<Sample, BenchError> {
        let start = Instant::now();
        let end = match until {
            Until::Elapsed(time) => Some(start + time),
            Until::Once => Some(start),
            Until::NoneLeft => None,
        };
        let ids = draw.split(self.clients.len());
        let mut running = JoinSet::new();
        for (mut client, ids) in self.clients.drain(..).zip(ids) {
            running.spawn(async move { client.drive(ids, end).await.map(|units| (client, units)) });
        }
        let mut units = 0;
        while let Some(done) = running.join_next().await {
            let (client, its) = done.map_err(|error| BenchError::Io {
                action: "run a client".to_owned(),
                source: error.into(),
            })??;
            units += its;
            self.clients.push(client);
        }
        let elapsed = start.elapsed();
        Ok(Sample { units, elapsed })
    }
}

impl Client {
    /// Sends batch after batch; gives the units that were answered.
    async fn drive(&mut self, mut ids: Ids, end: Option<Instant>) -> Result<u64, BenchError> {
        let run = async {
            let mut units = 0;
            while self.template.fill(&mut ids) {
                self.exchange().await?;
                units += self.template.units;
                if end.is_some_and(|end| Instant::now() >= end) {
                    break;
                }
            }
            Ok(units)
        };
        tokio::time::timeout(RUN_DEADLINE, run)
            .await
            .unwrap_or_else(|late| {
                Err(BenchError::Io {
                    action: "wait for replies".to_owned(),
                    source: late.into(),
                })
            })
    }

    async fn exchange(&mut self) -> Result<(), BenchError> {
        let failed = || BenchError::io(format!("talk to port {}", self.port));
        self.stream
            .write_all(&self.template.bytes)
            .await
            .map_err(failed())?;
        let (mut filled, mut checked) = (0, 0);
        while filled < self.template.reply_bytes {
            let read = self
                .stream
                .read(&mut self.input[filled..])
                .await
                .map_err(failed())?;
            if read == 0 {
                let closed = std::io::ErrorKind::UnexpectedEof.into();
                return Err(failed()(closed));
            }
            filled += read;
            // At once and not at the end: an error is shorter than a value, and the rest would never come.
            while let Some((at, mark)) = self.template.marks.get(checked) {
                let seen = &self.input[(*at).min(filled)..(at + mark.len()).min(filled)];
                if !mark.starts_with(seen) {
                    return Err(self.unexpected(*at, mark, filled));
                }
                if seen.len() < mark.len() {
                    break;
                }
                checked += 1;
            }
        }
        Ok(())
    }

    fn unexpected(&self, at: usize, mark: &[u8], filled: usize) -> BenchError {
        let seen = &self.input[at..filled.min(at + SHOWN_BYTES)];
        BenchError::Reply {
            port: self.port,
            reply: seen.escape_ascii().to_string(),
            expected: mark.escape_ascii().to_string(),
        }
    }
}
