//! What a lock ought to be, said once more and without Redis.

use std::collections::BTreeMap;
use std::time::Duration;

use cachewarden::lock::{Extended, Fence, Kind, Take, Taken};

/// How long a mark in the queue counts.
const MARK_MS: u64 = 2500;
/// Told to more, a lock is let go by nobody who is gone. Fewer than in truth, so that it is met with.
pub const MOST_ASKERS: usize = 3;

pub const KINDS: [Kind; 4] = [
    Kind::Exclusive,
    Kind::Shared,
    Kind::Permits(1),
    Kind::Permits(2),
];

fn room(kind: Kind) -> usize {
    match kind {
        Kind::Exclusive => 1,
        Kind::Shared => usize::MAX,
        Kind::Permits(n) => n as usize,
    }
}

fn go_together(one: Kind, other: Kind) -> bool {
    one != Kind::Exclusive && std::mem::discriminant(&one) == std::mem::discriminant(&other)
}

#[derive(Clone, Debug)]
pub struct Holder {
    pub kind: Kind,
    ends: u64,
    fence: Fence,
    /// Who was told that the token has it, and has not gone; 0 stands for all.
    askers: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
pub struct Mark {
    since: u64,
    ends: u64,
    kind: Kind,
}

/// What a lock ought to be.
#[derive(Default)]
pub struct Model {
    pub now: u64,
    pub holders: BTreeMap<u8, Holder>,
    pub marks: BTreeMap<u8, Mark>,
    /// Who were told that a token has it, one after the other.
    pub told: BTreeMap<u8, Vec<u64>>,
    /// What a token took last, and the fence that was minted for that.
    pub taken: BTreeMap<u8, u64>,
    pub minted: BTreeMap<u8, (u64, i64)>,
    pub fences: i64,
    pub askers: u64,
    /// The highest fence of what is over, while the lock is held by one at a time.
    pub highest: i64,
}

impl Model {
    pub fn expire(&mut self) {
        let now = self.now;
        self.holders.retain(|_, holder| holder.ends > now);
        self.marks.retain(|_, mark| mark.ends > now);
    }

    pub fn take(&mut self, daemon: u8, token: u8, take: &Take) -> Taken {
        self.expire();
        let ends = self.now + take.ttl.as_millis() as u64;
        if let Some(mine) = self.holders.get_mut(&token) {
            mine.ends = mine.ends.max(ends);
            match mine.askers.len() {
                MOST_ASKERS => mine.askers = vec![0],
                _ => mine.askers.push(take.asker),
            }
            return Taken::Yes(mine.fence);
        }
        if take.is_behind {
            return Taken::No(Duration::ZERO);
        }
        let since = self.now - take.waited.as_millis() as u64;
        let is_full = self.holders.len() >= room(take.kind);
        let holders = self.holders.values();
        let holders = holders.filter(|one| is_full || !go_together(one.kind, take.kind));
        let older = self.marks.iter().filter(|(other, mark)| {
            let both_share = mark.kind == Kind::Shared && take.kind == Kind::Shared;
            **other != daemon && mark.since < since && !both_share
        });
        let ends_of = holders
            .map(|one| one.ends)
            .chain(older.map(|(_, mark)| mark.ends));
        if let Some(first) = ends_of.min() {
            if take.waits {
                self.mark(daemon, since, take.kind);
            }
            return Taken::No(Duration::from_millis(first - self.now));
        }
        let (kind, asker, fence) = (take.kind, take.asker, Fence::Due(take.asker));
        let holder = Holder {
            kind,
            ends,
            fence,
            askers: vec![asker],
        };
        self.holders.insert(token, holder);
        match take.next {
            Some((waited, kind)) => self.mark(daemon, self.now - waited.as_millis() as u64, kind),
            None => drop(self.marks.remove(&daemon)),
        }
        Taken::Yes(fence)
    }

    fn mark(&mut self, daemon: u8, since: u64, kind: Kind) {
        let ends = self.now + MARK_MS;
        self.marks.insert(daemon, Mark { since, ends, kind });
    }

    pub fn extend(&mut self, token: u8, ttl: u64, minted: Option<(u64, i64)>) -> Extended {
        self.expire();
        let now = self.now;
        let Some(mine) = self.holders.get_mut(&token) else {
            return Extended::No;
        };
        if let (Fence::Due(birth), Some((asker, fence))) = (mine.fence, minted) {
            if birth != asker {
                return Extended::No;
            }
            mine.fence = Fence::Minted(fence);
        }
        let at_least = minted.map_or(0, |_| mine.ends);
        mine.ends = at_least.max(now + ttl);
        Extended::Yes(mine.fence)
    }

    pub fn release(&mut self, token: u8, asker: Option<u64>) -> bool {
        self.expire();
        let Some(mine) = self.holders.get_mut(&token) else {
            return false;
        };
        if let Some(asker) = asker {
            mine.askers.retain(|one| *one != asker);
            if !mine.askers.is_empty() {
                return false;
            }
        }
        self.holders.remove(&token);
        true
    }
}
