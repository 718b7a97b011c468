//! The keys of one run: what Postgres gives, turned into keys of the cache; what is none is counted and left out.

use super::WarmError;
use super::board::Tally;
use super::plan::Plan;
use crate::keyspace::{RoutedKey, Router};
use crate::repository::{WarmCursor, WarmKeys, WarmRow};
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::atomic::Ordering::Relaxed;

/// The keys that are left. Of any number of them a page is in memory.
pub(super) struct Keys<'a> {
    plan: &'a Plan,
    router: &'a Router,
    tally: &'a Tally,
    cursor: Option<WarmCursor>,
    waiting: VecDeque<RoutedKey>,
}

impl<'a> Keys<'a> {
    pub(super) async fn open(
        plan: &'a Plan,
        router: &'a Router,
        source: &WarmKeys,
        tally: &'a Tally,
    ) -> Result<Self, WarmError> {
        let mut keys = Self {
            plan,
            router,
            tally,
            cursor: None,
            waiting: VecDeque::new(),
        };
        if plan.has_query {
            let cursor = source.open(plan.cache).await?;
            tally.of.store(cursor.total, Relaxed);
            keys.cursor = Some(cursor);
        } else {
            tally.of.store(1, Relaxed);
            keys.take(&Vec::new());
        }
        Ok(keys)
    }

    /// What was left out because there was too much of it.
    pub(super) fn left_out(&self) -> Option<String> {
        let cursor = self.cursor.as_ref().filter(|cursor| cursor.is_cut)?;
        let most = cursor.total;
        let name = &self.plan.name;
        Some(format!(
            "caches.{name}.warm.keys gives more than {most} keys: the others were left out"
        ))
    }

    /// The next keys, at most `most`; none: there are no more.
    pub(super) async fn next(&mut self, most: usize) -> Result<Vec<RoutedKey>, WarmError> {
        while self.waiting.is_empty() {
            let Some(cursor) = &mut self.cursor else {
                return Ok(Vec::new());
            };
            let rows = cursor.next_page().await?;
            if rows.is_empty() {
                return Ok(Vec::new());
            }
            rows.iter().for_each(|row| self.take(row));
        }
        let count = most.min(self.waiting.len());
        Ok(self.waiting.drain(..count).collect())
    }

    /// Puts keys back that are to be tried again.
    pub(super) fn put_back(&mut self, keys: Vec<RoutedKey>) {
        keys.into_iter()
            .rev()
            .for_each(|key| self.waiting.push_front(key));
    }

    fn take(&mut self, row: &WarmRow) {
        match self.key_of(row) {
            Ok(key) => self.waiting.push_back(key),
            Err(why) => self.tally.fail(|| why),
        }
    }

    /// Err: why it is none.
    fn key_of(&self, row: &WarmRow) -> Result<RoutedKey, String> {
        let values: Option<Vec<&str>> = row.iter().map(Option::as_deref).collect();
        let values = values.ok_or("a column is NULL, which no key can have")?;
        let key = self.plan.key.render(&values);
        let key = key.map_err(|error| error.to_string())?;
        let route = self.router.route(key.as_bytes());
        let route = route.map_err(|error| error.to_string())?;
        if route.space != self.plan.space {
            return Err(format!("`{key}` is a key of another cache"));
        }
        Ok(route.with_key(Bytes::from(key)))
    }
}
