//! The keys of one run: those that were asked for most, then what Postgres gives, turned into keys of the cache; what is none is
//! counted and left out.

use super::WarmError;
use super::board::Tally;
use super::plan::Plan;
use super::run::Tools;
use crate::keyspace::{RoutedKey, Router};
use crate::repository::{WarmCursor, WarmRow};
use bytes::Bytes;
use std::collections::{HashSet, VecDeque};
use std::sync::atomic::Ordering::Relaxed;

/// The keys that are left. Of any number of them a page is in memory.
pub(super) struct Keys<'a> {
    plan: &'a Plan,
    router: &'a Router,
    tally: &'a Tally,
    cursor: Option<WarmCursor>,
    /// Those that come first, and not once more.
    hot: HashSet<Bytes>,
    waiting: VecDeque<RoutedKey>,
}

impl<'a> Keys<'a> {
    pub(super) async fn open(
        plan: &'a Plan,
        tools: &'a Tools,
        tally: &'a Tally,
    ) -> Result<Self, WarmError> {
        let mut keys = Self {
            plan,
            router: &tools.router,
            tally,
            cursor: None,
            hot: HashSet::new(),
            waiting: VecDeque::new(),
        };
        if plan.has_one_key() {
            tally.of.store(1, Relaxed);
            keys.take(&Vec::new());
            return Ok(keys);
        }
        keys.recall(tools).await?;
        if plan.has_query {
            let cursor = tools.source.open(plan.cache).await?;
            tally.of.fetch_add(cursor.total, Relaxed);
            keys.cursor = Some(cursor);
        }
        Ok(keys)
    }

    /// Those that were asked for most come first. Where others come, too, they are not worth a run that fails.
    async fn recall(&mut self, tools: &Tools) -> Result<(), WarmError> {
        let (cache, most) = (&self.plan.name, self.plan.warm.hot);
        if most == 0 {
            return Ok(());
        }
        let recalled = match tools.hot.recall(cache, most).await {
            Err(error) if self.plan.has_query => {
                tracing::warn!(%error, "the hottest keys of `{cache}` are not warmed first");
                return Ok(());
            }
            recalled => recalled?,
        };
        // What the cache has no such keys for any more was declared otherwise when it was remembered.
        let keys = recalled.into_iter().filter_map(|key| self.own(key).ok());
        self.waiting = keys.collect();
        self.hot = self.waiting.iter().map(|key| key.key.clone()).collect();
        self.tally.of.store(self.waiting.len() as u64, Relaxed);
        Ok(())
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
            Ok(key) if self.hot.contains(&key.key) => _ = self.tally.of.fetch_sub(1, Relaxed),
            Ok(key) => self.waiting.push_back(key),
            Err(why) => self.tally.fail(|| why),
        }
    }

    /// Err: why it is none.
    fn key_of(&self, row: &WarmRow) -> Result<RoutedKey, String> {
        let values: Option<Vec<&str>> = row.iter().map(Option::as_deref).collect();
        let values = values.ok_or("a column is NULL, which no key can have")?;
        let key = self.plan.key.render(&values);
        self.own(key.map_err(|error| error.to_string())?)
    }

    /// Err: why it is none of this cache.
    fn own(&self, key: String) -> Result<RoutedKey, String> {
        let route = self.router.route(key.as_bytes());
        let route = route.map_err(|error| error.to_string())?;
        if route.space != self.plan.space {
            return Err(format!("`{key}` is a key of another cache"));
        }
        Ok(route.with_key(Bytes::from(key)))
    }
}
