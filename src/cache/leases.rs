//! The four scripts over values and leases, with types.

use super::parts::{MAX_PART_KEYS, Part};
use super::spaces::Index;
use crate::keyspace::names::{LEASE_INDEX, lease_of};
use crate::store::{Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// What a remembered missing row looks like in Redis.
pub const MISSING: &[u8] = b"null";

/// Stands before every script that stores values.
const LIST: &str = include_str!("scripts/list_values.lua");

/// A load's random token, new for every load.
pub type Token = [u8; 16];

/// The scripts of this room.
#[derive(Debug)]
pub struct Scripts {
    acquire: Script,
    end: Script,
    invalidate: Script,
    put: Script,
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
            acquire: Script::new("acquire_leases", include_str!("scripts/acquire_leases.lua")),
            end: Script::new("end_leases", &[LIST, end].concat()),
            invalidate: Script::new(
                "invalidate_keys",
                include_str!("scripts/invalidate_keys.lua"),
            ),
            put: Script::new(
                "put_values",
                &[LIST, include_str!("scripts/put_values.lua")].concat(),
            ),
        }
    }
}

/// The answer of the acquire script for one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lease {
    /// The value is there, with so much life left.
    There { value: Bytes, left: Duration },
    /// The lease is ours.
    Taken,
    /// Another load holds it.
    Held,
}

/// One key at the end of its load.
#[derive(Clone, Debug)]
pub struct Ending {
    pub key: Bytes,
    /// The value and its life; `None` only gives the lease back.
    pub fill: Option<(Bytes, Duration)>,
}

impl Ending {
    /// Only gives the lease back.
    pub fn bare(key: Bytes) -> Self {
        Self { key, fill: None }
    }

    /// How many bytes of a value it carries.
    pub(super) fn bytes(&self) -> usize {
        self.fill.as_ref().map_or(0, |(value, _)| value.len())
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

    /// Before a load: value, lease or neither, for at most `MAX_PART_KEYS` keys.
    ///
    /// # Errors
    /// See [`StoreError`]; leases that may have been taken all the same expire by themselves.
    pub async fn acquire(
        &self,
        keys: &[Bytes],
        token: &Token,
        life: Duration,
    ) -> Result<Vec<Lease>, StoreError> {
        let life = millis(life);
        let script = &self.scripts.acquire;
        let reply = self
            .store
            .run(script, &names(keys), &[life.as_bytes(), token])
            .await?;
        let answers = reply.into_list().unwrap_or_default();
        let leases: Option<Vec<_>> = answers.into_iter().map(lease).collect();
        leases
            .filter(|leases| leases.len() == keys.len())
            .ok_or(StoreError::Unexpected {
                command: script.name(),
            })
    }

    /// After a load: fills what is still under the lease and gives the leases back. `true` = the lease was ours. All keys
    /// are of one `index`.
    ///
    /// # Errors
    /// See [`StoreError`]; what was sent may have run. A Redis that refuses the values gets the leases back all the same.
    pub async fn end(
        &self,
        endings: &[Ending],
        token: &Token,
        index: &Index,
    ) -> Result<Vec<bool>, StoreError> {
        let ended = self.end_once(endings, token, index).await;
        if matches!(ended, Err(StoreError::Refused { .. })) {
            // Out of memory, it still deletes. A lease that stayed would have readers wait for a load that is over.
            let keys = endings.iter().map(|ending| ending.key.clone());
            let bare: Vec<_> = keys.map(Ending::bare).collect();
            // If this fails too, the leases expire by themselves.
            let _expires = self.end_once(&bare, token, index).await;
        }
        ended
    }

    async fn end_once(
        &self,
        endings: &[Ending],
        token: &Token,
        index: &Index,
    ) -> Result<Vec<bool>, StoreError> {
        let keys: Vec<_> = endings.iter().map(|ending| ending.key.clone()).collect();
        let mut args: Vec<Bytes> = vec![Bytes::copy_from_slice(token)];
        for ending in endings {
            let (value, life) = match &ending.fill {
                Some((value, life)) => (value.clone(), Bytes::from(millis(*life))),
                None => (Bytes::new(), Bytes::from_static(b"0")),
            };
            args.extend([life, value]);
        }
        args.push(index.flag());
        let script = &self.scripts.end;
        let names = names_with(&keys, index);
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
