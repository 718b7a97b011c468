//! A Redis that comes back with data of earlier: one key, two daemons, the queue, what was noted as applied, and a snapshot.
//!
//! - The **queue** has a row for each change. A daemon claims it, applies it in Redis, and removes it; the statement that
//!   removes it notes what was applied. It may die at any point: its claims are let go.
//! - **Redis** is saved at some time, and starts again from that as another run. The heartbeat lies among its data: of which
//!   run, and how much was noted when the one who left it last looked at the queue.
//! - A **daemon** that meets a run judges by the heartbeat, raises its barrier and, if the data are of earlier, doubts all it
//!   finds until that is invalidated which was noted since, or everything if that may be forgotten. A hit that it doubts is
//!   loaded anew, once.
//! - A **command** invalidates without the queue, and is noted a moment after it is acknowledged.
//!
//! A load never stores what was invalidated meanwhile, and the leases of a snapshot are ended: both are the first model's.

mod world;

const TWO: usize = 2;

type Version = u8;
/// So many notes were there: a time by Postgres' clock.
type Time = u8;

/// A rule that may be dropped, to see what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Else what is of earlier is taken as it is.
    Replay,
    /// Else what is noted is read while rows of before the return still wait, which somebody may have applied before it.
    ReplayAfterTheBarrier,
    /// Else what is found is given before it is made right.
    DoubtUntilReplayed,
    /// Else hits are given although older changes wait.
    Barrier,
    /// Else what is noted is all that is invalidated, however old the heartbeat is.
    AgeIsJudged,
    /// Else what was applied is noted some time after its row is gone.
    NotedWithTheRemoval,
    /// Else a daemon vouches for the data that it has just met.
    VouchedWhenItIsDone,
    /// Else what is noted is read although another daemon has just acknowledged a command, and is about to note it.
    ReplayAfterOthersNotes,
    /// An assumption, not a rule: no daemon dies between the acknowledgement of a command and its note.
    NobodyDiesUnnoted,
    /// Another assumption: who serves one Redis serves no other. Else connections to the old one outlive its successor's start.
    OneRedisAtATime,
}

/// How much may happen.
#[derive(Clone, Copy, Debug)]
struct Return {
    changes: u8,
    commands: u8,
    restarts: u8,
    deaths: u8,
    /// How often all notes so far are forgotten.
    windows: u8,
    dropped: Option<Rule>,
}

/// All that Redis holds, and a snapshot of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Data {
    value: Option<Version>,
    /// Of this run, at that time.
    heartbeat: Option<(u8, Time)>,
}

/// What a daemon does with a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Hand {
    #[default]
    Empty,
    Claimed(Version),
    Applied(Version),
    /// Its row is gone, and it is not noted yet.
    Unnoted(Version),
}

/// What is to be made of data of earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Work {
    /// Since when it lacks something; `None`: nobody knows.
    Judged(Option<Time>),
    /// It is invalidated, or nothing has to be.
    Read(bool),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Daemon {
    /// It has met a run of Redis: this one.
    serves: bool,
    run: u8,
    /// All in it is as it should be.
    sound: bool,
    work: Option<Work>,
    /// Rows, a bit each, that have to be gone.
    barrier: Option<u8>,
    /// What was committed when it came.
    returned: Version,
    /// The key was loaded anew, and is doubted no more.
    renewed: bool,
    looked: Time,
    hand: Hand,
    /// What was invalidated by command and is to be noted.
    note: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    /// The row's version, and the newest that was queued.
    row: Version,
    queued: Version,
    /// Versions that wait, a bit each.
    queue: u8,
    noted: Time,
    forgotten: Time,
    redis: Data,
    run: u8,
    saved: Data,
    /// The Redis of before, for whoever is still connected to it.
    left: Data,
    daemons: [Daemon; TWO],
    changes_left: u8,
    commands_left: u8,
    restarts_left: u8,
    deaths_left: u8,
    windows_left: u8,
    /// The newest whose row is gone, and the newest invalidated by command.
    acknowledged: Version,
    commanded: Version,
    seen: Seen,
}

/// What the last step has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Seen {
    #[default]
    Nothing,
    Replayed,
    NothingToReplay,
    Everything,
    Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Commit,
    /// What no table tells of is changed, and invalidated through this daemon.
    Command(usize),
    WriteNote(usize),
    Claim(usize, Version),
    Apply(usize),
    Remove(usize),
    /// The note that should have come with the removal.
    NoteLate(usize),
    /// A daemon looks at the queue.
    Look(usize),
    Beat(usize),
    Fill(usize),
    /// A doubted hit is loaded anew.
    Renew(usize),
    Meet(usize),
    ReadNotes(usize),
    Invalidate(usize),
    Die(usize),
    Save,
    Restart,
    /// A daemon loses its connection to a Redis of before.
    Part(usize),
    /// Whatever is noted is older than the window.
    Forget,
}

