//! Readers that never stop: each lives through whatever happens to the servers, and connects again. What they share with the
//! writers.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::RwLock;
use tokio::time::sleep;

use super::history::{ASKED, History, ITEMS, LISTS, PUBLISHED, Row};
use super::tally::{Amiss, Found, State, Tally};
use crate::support::resp::{Client, Value, frame};

const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Before connecting once more.
pub const PAUSE: Duration = Duration::from_millis(10);

/// What all of the load shares.
pub struct Field {
    pub history: History,
    /// Where the daemons listen; they come back elsewhere.
    pub daemons: Mutex<[SocketAddr; 2]>,
    pub redis: PathBuf,
    pub postgres: String,
    /// Daemons keep values in their own memory.
    pub is_l1: bool,
    /// Even in calm weather, odd while something is amiss.
    pub weather: AtomicU64,
    /// What is amiss, or was last.
    pub amiss: Mutex<Amiss>,
    /// Reads that broke a promise.
    pub broken: AtomicU64,
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub over: AtomicBool,
    /// Held by who publishes until it is acknowledged; held against them, nobody publishes.
    pub telling: RwLock<()>,
}

impl Field {
    fn is_calm(&self) -> bool {
        self.weather.load(SeqCst).is_multiple_of(2)
    }

    pub fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    /// Lets so many reads go before. While something is amiss, no longer than this: what goes wrong then is what is to be found
    /// out.
    pub async fn after_reads(&self, reads: u64, longest: Duration) {
        let begun = Instant::now();
        let enough = self.reads.load(SeqCst) + reads;
        while self.reads.load(SeqCst) < enough && !self.is_over() {
            if !self.is_calm() && begun.elapsed() > longest {
                return;
            }
            sleep(LOOK_EVERY).await;
        }
    }
}

/// Some rows are far more popular than the others.
pub fn choose(random: &mut Rng, rows: usize) -> usize {
    if random.bool() {
        random.usize(..rows / 10)
    } else {
        random.usize(..rows)
    }
}

/// Whom a reader asks.
#[derive(Clone, Copy, Debug)]
pub enum Way {
    Daemon(usize),
    Straight,
}

/// What one read came to.
enum Read {
    Found {
        /// `None`: it says that there is no such row.
        version: Option<u64>,
        state: State,
    },
    /// Straight from Redis there was nothing.
    Nothing,
    Refused(String),
}

/// Reads until all is over; what came of it.
pub async fn read(field: Arc<Field>, way: Way, mut random: Rng) -> Tally {
    let mut tally = Tally::default();
    let mut client: Option<Client> = None;
    while !field.is_over() {
        let row = match random.u8(..10) {
            0 => Row::List(choose(&mut random, LISTS)),
            1 => Row::Asked(choose(&mut random, ASKED)),
            2 => Row::Published(choose(&mut random, PUBLISHED)),
            _ => Row::Item(choose(&mut random, ITEMS)),
        };
        let keys = row.keys();
        let key = &keys[random.usize(..keys.len())];
        let weather = field.weather.load(SeqCst);
        let sent = Instant::now();
        let read = one(&field, way, &mut client, key).await;
        let is_calm = weather.is_multiple_of(2) && field.weather.load(SeqCst) == weather;
        field.reads.fetch_add(1, SeqCst);
        let amiss = (!is_calm).then(|| field.amiss.lock().clone());
        match read {
            Ok(Read::Found { version, state }) => {
                let version = version.unwrap_or_else(|| field.history.last_gone(row));
                let is_broken = tally.count(Found {
                    row,
                    version,
                    state,
                    outdated: field.history.outdated(row, version, sent),
                    invalidated: field.history.invalidated(row, version, sent),
                    is_l1: field.is_l1,
                    amiss,
                });
                field.broken.fetch_add(u64::from(is_broken), SeqCst);
            }
            Ok(Read::Nothing) => {}
            Ok(Read::Refused(error)) => {
                let why = error.split('\'').next_back().unwrap().to_owned();
                tally.count_refused(why, is_calm);
            }
            Err(error) => {
                tally.count_refused(error.to_string(), is_calm);
                client = None;
                sleep(PAUSE).await;
            }
        }
    }
    tally
}

async fn one(field: &Field, way: Way, client: &mut Option<Client>, key: &str) -> io::Result<Read> {
    let client = match client {
        Some(client) => client,
        None => client.insert(connect(field, way).await?),
    };
    let command = match way {
        Way::Daemon(_) => "CACHE.GET",
        Way::Straight => "GET",
    };
    client.send(&frame(&[command, key])).await?;
    let reply = client.read().await?;
    let (value, state) = match &reply {
        Value::Error(error) => return Ok(Read::Refused(error.clone())),
        Value::Nil => return Ok(Read::Nothing),
        Value::Bulk(_) => (&reply, State::Straight),
        described => {
            let state = match described.field("state").unwrap().text() {
                "stale" => State::Stale,
                "hit-l1" => State::Memory,
                "hit" => State::Hit,
                "missing" => State::Missing,
                _ => State::Miss,
            };
            (described.field("value").unwrap(), state)
        }
    };
    let version = version(value);
    Ok(Read::Found { version, state })
}

async fn connect(field: &Field, way: Way) -> io::Result<Client> {
    match way {
        Way::Daemon(number) => {
            let address = field.daemons.lock()[number];
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Client::over(stream))
        }
        Way::Straight => Ok(Client::over(UnixStream::connect(&field.redis).await?)),
    }
}

/// The version that a value says, as Redis has it or as it was read; `None`: that there is no such row.
pub fn version(value: &Value) -> Option<u64> {
    if *value == Value::Nil || value.text() == "null" {
        return None;
    }
    Some(value.text().trim_matches('"').parse().unwrap())
}
