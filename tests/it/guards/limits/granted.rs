//! What was let through, by window, and how much of that may have been.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::time::sleep;

use super::super::Link;
use super::{DAEMONS, LIMIT, WINDOW_US};
use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::resp::Value;

/// Microseconds by the clock that Redis has, too.
pub fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// The end of the window of a decision that was made between these two moments, with so many ms of it left, or one less.
fn window(sent: u64, got: u64, left_ms: u64) -> Option<u64> {
    let (first, last) = (sent + left_ms * 1000 - 1000, got + left_ms * 1000);
    let end = last / WINDOW_US * WINDOW_US;
    // Only one is possible, unless the answer was on its way for as long as a window.
    (end >= first && end < first + WINDOW_US).then_some(end)
}

/// What clients share.
#[derive(Default)]
pub struct Field {
    /// What was let through, by the end of its window.
    granted: Mutex<BTreeMap<u64, u64>>,
    pub by_daemon: [AtomicU64; DAEMONS],
    unclear: AtomicU64,
    refused: AtomicU64,
    errors: AtomicU64,
    over: AtomicBool,
}

impl Field {
    /// Waits for so many windows more in which something is let through.
    pub async fn windows(&self, more: usize) {
        let wanted = self.granted.lock().len() + more;
        eventually(2 * DEADLINE, async || match self.granted.lock().len() {
            seen if seen >= wanted => Ok(()),
            seen => Err((seen, wanted)),
        })
        .await;
    }

    /// From now on nobody asks.
    pub fn end(&self) {
        self.over.store(true, SeqCst);
    }

    fn note(&self, daemon: usize, end: Option<u64>) {
        self.by_daemon[daemon].fetch_add(1, SeqCst);
        match end {
            Some(end) => *self.granted.lock().entry(end).or_default() += 1,
            None => {
                self.unclear.fetch_add(1, SeqCst);
            }
        }
    }
}

/// A client: it asks this daemon until the end.
pub async fn ask(field: Arc<Field>, daemon: usize, address: SocketAddr, mut random: Rng) {
    let mut link = Link(None);
    while !field.over.load(SeqCst) {
        let sent = now();
        let answer = link.ask(address, &["RATE.CHECK", "api", "ann"]).await;
        let got = now();
        let Ok(Value::Array(parts)) = &answer else {
            field.errors.fetch_add(1, SeqCst);
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let [
            Value::Int(allowed),
            _,
            _,
            Value::Int(retry),
            Value::Int(left),
            ..,
        ] = parts.as_slice()
        else {
            panic!("{parts:?}")
        };
        if *allowed == 1 {
            field.note(daemon, window(sent, got, u64::try_from(*left).unwrap()));
            continue;
        }
        field.refused.fetch_add(1, SeqCst);
        // As a client does that is told to; one in so many does not.
        let is_patient = random.u8(..10) > 0;
        let pause = if is_patient {
            (*retry).clamp(1, 500)
        } else {
            5
        };
        sleep(Duration::from_millis(u64::try_from(pause).unwrap())).await;
    }
}

/// What was amiss.
#[derive(Clone, Copy, Debug)]
pub struct Amiss {
    pub from: u64,
    /// From then on Redis could be asked.
    pub back: u64,
    /// From then on every daemon did.
    pub well: u64,
    /// When what was counted was lost, or some of it.
    pub lost: Option<u64>,
}

impl Amiss {
    fn touches(&self, end: u64) -> bool {
        self.from < end && self.well > end - WINDOW_US
    }

    /// Whether Redis could not be asked in all of this window.
    fn covers(&self, end: u64) -> bool {
        self.from < end - WINDOW_US && self.back >= end
    }

    fn loses(&self, end: u64) -> bool {
        self.lost
            .is_some_and(|at| at < end && at >= end - WINDOW_US)
    }
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub granted: BTreeMap<u64, u64>,
    unclear: u64,
    refused: u64,
    errors: u64,
    amiss: Vec<Amiss>,
    /// Whether daemons let their share through where Redis cannot be asked.
    is_local: bool,
}

impl Outcome {
    /// Of what was granted while these things were amiss.
    pub fn new(field: &Field, amiss: Vec<Amiss>, is_local: bool) -> Self {
        Self {
            granted: field.granted.lock().clone(),
            unclear: field.unclear.load(SeqCst),
            refused: field.refused.load(SeqCst),
            errors: field.errors.load(SeqCst),
            amiss,
            is_local,
        }
    }

    /// How much may have been let through in a window: the limit; once more where its count was lost; once more by shares
    /// where Redis counted in it, too, before it was away or when it was back.
    fn most(&self, end: u64) -> u64 {
        let losses = self.amiss.iter().filter(|amiss| amiss.loses(end)).count() as u64;
        let mut touching = self.amiss.iter().filter(|amiss| amiss.touches(end));
        let is_shared = self.is_local && touching.any(|amiss| !amiss.covers(end));
        LIMIT * (1 + losses + u64::from(is_shared))
    }

    /// Windows in which more was let through than may be.
    pub fn broken(&self) -> Vec<(u64, u64)> {
        let too_much = |(end, count): &(u64, u64)| *count > self.most(*end);
        self.counts().filter(too_much).collect()
    }

    /// How many windows were whole and undisturbed, and what was let through in them.
    pub fn calm(&self) -> (u64, u64) {
        let ends: Vec<u64> = self.granted.keys().copied().collect();
        // The first and the last were not asked for from their beginning to their end.
        let whole = ends[0] + 1..ends[ends.len() - 1];
        self.sum(|end| whole.contains(&end) && !self.amiss.iter().any(|amiss| amiss.touches(end)))
    }

    /// The same of those in which Redis could not be asked at all.
    pub fn alone(&self) -> (u64, u64) {
        self.sum(|end| self.amiss.iter().any(|amiss| amiss.covers(end)))
    }

    fn sum(&self, counts: impl Fn(u64) -> bool) -> (u64, u64) {
        let those = self.counts().filter(|(end, _)| counts(*end));
        those.fold((0, 0), |(windows, all), (_, count)| {
            (windows + 1, all + count)
        })
    }

    fn counts(&self) -> impl Iterator<Item = (u64, u64)> {
        self.granted.iter().map(|(end, count)| (*end, *count))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (windows, granted) = self.calm();
        let (alone, shares) = self.alone();
        let all: u64 = self.granted.values().sum();
        write!(
            f,
            "{} windows, {all} granted, {} refused, {} unclear, {} errors; {granted} of {} granted in {windows} undisturbed \
             windows, {shares} in {alone} without redis; {} faults; {} windows with too much",
            self.granted.len(),
            self.refused,
            self.unclear,
            self.errors,
            windows * LIMIT,
            self.amiss.len(),
            self.broken().len(),
        )
    }
}
