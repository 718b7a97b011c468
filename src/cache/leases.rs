//! The scripts over values and leases, with types.

use super::parts::{MAX_PART_KEYS, Part};
use super::spaces::{Index, Space};
use crate::keyspace::names::{JOURNAL, LEASE_INDEX, copy_of, lease_of, pending_of};
use crate::store::{Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What a remembered missing row looks like in Redis.
pub const MISSING: &[u8] = b"null";

/// Stands before every script that hands out leases.
const NOTE: &str = include_str!("scripts/note_leases.lua");

/// Stands before every script that stores values.
const LIST: &str = include_str!("scripts/list_values.lua");

/// No value has as much of its life left.
const FOR_EVER: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// A load's random token, new for every load.
pub type Token = [u8; 16];

/// The scripts of this room.
#[derive(Debug)]
pub struct Scripts {
    acquire: Script,
    acquire_to_warm: Script,
    end: Script,
    invalidate: Script,
    put: Script,
    accept: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self::with_end(include_str!("scripts/end_leases.lua"))
    }
}

impl Scripts {
    /// The scripts with another text for `end_leases`: for a test's negative control, which must see stale values once
    /// nobody checks the lease. Nothing else has a use for it.
    #[doc(hidden)]
    pub fn with_end(end: &str) -> Self {
        Self {
            acquire: Script::new(
                "acquire_leases",
                &[NOTE, include_str!("scripts/acquire_leases.lua")].concat(),
            ),
            acquire_to_warm: Script::new(
                "acquire_to_warm",
                &[NOTE, include_str!("scripts/acquire_to_warm.lua")].concat(),
            ),
            end: Script::new("end_leases", &[LIST, end].concat()),
            invalidate: Script::new(
                "invalidate_keys",
                include_str!("scripts/invalidate_keys.lua"),
            ),
            put: Script::new(
                "put_values",
                &[LIST, include_str!("scripts/put_values.lua")].concat(),
            ),
            accept: Script::new("accept_writes", include_str!("scripts/accept_writes.lua")),
        }
    }
}

/// The answer of the acquire script for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// A write that is not in Postgres yet says what is there; `None`: nothing.
    Pending(Option<Bytes>),
    /// The value is there and accepted, with so much life left.
    There { value: Bytes, left: Duration },
    /// The lease is ours.
    Taken,
    /// Another load holds it.
    Held,
}

/// The answer for one key that is to be warmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The lease is ours.
    Taken,
    /// Another load holds it.
    Held,
    /// The value has life enough.
    Fresh,
}

/// Which values need not be loaded anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accept {
    /// Whatever has at least so much life left. What is remembered to be missing always.
    Left(Duration),
    /// None.
    Nothing,
}

impl Accept {
    /// As the script is told, in milliseconds.
    fn least(self) -> Bytes {
        match self {
            Accept::Left(least) => {
                Bytes::from(itoa::Buffer::new().format(least.as_millis()).to_owned())
            }
            Accept::Nothing => Bytes::from_static(b"-1"),
        }
    }
}

/// On what terms leases of a space are taken.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long a lease lives.
    pub life: Duration,
    pub accept: Accept,
    /// Whether writes may be pending.
    pub is_journaled: bool,
}

/// What becomes of a key's value at the end of its load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fill {
    /// It is stored, for so long.
    Store(Bytes, Duration),
    /// What may be there is outdated, and nothing is stored in its place.
    Remove,
    /// What may be there stays.
    Leave,
}

/// One key at the end of its load.
#[derive(Clone, Debug)]
pub struct Ending {
    pub key: Bytes,
    pub fill: Fill,
}

impl Ending {
    /// Only gives the lease back.
    pub fn bare(key: Bytes) -> Self {
        let fill = Fill::Leave;
        Self { key, fill }
    }

    /// How many bytes of a value it carries.
    pub(super) fn bytes(&self) -> usize {
        match &self.fill {
            Fill::Store(value, _) => value.len(),
            Fill::Remove | Fill::Leave => 0,
        }
    }
}

/// Leases over one Redis.
#[derive(Clone)]
pub struct Leases {
    store: Store,
    scripts: Arc<Scripts>,
}

impl Leases {
    /// Leases on `store`.
    pub fn new(store: Store, scripts: Arc<Scripts>) -> Self {
        Self { store, scripts }
    }

    /// A token nobody has used.
    pub fn new_token() -> Token {
        *Uuid::new_v4().as_bytes()
    }

