//! The world of the model check: Postgres, Redis, two daemons and what is on the wire between them.
//!
//! Redis runs a script in one step, but the request travels before it and the reply after it, so that everything else may
//! happen in between. A read of Postgres sees what was committed when it was *sent*, the earliest it can see, and answers
//! any time later. Time has no length: expiry, lost replies and the end of patience simply may happen, so whatever
//! durations are configured, their order is among those tried.

mod driver;
mod redis;
mod steps;

use crate::cache::flights::{Acquired, Ended, Flights, Join, Loaded, Next};
use bytes::Bytes;
use redis::{Cell, Said};
use std::fmt::{self, Write};
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::Xxh3;

pub(super) use steps::Step;

/// What a row says: how often it was written.
pub(super) type Version = u8;
/// Whose load, and which of them.
type Token = (usize, u8);

const NAMES: [&str; 2] = ["a", "b"];

/// What may happen in a life of this world.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setup {
    /// One or two.
    pub(super) daemons: usize,
    /// One or two.
    pub(super) keys: usize,
    pub(super) reads: u8,
    pub(super) writes: u8,
    /// Lost replies, evictions, failed loads, lost patience.
    pub(super) faults: u8,
    /// Writes touch all keys at once and are invalidated by pattern.
    pub(super) patterns: bool,
}

/// A rule that is broken on purpose, to see that the check would notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A fill does not ask whether the lease is still its own.
    EndWithoutLease,
    /// A fill does not ask whether the index still has its entry.
    EndWithoutIndexEntry,
    /// Invalidating what is not there does nothing.
    AbsentValueKeepsLease,
    /// An invalidation by pattern removes the values, then the leases.
    ValuesBeforeLeases,
    /// All loads of a daemon use one token.
    OneTokenPerDaemon,
    /// A reader joins an acquire script that was sent already.
    JoinLookUpsSent,
    /// A reader joins a load without a lease that was sent already.
    JoinBareLoads,
    /// What was loaded but not filled goes also to who joined after the read was sent.
    UnfilledToLate,
}

/// Something on its way. `heard`: somebody still waits for the reply.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Message {
    LookUp {
        reader: usize,
        seen: Option<Option<Version>>,
    },
    Acquire {
        daemon: usize,
        key: usize,
        token: Token,
        said: Option<Said>,
        heard: bool,
    },
    Load {
        daemon: usize,
        key: usize,
        token: Option<Token>,
        snapshot: Version,
    },
    End {
        daemon: usize,
        key: usize,
        token: Token,
        fill: Option<Version>,
        ours: Option<bool>,
        heard: bool,
    },
    /// `versions`: what was committed when it was sent. `stage` counts the scripts that have run.
    Invalidate {
        keys: Vec<usize>,
        versions: Vec<Version>,
        stage: usize,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reader {
    /// `floor`: the newest version whose invalidation was acknowledged when it began.
    Waiting {
        daemon: usize,
        key: usize,
        floor: Version,
    },
    Answered,
}

#[derive(Clone, Debug)]
struct Daemon {
    flights: Flights<usize, usize, Option<Version>>,
    /// Readers whom a flaw lets join where they must not: flight's key, reader.
    merged: Vec<(usize, usize)>,
}

/// How the reads of one life went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub(super) reads: usize,
    pub(super) hits: usize,
    pub(super) joined: usize,
    pub(super) fills: usize,
    pub(super) refused: usize,
}

#[derive(Clone)]
pub(super) struct World {
    setup: Setup,
    flaw: Option<Flaw>,
    postgres: Vec<Version>,
    floor: Vec<Version>,
    redis: Vec<Cell>,
    daemons: Vec<Daemon>,
    wire: Vec<Message>,
    readers: Vec<Reader>,
    start: Instant,
    pub(super) tally: Tally,
}

impl World {
    pub(super) fn new(setup: Setup, flaw: Option<Flaw>) -> Self {
        let daemon = || Daemon {
            flights: Flights::new(usize::from(setup.reads)),
            merged: Vec::new(),
        };
        Self {
            setup,
            flaw,
            postgres: vec![0; setup.keys],
            floor: vec![0; setup.keys],
            redis: vec![Cell::default(); setup.keys],
            daemons: (0..setup.daemons).map(|_| daemon()).collect(),
            wire: Vec::new(),
            readers: Vec::new(),
            start: Instant::now(),
            tally: Tally::default(),
        }
    }

