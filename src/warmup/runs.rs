//! The fleet's notes of what was warmed, in Redis, and the one clock that all daemons go by.

use crate::keyspace::names;
use crate::store::{Reply, Script, Store, StoreError};
use std::time::Duration;

/// How long a note outlives its run: longer than the longest `every`, so that a slot is not run again.
const NOTE_LIFE: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// What is known of the last run, and when that was asked. All in milliseconds since 1970 by Redis' clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Look {
    pub(super) now: u64,
    /// All slots up to this one are over.
    pub(super) slot: Option<u64>,
    pub(super) began: Option<u64>,
    pub(super) ended: Option<u64>,
}

/// A run that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) fence: i64,
    pub(super) slot: Option<u64>,
    pub(super) began: u64,
    pub(super) ended: u64,
}

/// The notes of one cache.
pub(super) struct Runs {
    store: Store,
    key: Vec<u8>,
    look: Script,
    note: Script,
}

impl Runs {
    pub(super) fn new(store: Store, cache: &str) -> Self {
        Self {
            store,
            key: names::warmed_of(cache),
            look: Script::new("look_at_run", include_str!("scripts/look_at_run.lua")),
            note: Script::new("note_run", include_str!("scripts/note_run.lua")),
        }
    }

    pub(super) async fn look(&self) -> Result<Look, StoreError> {
        let none: [&[u8]; 0] = [];
        let reply = self.store.run(&self.look, &[&self.key], &none).await?;
        let numbers = reply.into_list().unwrap_or_default();
        let number = |reply: &Reply| reply.as_integer();
        let numbers: Vec<i64> = numbers.iter().filter_map(number).collect();
        let [now, slot, began, ended] = numbers[..] else {
            return Err(StoreError::Unexpected {
                command: self.look.name(),
            });
        };
        let known = |ms: i64| u64::try_from(ms).ok();
        Ok(Look {
            now: known(now).unwrap_or_default(),
            slot: known(slot),
            began: known(began),
            ended: known(ended),
        })
    }

    /// Whether it was noted: nobody with a later fence was before us.
    pub(super) async fn note(&self, note: Note) -> Result<bool, StoreError> {
        let slot = note.slot.map_or("-1".to_owned(), |slot| slot.to_string());
        let args = [
            note.fence.to_string(),
            slot,
            note.began.to_string(),
            note.ended.to_string(),
            NOTE_LIFE.as_millis().to_string(),
        ];
        let reply = self.store.run(&self.note, &[&self.key], &args).await?;
        Ok(reply.as_integer() == Some(1))
    }
}
