//! Callers that ask one thing after the other, whose replies differ in length.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::BenchError;
use super::load::Sample;

/// A reply later than this is none.
const DEADLINE: Duration = Duration::from_secs(60);
/// More than any reply here has.
const MAX_REPLY: usize = 4096;

/// Open connections, each with its requests.
pub struct Calls {
    callers: Vec<Caller>,
}

struct Caller {
    port: u16,
    stream: TcpStream,
    requests: Vec<Vec<u8>>,
}

impl Calls {
    /// Opens a connection to a port of this machine for each list of requests.
    pub async fn connect(port: u16, requests: Vec<Vec<Vec<u8>>>) -> Result<Self, BenchError> {
        let mut callers = Vec::with_capacity(requests.len());
        for requests in requests {
            let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            let stream = stream.map_err(BenchError::io(format!("connect to port {port}")))?;
            stream
                .set_nodelay(true)
                .map_err(BenchError::io("set nodelay"))?;
            callers.push(Caller {
                port,
                stream,
                requests,
            });
        }
        Ok(Self { callers })
    }

    /// Each caller goes through its requests again and again, and waits for every reply. A unit is all of them once.
    pub async fn run(&mut self, time: Duration) -> Result<Sample, BenchError> {
        let start = Instant::now();
        let mut running = JoinSet::new();
        for mut caller in self.callers.drain(..) {
            running.spawn(async move {
                let units = caller.drive(start + time).await?;
                Ok::<_, BenchError>((caller, units))
            });
        }
        let mut units = 0;
        while let Some(done) = running.join_next().await {
            let (caller, its) = done.map_err(|error| BenchError::Io {
                action: "run a caller".to_owned(),
                source: error.into(),
            })??;
            units += its;
            self.callers.push(caller);
        }
        let elapsed = start.elapsed();
        Ok(Sample { units, elapsed })
    }
}

impl Caller {
    async fn drive(&mut self, end: Instant) -> Result<u64, BenchError> {
        let mut units = 0;
        while Instant::now() < end {
            for at in 0..self.requests.len() {
                self.call(at).await?;
            }
            units += 1;
        }
        Ok(units)
    }

    async fn call(&mut self, at: usize) -> Result<(), BenchError> {
        let mut reply = [0; MAX_REPLY];
        let exchange = async {
            self.stream.write_all(&self.requests[at]).await?;
            let mut read = 0;
            while read < MAX_REPLY && end_of(&reply[..read]) != Some(read) {
                match self.stream.read(&mut reply[read..]).await? {
                    0 => break,
                    more => read += more,
                }
            }
            Ok(read)
        };
        let read = tokio::time::timeout(DEADLINE, exchange).await;
        let read = read.map_err(|_late| BenchError::io("wait for a reply")(late()))?;
        let read = read.map_err(BenchError::io("ask"))?;
        match end_of(&reply[..read]) == Some(read) && is_yes(&reply) {
            true => Ok(()),
            false => Err(BenchError::Reply {
                port: self.port,
                reply: String::from_utf8_lossy(&reply[..read]).into_owned(),
                expected: "a lock, or its release".to_owned(),
            }),
        }
    }
}

fn late() -> std::io::Error {
    std::io::ErrorKind::TimedOut.into()
}

/// Neither an error, nor nothing, nor 0.
fn is_yes(reply: &[u8]) -> bool {
    !matches!(reply[0], b'-' | b'_') && !reply.starts_with(b"$-1") && !reply.starts_with(b":0")
}

/// Where the first reply ends, if it is whole.
fn end_of(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
    let number = std::str::from_utf8(&bytes[1..line - 2]).ok()?;
    let number: i64 = match bytes[0] {
        b'$' | b'*' => number.parse().ok()?,
        _ => return Some(line),
    };
    let Ok(number) = usize::try_from(number) else {
        return Some(line);
    };
    if bytes[0] == b'$' {
        let end = line + number + 2;
        return (bytes.len() >= end).then_some(end);
    }
    (0..number).try_fold(line, |at, _| Some(at + end_of(&bytes[at..])?))
}
