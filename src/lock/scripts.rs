//! The scripts of this room, with types.

use super::messages::{Kind, MAX_SHARED};
use crate::keyspace::names::{LOCKS, lock_of};
use crate::store::{Reply, Script, Store, StoreError};
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

/// Locks of one call: what Redis does for them holds up everybody else for as long as it runs.
pub const MAX_BATCH: usize = 128;
/// How long a daemon's mark in a lock's queue counts, unless it is renewed: two looks may be late or lost.
const MARK_LIFE: Duration = Duration::from_millis(2500);
/// Locks that are listed at most.
const MAX_LISTED: usize = 10_000;

/// Stand before every script.
const TIME: &str = include_str!("scripts/tell_time.lua");
const READ: &str = include_str!("scripts/read_locks.lua");

/// The scripts of this room.
#[derive(Debug)]
pub struct Scripts {
    take: Script,
    extend: Script,
    release: Script,
    force: Script,
    leave: Script,
    look: Script,
    find: Script,
}

impl Default for Scripts {
    fn default() -> Self {
        Self::edited(str::to_owned)
    }
}

impl Scripts {
    /// The scripts as `edit` leaves their texts: for tests that have a clock of their own, or take a safeguard away. Nothing
    /// else has a use for it.
    #[doc(hidden)]
    pub fn edited(edit: impl Fn(&str) -> String) -> Self {
        let script = |name, text: &str| Script::new(name, &edit(&[TIME, READ, text].concat()));
        Self {
            take: script("take_locks", include_str!("scripts/take_locks.lua")),
            extend: script("extend_locks", include_str!("scripts/extend_locks.lua")),
            release: script("release_locks", include_str!("scripts/release_locks.lua")),
            force: script("force_locks", include_str!("scripts/force_locks.lua")),
            leave: script("leave_queue", include_str!("scripts/leave_queue.lua")),
            look: script("look_at_locks", include_str!("scripts/look_at_locks.lua")),
            find: script("find_locks", include_str!("scripts/find_locks.lua")),
        }
    }
}

/// One attempt to take a lock.
#[derive(Clone, Debug)]
pub struct Take {
    pub name: Bytes,
    pub token: Uuid,
    /// New for every try: what is told to somebody who is gone is let go again, unless it was told to others, too.
    pub asker: u64,
    pub kind: Kind,
    pub ttl: Duration,
    /// For how long it has been waited for.
    pub waited: Duration,
    /// If it cannot be had, it is waited for.
    pub waits: bool,
    /// Others of this daemon wait before it: it is only asked whether the lock is the token's already.
    pub is_behind: bool,
    /// For how long this daemon's next waiter has waited, and for what.
    pub next: Option<(Duration, Kind)>,
}

/// The fence of an acquisition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    Minted(i64),
    /// It is still to be minted, for what this asker took.
    Due(u64),
}

impl Fence {
    /// The fence, if it was minted.
    pub fn minted(self) -> Option<i64> {
        match self {
            Fence::Minted(fence) => Some(fence),
            Fence::Due(_) => None,
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the token's.
    Yes(Fence),
    /// It is not; after so long another try is worth it.
    No(Duration),
}

/// A lock that is to be held for `ttl` from now on.
#[derive(Clone, Debug)]
pub struct Extension {
    pub name: Bytes,
    pub token: Uuid,
    pub ttl: Duration,
    /// What was minted, and for what which asker took.
    pub minted: Option<(u64, i64)>,
}

/// What was extended, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extended {
    Yes(Fence),
    /// It is not the token's (any more).
    No,
}

/// A lock that is let go.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Letting {
    pub name: Bytes,
    pub token: Uuid,
    /// Only what this one was told: while others were told that the token has it, it stays the token's.
    pub asker: Option<u64>,
}

/// What a lock looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub held: u64,
    pub fence: Option<i64>,
    pub left: Duration,
    /// Other daemons of which somebody waits for it.
    pub waiting_daemons: u64,
}

/// Locks in one Redis, as one daemon sees them.
#[derive(Clone)]
pub struct Locks {
    store: Store,
    scripts: Arc<Scripts>,
    instance: Bytes,
}

