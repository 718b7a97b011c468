//! The daemons of the model: real flights, and of the engine's driver what is needed to move them.

use super::*;

impl World {
    pub(super) fn looked_up(&mut self, reader: usize, seen: Option<Version>) -> Result<(), String> {
        if seen.is_some() {
            self.tally.hits += 1;
            return self.answer(reader, seen);
        }
        self.look_up_failed(reader)
    }

    /// Not there, or not known: load it.
    pub(super) fn look_up_failed(&mut self, reader: usize) -> Result<(), String> {
        let Reader::Waiting { daemon, key, .. } = self.readers[reader] else {
            return Err(format!("reader {reader} was answered before its look-up"));
        };
        if self.may_merge(daemon, key) {
            self.daemons[daemon].merged.push((key, reader));
            return Ok(());
        }
        let flights = &mut self.daemons[daemon].flights;
        match flights.join(&name(key), &key, reader) {
            Join::Led => {}
            Join::Joined => self.tally.joined += 1,
            Join::Full(_) => return Err("as many wait as may, but fewer came".into()),
        }
        Ok(())
    }

    /// Whether a flaw lets a reader join what this daemon has sent for `key`.
    fn may_merge(&self, at: usize, of: usize) -> bool {
        self.wire.iter().any(|message| match message {
            Message::Acquire {
                daemon, key, heard, ..
            } => *heard && (*daemon, *key) == (at, of) && self.has(Flaw::JoinLookUpsSent),
            Message::Load {
                daemon, key, token, ..
            } if (*daemon, *key) == (at, of) => match token {
                None => self.has(Flaw::JoinBareLoads),
                Some(_) => self.has(Flaw::UnfilledToLate),
            },
            _ => false,
        })
    }

    pub(super) fn pump(&mut self, at: usize) {
        for (_, key, _) in self.daemons[at].flights.take_queued() {
            let token = self.token(at);
            self.wire.push(Message::Acquire {
                daemon: at,
                key,
                token,
                said: None,
                heard: true,
            });
        }
    }

    /// One that nobody holds. Taken up again once it is forgotten everywhere, so that worlds without end repeat themselves.
    fn token(&self, daemon: usize) -> Token {
        let leases: Vec<_> = self.redis.iter().filter_map(|cell| cell.lease).collect();
        let mut tokens = (0..).map(|number| (daemon, number));
        let unused = |token: &Token| !leases.contains(token) && !self.works_under(*token);
        let first = (daemon, 0);
        if self.has(Flaw::OneTokenPerDaemon) {
            return first;
        }
        tokens.find(unused).unwrap_or(first)
    }

    pub(super) fn acquired(&mut self, place: usize, patience: Duration) -> Result<(), String> {
        let Message::Acquire {
            daemon,
            key,
            token,
            said,
            ..
        } = self.wire.remove(place)
        else {
            return Ok(());
        };
        let acquired = match said {
            Some(Said::There(version)) => Acquired::There(Some(version)),
            Some(Said::Leased) => Acquired::Leased,
            Some(Said::Held) => Acquired::Held,
            None => Acquired::NoLease,
        };
        self.on_acquired(daemon, key, token, acquired, patience)
    }

    pub(super) fn on_acquired(
        &mut self,
        daemon: usize,
        key: usize,
        token: Token,
        acquired: Acquired<Option<Version>>,
        patience: Duration,
    ) -> Result<(), String> {
        let hit = matches!(acquired, Acquired::There(_));
        let flights = &mut self.daemons[daemon].flights;
        match flights.acquired(&name(key), acquired, self.start, patience) {
            Next::Load { leased } => {
                self.wire.push(Message::Load {
                    daemon,
                    key,
                    token: leased.then_some(token),
                    snapshot: self.postgres[key],
                });
                Ok(())
            }
            next => {
                self.tally.hits += usize::from(hit);
                self.follow(daemon, key, next)
            }
        }
    }

    pub(super) fn loaded(
        &mut self,
        place: usize,
        outcome: impl FnOnce(Version) -> Loaded<Option<Version>>,
    ) -> Result<(), String> {
        let Message::Load {
            daemon,
            key,
            token,
            snapshot,
        } = self.wire.remove(place)
        else {
            return Ok(());
        };
        let flights = &mut self.daemons[daemon].flights;
        let next = flights.loaded(&name(key), outcome(snapshot));
        let (fill, heard) = match &next {
            Next::End { fill } => (fill.then_some(snapshot), true),
            _ => (None, false),
        };
        if let Some(token) = token {
            self.wire.push(Message::End {
                daemon,
                key,
                token,
                fill,
                ours: None,
                heard,
            });
        }
        self.follow(daemon, key, next)
    }

    pub(super) fn ended(&mut self, place: usize, ended: Ended) -> Result<(), String> {
        let Message::End {
            daemon, key, fill, ..
        } = self.wire.remove(place)
        else {
            return Ok(());
        };
        self.tally.fills += usize::from(ended == Ended::Ours && fill.is_some());
        self.tally.refused += usize::from(ended == Ended::Refused);
        if self.has(Flaw::UnfilledToLate) {
            self.answer_merged(daemon, key, fill)?;
        }
        let next = self.daemons[daemon].flights.ended(&name(key), ended);
        self.follow(daemon, key, next)
    }

    fn follow(
        &mut self,
        daemon: usize,
        key: usize,
        next: Next<usize, Option<Version>>,
    ) -> Result<(), String> {
        let Next::Answer(readers, version) = next else {
            return Ok(());
        };
        for reader in readers {
            self.answer(reader, version)?;
        }
        self.answer_merged(daemon, key, version)
    }

    fn answer_merged(
        &mut self,
        daemon: usize,
        of: usize,
        version: Option<Version>,
    ) -> Result<(), String> {
        let merged = std::mem::take(&mut self.daemons[daemon].merged);
        let (answered, left) = merged.into_iter().partition(|(key, _)| *key == of);
        self.daemons[daemon].merged = left;
        let answered: Vec<(usize, usize)> = answered;
        answered
            .into_iter()
            .try_for_each(|(_, reader)| self.answer(reader, version))
    }

    /// `None`: the load failed, which is an answer, too.
    fn answer(&mut self, reader: usize, version: Option<Version>) -> Result<(), String> {
        match std::mem::replace(&mut self.readers[reader], Reader::Answered) {
            Reader::Answered => Err(format!("reader {reader} was answered twice")),
            Reader::Waiting { floor, .. } if version.is_some_and(|version| version < floor) => {
                Err(format!(
                    "reader {reader} got {version:?} after the invalidation for {floor} was acknowledged"
                ))
            }
            Reader::Waiting { .. } => Ok(()),
        }
    }
}

fn name(key: usize) -> Bytes {
    Bytes::from_static(NAMES[key].as_bytes())
}
