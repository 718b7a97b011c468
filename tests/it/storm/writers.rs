//! Writers that never stop: each has rows of its own, which it changes, removes and inserts again.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::time::sleep;
use tokio_postgres::NoTls;

use super::history::{ASKED, ITEMS, LISTS, Row, is_gone};
use super::load::{Field, PAUSE, choose};
use super::pace::Pace;

/// Writers: each has rows of its own, so that it knows their versions.
pub const WRITERS: usize = 4;
/// Of so many writes one is of a list, and costs a sweep; and one is of what nobody watches.
const WRITES_A_LIST: u64 = 20;
/// Of so many writes one is timed, and a change beside it that nobody watches.
const WRITES_A_TIMING: u64 = 5;
/// As many reads go before a write: the load is the same on any machine, only quicker or slower.
const READS_A_WRITE: u64 = 12;
/// But in rough weather a writer waits for them no longer than this.
const LONGEST_WAIT: Duration = Duration::from_millis(20);

/// Changes its rows, one after the other, until all is over; how long that took in calm weather.
pub async fn write(field: Arc<Field>, number: usize, mut random: Rng) -> Pace {
    let mut pace = Pace::default();
    let mut session = Session::new(&field.postgres);
    while !field.is_over() {
        let mine = |place: usize| place / WRITERS * WRITERS + number;
        let row = match random.u64(..WRITES_A_LIST) {
            0 => Row::List(mine(choose(&mut random, LISTS))),
            1 => Row::Asked(mine(choose(&mut random, ASKED))),
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
        let reads = READS_A_WRITE * WRITERS as u64;
        field.after_reads(reads, LONGEST_WAIT).await;
    }
    pace
}

/// A session that is opened again whenever it is lost.
pub struct Session<'a> {
    url: &'a str,
    client: Option<tokio_postgres::Client>,
}

impl<'a> Session<'a> {
    pub fn new(url: &'a str) -> Self {
        Self { url, client: None }
    }

    /// Changes a row; the version that it is known to have then. A lost answer may be that of a commit or not: then the
    /// row is asked, and has the version before or the one after.
    pub async fn change(&mut self, row: Row, field: &Field) -> u64 {
        let before = field.history.newest(row);
        let next = before + 1;
        if let Some(Some(_)) = self.ask(&change_to(row, next)).await {
            return next;
        }
        let select = format!(
            "SELECT version FROM {} WHERE id = {}",
            row.table(),
            row.id()
        );
        loop {
            match self.ask(&select).await {
                Some(Some(version)) => return version,
                Some(None) if is_gone(next) => return next,
                Some(None) => return before,
                None if field.is_over() => return before,
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

    /// The version that a statement gives, if it gives one; `None`: its answer was lost.
    async fn ask(&mut self, sql: &str) -> Option<Option<u64>> {
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
        let version: Option<i64> = rows.first().map(|row| row.get(0));
        Some(version.map(|version| u64::try_from(version).unwrap()))
    }
}

/// The statement that makes a row of one version one of the next, and says so to the queue if nobody else does.
fn change_to(row: Row, next: u64) -> String {
    let (table, id, before) = (row.table(), row.id(), next - 1);
    let names = match (row, next % 2) {
        (Row::Asked(_), 0) => row.keys(),
        (Row::Asked(_), _) => vec![row.pattern()],
        _ => Vec::new(),
    };
    let told = match names.is_empty() {
        true => String::new(),
        false => format!(", cachewarden.invalidate('{}')", names.join("', '")),
    };
    if is_gone(next) {
        format!(
            "DELETE FROM {table} WHERE id = {id} AND version = {before} RETURNING version{told}"
        )
    } else if is_gone(before) {
        format!("INSERT INTO {table} VALUES ({id}, {next}) RETURNING version{told}")
    } else {
        format!(
            "UPDATE {table} SET version = {next} WHERE id = {id} AND version = {before} RETURNING version{told}"
        )
    }
}