const QUEUED: &str = "no read is older than what was acknowledged from the queue";
const RETURNED: &str = "no read is older than what was committed when its daemon came back";
const COMMANDED: &str = "no read is older than what was acknowledged by command";

impl State {
    /// The Redis that this daemon uses.
    fn data(&mut self, daemon: usize) -> &mut Data {
        match self.daemons[daemon].run == self.run {
            true => &mut self.redis,
            false => &mut self.left,
        }
    }

    /// What a reader of this daemon is given from Redis.
    fn given(&self, world: &Return, daemon: usize) -> Option<Version> {
        let Daemon {
            serves,
            run,
            work,
            barrier,
            renewed,
            ..
        } = self.daemons[daemon];
        let data = if run == self.run {
            self.redis
        } else {
            self.left
        };
        let replays = work.is_some() && world.keeps(Rule::DoubtUntilReplayed);
        let doubted = replays || barrier.is_some();
        data.value.filter(|_| serves && (!doubted || renewed))
    }

    fn all_given(&self, world: &Return, passes: impl Fn(&Daemon, Version) -> bool) -> bool {
        let given = |daemon: usize| self.given(world, daemon);
        (0..TWO).all(|daemon| given(daemon).is_none_or(|v| passes(&self.daemons[daemon], v)))
    }

    fn is_claimed(&self, version: Version) -> bool {
        let claimed = [Hand::Claimed(version), Hand::Applied(version)];
        self.daemons.iter().any(|d| claimed.contains(&d.hand))
    }

    fn meet(&mut self, world: &Return, number: usize) {
        let daemon = &mut self.daemons[number];
        (daemon.serves, daemon.run, daemon.renewed) = (true, self.run, false);
        if world.keeps(Rule::Barrier) {
            daemon.barrier = Some(self.queue);
        }
        daemon.returned = self.queued;
        daemon.work = match self.redis.heartbeat {
            Some((run, _)) if run == self.run => None,
            _ if self.redis == Data::default() => None,
            heartbeat => Some(Work::Judged(heartbeat.map(|(_, at)| at))),
        };
        daemon.sound = daemon.work.is_none();
        if daemon.sound && self.run > 0 {
            self.seen = Seen::Known;
        }
    }

    fn read_notes(&mut self, world: &Return, number: usize) {
        let Some(Work::Judged(since)) = self.daemons[number].work else {
            return;
        };
        let judges = world.keeps(Rule::AgeIsJudged);
        let known = since.filter(|since| *since >= self.forgotten || !judges);
        let lacks = match known {
            Some(since) => self.noted > since.max(self.forgotten),
            None => true,
        };
        self.seen = match known {
            Some(_) if lacks => Seen::Replayed,
            Some(_) => Seen::NothingToReplay,
            None => Seen::Everything,
        };
        let invalidates = lacks && world.keeps(Rule::Replay);
        self.daemons[number].work = Some(Work::Read(invalidates));
    }

    fn restart(&mut self, world: &Return) {
        self.restarts_left -= 1;
        self.run += 1;
        self.left = self.redis;
        self.redis = self.saved;
        if world.keeps(Rule::OneRedisAtATime) {
            self.left = Data::default();
            (0..TWO).for_each(|daemon| self.part(daemon));
        }
    }

    fn part(&mut self, daemon: usize) {
        let daemon = &mut self.daemons[daemon];
        *daemon = Daemon {
            looked: daemon.looked,
            hand: daemon.hand,
            note: daemon.note,
            ..Daemon::default()
        };
    }
}

impl Return {
    fn keeps(&self, rule: Rule) -> bool {
        self.dropped != Some(rule)
    }

