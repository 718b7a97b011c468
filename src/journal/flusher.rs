//! Saves what stands in the journal, while this daemon leads.

use super::entry::{Entry, Place};
use super::error::JournalError;
use super::line::{Fate, Group, Line, MEND_WITHIN, Write, groups};
use super::scripts::{Journal, MAX_WRITES, Page};
use super::{JournalParts, Stop};
use crate::cache::Read;
use crate::keyspace::RoutedKey;
use crate::repository::{DeadWrite, LateWrite, Refusal, Remedy, SaveError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys that are aside and tried again, before new writes have their turn.
const RETRIES: usize = 16;
/// How long a transaction of many waits for a lock: meanwhile all others wait behind it.
const LOCK_WAIT: Duration = Duration::from_millis(500);
/// The same for a key that was put aside.
const LOCK_WAIT_ASIDE: Duration = Duration::from_millis(50);
/// Dead writes that are counted.
const MAX_DEAD: usize = 10_000;

/// What a look at the journal found.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Its first write that was read.
    pub(super) first: Option<Place>,
    /// Where it ended.
    pub(super) last: Option<Place>,
}

/// One term as leader.
pub(super) struct Flusher<'a> {
    parts: &'a JournalParts,
    journal: &'a Journal,
    fence: i64,
    line: Line,
    /// Redis' clock, in milliseconds, and when it was seen.
    clock: (u64, Instant),
}

impl<'a> Flusher<'a> {
    pub(super) fn new(parts: &'a JournalParts, journal: &'a Journal, fence: i64) -> Self {
        Self {
            parts,
            journal,
            fence,
            line: Line::default(),
            clock: (0, Instant::now()),
        }
    }

    /// Begins anew with the journal's beginning.
    pub(super) fn start_over(&mut self) {
        self.line = Line::default();
    }

    /// How many keys were put aside, and wait for another try.
    pub(super) fn aside(&self) -> usize {
        self.line.aside()
    }

