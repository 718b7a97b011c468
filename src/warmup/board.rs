//! Where the runs of all caches stand: for whoever asks, and whoever waits for the first of them. Outlives the actor.

use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Keys of one run that are told by name, with what is wrong with them.
const MAX_EXAMPLES: usize = 5;

/// What came of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Keys that were loaded and cached.
    pub loaded: u64,
    /// Keys that were left alone: fresh, or being loaded by others.
    pub skipped: u64,
    /// Keys that could not be loaded, or were none.
    pub failed: u64,
    pub took: Duration,
    /// Why it was not made, or not ended, or what it left out.
    pub error: Option<String>,
}

/// Where the warmup of one cache stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub cache: String,
    /// The run that goes on, so far, and how many keys it is about; `None`: none goes on.
    pub running: Option<(Outcome, u64)>,
    /// The last one that this daemon has made, why, and when it was over.
    pub last: Option<(Outcome, &'static str, Instant)>,
}

/// A run that goes on.
#[derive(Debug)]
pub(super) struct Tally {
    since: Instant,
    pub(super) of: AtomicU64,
    pub(super) loaded: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) failed: AtomicU64,
    examples: Mutex<Vec<String>>,
}

impl Tally {
    fn new() -> Self {
        Self {
            since: Instant::now(),
            of: AtomicU64::new(0),
            loaded: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            examples: Mutex::default(),
        }
    }

    /// A key failed; `what` is asked for if it is one of the first.
    pub(super) fn fail(&self, what: impl FnOnce() -> String) {
        self.failed.fetch_add(1, Relaxed);
        let mut examples = self.examples.lock();
        if examples.len() < MAX_EXAMPLES {
            examples.push(what());
        }
    }

    /// The first keys that failed, and why.
    pub(super) fn examples(&self) -> Vec<String> {
        self.examples.lock().clone()
    }

    pub(super) fn outcome(&self, error: Option<String>) -> Outcome {
        Outcome {
            loaded: self.loaded.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            failed: self.failed.load(Relaxed),
            took: self.since.elapsed(),
            error,
        }
    }
}

#[derive(Debug, Default)]
struct Place {
    cache: String,
    running: Option<Arc<Tally>>,
    last: Option<(Outcome, &'static str, Instant)>,
    /// Whether the daemon is not ready before its first run.
    is_awaited: bool,
    /// Whether a start was answered in this daemon's life: an actor that is restarted does not begin again.
    has_started: bool,
}

/// Where all runs stand. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    places: Mutex<Vec<Place>>,
    /// Whether nothing is waited for any more.
    ready: watch::Sender<bool>,
}

impl Board {
    /// For caches by name; and whether the daemon is not ready before the first run of each.
    pub(super) fn new(caches: impl Iterator<Item = (String, bool)>) -> Self {
        let place = |(cache, is_awaited)| Place {
            cache,
            is_awaited,
            ..Place::default()
        };
        let places: Vec<Place> = caches.map(place).collect();
        let ready = !places.iter().any(|place| place.is_awaited);
        Self(Arc::new(Shared {
            places: Mutex::new(places),
            ready: watch::Sender::new(ready),
        }))
    }

    /// Whether all first runs that are waited for are over, well or not.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    /// Where each cache's warmup stands.
    pub(super) fn reports(&self) -> Vec<Report> {
        let places = self.0.places.lock();
        let report = |place: &Place| Report {
            cache: place.cache.clone(),
            running: place
                .running
                .as_ref()
                .map(|tally| (tally.outcome(None), tally.of.load(Relaxed))),
            last: place.last.clone(),
        };
        places.iter().map(report).collect()
    }

    pub(super) fn begin(&self, at: usize) -> Arc<Tally> {
        let tally = Arc::new(Tally::new());
        if let Some(place) = self.0.places.lock().get_mut(at) {
            place.running = Some(Arc::clone(&tally));
        }
        tally
    }

    pub(super) fn end(&self, at: usize, outcome: Outcome, why: &'static str) {
        if let Some(place) = self.0.places.lock().get_mut(at) {
            place.running = None;
            place.last = Some((outcome, why, Instant::now()));
        }
    }

    /// The start of a cache was answered; or tried, and failed: who waits for it goes on.
    pub(super) fn tried(&self, at: usize, has_started: bool) {
        let mut places = self.0.places.lock();
        if let Some(place) = places.get_mut(at) {
            place.is_awaited = false;
            place.has_started |= has_started;
        }
        let ready = !places.iter().any(|place| place.is_awaited);
        drop(places);
        self.0.ready.send_if_modified(|was| {
            let changed = *was != ready;
            *was = ready;
            changed
        });
    }

    pub(super) fn has_started(&self, at: usize) -> bool {
        let places = self.0.places.lock();
        places.get(at).is_some_and(|place| place.has_started)
    }

    /// An actor that is gone has no run.
    pub(super) fn clear(&self) {
        for place in self.0.places.lock().iter_mut() {
            place.running = None;
        }
    }
}