impl Locks {
    /// `instance` is the daemon, in the queues of the whole fleet.
    pub fn new(store: Store, scripts: Arc<Scripts>, instance: Uuid) -> Self {
        let instance = text(&instance.hyphenated());
        Self {
            store,
            scripts,
            instance,
        }
    }

    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Takes locks, at most [`MAX_BATCH`], each by its own token.
    ///
    /// # Errors
    /// See [`StoreError`]; what was sent may have run.
    pub async fn take(&self, takes: &[Take]) -> Result<Vec<Taken>, StoreError> {
        let mut args = vec![self.instance.clone(), millis(MARK_LIFE)];
        for take in takes {
            let (next_ms, next_kind) = match take.next {
                Some((waited, kind)) => (number(waited.as_millis()), room(kind)),
                None => (Bytes::new(), Bytes::new()),
            };
            args.extend([
                text(&take.token.hyphenated()),
                number(take.asker),
                room(take.kind),
                millis(take.ttl),
                number(take.waited.as_millis()),
                flag(take.waits),
                flag(take.is_behind),
                next_ms,
                next_kind,
            ]);
        }
        let names = names(takes.iter().map(|take| &take.name));
        self.answers(&self.scripts.take, &names, &args, taken).await
    }

    /// Extends locks, at most [`MAX_BATCH`].
    ///
    /// # Errors
    /// See [`StoreError`]; what was sent may have run.
    pub async fn extend(&self, extensions: &[Extension]) -> Result<Vec<Extended>, StoreError> {
        let args: Vec<_> = extensions
            .iter()
            .flat_map(|one| {
                let (birth, fence) = match one.minted {
                    Some((asker, fence)) => (Bytes::from(format!("~{asker}")), number(fence)),
                    None => (Bytes::new(), Bytes::new()),
                };
                let token = text(&one.token.hyphenated());
                [token, millis(one.ttl), birth, fence]
            })
            .collect();
        let names = names(extensions.iter().map(|one| &one.name));
        let script = &self.scripts.extend;
        self.answers(script, &names, &args, extended).await
    }

    /// Lets locks go, at most [`MAX_BATCH`]; whether each was.
    ///
    /// # Errors
    /// See [`StoreError`]; what was sent may have run.
    pub async fn release(&self, lettings: &[Letting]) -> Result<Vec<bool>, StoreError> {
        let mut args = vec![self.instance.clone()];
        for one in lettings {
            let asker = one.asker.map_or_else(Bytes::new, number);
            args.extend([text(&one.token.hyphenated()), asker]);
        }
        let names = names(lettings.iter().map(|one| &one.name));
        let was_let_go = |reply: Reply| Some(reply.as_integer()? == 1);
        let script = &self.scripts.release;
        self.answers(script, &names, &args, was_let_go).await
    }

    /// Takes a lock away; the fences of those who held it.
    ///
    /// # Errors
    /// See [`StoreError`]; it may have run.
    pub async fn force(&self, name: &Bytes) -> Result<Vec<Option<i64>>, StoreError> {
        let minted = |reply| Some(fence(reply)?.minted());
        let fences = |reply: Reply| reply.into_list()?.into_iter().map(minted).collect();
        let (script, names) = (&self.scripts.force, names([name].into_iter()));
        let args = [self.instance.clone()];
        let mut answers = self.answers(script, &names, &args, fences).await?;
        Ok(answers.pop().unwrap_or_default())
    }

    /// Says that nobody of this daemon waits for these locks any more, at most [`MAX_BATCH`].
    ///
    /// # Errors
    /// See [`StoreError`]; marks that are left there end by themselves.
    pub async fn leave(&self, locks: &[Bytes]) -> Result<(), StoreError> {
        let (script, names) = (&self.scripts.leave, names(locks.iter()));
        let left = self.store.run(script, &names, &[&self.instance]).await?;
        left.as_integer().map(drop).ok_or(unexpected(script))
    }

