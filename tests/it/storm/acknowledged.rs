//! Which changes of those that are queued are acknowledged: their row was in the queue, and is no more.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};

use super::history::Row;
use super::load::Field;

/// Between two looks: the promise holds from the acknowledgement on, and what is found out later is only asked for later.
const LOOK_EVERY: Duration = Duration::from_millis(20);
const QUEUED: &str = "SELECT DISTINCT unnest(keys || patterns) FROM cachewarden.outbox";

/// Looks at the queue until all is over, past whatever the daemons have to go through.
///
/// A change and its row in the queue are one commit, and the row is removed once its invalidation has run to its end. So
/// what was committed before a look, and is not seen by it, was acknowledged before the look's answer.
pub async fn watch(field: Arc<Field>) {
    let mut session = None;
    while !field.over.load(SeqCst) {
        let committed: Vec<(Row, u64)> = Row::all()
            .filter(|row| !row.queued_as().is_empty())
            .map(|row| (row, field.history.newest(row)))
            .collect();
        if session.is_none() {
            session = connect(&field.postgres).await;
        }
        match look(session.as_ref()).await {
            Some(queued) => {
                let is_queued = |name: &String| queued.contains(name);
                let done = |(row, _): &(Row, u64)| !row.queued_as().iter().any(is_queued);
                for (row, version) in committed.into_iter().filter(done) {
                    field.history.acknowledged(row, version);
                }
            }
            None => session = None,
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn connect(url: &str) -> Option<Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// What the queue names; `None` if it cannot be asked.
async fn look(session: Option<&Client>) -> Option<HashSet<String>> {
    let rows = session?.query(QUEUED, &[]).await.ok()?;
    Some(rows.iter().map(|row| row.get(0)).collect())
}
