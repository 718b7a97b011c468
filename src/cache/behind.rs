//! Writes that are acknowledged before Postgres has them: what came together goes to Redis together.
//!
//! One script puts them into the journal, makes them what their keys say, and ends the loads of these keys. From there the room
//! of the journal has them.

use super::CacheError;
use super::means::Means;
use super::messages::Origin;
use super::parts::{MAX_PART_KEYS, Part};
use crate::keyspace::RoutedKey;
use crate::supervisor::Promise;
use bytes::Bytes;
use std::collections::VecDeque;

/// Scripts that are out, from which on further writes wait and go together.
const MAX_OUT: usize = 2;

/// A write of a cache with `mode = "behind"`.
#[derive(Clone, Debug)]
pub struct LateWrite {
    pub(super) key: RoutedKey,
    /// JSON; `None`: the row is deleted.
    pub(super) value: Option<Bytes>,
}

impl LateWrite {
    fn bytes(&self) -> usize {
        self.value.as_ref().map_or(0, Bytes::len)
    }
}

/// Writes of one request, and who waits for them.
pub(super) struct Asked {
    pub(super) writes: Vec<LateWrite>,
    pub(super) promise: Promise<Result<(), CacheError>>,
}

/// Those that wait for their turn, in order.
#[derive(Default)]
pub(super) struct Waiting {
    asked: VecDeque<Asked>,
    out: usize,
}

impl Waiting {
    pub(super) fn push(&mut self, asked: Asked) {
        self.asked.push_back(asked);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.out == 0
    }

    /// What goes next, if a turn is free: as many requests as fit into one script, and one at least.
    pub(super) fn next(&mut self) -> Option<Vec<Asked>> {
        if self.out >= MAX_OUT || self.asked.is_empty() {
            return None;
        }
        let (mut taken, mut writes, mut bytes) = (Vec::new(), 0, 0);
        while let Some(asked) = self.asked.front() {
            writes += asked.writes.len();
            bytes += asked.writes.iter().map(LateWrite::bytes).sum::<usize>();
            let fits = writes <= MAX_PART_KEYS && bytes <= super::parts::MAX_PART_BYTES;
            if !fits && !taken.is_empty() {
                break;
            }
            taken.extend(self.asked.pop_front());
        }
        self.out += 1;
        Some(taken)
    }

    /// A script came back.
    pub(super) fn came_back(&mut self) {
        self.out = self.out.saturating_sub(1);
    }
}

/// Has them accepted, and tells who waits.
pub(super) async fn accept(means: &Means, asked: Vec<Asked>) {
    let writes: Vec<&LateWrite> = asked.iter().flat_map(|asked| &asked.writes).collect();
    let accepted = accept_all(means, &writes).await;
    for asked in asked {
        asked.promise.keep(accepted.clone());
    }
}

async fn accept_all(means: &Means, writes: &[&LateWrite]) -> Result<(), CacheError> {
    let names: Vec<Bytes> = writes.iter().map(|write| write.key.key.clone()).collect();
    means.forget(&names);
    let mut rest = writes;
    let mut accepted = Ok(());
    let limit = means.max_journal;
    while accepted.is_ok() && !rest.is_empty() {
        let part = Part::first(rest.iter().map(|write| write.bytes()));
        let (writes, after) = rest.split_at(part.keys);
        rest = after;
        let named = writes.iter().map(|write| {
            let cache = means.spaces.get(write.key.space).name.as_bytes();
            (&write.key.key, cache, write.value.as_ref())
        });
        // What follows must have room as well.
        let room = limit.saturating_sub(rest.len());
        accepted = match means.leases.accept_writes(named, room).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(CacheError::JournalFull { limit }),
            Err(error) => Err(CacheError::Store(error)),
        };
    }
    // Whatever came of it, and before it is acknowledged.
    means.forget(&names);
    if accepted.is_ok() {
        means.trace.invalidated(&names, Origin::Write);
    }
    accepted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{KeyTemplate, Router};
    use crate::supervisor::Later;

    fn asked(writes: usize, bytes: usize) -> Asked {
        let template = KeyTemplate::parse("k:{id:int}").unwrap();
        let router = Router::new(&[("k".to_owned(), template)], &[]);
        let route = router.route(b"k:1").unwrap();
        let write = LateWrite {
            key: route.with_key(Bytes::from_static(b"k:1")),
            value: Some(vec![b'1'; bytes].into()),
        };
        let (_, promise) = Later::new();
        Asked {
            writes: vec![write; writes],
            promise,
        }
    }

    fn taken(waiting: &mut Waiting) -> Option<Vec<usize>> {
        let taken = waiting.next()?;
        Some(taken.iter().map(|asked| asked.writes.len()).collect())
    }

    #[test]
    fn what_came_together_goes_together_as_far_as_one_script_goes() {
        let mut waiting = Waiting::default();
        for writes in [1, 1, 254, 1, 1000, 1] {
            waiting.push(asked(writes, 1));
        }
        assert_eq!(taken(&mut waiting), Some(vec![1, 1, 254]));
        assert_eq!(taken(&mut waiting), Some(vec![1]));
        assert_eq!(taken(&mut waiting), None, "two are out");
        waiting.came_back();
        assert_eq!(taken(&mut waiting), Some(vec![1000]));
        waiting.came_back();
        waiting.push(asked(1, 8 << 20));
        assert_eq!(taken(&mut waiting), Some(vec![1]));
        waiting.came_back();
        assert_eq!(taken(&mut waiting), Some(vec![1]));
        assert!(!waiting.is_idle());
        waiting.came_back();
        waiting.came_back();
        assert!(waiting.is_idle() && taken(&mut waiting).is_none());
    }
}
