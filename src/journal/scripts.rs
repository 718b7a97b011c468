//! The two scripts over the journal, with types.

use super::entry::{Entry, Place};
use crate::keyspace::names::{JOURNAL, LEASE_INDEX, lease_of, pending_of};
use crate::store::{Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::sync::Arc;

/// Writes that go in one script, and in one transaction.
pub(super) const MAX_WRITES: usize = 256;
/// Bytes of values in one reply, unless a single one has more.
const MAX_BYTES: usize = 4 << 20;

/// What was read at once.
#[derive(Clone, Debug)]
pub struct Page {
    /// Redis' clock, in milliseconds.
    pub now_ms: u64,
    /// How many writes the journal holds.
    pub length: u64,
    /// Where its last one stands.
    pub last: Option<Place>,
    pub entries: Vec<Entry>,
}

/// The journal in one Redis. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    store: Store,
    read: Arc<Script>,
    complete: Arc<Script>,
}

impl Journal {
    pub fn new(store: Store) -> Self {
        let read = include_str!("scripts/read_journal.lua");
        let complete = include_str!("scripts/complete_writes.lua");
        Self {
            store,
            read: Arc::new(Script::new("read_journal", read)),
            complete: Arc::new(Script::new("complete_writes", complete)),
        }
    }

    /// The writes behind `after`, `limit` at most.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read(&self, after: Option<Place>, limit: usize) -> Result<Page, StoreError> {
        let from = after.map_or("-".to_owned(), |place| format!("({place}"));
        let (limit, bytes) = (limit.min(MAX_WRITES).to_string(), MAX_BYTES.to_string());
        let args = [from, limit, bytes];
        let reply = self.store.run(&self.read, &[JOURNAL], &args).await?;
        page(reply).ok_or(StoreError::Unexpected {
            command: self.read.name(),
        })
    }

    /// Removes writes that are saved or put aside, and what is pending of them.
    ///
    /// # Errors
    /// See [`StoreError`]; what is left is read again.
    pub async fn complete(&self, entries: &[Entry]) -> Result<(), StoreError> {
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_unstable_by_key(|entry| entry.place);
        for entries in entries.chunks(MAX_WRITES) {
            let keys = || entries.iter().map(|entry| &entry.key);
            let mut names = vec![Bytes::from_static(LEASE_INDEX.as_bytes())];
            names.extend(keys().cloned());
            names.extend(keys().map(|key| Bytes::from(lease_of(key))));
            names.extend(keys().map(|key| Bytes::from(pending_of(key))));
            names.push(Bytes::from_static(JOURNAL.as_bytes()));
            let args = entries
                .iter()
                .flat_map(|entry| [Bytes::from(entry.place.to_string()), entry.id.clone()]);
            let args: Vec<Bytes> = args.collect();
            self.store.run(&self.complete, &names, &args).await?;
        }
        Ok(())
    }
}

fn page(reply: Reply) -> Option<Page> {
    let mut items = reply.into_list()?.into_iter();
    let mut number = || u64::try_from(items.next()?.as_integer()?).ok();
    let (now_ms, length) = (number()?, number()?);
    let last = place(items.next()?);
    let entries = items.map(entry).collect::<Option<_>>()?;
    Some(Page {
        now_ms,
        length,
        last,
        entries,
    })
}

fn place(reply: Reply) -> Option<Place> {
    let Reply::Text(text) = reply else {
        return None;
    };
    std::str::from_utf8(&text).ok()?.parse().ok()
}

fn entry(reply: Reply) -> Option<Entry> {
    let [at, fields]: [Reply; 2] = reply.into_list()?.try_into().ok()?;
    let mut entry = Entry {
        place: place(at)?,
        id: Bytes::new(),
        cache: Bytes::new(),
        key: Bytes::new(),
        op: Bytes::new(),
        value: Bytes::new(),
    };
    let mut fields = fields.into_list()?.into_iter();
    while let (Some(Reply::Text(name)), Some(Reply::Text(value))) = (fields.next(), fields.next()) {
        match name.as_ref() {
            b"id" => entry.id = value,
            b"cache" => entry.cache = value,
            b"key" => entry.key = value,
            b"op" => entry.op = value,
            b"value" => entry.value = value,
            _ => {}
        }
    }
    Some(entry)
}
