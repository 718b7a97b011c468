//! What may happen in the model, and when.

use super::redis::Said;
use super::{Message, Token, World};

/// One thing that may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache::model_tests) enum Step {
    Arrive {
        daemon: usize,
        key: usize,
    },
    /// A commit, and its invalidation sent; a daemon that is asked to invalidate closes its flights.
    Write {
        key: usize,
        through: Option<usize>,
    },
    /// The request reaches its server, or the reply its daemon.
    Deliver(usize),
    /// The daemon sends what is queued.
    Pump(usize),
    /// The parked flights of a daemon look again.
    Wake(usize),
    /// A lease nobody works under any more ends.
    Expire(usize),
    // From here on: faults.
    LoseReply(usize),
    LosePatience(usize),
    FailLoad(usize),
    /// The loaded value is not one to be cached.
    PassLoad(usize),
    EvictValue(usize),
    EvictLease(usize),
    EvictIndex,
}

impl Step {
    pub(super) fn is_fault(self) -> bool {
        use Step::*;
        !matches!(
            self,
            Arrive { .. } | Write { .. } | Deliver(_) | Pump(_) | Wake(_) | Expire(_)
        )
    }
}

impl World {
    /// Everything that may happen now.
    pub(in crate::cache::model_tests) fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for key in 0..self.setup.keys {
            if self.setup.reads > 0 {
                // The daemons are alike: the first to be asked may be called 0.
                let known = if self.readers.is_empty() {
                    0..1
                } else {
                    0..self.setup.daemons
                };
                steps.extend(known.map(|daemon| Step::Arrive { daemon, key }));
            }
            if self.setup.writes > 0 && (key == 0 || !self.setup.patterns) {
                steps.push(Step::Write { key, through: None });
                steps.extend((0..self.setup.daemons).map(|daemon| Step::Write {
                    key,
                    through: Some(daemon),
                }));
            }
            let cell = &self.redis[key];
            if cell.lease.is_some_and(|token| !self.works_under(token)) {
                steps.push(Step::Expire(key));
            }
            if cell.value.is_some() {
                steps.push(Step::EvictValue(key));
            }
            if cell.lease.is_some() {
                steps.push(Step::EvictLease(key));
            }
        }
        if self.redis.iter().any(|cell| cell.entry) {
            steps.push(Step::EvictIndex);
        }
        for (place, message) in self.wire.iter().enumerate() {
            steps.push(Step::Deliver(place));
            match message {
                Message::LookUp { .. }
                | Message::Acquire { heard: true, .. }
                | Message::End { heard: true, .. } => steps.push(Step::LoseReply(place)),
                Message::Load { .. } => {
                    steps.extend([Step::FailLoad(place), Step::PassLoad(place)]);
                }
                _ => {}
            }
            if let Message::Acquire {
                said: Some(Said::Held),
                ..
            } = message
            {
                steps.push(Step::LosePatience(place));
            }
        }
        for (place, daemon) in self.daemons.iter().enumerate() {
            if daemon.flights.any_queued() {
                steps.push(Step::Pump(place));
            }
            if daemon.flights.any_parked() {
                steps.push(Step::Wake(place));
            }
        }
        steps.retain(|step| self.setup.faults > 0 || !step.is_fault());
        steps
    }

    /// Whether anything on its way still belongs to this lease.
    pub(super) fn works_under(&self, lease: Token) -> bool {
        self.wire.iter().any(|message| match message {
            Message::Acquire { token, .. } | Message::End { token, .. } => *token == lease,
            Message::Load { token, .. } => *token == Some(lease),
            _ => false,
        })
    }
}