    /// Before a load: value, lease or neither, for at most `MAX_PART_KEYS` keys. A value that `accept` does not take is
    /// left where it is, and its lease is taken.
    ///
    /// # Errors
    /// See [`StoreError`]; leases that may have been taken all the same expire by themselves.
    pub async fn acquire(
        &self,
        keys: &[Bytes],
        token: &Token,
        terms: Terms,
    ) -> Result<Vec<Lease>, StoreError> {
        let life = millis(terms.life);
        let script = &self.scripts.acquire;
        let mut names = names(keys);
        let flag: &[u8] = if terms.is_journaled { b"1" } else { b"0" };
        if terms.is_journaled {
            names.extend(keys.iter().map(|key| Bytes::from(pending_of(key))));
        }
        let reply = self
            .store
            .run(
                script,
                &names,
                &[life.as_bytes(), token, &terms.accept.least(), flag],
            )
            .await?;
        let answers = reply.into_list().unwrap_or_default();
        let leases: Option<Vec<_>> = answers.into_iter().map(lease).collect();
        leases
            .filter(|leases| leases.len() == keys.len())
            .ok_or(StoreError::Unexpected {
                command: script.name(),
            })
    }

    /// Before keys are warmed, at most `MAX_PART_KEYS` of them: takes the leases of those whose values have less than `enough`
    /// of their lives left, a key each. What `is_journaled` may have a write that is not in Postgres yet, and is left alone then.
    ///
    /// # Errors
    /// See [`StoreError`]; leases that may have been taken all the same expire by themselves.
    pub async fn acquire_to_warm(
        &self,
        keys: &[Bytes],
        enough: &[Duration],
        token: &Token,
        (life, is_journaled): (Duration, bool),
    ) -> Result<Vec<Wish>, StoreError> {
        let mut args = Vec::with_capacity(2 + enough.len());
        args.push(Bytes::from(millis(life)));
        args.push(Bytes::copy_from_slice(token));
        let enough = enough.iter().map(|enough| (*enough).min(FOR_EVER));
        args.extend(enough.map(|enough| Bytes::from(millis(enough))));
        let script = &self.scripts.acquire_to_warm;
        let mut names = names(keys);
        if is_journaled {
            names.extend(keys.iter().map(|key| Bytes::from(pending_of(key))));
        }
        let reply = self.store.run(script, &names, &args).await?;
        let answers = reply.into_list().unwrap_or_default();
        let wishes = answers.iter().map(|answer| match answer {
            Reply::Integer(0) => Some(Wish::Held),
            Reply::Integer(1) => Some(Wish::Taken),
            Reply::Integer(2) => Some(Wish::Fresh),
            _ => None,
        });
        let wishes: Option<Vec<_>> = wishes.collect();
        wishes
            .filter(|wishes| wishes.len() == keys.len())
            .ok_or(StoreError::Unexpected {
                command: script.name(),
            })
    }

    /// After a load: fills what is still under the lease and gives the leases back. `true` = the lease was ours. All keys
    /// are of one `space`.
    ///
    /// # Errors
    /// See [`StoreError`]; what was sent may have run. A Redis that refuses the values gets the leases back all the same.
    pub async fn end(
        &self,
        endings: &[Ending],
        token: &Token,
        space: &Space,
    ) -> Result<Vec<bool>, StoreError> {
        let ended = self.end_once(endings, token, space).await;
        if matches!(ended, Err(StoreError::Refused { .. })) {
            // Out of memory, it still deletes. A lease that stayed would have readers wait for a load that is over.
            let keys = endings.iter().map(|ending| ending.key.clone());
            let bare: Vec<_> = keys.map(Ending::bare).collect();
            // If this fails too, the leases expire by themselves.
            let _expires = self.end_once(&bare, token, space).await;
        }
        ended
    }

    async fn end_once(
        &self,
        endings: &[Ending],
        token: &Token,
        space: &Space,
    ) -> Result<Vec<bool>, StoreError> {
        let keys: Vec<_> = endings.iter().map(|ending| ending.key.clone()).collect();
        let mut args: Vec<Bytes> = vec![Bytes::copy_from_slice(token)];
        for ending in endings {
            let (value, life) = match &ending.fill {
                Fill::Store(value, life) => (value.clone(), Bytes::from(millis(*life))),
                Fill::Remove => (Bytes::new(), Bytes::from_static(b"-1")),
                Fill::Leave => (Bytes::new(), Bytes::from_static(b"0")),
            };
            args.extend([life, value]);
        }
        args.push(space.index.flag());
        let script = &self.scripts.end;
        let mut names = names_with(&keys, &space.index);
        if space.windows.keeps_invalidated {
            names.extend(keys.iter().map(|key| Bytes::from(copy_of(key))));
        }
        let reply = self.store.run(script, &names, &args).await?;
        let answers = reply.into_list().unwrap_or_default();
        let ours: Option<Vec<_>> = answers
            .iter()
            .map(|answer| answer.as_integer().map(|ours| ours == 1))
            .collect();
        ours.filter(|ours| ours.len() == endings.len())
            .ok_or(StoreError::Unexpected {
                command: script.name(),
            })
    }

