//! Who may use a connection next. The rules, without any input or output.
//!
//! Every cache has a lane: keys that wait, and statements that are out. Keys that arrive while the
//! lane's statements are out wait and go together in its next one.
//!
//! 1. A lane has at most half of the connections, and at most `max_loads` statements: a statement is one
//!    load to Postgres, which runs its keys one after the other.
//! 2. A lane whose statement has run for [`SUSPECT_AFTER`], or timed out, is *suspect* until one of
//!    its statements succeeds. All suspect lanes together have at most half of the connections: five
//!    caches over one locked table leave the other half alone.
//! 3. Suspicion comes late, when a connection is already taken. So if suspect lanes hold more than
//!    half, none is free and a lane above suspicion waits, the youngest suspect statement is
//!    *evicted*: cancelled, and its keys wait again. It cannot happen to it for ever, because it
//!    starts again only within the suspects' half.
//! 4. A statement carries no more keys than should take a quarter of `load_timeout` at the pace the
//!    lane last showed. Keys of a statement are run one after the other: sixty-four keys of a query
//!    that takes 100 ms would time out together, where a few at a time all get their answers.
//! 5. While Redis is away, a lane has no more keys on their way than Postgres has shown to bear ([`Bearing`]): a stampede is
//!    refused at once instead of being let in to time out.
//! 6. While a lane's statement may be back any moment, a few keys wait for it instead of taking another
//!    connection: two statements of one key cost Postgres and us nearly twice what one of two does.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::bearing::Bearing;
use super::call::Pending;
use super::{Admission, LoadError};

/// A statement that has run this long makes its cache suspect: far above any look-up worth caching
/// one row at a time, far below the default `load_timeout` of 2 s.
pub(super) const SUSPECT_AFTER: Duration = Duration::from_millis(250);
/// A statement that is not back by then is not waited for: a small multiple of a primary-key look-up.
pub(super) const LATE_AFTER: Duration = Duration::from_millis(2);
/// So many waiting keys are worth a statement of their own. Measured: 16 keys a statement already cost a
/// quarter a key of what one does.
const WORTH_A_STATEMENT: usize = 16;
/// The most keys in one statement: beyond it a larger statement gains nothing that was measurable.
pub(super) const MAX_KEYS_A_STATEMENT: usize = 1024;
/// How many times `max_loads` keys of a cache may wait.
pub(super) const QUEUE_FACTOR: usize = 64;
/// The part of `load_timeout` that one statement is meant to take.
const TIMEOUT_SHARE: u32 = 4;

/// What became of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Postgres answered at least one key.
    Answered,
    /// Postgres refused every key, or could not be reached: nothing is learned about the pace.
    Failed,
    /// The deadline came first.
    TimedOut,
    /// It had to make room.
    Evicted,
}

/// A statement that may start now.
pub(super) struct Work {
    pub id: u64,
    pub cache: usize,
    pub keys: Vec<Pending>,
    /// Resolves when the statement has to make room.
    pub evicted: oneshot::Receiver<()>,
}

pub(super) struct Lanes {
    lanes: Vec<Lane>,
    /// The caches with waiting keys, the one whose turn is next in front.
    ready: VecDeque<usize>,
    running: Vec<Running>,
    connections: usize,
    /// What is to be had at the moment: fewer than `connections` while Postgres refuses new ones.
    available: usize,
    down: Option<Arc<str>>,
    next_id: u64,
}

struct Lane {
    name: Arc<str>,
    max_loads: usize,
    bearing: Bearing,
    share: Duration,
    waiting: VecDeque<Pending>,
    loading: usize,
    statements: usize,
    /// Statements that are not [`LATE_AFTER`] old yet.
    prompt: usize,
    suspect: bool,
    /// The time a key took in the last statement.
    pace: Option<Duration>,
}

struct Running {
    id: u64,
    cache: usize,
    keys: usize,
    started: Instant,
    prompt: bool,
    /// Absent once it has been told to make room.
    evict: Option<oneshot::Sender<()>>,
}

impl Lanes {
    pub fn new(connections: usize) -> Self {
        Self {
            lanes: Vec::new(),
            ready: VecDeque::new(),
            running: Vec::new(),
            connections,
            available: connections,
            down: None,
            next_id: 0,
        }
    }