    fn take(&self, state: &mut State, step: Step) {
        match step {
            Step::Commit => {
                state.changes_left -= 1;
                state.row += 1;
                state.queued = state.row;
                state.queue |= 1 << state.row;
            }
            Step::Command(daemon) => {
                state.commands_left -= 1;
                state.row += 1;
                state.commanded = state.row;
                state.data(daemon).value = None;
                state.daemons[daemon].note = true;
            }
            Step::WriteNote(daemon) => {
                state.noted += 1;
                state.daemons[daemon].note = false;
            }
            Step::Claim(daemon, version) => state.daemons[daemon].hand = Hand::Claimed(version),
            Step::Apply(daemon) => {
                if let Hand::Claimed(version) = state.daemons[daemon].hand {
                    state.data(daemon).value = None;
                    state.daemons[daemon].hand = Hand::Applied(version);
                }
            }
            Step::Remove(daemon) => {
                let Hand::Applied(version) = state.daemons[daemon].hand else {
                    return;
                };
                state.queue &= !(1 << version);
                state.acknowledged = state.acknowledged.max(version);
                if self.keeps(Rule::NotedWithTheRemoval) {
                    state.noted += 1;
                    state.daemons[daemon].hand = Hand::Empty;
                } else {
                    state.daemons[daemon].hand = Hand::Unnoted(version);
                }
            }
            Step::NoteLate(daemon) => {
                state.noted += 1;
                state.daemons[daemon].hand = Hand::Empty;
            }
            Step::Look(daemon) => {
                let daemon = &mut state.daemons[daemon];
                daemon.looked = state.noted;
                daemon.barrier = daemon.barrier.filter(|rows| rows & state.queue != 0);
            }
            Step::Beat(daemon) => {
                let Daemon { run, looked, .. } = state.daemons[daemon];
                state.data(daemon).heartbeat = Some((run, looked));
            }
            Step::Fill(daemon) => state.data(daemon).value = Some(state.row),
            Step::Renew(daemon) => {
                state.data(daemon).value = Some(state.row);
                state.daemons[daemon].renewed = true;
            }
            Step::Meet(daemon) => state.meet(self, daemon),
            Step::ReadNotes(daemon) => state.read_notes(self, daemon),
            Step::Invalidate(daemon) => {
                if state.daemons[daemon].work == Some(Work::Read(true)) {
                    state.data(daemon).value = None;
                }
                let daemon = &mut state.daemons[daemon];
                (daemon.work, daemon.sound) = (None, true);
            }
            Step::Die(daemon) => {
                state.deaths_left -= 1;
                state.daemons[daemon] = Daemon::default();
            }
            Step::Save => state.saved = state.redis,
            Step::Restart => state.restart(self),
            Step::Part(daemon) => state.part(daemon),
            Step::Forget => {
                state.windows_left -= 1;
                state.forgotten = state.noted;
            }
        }
    }

    /// What a daemon can do next.
    fn daemon(&self, state: &State, number: usize, steps: &mut Vec<Step>) {
        let daemon = state.daemons[number];
        let mut may = |is_possible: bool, step| steps.extend(is_possible.then_some(step));
        may(!daemon.serves, Step::Meet(number));
        may(daemon.note, Step::WriteNote(number));
        may(true, Step::Look(number));
        for version in (1..=state.row).filter(|version| state.queue & (1 << version) != 0) {
            let is_free = daemon.hand == Hand::Empty && !state.is_claimed(version);
            may(is_free && daemon.serves, Step::Claim(number, version));
        }
        match daemon.hand {
            Hand::Empty => {}
            Hand::Claimed(_) => may(daemon.serves, Step::Apply(number)),
            Hand::Applied(_) => may(true, Step::Remove(number)),
            Hand::Unnoted(_) => may(true, Step::NoteLate(number)),
        }
        let sound = daemon.sound || !self.keeps(Rule::VouchedWhenItIsDone);
        may(daemon.serves && sound, Step::Beat(number));
        let may_command = daemon.serves && state.commands_left > 0 && !daemon.note;
        may(may_command, Step::Command(number));
        let doubts = daemon.work.is_some() || daemon.barrier.is_some();
        let data = if daemon.run == state.run {
            state.redis
        } else {
            state.left
        };
        let is_hit = data.value.is_some();
        may(daemon.serves && !is_hit, Step::Fill(number));
        may(daemon.serves && daemon.run != state.run, Step::Part(number));
        may(doubts && !daemon.renewed && is_hit, Step::Renew(number));
        match daemon.work {
            None => {}
            Some(Work::Judged(_)) => {
                let is_down = daemon.barrier.is_none() || !self.keeps(Rule::ReplayAfterTheBarrier);
                let others = self.keeps(Rule::ReplayAfterOthersNotes);
                let mut all = state.daemons.iter().enumerate();
                let is_noted = !all.any(|(other, d)| d.note && (others || other == number));
                may(is_down && is_noted, Step::ReadNotes(number));
            }
            Some(Work::Read(_)) => may(true, Step::Invalidate(number)),
        }
    }
}