    /// Two worlds with one portrait have the same future.
    pub(super) fn portrait(&self) -> u128 {
        struct Hashing(Xxh3);
        impl fmt::Write for Hashing {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                self.0.update(text.as_bytes());
                Ok(())
            }
        }
        let Setup {
            reads,
            writes,
            faults,
            ..
        } = self.setup;
        let left = (reads, writes, faults);
        let rows = (&self.postgres, &self.floor, &self.redis);
        let rest = (&self.daemons, &self.wire, &self.readers);
        let mut portrait = Hashing(Xxh3::new());
        // Hashing does not fail.
        let _written = write!(portrait, "{left:?}{rows:?}{rest:?}");
        portrait.0.digest128()
    }

    /// Lets one thing happen. `Err` says which promise it broke.
    pub(super) fn take(&mut self, step: Step) -> Result<(), String> {
        self.setup.faults -= u8::from(step.is_fault());
        match step {
            Step::Arrive { daemon, key } => self.arrive(daemon, key),
            Step::Write { key, through } => self.write(key, through),
            Step::Deliver(place) => self.deliver(place)?,
            Step::Pump(daemon) => self.pump(daemon),
            Step::Wake(daemon) => {
                let later = self.start + Duration::from_secs(3600);
                self.daemons[daemon].flights.wake_parked(later);
            }
            Step::Expire(key) | Step::EvictLease(key) => self.redis[key].lease = None,
            Step::EvictValue(key) => self.redis[key].value = None,
            Step::EvictIndex => self.redis.iter_mut().for_each(|cell| cell.entry = false),
            Step::LoseReply(place) => self.lose_reply(place)?,
            Step::LosePatience(place) => self.acquired(place, Duration::ZERO)?,
            Step::FailLoad(place) => self.loaded(place, |_| Loaded::Failed(None))?,
            Step::PassLoad(place) => self.loaded(place, |seen| Loaded::Pass(Some(seen)))?,
        }
        self.wire.sort();
        self.at_rest()
    }

    /// Once nothing is under way nobody waits, and Redis holds what Postgres says.
    fn at_rest(&self) -> Result<(), String> {
        let busy = |daemon: &Daemon| daemon.flights.any_queued() || daemon.flights.any_parked();
        if !self.wire.is_empty() || self.daemons.iter().any(busy) {
            return Ok(());
        }
        if self
            .daemons
            .iter()
            .any(|daemon| !daemon.flights.is_empty() || !daemon.merged.is_empty())
        {
            return Err("a flight that nothing will ever end".into());
        }
        if let Some(reader) = self.readers.iter().position(|it| *it != Reader::Answered) {
            return Err(format!("reader {reader} was never answered"));
        }
        for (cell, version) in self.redis.iter().zip(&self.postgres) {
            if cell.value.is_some_and(|value| value != *version) {
                return Err(format!("{cell:?} stays, but Postgres says {version}"));
            }
        }
        Ok(())
    }

    fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    fn arrive(&mut self, daemon: usize, key: usize) {
        self.setup.reads -= 1;
        self.tally.reads += 1;
        let (reader, floor) = (self.readers.len(), self.floor[key]);
        self.readers.push(Reader::Waiting { daemon, key, floor });
        self.wire.push(Message::LookUp { reader, seen: None });
    }

    fn write(&mut self, key: usize, through: Option<usize>) {
        self.setup.writes -= 1;
        let keys: Vec<_> = match self.setup.patterns {
            true => (0..self.setup.keys).collect(),
            false => vec![key],
        };
        for key in &keys {
            self.postgres[*key] += 1;
            if let Some(daemon) = through {
                self.daemons[daemon].flights.close(NAMES[*key].as_bytes());
            }
        }
        self.wire.push(Message::Invalidate {
            versions: keys.iter().map(|key| self.postgres[*key]).collect(),
            keys,
            stage: 0,
        });
    }

    fn deliver(&mut self, place: usize) -> Result<(), String> {
        let World { wire, redis, .. } = self;
        match &mut wire[place] {
            Message::LookUp { reader, seen } if seen.is_none() => {
                let Reader::Waiting { key, .. } = self.readers[*reader] else {
                    return Err(format!("reader {reader} was answered before its look-up"));
                };
                *seen = Some(redis[key].value);
            }
            Message::LookUp { reader, seen } => {
                let (reader, seen) = (*reader, seen.flatten());
                wire.remove(place);
                return self.looked_up(reader, seen);
            }
            Message::Acquire {
                key, token, said, ..
            } if said.is_none() => {
                *said = Some(redis[*key].acquire(*token));
                self.forget_unheard(place);
            }
            Message::Acquire { .. } => return self.acquired(place, Duration::MAX),
            Message::Load { .. } => return self.loaded(place, |seen| Loaded::Fill(Some(seen))),
            Message::End {
                key,
                token,
                fill,
                ours,
                ..
            } if ours.is_none() => {
                *ours = Some(redis[*key].end(*token, *fill, self.flaw));
                self.forget_unheard(place);
            }
            Message::End { ours, .. } => {
                let ended = match ours {
                    Some(true) => Ended::Ours,
                    _ => Ended::Refused,
                };
                return self.ended(place, ended);
            }
            Message::Invalidate { .. } => self.invalidate(place),
        }
        Ok(())
    }

    /// What ran without anybody waiting for its reply is done.
    fn forget_unheard(&mut self, place: usize) {
        if let Message::Acquire { heard: false, .. } | Message::End { heard: false, .. } =
            self.wire[place]
        {
            self.wire.remove(place);
        }
    }

    /// The daemon gives a request up. One that has not run yet may still do so.
    fn lose_reply(&mut self, place: usize) -> Result<(), String> {
        let mut left = self.wire[place].clone();
        match &mut left {
            Message::LookUp { reader, .. } => {
                let reader = *reader;
                self.wire.remove(place);
                self.look_up_failed(reader)
            }
            Message::Acquire {
                daemon,
                key,
                token,
                said,
                heard,
            } => {
                *heard = false;
                let (daemon, key, token, ran) = (*daemon, *key, *token, said.is_some());
                match ran {
                    true => drop(self.wire.remove(place)),
                    false => self.wire[place] = left,
                }
                self.on_acquired(daemon, key, token, Acquired::NoLease, Duration::MAX)
            }
            Message::End { ours, heard, .. } => {
                *heard = false;
                let ran = ours.is_some();
                self.ended(place, Ended::Unknown)?;
                if !ran {
                    self.wire.push(left);
                }
                Ok(())
            }
            Message::Load { .. } | Message::Invalidate { .. } => Ok(()),
        }
    }
}
