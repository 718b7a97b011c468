//! The Redis of the model: each script one step.

use super::{Flaw, Message, Token, Version, World};

/// The acquire script's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Said {
    There(Version),
    Leased,
    Held,
}

/// What Redis holds for one key: the value, its lease, and whether the lease index has its entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) value: Option<Version>,
    pub(super) lease: Option<Token>,
    pub(super) entry: bool,
}

impl Cell {
    /// As `scripts/acquire_leases.lua`.
    pub(super) fn acquire(&mut self, token: Token) -> Said {
        if let Some(value) = self.value {
            return Said::There(value);
        }
        if self.lease.is_some() {
            return Said::Held;
        }
        (self.lease, self.entry) = (Some(token), true);
        Said::Leased
    }

    /// As `scripts/end_leases.lua`.
    pub(super) fn end(&mut self, token: Token, fill: Option<Version>, flaw: Option<Flaw>) -> bool {
        if self.lease != Some(token) && flaw != Some(Flaw::EndWithoutLease) {
            return false;
        }
        let ours = self.entry
            || matches!(
                flaw,
                Some(Flaw::EndWithoutIndexEntry | Flaw::EndWithoutLease)
            );
        (self.lease, self.entry) = (None, false);
        if ours && fill.is_some() {
            self.value = fill;
        }
        ours
    }
}

impl World {
    /// Exact: one script. By pattern: the leases that the index knows, then the values one by one.
    pub(super) fn invalidate(&mut self, place: usize) {
        let (by_pattern, values_first) = (self.setup.patterns, self.has(Flaw::ValuesBeforeLeases));
        let keeps_lease = self.has(Flaw::AbsentValueKeepsLease);
        let World { wire, redis, .. } = self;
        let Message::Invalidate {
            keys,
            versions,
            stage,
        } = &mut wire[place]
        else {
            return;
        };
        let scripts = if by_pattern { 1 + keys.len() } else { 1 };
        if *stage == scripts {
            for (key, version) in keys.iter().zip(versions) {
                self.floor[*key] = self.floor[*key].max(*version);
            }
            wire.remove(place);
            return;
        }
        if !by_pattern {
            let cell = &mut redis[keys[0]];
            if !(keeps_lease && cell.value.is_none()) {
                *cell = Cell::default();
            }
        } else if *stage == if values_first { keys.len() } else { 0 } {
            for cell in redis.iter_mut().filter(|cell| cell.entry) {
                (cell.lease, cell.entry) = (None, false);
            }
        } else {
            redis[keys[*stage - usize::from(!values_first)]].value = None;
        }
        *stage += 1;
    }
}