    /// When the next of them is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.line.next_due()
    }

    /// Saves the next writes of the journal, and tries again what is due.
    pub(super) async fn pass(&mut self) -> Result<Look, JournalError> {
        for _ in 0..RETRIES {
            match self.line.due(Instant::now()) {
                Some(write) => self.try_again(write).await?,
                None => break,
            }
        }
        let limit = if self.line.has_room() { MAX_WRITES } else { 0 };
        let page = self.journal.read(self.line.after(), limit).await?;
        self.clock = (page.now_ms, Instant::now());
        self.observe(&page);
        let look = Look {
            first: page.entries.first().map(|entry| entry.place),
            last: page.last,
        };
        match page.entries.last() {
            Some(last) => self.line.read_up_to(last.place),
            None if limit > 0 && self.line.left() > 0 && self.line.aside() == 0 => {
                return Err(JournalError::Foreign);
            }
            None => {}
        }
        let writes = self.receive(page.entries).await?;
        let ready = self.line.sort(writes);
        self.save(groups(ready)).await?;
        self.line.forget_place();
        Ok(look)
    }

    /// What was read, with where it leads here. What leads nowhere is left, for as long as another daemon may know more; what
    /// nobody can read is put away.
    async fn receive(&mut self, entries: Vec<Entry>) -> Result<Vec<Write>, JournalError> {
        let mut writes = Vec::with_capacity(entries.len());
        for entry in entries {
            let (id, value) = match entry.change() {
                Ok(change) => change,
                Err(why) => {
                    self.bury(&entry, &refusal(why.to_owned(), Remedy::None), 0)
                        .await?;
                    continue;
                }
            };
            match self.route(&entry.key, value.is_some()) {
                Some(key) => writes.push(Write {
                    entry,
                    id,
                    key,
                    value,
                }),
                None if self.age(&entry) < MEND_WITHIN => self.line.leave(),
                None => {
                    let why = "no daemon declares a cache that saves it".to_owned();
                    self.bury(&entry, &refusal(why, Remedy::Mend), 0).await?;
                }
            }
        }
        Ok(writes)
    }

    /// By the key, for a cache may have been given another name since.
    fn route(&self, key: &Bytes, is_save: bool) -> Option<RoutedKey> {
        let route = self.parts.router.route(key).ok()?;
        let key = route.with_key(key.clone());
        self.parts.writer.knows(&key, is_save).then_some(key)
    }

    /// Saves groups together, and without those that are refused.
    async fn save(&mut self, groups: Vec<Group>) -> Result<(), JournalError> {
        let mut parts = vec![groups];
        let mut lock_wait = LOCK_WAIT;
        while let Some(mut part) = parts.pop() {
            if part.is_empty() {
                continue;
            }
            let writes: Vec<LateWrite> = part.iter().filter_map(Group::newest).collect();
            let refusal = match self.write(writes, lock_wait).await? {
                Ok(()) => {
                    let writes = part.into_iter().flat_map(|group| group.0);
                    let entries: Vec<Entry> = writes.map(|write| write.entry).collect();
                    self.journal.complete(&entries).await?;
                    continue;
                }
                Err(refusal) => refusal,
            };
            // There may be more of them, and others wait behind each.
            lock_wait = LOCK_WAIT_ASIDE;
            match refusal.at {
                // Those before it had nothing against them: they go first, and the rest after them.
                Some(at) if at < part.len() => {
                    let mut rest = part.split_off(at);
                    let refused = rest.remove(0);
                    self.put_aside(refused, &refusal);
                    parts.extend([rest, part]);
                }
                // Refused as a whole: halving tells who it was.
                _ if part.len() > 1 => {
                    let rest = part.split_off(part.len() / 2);
                    parts.extend([rest, part]);
                }
                _ => {
                    for refused in part {
                        self.put_aside(refused, &refusal);
                    }
                }
            }
        }
        Ok(())
    }

    /// Runs a transaction. Ok(Err): one of the writes was refused.
    async fn write(
        &self,
        writes: Vec<LateWrite>,
        lock_wait: Duration,
    ) -> Result<Result<(), Refusal>, JournalError> {
        let keys: Vec<RoutedKey> = writes.iter().map(|write| write.key.clone()).collect();
        match self.parts.writer.save(self.fence, writes, lock_wait).await {
            Ok(saved) => {
                let counters = &self.parts.metrics.journal;
                counters.counted("saved", saved.saved);
                counters.counted("superseded", saved.superseded);
                counters.counted("repeated", saved.repeated);
                self.renew(keys);
                Ok(Ok(()))
            }
            Err(SaveError::Refused(refusal)) => Ok(Err(refusal)),
            Err(SaveError::Away(why)) => Err(JournalError::Database(why)),
            Err(SaveError::Fenced(why)) => Err(JournalError::Fenced(why)),
        }
    }

    fn put_aside(&mut self, group: Group, refusal: &Refusal) {
        if let Some(write) = group.0.last() {
            let key = String::from_utf8_lossy(&write.entry.key);
            tracing::warn!(%key, error = %refusal, "a write of the journal is refused; it is tried again");
        }
        self.line.put_aside(group, Instant::now());
    }

    /// One write alone, whose key was put aside.
    async fn try_again(&mut self, write: Write) -> Result<(), JournalError> {
        let key = write.key.key.clone();
        let alone = Group(vec![write.clone()]);
        let refused = match alone.newest() {
            Some(write) => self.write(vec![write], LOCK_WAIT_ASIDE).await?,
            None => Ok(()),
        };
        match refused {
            Ok(()) => self.journal.complete(&[write.entry]).await?,
            Err(refusal) => {
                let age = self.age(&write.entry);
                match self.line.refused(&key, &refusal, age, Instant::now()) {
                    Fate::Later => return Ok(()),
                    Fate::Dead(attempts) => self.bury(&write.entry, &refusal, attempts).await?,
                }
            }
        }
        self.line.settled(&key, Instant::now());
        Ok(())
    }

    /// Puts a write where people look for it, and forgets it.
    async fn bury(
        &mut self,
        entry: &Entry,
        refusal: &Refusal,
        attempts: u32,
    ) -> Result<(), JournalError> {
        let dead = dead(entry, refusal, attempts);
        tracing::error!(
            cache = dead.cache,
            key = dead.key,
            error = dead.error,
            "an acknowledged write cannot be saved; it is put aside in cachewarden.dead_writes"
        );
        let buried = self.parts.writer.bury(self.fence, dead).await;
        buried.map_err(|error| match error {
            SaveError::Fenced(why) => JournalError::Fenced(why),
            other => JournalError::Database(other.to_string()),
        })?;
        self.parts.metrics.journal.counted("dead", 1);
        self.journal.complete(std::slice::from_ref(entry)).await?;
        self.count_dead().await;
        Ok(())
    }

    /// Tells how many writes were put aside for good.
    pub(super) async fn count_dead(&self) {
        if let Ok(dead) = self.parts.writer.count_dead(MAX_DEAD).await {
            let dead = i64::try_from(dead).unwrap_or(i64::MAX);
            self.parts.metrics.journal.dead.set(dead);
        }
    }

    /// Reads keys whose caches want that after a save.
    fn renew(&self, mut keys: Vec<RoutedKey>) {
        keys.retain(|key| self.parts.writer.renews(key));
        if let (Some(cache), false) = (self.parts.caches.first(), keys.is_empty()) {
            let read = Read {
                keys: Arc::from(keys),
                with_age: false,
            };
            // Without it the next reader loads them.
            let _or_later = cache.read.tell(read);
        }
    }

    fn age(&self, entry: &Entry) -> Duration {
        let (ms, seen) = self.clock;
        Duration::from_millis(ms.saturating_sub(entry.place.ms)) + seen.elapsed()
    }

    fn observe(&self, page: &Page) {
        let journal = &self.parts.metrics.journal;
        journal.observe(page.length);
        // Only what is read from the beginning on tells of the oldest.
        if let (None, oldest) = (self.line.after(), page.entries.first()) {
            let lag = oldest.map(|oldest| self.age(oldest)).unwrap_or_default();
            journal.lag.set(lag.as_secs_f64());
        }
    }
}

fn refusal(message: String, remedy: Remedy) -> Refusal {
    Refusal {
        at: None,
        message,
        sqlstate: None,
        remedy,
    }
}

/// As a table can hold it: no text has a NUL.
fn dead(entry: &Entry, refusal: &Refusal, attempts: u32) -> DeadWrite {
    let text = |bytes: &Bytes| String::from_utf8_lossy(bytes).replace('\0', "\u{fffd}");
    let id = entry.change().map(|(id, _)| id);
    DeadWrite {
        id: id.unwrap_or_else(|_| uuid::Uuid::new_v4()),
        cache: text(&entry.cache),
        key: text(&entry.key),
        op: text(&entry.op),
        value: (entry.op.as_ref() != b"delete").then(|| text(&entry.value)),
        error: refusal.message.clone(),
        sqlstate: refusal.sqlstate.clone(),
        attempts,
    }
}

impl Stop {
    /// Whether what stood in the journal at the stop is not there any more.
    pub(super) fn is_served(&mut self, look: Look, aside: usize) -> bool {
        let mark = *self.mark.get_or_insert(look.last);
        let first = look.first.filter(|first| Some(*first) <= mark);
        first.is_none() && aside == 0
    }
}