    /// Looks at locks, at most [`MAX_BATCH`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn look(&self, locks: &[Bytes]) -> Result<Vec<Look>, StoreError> {
        let args = [self.instance.clone()];
        let names = names(locks.iter());
        self.answers(&self.scripts.look, &names, &args, look).await
    }

    /// The first names of locks that begin like this, in their order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find(&self, prefix: &Bytes) -> Result<Vec<Bytes>, StoreError> {
        let script = &self.scripts.find;
        let mut found = BTreeSet::new();
        let mut cursor = Bytes::from_static(b"0");
        loop {
            let args = [cursor, prefix.clone()];
            let reply = self
                .store
                .run(script, &names([].into_iter()), &args)
                .await?;
            let (next, names) = page(reply).ok_or(unexpected(script))?;
            found.extend(names);
            while found.len() > MAX_LISTED {
                found.pop_last();
            }
            if next.as_ref() == b"0" {
                return Ok(found.into_iter().collect());
            }
            cursor = next;
        }
    }

    /// Runs a script that answers for each lock.
    async fn answers<T>(
        &self,
        script: &Script,
        names: &[Bytes],
        args: &[Bytes],
        read: impl Fn(Reply) -> Option<T>,
    ) -> Result<Vec<T>, StoreError> {
        let reply = self.store.run(script, names, args).await?;
        let answers = reply.into_list().unwrap_or_default().into_iter().map(read);
        let answers: Option<Vec<T>> = answers.collect();
        answers
            .filter(|answers| answers.len() + 1 == names.len())
            .ok_or(unexpected(script))
    }
}

fn unexpected(script: &Script) -> StoreError {
    let command = script.name();
    StoreError::Unexpected { command }
}

/// The KEYS that every script of this room takes.
fn names<'a>(locks: impl Iterator<Item = &'a Bytes>) -> Vec<Bytes> {
    let index = Bytes::from_static(LOCKS.as_bytes());
    let locks = locks.map(|name| Bytes::from(lock_of(name)));
    [index].into_iter().chain(locks).collect()
}

fn taken(reply: Reply) -> Option<Taken> {
    match reply {
        Reply::Integer(ms) => Some(Taken::No(Duration::from_millis(u64::try_from(ms).ok()?))),
        reply => fence(reply).map(Taken::Yes),
    }
}

fn extended(reply: Reply) -> Option<Extended> {
    match reply {
        Reply::Integer(_) => Some(Extended::No),
        reply => fence(reply).map(Extended::Yes),
    }
}

fn look(reply: Reply) -> Option<Look> {
    let [held, latest, left_ms, waiters]: [Reply; 4] = reply.into_list()?.try_into().ok()?;
    let count = |reply: Reply| u64::try_from(reply.as_integer()?).ok();
    Some(Look {
        held: count(held)?,
        fence: fence(latest)?.minted().filter(|fence| *fence > 0),
        left: Duration::from_millis(count(left_ms)?),
        waiting_daemons: count(waiters)?,
    })
}

fn page(reply: Reply) -> Option<(Bytes, Vec<Bytes>)> {
    let [next, names]: [Reply; 2] = reply.into_list()?.try_into().ok()?;
    let text = |reply: Reply| match reply {
        Reply::Text(text) => Some(text),
        _ => None,
    };
    let names = names.into_list()?.into_iter().map(text);
    Some((text(next)?, names.collect::<Option<_>>()?))
}

/// A fence is text: as a number of Lua it would be rounded.
fn fence(reply: Reply) -> Option<Fence> {
    let Reply::Text(text) = reply else {
        return None;
    };
    let text = std::str::from_utf8(&text).ok()?;
    match text.strip_prefix('~') {
        Some(asker) => asker.parse().ok().map(Fence::Due),
        None => text.parse().ok().map(Fence::Minted),
    }
}

/// Class and room of a kind, as `scripts/read_locks.lua` has them.
fn room(kind: Kind) -> Bytes {
    match kind {
        Kind::Exclusive => Bytes::from_static(b"x1"),
        Kind::Shared => Bytes::from(format!("s{MAX_SHARED}")),
        Kind::Permits(n) => Bytes::from(format!("p{n}")),
    }
}

fn flag(is_set: bool) -> Bytes {
    Bytes::from_static(if is_set { b"1" } else { b"0" })
}

fn millis(time: Duration) -> Bytes {
    number(time.as_millis().max(1))
}

fn number(number: impl itoa::Integer) -> Bytes {
    Bytes::copy_from_slice(itoa::Buffer::new().format(number).as_bytes())
}

fn text(id: &uuid::fmt::Hyphenated) -> Bytes {
    Bytes::copy_from_slice(id.encode_lower(&mut Uuid::encode_buffer()).as_bytes())
}
