//! The keys of one statement while their answers come, and what to do when it fails.

use std::sync::Arc;

use diesel::QueryResult;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::TryStreamExt;
use tokio::time::Instant;

use super::LoadError;
use super::batch::{Batch, HEADER_BYTES, MAX_ANSWER_BYTES};
use super::call::{Answer, Pending};
use super::query::{LoadKeys, Row};

/// The keys of a statement, in its order; those that were answered are gone.
pub(super) struct Part {
    keys: Vec<Option<Pending>>,
    answered: usize,
}

impl Part {
    /// Leaves out keys that nobody waits for any more.
    pub fn new(mut keys: Vec<Pending>) -> Self {
        let now = Instant::now();
        keys.retain(|key| !key.is_moot(now));
        Self {
            keys: keys.into_iter().map(Some).collect(),
            answered: 0,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub fn has_answers(&self) -> bool {
        self.answered > 0
    }

    /// The keys that have no answer yet.
    pub fn unanswered(self) -> Vec<Pending> {
        self.keys.into_iter().flatten().collect()
    }

    /// Runs the statement and answers each key as its row comes.
    pub async fn fetch(
        &mut self,
        connection: &mut AsyncPgConnection,
        batch: &Batch,
    ) -> QueryResult<()> {
        let mut rows = self.query(batch).load_stream::<Row>(connection).await?;
        while let Some(row) = rows.try_next().await? {
            let at = usize::try_from(row.ord - 1).ok();
            let key = at.and_then(|at| self.keys.get_mut(at)?.take());
            if let Some(key) = key {
                self.answered += 1;
                key.answer(answer(row));
            }
        }
        Ok(())
    }

    fn query<'a>(&'a self, batch: &'a Batch) -> LoadKeys<'a> {
        let keys = || self.keys.iter().flatten();
        let columns = if batch.params == 0 {
            vec![keys().map(|_| "").collect()]
        } else {
            let column = |i| keys().map(|key| key.key.param(i)).collect();
            (0..batch.params).map(column).collect()
        };
        LoadKeys { batch, columns }
    }

    /// Postgres refused the statement: finds the key whose fault it is, so that its neighbours still
    /// get their answers. What is to be tried again goes on `parts`.
    ///
    /// Postgres makes rows one at a time, in the order of the keys, and sends those it has made
    /// before the error. So if any row came, the first key without one is at fault. If none came it
    /// is the first key or the statement as a whole, and halving tells. Every statement thus answers
    /// a key or splits a part: there are fewer than 2n for n keys.
    pub fn blame(self, message: &str, parts: &mut Vec<Vec<Pending>>) {
        let any_answer = self.has_answers();
        let mut keys = self.unanswered();
        if any_answer || keys.len() == 1 {
            let rest = keys.split_off(keys.len().min(1));
            for key in keys {
                let message = Arc::from(message);
                key.answer(Err(LoadError::Refused { message }));
            }
            parts.push(rest);
        } else {
            parts.push(keys.split_off(keys.len() / 2));
            parts.push(keys);
        }
    }
}

fn answer(row: Row) -> Answer {
    if let Some(size) = row.too_large {
        return Err(LoadError::TooLarge {
            bytes: usize::try_from(size).map_or(usize::MAX, |size| size - HEADER_BYTES),
            limit: MAX_ANSWER_BYTES,
        });
    }
    // A `jsonb null` is a value to Postgres; to a reader of the cache it is a missing one.
    let value = row.value.map(|json| json.0);
    Ok(value.filter(|json| &json[..] != b"null"))
}