    pub fn add(&mut self, name: &str, max_loads: usize, load_timeout: Duration) {
        self.lanes.push(Lane {
            name: Arc::from(name),
            max_loads,
            bearing: Bearing::new(max_loads, load_timeout / TIMEOUT_SHARE),
            share: load_timeout / TIMEOUT_SHARE,
            waiting: VecDeque::new(),
            loading: 0,
            statements: 0,
            prompt: 0,
            suspect: false,
            pace: None,
        });
    }

    /// Lets keys wait in their lane, or answers those there is no room for.
    pub fn admit(&mut self, cache: usize, keys: Vec<Pending>, admission: Admission, now: Instant) {
        if let Some(reason) = &self.down {
            return refuse(keys, reason);
        }
        let lane = &mut self.lanes[cache];
        let was_idle = lane.waiting.is_empty();
        if lane.room(admission, keys.len()) < keys.len() {
            lane.waiting.retain(|key| !key.is_moot(now));
        }
        let room = lane.room(admission, keys.len());
        let mut keys = keys.into_iter();
        lane.waiting.extend(keys.by_ref().take(room));
        for key in keys {
            key.answer(Err(LoadError::Busy {
                cache: Arc::clone(&lane.name),
                limit: match admission {
                    Admission::Wait => lane.max_loads,
                    Admission::NoWait => lane.bearing.limit(),
                },
            }));
        }
        if was_idle && !lane.waiting.is_empty() {
            self.ready.push_back(cache);
        }
    }

    /// The statements that may start now, one a lane in turn.
    pub fn start(&mut self, now: Instant) -> Vec<Work> {
        let mut works = Vec::new();
        let mut held_back = 0;
        while held_back < self.ready.len() && self.running.len() < self.available {
            let Some(cache) = self.ready.pop_front() else {
                break;
            };
            let work = self.begin(cache, now);
            if !self.lanes[cache].waiting.is_empty() {
                self.ready.push_back(cache);
                held_back = if work.is_some() { 0 } else { held_back + 1 };
            }
            works.extend(work);
        }
        self.make_room();
        works
    }

    fn begin(&mut self, cache: usize, now: Instant) -> Option<Work> {
        if !self.may_begin(cache) {
            return None;
        }
        let lane = &mut self.lanes[cache];
        let most = lane.statement_keys();
        let mut keys = Vec::with_capacity(most.min(lane.waiting.len()));
        while keys.len() < most
            && let Some(key) = lane.waiting.pop_front()
        {
            if !key.is_moot(now) {
                keys.push(key);
            }
        }
        if keys.is_empty() {
            return None;
        }
        lane.loading += keys.len();
        lane.statements += 1;
        lane.prompt += 1;
        self.next_id += 1;
        let (evict, evicted) = oneshot::channel();
        self.running.push(Running {
            id: self.next_id,
            cache,
            keys: keys.len(),
            started: now,
            prompt: true,
            evict: Some(evict),
        });
        Some(Work {
            id: self.next_id,
            cache,
            keys,
            evicted,
        })
    }

    fn may_begin(&self, cache: usize) -> bool {
        let lane = &self.lanes[cache];
        lane.statements < self.half()
            && lane.statements < lane.max_loads
            && (lane.prompt == 0 || lane.waiting.len() >= WORTH_A_STATEMENT)
            && !(lane.suspect && self.suspects() >= self.half())
    }

    /// Half of the connections that are to be had, and at least one.
    fn half(&self) -> usize {
        (self.available / 2).max(1)
    }

    /// How many statements suspect lanes have running.
    fn suspects(&self) -> usize {
        let suspect = |running: &&Running| self.lanes[running.cache].suspect;
        self.running.iter().filter(suspect).count()
    }

    /// Rule 3. One at a time: the end of the evicted statement comes back here.
    fn make_room(&mut self) {
        let leaving = self.running.iter().any(|running| running.evict.is_none());
        let crowded = self.running.len() >= self.available && self.suspects() > self.half();
        let wanted = |cache: &usize| !self.lanes[*cache].suspect && self.may_begin(*cache);
        if leaving || !crowded || !self.ready.iter().any(wanted) {
            return;
        }
        let lanes = &self.lanes;
        let youngest = self
            .running
            .iter_mut()
            .filter(|running| lanes[running.cache].suspect)
            .max_by_key(|running| running.started);
        if let Some(evict) = youngest.and_then(|running| running.evict.take()) {
            // A statement that has just ended no longer listens, and gives its place anyway.
            let _ = evict.send(());
        }
    }

