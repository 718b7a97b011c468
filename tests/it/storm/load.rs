//! Writers and readers that never stop: each lives through whatever happens to the servers, and connects again.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::sleep;
use tokio_postgres::NoTls;

use super::history::{History, ITEMS, LISTS, PAGES, Row};
use super::pace::Pace;
use super::tally::{Amiss, Found, State, Tally};
use crate::support::resp::{Client, Value, frame};

/// Writers: each has rows of its own, so that it knows their versions.
pub const WRITERS: usize = 4;
/// Of so many writes one is of a list, and costs a sweep.
const WRITES_A_LIST: u64 = 20;
/// Of so many writes one is timed, and a change beside it that nobody watches.
const WRITES_A_TIMING: u64 = 5;
/// As many reads go before a write: the load is the same on any machine, only quicker or slower.
const READS_A_WRITE: u64 = 25;
/// But while something is amiss writers wait for readers no longer than this: what goes wrong then is what they find out.
const LONGEST_WAIT: Duration = Duration::from_millis(20);
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// Before connecting once more.
const PAUSE: Duration = Duration::from_millis(10);

/// What all of the load shares.
pub struct Field {
    pub history: History,
    /// Where the daemons listen; they come back elsewhere.
    pub daemons: Mutex<[SocketAddr; 2]>,
    pub redis: PathBuf,
    pub postgres: String,
    /// Even in calm weather, odd while something is amiss.
    pub weather: AtomicU64,
    /// What is amiss, or was last.
    pub amiss: Mutex<Amiss>,
    /// Reads that broke a promise.
    pub broken: AtomicU64,
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub over: AtomicBool,
}

impl Field {
    fn is_calm(&self) -> bool {
        self.weather.load(SeqCst).is_multiple_of(2)
    }
}

/// Some rows are far more popular than the others.
fn choose(random: &mut Rng, rows: usize) -> usize {
    if random.bool() {
        random.usize(..rows / 10)
    } else {
        random.usize(..rows)
    }
}

/// Changes its rows, one after the other, until all is over; how long that took in calm weather.
pub async fn write(field: Arc<Field>, number: usize, mut random: Rng) -> Pace {
    let mut pace = Pace::default();
    let mut session = Session::new(&field.postgres);
    while !field.over.load(SeqCst) {
        let mine = |place: usize| place / WRITERS * WRITERS + number;
        let row = match random.u64(..WRITES_A_LIST) {
            0 => Row::List(mine(choose(&mut random, LISTS))),
            _ => Row::Item(mine(choose(&mut random, ITEMS))),
        };
        let weather = field.weather.load(SeqCst);
        let begun = Instant::now();
        let version = session.change(row, &field).await;
        let took = begun.elapsed();
        field.history.committed(row, version);
        if field
            .writes
            .fetch_add(1, SeqCst)
            .is_multiple_of(WRITES_A_TIMING)
        {
            let unwatched = session.change_unwatched(number).await;
            let is_calm = weather.is_multiple_of(2) && field.weather.load(SeqCst) == weather;
            if let Some(unwatched) = unwatched.filter(|_| is_calm) {
                pace.add(took, unwatched);
            }
        }
        let written = Instant::now();
        let enough = field.reads.load(SeqCst) + READS_A_WRITE * WRITERS as u64;
        while field.reads.load(SeqCst) < enough && !field.over.load(SeqCst) {
            if !field.is_calm() && written.elapsed() > LONGEST_WAIT {
                break;
            }
            sleep(LOOK_EVERY).await;
        }
    }
    pace
}

struct Session<'a> {
    url: &'a str,
    client: Option<tokio_postgres::Client>,
}

impl<'a> Session<'a> {
    fn new(url: &'a str) -> Self {
        Self { url, client: None }
    }

    /// Changes a row; the version that it is known to have then. A lost answer may be that of a commit or not: then the
    /// row is asked, and has the version before or the one after.
    async fn change(&mut self, row: Row, field: &Field) -> u64 {
        let (table, id) = (row.table(), row.id());
        let update =
            format!("UPDATE {table} SET version = version + 1 WHERE id = {id} RETURNING version");
        if let Some(version) = self.ask(&update).await {
            return version;
        }
        let select = format!("SELECT version FROM {table} WHERE id = {id}");
        loop {
            match self.ask(&select).await {
                Some(version) => return version,
                None if field.over.load(SeqCst) => return field.history.newest(row),
                None => sleep(PAUSE).await,
            }
        }
    }

    /// Changes a row of the table that nobody watches; how long that took.
    async fn change_unwatched(&mut self, id: usize) -> Option<Duration> {
        let update =
            format!("UPDATE unwatched SET version = version + 1 WHERE id = {id} RETURNING version");
        let begun = Instant::now();
        self.ask(&update).await?;
        Some(begun.elapsed())
    }

    async fn ask(&mut self, sql: &str) -> Option<u64> {
        if self.client.is_none() {
            let (client, connection) = tokio_postgres::connect(self.url, NoTls).await.ok()?;
            tokio::spawn(connection);
            self.client = Some(client);
        }
        let rows = self.client.as_ref()?.query(sql, &[]).await;
        let Ok(rows) = rows else {
            self.client = None;
            return None;
        };
        let version: i64 = rows.first()?.get(0);
        u64::try_from(version).ok()
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
        version: u64,
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
    while !field.over.load(SeqCst) {
        let row = match random.u8(..10) {
            0 => Row::List(choose(&mut random, LISTS)),
            _ => Row::Item(choose(&mut random, ITEMS)),
        };
        let key = match row {
            Row::Item(id) => format!("items:{id}"),
            Row::List(id) => format!("lists:{id}:{}", random.usize(..PAGES)),
        };
        let weather = field.weather.load(SeqCst);
        let sent = Instant::now();
        let read = one(&field, way, &mut client, &key).await;
        let is_calm = weather.is_multiple_of(2) && field.weather.load(SeqCst) == weather;
        field.reads.fetch_add(1, SeqCst);
        let amiss = (!is_calm).then(|| field.amiss.lock().clone());
        match read {
            Ok(Read::Found { version, state }) => {
                let is_broken = tally.count(Found {
                    row,
                    version,
                    state,
                    outdated: field.history.outdated(row, version, sent),
                    invalidated: field.history.invalidated(row, version, sent),
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

/// The version that a cached value says.
pub fn version(value: &Value) -> u64 {
    value.text().trim_matches('"').parse().unwrap()
}
