//! Which rows of the database's queue name keys that this daemon has invalidated already, because its own write queued them.
//!
//! Who empties the queue leaves those keys alone: else what is loaded right after a write would be removed again. It counts
//! for nothing once Redis, or the queue, was out of reach: the server that is there then may hold data of earlier.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rows remembered; they are forgotten when they leave the queue. Beyond, what they name is invalidated once more.
const MAX_TOLD: usize = 10_000;

/// An id is given anew once the queue was installed anew; that row is younger. When a row was queued is told from its age, which
/// seems less by as much as the answer took; installing a queue takes longer than this.
const SLACK: Duration = Duration::from_secs(1);

/// What is known of rows. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// By the ids of rows: when it was begun to invalidate their keys.
    begun: HashMap<i64, Instant>,
    /// What was begun before is not believed.
    returned: Option<Instant>,
}

impl Told {
    /// The keys of a row are invalidated; that was begun after its commit, then.
    pub fn add(&self, row: i64, begun: Instant) {
        let mut known = self.0.lock();
        if known.returned.is_some_and(|returned| begun <= returned) {
            return;
        }
        if known.begun.len() >= MAX_TOLD {
            known.begun.clear();
        }
        known.begun.insert(row, begun);
    }

    /// Whether the keys of a row, which was queued then, are invalidated.
    pub fn has(&self, row: i64, queued: Instant) -> bool {
        let begun = self.0.lock().begun.get(&row).copied();
        begun.is_some_and(|begun| queued < begun + SLACK)
    }

    /// These rows are gone from the queue.
    pub fn forget(&self, rows: impl Iterator<Item = i64>) {
        let mut known = self.0.lock();
        for row in rows {
            known.begun.remove(&row);
        }
    }

    /// Something was out of reach, and is back.
    pub fn doubt(&self) {
        let mut known = self.0.lock();
        known.begun.clear();
        known.returned = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_known_until_it_is_gone_or_something_was_out_of_reach() {
        let told = Told::default();
        let queued = Instant::now();
        told.add(1, Instant::now());
        told.add(2, Instant::now());
        assert!(told.has(1, queued) && told.has(2, queued) && !told.has(3, queued));
        assert!(!told.has(1, Instant::now() + SLACK), "one that is younger");
        told.forget([1].into_iter());
        assert!(!told.has(1, queued));
        let begun = Instant::now();
        told.doubt();
        assert!(!told.has(2, queued));
        // Begun on the server of before, and acknowledged late.
        told.add(3, begun);
        assert!(!told.has(3, queued));
        told.add(4, Instant::now());
        assert!(told.has(4, queued));
    }

    #[test]
    fn what_is_known_is_bounded() {
        let told = Told::default();
        let queued = Instant::now();
        let most = i64::try_from(MAX_TOLD).unwrap();
        for row in 0..=most {
            told.add(row, Instant::now());
        }
        assert!(!told.has(0, queued) && told.has(most, queued));
    }
}
