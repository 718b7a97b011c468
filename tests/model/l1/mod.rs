//! Values in a daemon's own memory: one key, one daemon that is told of its changes, one Redis, and a connection that may go
//! dead.
//!
//! - **Redis** holds the key's newest version, or nothing: that it holds nothing outdated is the matter of the first model.
//!   What changes it tells at the end of a turn, by prefix: of a proof and a change of the same turn either may come first. A
//!   reply goes out before. What was sent arrives in this order, some time later, or is lost with its connection.
//! - The **daemon** looks up, keeps what it found, hears, and proves every now and then that it hears. Its connection may go
//!   dead without a sign, may be found out to be, and is replaced; by one perhaps on which nothing is told.
//!
//! A proof is good for a time from the moment it was begun. That is one step, [`Step::ProofEnds`]: whatever came before it may
//! have come long before.

mod world;

/// Look-ups under way at once.
const LOOKUPS: usize = 1;

type Version = u8;

/// A rule that may be dropped, to see what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Else an answer is kept whatever was heard since.
    KeptOnlyIfNothingWasHeard,
    /// Else what was heard last is noted when the answer is there, not before it is asked for.
    NotedBeforeItIsSent,
    /// Else what is kept outlives the connection.
    LossForgets,
    /// Else an answer of before a loss is kept after it.
    LossIsHeard,
    /// Else what is kept is read on a new connection at once.
    OffUntilProven,
    /// Else a proof is good for ever.
    ProofsEnd,
    /// Else who invalidates through this daemon is answered before it has forgotten.
    ForgottenBeforeAcknowledged,
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
struct L1 {
    /// Invalidations by others.
    changes: u8,
    /// Invalidations through this daemon.
    own: u8,
    lookups: u8,
    proofs: u8,
    /// Connections that go dead.
    losses: u8,
    dropped: Option<Rule>,
}

/// What Redis sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Message {
    /// The key has changed; this is its newest version that was invalidated to get there.
    Changed(Version),
    Found(usize, Option<Version>),
    Proof(u8),
}

/// `unheard`: nothing was heard of the key since this was noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Lookup {
    #[default]
    Idle,
    Sent {
        unheard: bool,
    },
    /// Redis has read for it.
    Answered {
        unheard: bool,
    },
    InHand {
        found: Version,
        unheard: bool,
    },
}

