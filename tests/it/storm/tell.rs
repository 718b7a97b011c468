//! Programs that change rows nobody watches, and tell of it by publishing: as often as it takes to be acknowledged.
//!
//! What is published while nobody hears it is gone, so a careful program waits for the acknowledgement, and publishes again.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use serde_json::{Value as Json, json};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

use super::history::{PUBLISHED, Row};
use super::load::{Field, PAUSE, choose};
use super::writers::Session;
use crate::support::DEADLINE;
use crate::support::resp::{Client, Value, frame};

/// Programs: each has rows of its own, so that it knows their versions.
pub const TELLERS: usize = 2;
/// As many reads go before one tells again.
const READS_A_TELLING: u64 = 1_000;
/// In rough weather it waits for them no longer than this: every second message costs a sweep, and recovery goes through it.
const LONGEST_WAIT: Duration = Duration::from_millis(100);
/// Who is not acknowledged by then publishes again.
const PATIENCE: Duration = Duration::from_secs(2);

/// Changes its rows and tells of each change, until all is over; how many were acknowledged.
pub async fn tell(field: Arc<Field>, number: usize, mut random: Rng) -> u64 {
    let mut acknowledged = 0;
    let mut session = Session::new(&field.postgres);
    let mut line = None;
    while !field.is_over() {
        let row = Row::Published(choose(&mut random, PUBLISHED) / TELLERS * TELLERS + number);
        let version = session.change(row, &field).await;
        field.history.committed(row, version);
        let heard = field.telling.read().await;
        until_acknowledged(&field, row, &mut line, &mut random).await;
        field.history.acknowledged(row, version);
        drop(heard);
        acknowledged += 1;
        field.after_reads(READS_A_TELLING, LONGEST_WAIT).await;
    }
    acknowledged
}

async fn until_acknowledged(field: &Field, row: Row, line: &mut Option<Line>, random: &mut Rng) {
    let mut over_since = None;
    loop {
        if let Ok(Ok(true)) = timeout(PATIENCE, publish(field, row, line, random)).await {
            return;
        }
        // What is still to come there is of a message that is given up.
        *line = None;
        if field.is_over() {
            let since = *over_since.get_or_insert_with(Instant::now);
            assert!(since.elapsed() < DEADLINE, "nobody acknowledges {row:?}");
        }
        sleep(PAUSE).await;
    }
}

/// Publishes once, by key or by pattern; whether all of it is acknowledged as done.
async fn publish(
    field: &Field,
    row: Row,
    line: &mut Option<Line>,
    random: &mut Rng,
) -> io::Result<bool> {
    let line = match line {
        Some(line) => line,
        None => line.insert(Line::open(field).await?),
    };
    let id = random.u32(..);
    let message = match random.bool() {
        true => json!({ "id": id, "keys": row.keys() }),
        false => json!({ "id": id, "patterns": [row.pattern()] }),
    };
    let words = ["PUBLISH", "cache:invalidate", &message.to_string()];
    line.out.send(&frame(&words)).await?;
    line.out.read().await?;
    loop {
        let Value::Array(heard) = line.acks.read().await? else {
            return Ok(false);
        };
        let ack: Json = serde_json::from_str(heard[2].text()).unwrap();
        if ack["id"] == id {
            return Ok(ack.get("error").is_none());
        }
    }
}

/// Where a program publishes, and where it hears what was done.
struct Line {
    out: Client,
    acks: Client,
}

impl Line {
    async fn open(field: &Field) -> io::Result<Self> {
        let mut acks = Client::over(UnixStream::connect(&field.redis).await?);
        acks.send(&frame(&["SUBSCRIBE", "cache:invalidated"]))
            .await?;
        acks.read().await?;
        let out = Client::over(UnixStream::connect(&field.redis).await?);
        Ok(Self { out, acks })
    }
}