    /// Invalidates keys by name; how many values were there.
    ///
    /// # Errors
    /// See [`StoreError`]; some of the keys may have been invalidated.
    pub async fn invalidate(&self, keys: &[Bytes]) -> Result<u64, StoreError> {
        let mut removed = 0;
        for keys in keys.chunks(MAX_PART_KEYS) {
            let none: [&[u8]; 0] = [];
            let script = &self.scripts.invalidate;
            let reply = self.store.run(script, &names(keys), &none).await?;
            removed += count(&reply, script)?;
        }
        Ok(removed)
    }

    /// Puts writes into the journal, and makes them what their keys say; each with its key, the name of its cache, and its value
    /// (`None`: deleted), for at most one part. `false`: the journal holds `limit` writes, or would.
    ///
    /// # Errors
    /// See [`StoreError`]; they may have been accepted.
    pub async fn accept_writes<'a>(
        &self,
        writes: impl Iterator<Item = (&'a Bytes, &'a [u8], Option<&'a Bytes>)>,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let mut keys = Vec::new();
        let mut args = vec![Bytes::from(limit.to_string())];
        for (key, cache, value) in writes {
            keys.push(key.clone());
            let op: &'static [u8] = if value.is_some() { b"set" } else { b"delete" };
            args.extend([
                Bytes::from(Uuid::new_v4().to_string()),
                Bytes::copy_from_slice(cache),
                Bytes::from_static(op),
                value.cloned().unwrap_or_default(),
            ]);
        }
        let mut names = names(&keys);
        names.extend(keys.iter().map(|key| Bytes::from(pending_of(key))));
        names.push(Bytes::from_static(JOURNAL.as_bytes()));
        names.extend(keys.iter().map(|key| Bytes::from(copy_of(key))));
        let script = &self.scripts.accept;
        let reply = self.store.run(script, &names, &args).await?;
        Ok(count(&reply, script)? == 1)
    }

    /// Stores values that a program brought, all of one `index`.
    ///
    /// # Errors
    /// See [`StoreError`]; some of the values may have been stored.
    pub async fn put(
        &self,
        values: &[(Bytes, Bytes, Duration)],
        index: &Index,
    ) -> Result<(), StoreError> {
        let mut rest = values;
        while !rest.is_empty() {
            let part = Part::first(rest.iter().map(|(_, value, _)| value.len()));
            let (values, after) = rest.split_at(part.keys);
            rest = after;
            let keys: Vec<_> = values.iter().map(|(key, ..)| key.clone()).collect();
            let args: Vec<_> = values
                .iter()
                .flat_map(|(_, value, life)| [Bytes::from(millis(*life)), value.clone()])
                .chain([index.flag()])
                .collect();
            let script = &self.scripts.put;
            let names = names_with(&keys, index);
            let reply = self.store.run(script, &names, &args).await?;
            count(&reply, script)?;
        }
        Ok(())
    }
}

/// The KEYS every script of this room takes: the index, the values, their leases.
fn names(keys: &[Bytes]) -> Vec<Bytes> {
    let mut names = Vec::with_capacity(1 + 2 * keys.len());
    names.push(Bytes::from_static(LEASE_INDEX.as_bytes()));
    names.extend_from_slice(keys);
    names.extend(keys.iter().map(|key| Bytes::from(lease_of(key))));
    names
}

/// The same for scripts that store values.
fn names_with(keys: &[Bytes], index: &Index) -> Vec<Bytes> {
    let mut names = names(keys);
    names.push(index.name.clone());
    names
}

fn lease(answer: Reply) -> Option<Lease> {
    match answer {
        Reply::Integer(1) => Some(Lease::Taken),
        Reply::Integer(0) => Some(Lease::Held),
        Reply::List(mut pending) if pending.len() < 2 => match pending.pop() {
            None => Some(Lease::Pending(None)),
            Some(Reply::Text(value)) => Some(Lease::Pending(Some(value))),
            Some(_) => None,
        },
        Reply::List(there) => {
            let there: [Reply; 2] = there.try_into().ok()?;
            let [Reply::Text(value), Reply::Integer(left)] = there else {
                return None;
            };
            let left = Duration::from_millis(u64::try_from(left).unwrap_or(0));
            Some(Lease::There { value, left })
        }
        _ => None,
    }
}

fn count(reply: &Reply, script: &Script) -> Result<u64, StoreError> {
    reply
        .as_integer()
        .and_then(|count| u64::try_from(count).ok())
        .ok_or(StoreError::Unexpected {
            command: script.name(),
        })
}

fn millis(life: Duration) -> String {
    itoa::Buffer::new()
        .format(life.as_millis().max(1))
        .to_owned()
}