/// What may be relied on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Certain {
    #[default]
    Off,
    On,
    /// It was, and no proof has come in time.
    Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Proof {
    number: u8,
    /// What was invalidated when it was begun, or when the turn began in which Redis came to it.
    floor: Version,
    written: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Line {
    /// None, or one that is known to be dead.
    #[default]
    Down,
    /// Changes are told on it.
    Told,
    /// They are not.
    Untold,
    /// Nobody knows yet.
    Dead,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// The newest version: what is older is invalidated.
    newest: Version,
    /// Redis holds it.
    held: bool,
    changes_left: u8,
    own_left: u8,
    lookups_left: u8,
    proofs_left: u8,
    losses_left: u8,
    /// To be told at the end of Redis' turn.
    change_told: bool,
    proof_told: Option<u8>,
    /// The newest version when Redis' turn began.
    turn_began: Version,
    wire: Vec<Message>,
    line: Line,
    lookups: [Lookup; LOOKUPS],
    proving: Option<Proof>,
    certain: Certain,
    kept: Option<Version>,
    /// An invalidation through this daemon is done in Redis and not acknowledged.
    own: Option<Version>,
    /// What the daemon was told of, or has acknowledged.
    told: Version,
    /// What was invalidated when the last proof was begun.
    proven: Version,
    refused: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Somebody else invalidates the key.
    Change,
    /// Somebody fills it.
    Refill,
    /// Redis' turn ends.
    Tell {
        proof_first: bool,
    },
    Arrive,
    Send(usize),
    /// Redis reads.
    Look(usize),
    Keep(usize),
    BeginProof,
    /// Redis writes the key of the proof.
    WriteProof,
    /// It has taken too long.
    ProofFails,
    ProofEnds,
    GoDead,
    FindDead,
    Connect {
        told: bool,
    },
    OwnInvalidate,
    OwnAcknowledge,
}

const TOLD: &str = "what the daemon was told of, or has acknowledged, is not given any more";
const BOUND: &str = "nothing is given that was invalidated before the last proof was begun";

impl State {
    /// What a reader may be given at least, however long ago the last proof was begun: without one, as long as you like.
    fn bound(&self) -> Version {
        match self.certain {
            Certain::On => self.proven,
            Certain::Off | Certain::Ended => self.newest,
        }
    }

    /// What a reader would be given.
    fn given(&self, world: &L1) -> Option<Version> {
        let off = !world.keeps(Rule::OffUntilProven) && self.line != Line::Down;
        self.kept.filter(|_| self.certain == Certain::On || off)
    }

    fn hear(&mut self) {
        for lookup in &mut self.lookups {
            match lookup {
                Lookup::Idle => {}
                Lookup::Sent { unheard }
                | Lookup::Answered { unheard }
                | Lookup::InHand { unheard, .. } => *unheard = false,
            }
        }
    }

    fn all_changed(&mut self, world: &L1) {
        if world.keeps(Rule::LossForgets) {
            self.kept = None;
        }
        if world.keeps(Rule::LossIsHeard) {
            self.hear();
        }
    }

    fn lost(&mut self, world: &L1) {
        self.certain = Certain::Off;
        self.all_changed(world);
    }

    /// Its connection is no more: what was on the wire, and whoever waits for it.
    fn cut(&mut self) {
        self.wire.clear();
        (self.change_told, self.proof_told) = (false, None);
    }

    fn invalidate(&mut self) {
        self.newest += 1;
        self.held = false;
        self.tell_change();
    }

    fn tell_change(&mut self) {
        self.change_told = self.line == Line::Told;
    }

    fn tell(&mut self, proof_first: bool) {
        let change = std::mem::take(&mut self.change_told).then_some(Message::Changed(self.newest));
        let proof = self.proof_told.take().map(Message::Proof);
        if proof_first {
            self.wire.extend(proof.into_iter().chain(change));
        } else {
            self.wire.extend(change.into_iter().chain(proof));
        }
        self.turn_began = self.newest;
    }

    fn arrive(&mut self, world: &L1) {
        match self.wire.remove(0) {
            Message::Changed(version) => {
                self.kept = None;
                self.hear();
                self.told = self.told.max(version);
            }
            Message::Found(lookup, found) => {
                let Lookup::Answered { unheard } = self.lookups[lookup] else {
                    return;
                };
                let unheard = unheard || !world.keeps(Rule::NotedBeforeItIsSent);
                self.lookups[lookup] =
                    found.map_or(Lookup::Idle, |found| Lookup::InHand { found, unheard });
            }
            Message::Proof(number) => self.proof(world, number),
        }
    }

    fn proof(&mut self, world: &L1, number: u8) {
        let is_it = |proof: &mut Proof| proof.number == number;
        let Some(proof) = self.proving.take_if(is_it) else {
            return;
        };
        if self.certain != Certain::On {
            self.all_changed(world);
        }
        (self.certain, self.proven) = (Certain::On, proof.floor);
    }
}

impl L1 {
    fn keeps(&self, rule: Rule) -> bool {
        self.dropped != Some(rule)
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Change => {
                state.changes_left -= 1;
                state.invalidate();
            }
            Step::Refill => {
                state.held = true;
                state.tell_change();
            }
            Step::Tell { proof_first } => state.tell(proof_first),
            Step::Arrive => state.arrive(self),
            Step::Send(lookup) => {
                state.lookups_left -= 1;
                state.lookups[lookup] = Lookup::Sent { unheard: true };
            }
            Step::Look(lookup) => {
                let Lookup::Sent { unheard } = state.lookups[lookup] else {
                    return;
                };
                let found = state.held.then_some(state.newest);
                state.lookups[lookup] = Lookup::Answered { unheard };
                state.wire.push(Message::Found(lookup, found));
            }
            Step::Keep(lookup) => {
                let Lookup::InHand { found, unheard } = state.lookups[lookup] else {
                    return;
                };
                let unheard = unheard || !self.keeps(Rule::KeptOnlyIfNothingWasHeard);
                let on = state.certain != Certain::Off || !self.keeps(Rule::OffUntilProven);
                match on && unheard {
                    true => state.kept = Some(found),
                    false => state.refused = true,
                }
                state.lookups[lookup] = Lookup::Idle;
            }
            Step::BeginProof => {
                let number = state.proofs_left;
                state.proofs_left -= 1;
                state.proving = Some(Proof {
                    number,
                    floor: state.newest,
                    written: false,
                });
            }
            Step::WriteProof => {
                if let Some(proof) = &mut state.proving {
                    proof.written = true;
                    proof.floor = proof.floor.min(state.turn_began);
                    state.proof_told = Some(proof.number);
                }
            }
            Step::ProofFails => {
                state.proving = None;
                state.lost(self);
            }
            Step::ProofEnds => {
                if self.keeps(Rule::ProofsEnd) {
                    state.certain = Certain::Ended;
                } else {
                    state.proven = state.newest;
                }
            }
            Step::GoDead => {
                state.losses_left -= 1;
                state.cut();
                state.line = Line::Dead;
            }
            Step::FindDead => {
                // Who waits for an answer is told that none comes.
                for lookup in &mut state.lookups {
                    if !matches!(lookup, Lookup::InHand { .. }) {
                        *lookup = Lookup::Idle;
                    }
                }
                state.cut();
                (state.line, state.proving) = (Line::Down, None);
                state.lost(self);
            }
            Step::Connect { told } => state.line = if told { Line::Told } else { Line::Untold },
            Step::OwnInvalidate => {
                state.own_left -= 1;
                state.invalidate();
                state.own = Some(state.newest);
            }
            Step::OwnAcknowledge => {
                if self.keeps(Rule::ForgottenBeforeAcknowledged) {
                    state.kept = None;
                    state.hear();
                }
                let own = state.own.take();
                state.told = state.told.max(own.unwrap_or_default());
            }
        }
    }
}