    /// A statement has run for [`LATE_AFTER`].
    pub fn late(&mut self, id: u64) {
        let running = self.running.iter_mut().find(|running| running.id == id);
        if let Some(running) = running
            && std::mem::take(&mut running.prompt)
        {
            self.lanes[running.cache].prompt -= 1;
        }
    }

    /// A statement has run for [`SUSPECT_AFTER`].
    pub fn overdue(&mut self, id: u64) {
        if let Some(running) = self.running.iter().find(|running| running.id == id) {
            self.lanes[running.cache].suspect = true;
        }
    }

    /// A statement has ended; `unanswered` are keys that wait again.
    pub fn finish(&mut self, id: u64, end: End, unanswered: Vec<Pending>, now: Instant) {
        let Some(at) = self.running.iter().position(|running| running.id == id) else {
            return;
        };
        let running = self.running.swap_remove(at);
        let lane = &mut self.lanes[running.cache];
        lane.loading -= running.keys;
        lane.statements -= 1;
        lane.prompt -= usize::from(running.prompt);
        match end {
            End::Answered => lane.suspect = false,
            End::TimedOut => lane.suspect = true,
            End::Failed | End::Evicted => {}
        }
        if matches!(end, End::Answered | End::TimedOut) {
            let (sent, in_time) = (running.started.into_std(), end == End::Answered);
            let bearing = &mut lane.bearing;
            bearing.ended(running.keys, sent, in_time, now.into_std());
            let keys = u32::try_from(running.keys).unwrap_or(u32::MAX);
            lane.pace = Some((now - running.started) / keys);
        }
        if let Some(reason) = &self.down {
            return refuse(unanswered, reason);
        }
        let was_idle = lane.waiting.is_empty();
        for key in unanswered.into_iter().rev() {
            lane.waiting.push_front(key);
        }
        if was_idle && !lane.waiting.is_empty() {
            self.ready.push_back(running.cache);
        }
    }

    /// No new connection can be had. With `live` others still standing those are made do with;
    /// with none, what waits and what comes is refused until [`Lanes::connected`].
    pub fn refused_connection(&mut self, live: usize, reason: &Arc<str>) {
        if live > 0 {
            self.available = live.min(self.connections);
        } else {
            self.refuse_all(reason);
        }
    }

    /// Answers all that waits, and all that comes, with `reason`.
    pub fn refuse_all(&mut self, reason: &Arc<str>) {
        self.down = Some(Arc::clone(reason));
        self.ready.clear();
        for lane in &mut self.lanes {
            refuse(lane.waiting.drain(..), reason);
        }
    }

    /// New connections can be had (again).
    pub fn connected(&mut self) {
        self.available = self.connections;
        self.down = None;
    }

    /// How many keys of each cache may be on their way while Redis is away.
    pub fn bearable(&self) -> impl Iterator<Item = (&str, usize)> {
        let lanes = self.lanes.iter();
        lanes.map(|lane| (&*lane.name, lane.bearing.limit()))
    }

    /// How many statements are running.
    pub fn running(&self) -> usize {
        self.running.len()
    }

    /// How many keys wait for a statement.
    pub fn waiting(&self) -> usize {
        self.lanes.iter().map(|lane| lane.waiting.len()).sum()
    }
}

impl Lane {
    /// How many of `keys` more keys may wait.
    fn room(&self, admission: Admission, keys: usize) -> usize {
        let (waiting, most) = (self.waiting.len(), admission.most(self.max_loads));
        let borne = self.bearing.limit();
        match admission {
            // Whoever fills the room may go beyond it: the keys of one call stay together.
            Admission::Wait if waiting < most => keys,
            Admission::Wait => 0,
            Admission::NoWait => keys.min(most.min(borne).saturating_sub(self.loading + waiting)),
        }
    }

    /// How many keys the next statement may carry.
    fn statement_keys(&self) -> usize {
        let paced = match self.pace {
            Some(pace) if !pace.is_zero() => self.share.as_nanos() / pace.as_nanos(),
            _ => u128::MAX,
        };
        let paced = usize::try_from(paced).unwrap_or(usize::MAX).max(1);
        paced.min(MAX_KEYS_A_STATEMENT)
    }
}

fn refuse(keys: impl IntoIterator<Item = Pending>, reason: &Arc<str>) {
    for key in keys {
        key.answer(Err(LoadError::Unavailable {
            reason: Arc::clone(reason),
        }));
    }
}

#[cfg(test)]
#[path = "lanes_tests.rs"]
mod tests;
