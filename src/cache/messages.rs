//! What one may ask a cache actor. Doors and programs send these through a [`CacheHandle`] handle.

use super::behind::LateWrite;
use super::collect::Slot;
use super::writing::{Remove, Save};
use super::{CacheActor, CacheError};
use crate::keyspace::RoutedKey;
use crate::supervisor::Handle;
use actix::dev::ToEnvelope;
use actix::{Addr, Context, Handler, Message};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// The value lay in Redis.
    Hit,
    /// It lay in the daemon's own memory.
    HitL1,
    /// The same, and whether it is outdated could not be seen of late.
    Stale,
    /// It was loaded for this read, or for one that this read joined.
    Miss,
    /// There is no such row, whether remembered or just found out.
    Missing,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The value's bytes; `None` when there is none.
    pub value: Option<Bytes>,
    pub state: State,
    /// Time since the value was filled. Known only where [`Read::with_age`] asked for it.
    pub age: Duration,
    /// What is left of its life in Redis; zero when it was not cached.
    pub left: Duration,
}

impl Found {
    /// Nothing is there, and nothing loads it.
    pub(super) fn absent() -> Self {
        Self {
            value: None,
            state: State::Miss,
            age: Duration::ZERO,
            left: Duration::ZERO,
        }
    }
}

/// One key's answer.
pub type Answer = Result<Found, CacheError>;

/// Reads keys, through Redis and, where that has nothing, from their declared source. Answers in the order of `keys`.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Answer>")]
pub struct Read {
    /// Shared, because who asks often still needs them for the answer.
    pub keys: Arc<[RoutedKey]>,
    /// Also find out age and remaining life, which costs Redis one more command a key.
    pub with_age: bool,
}

/// Looks at what Redis holds, without loading: remaining life a key, `None` for what is not there (a remembered missing
/// row counts as not there).
#[derive(Debug, Message)]
#[rtype(result = "Result<Vec<Option<Duration>>, CacheError>")]
pub struct Inspect {
    pub keys: Vec<RoutedKey>,
}

/// Invalidates keys by name. Answered once acknowledged by Redis, with the number of values that were there.
#[derive(Debug, Message)]
#[rtype(result = "Result<u64, CacheError>")]
pub struct Invalidate {
    pub keys: Vec<RoutedKey>,
    /// Keys of other programs, which no template declares.
    pub others: Vec<Bytes>,
    pub origin: Origin,
}

impl Invalidate {
    /// Keys of declared spaces, on somebody's command.
    pub fn keys(keys: Vec<RoutedKey>) -> Self {
        Self {
            keys,
            others: Vec::new(),
            origin: Origin::Command,
        }
    }
}

/// Where an invalidation came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// A command of a client, or a call of a program.
    Command,
    /// A message on the channel for invalidations.
    Pubsub,
    /// An event on a channel of its own.
    Event,
    /// Messages may have been missed.
    Deaf,
    /// A change in the database.
    Watch,
    /// A write of a client, through a daemon.
    Write,
    /// `cachewarden.invalidate`, called in a transaction of the database.
    Sql,
    /// The auditor found it to be wrong.
    Audit,
    /// Another daemon announced its sweep, and did not say who had asked for that.
    Elsewhere,
    /// Redis came back with data that may be older than what was invalidated.
    Return,
}

impl Origin {
    /// Whether what it invalidates has to be noted: the queue notes its own, and what was noted needs no other note.
    pub fn is_noted(self) -> bool {
        !matches!(
            self,
            Origin::Watch | Origin::Write | Origin::Sql | Origin::Return
        )
    }

    /// As metrics name it.
    pub fn label(self) -> &'static str {
        match self {
            Origin::Command => "command",
            Origin::Pubsub => "pubsub",
            Origin::Event => "event",
            Origin::Deaf => "deaf",
            Origin::Watch => "watch",
            Origin::Write => "write",
            Origin::Sql => "sql",
            Origin::Audit => "audit",
            Origin::Elsewhere => "sweep",
            Origin::Return => "return",
        }
    }
}

/// Stores values that a program brings to its namespace; loads of the same keys that are under way will not overwrite them.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CacheError>")]
pub struct Put {
    /// Key, value, and its life (`None`: the namespace's `ttl`).
    pub values: Vec<(RoutedKey, Bytes, Option<Duration>)>,
}

/// Within the room: accepts writes that go to Postgres later. Answered once they stand in the journal: from then on they are what is read.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), CacheError>")]
pub struct WriteLate {
    /// Checked, and in the order in which they are to be saved.
    pub(super) writes: Vec<LateWrite>,
}

/// Reads a key of a namespace; if it is not there, one caller's loader in the whole fleet makes it.
#[derive(Debug, Message)]
#[rtype(result = "Answer")]
pub struct GetOrLoad {
    pub key: RoutedKey,
    /// The value's life (`None`: the namespace's `ttl`).
    pub life: Option<Duration>,
    pub loader: Loader,
}

/// A fact, told among the shards: these keys were invalidated, so nobody joins their loads any more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct KeysInvalidated {
    pub keys: Arc<[RoutedKey]>,
}

/// Among the shards: what a look-up did not find, for the shard that owns the keys' spaces.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Load {
    pub(super) wants: Vec<(Want, Slot)>,
}

/// What a load of one key needs to know.
#[derive(Clone, Debug)]
pub struct Want {
    pub(super) key: RoutedKey,
    pub(super) life: Option<Duration>,
    pub(super) loader: Option<Loader>,
    /// A look-up has just not found it: it is hardly there now.
    pub(super) missed: bool,
}

type Loading = BoxFuture<'static, Result<Option<Bytes>, String>>;

/// A program's own way to make a value: called again if the first result was outdated before it could be stored.
#[derive(Clone)]
pub struct Loader(Arc<dyn Fn() -> Loading + Send + Sync>);

impl Loader {
    /// Wraps a function that makes the value's bytes, `None` for "there is none", or an error in words.
    pub fn new<F, Fut>(load: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Option<Bytes>, String>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(load())))
    }

    pub(super) fn call(&self) -> Loading {
        (self.0)()
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loader")
    }
}

/// Requests one cache actor takes at once, of each kind; one more is answered *overloaded*.
const MAX_IN_FLIGHT: usize = 16_384;

/// The handles of one cache actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CacheHandle {
    pub read: Handle<Read>,
    pub inspect: Handle<Inspect>,
    pub invalidate: Handle<Invalidate>,
    pub put: Handle<Put>,
    pub(super) write_late: Handle<WriteLate>,
    pub get_or_load: Handle<GetOrLoad>,
    pub save: Handle<Save>,
    pub remove: Handle<Remove>,
    pub(super) load: Handle<Load>,
    pub(super) keys_invalidated: Handle<KeysInvalidated>,
}

impl CacheHandle {
    /// Handles nobody answers yet. `deadline` is the longest any request may take.
    pub fn unbound(deadline: Duration) -> Self {
        Self {
            read: Handle::unbound("cache", MAX_IN_FLIGHT, deadline),
            inspect: Handle::unbound("cache", MAX_IN_FLIGHT, deadline),
            invalidate: Handle::unbound("cache", MAX_IN_FLIGHT, deadline),
            put: Handle::unbound("cache", MAX_IN_FLIGHT, deadline),
            write_late: Handle::unbound("cache", MAX_IN_FLIGHT, deadline),
            get_or_load: Handle::unbound("cache", MAX_IN_FLIGHT, deadline),
            // A transaction, and then perhaps a load.
            save: Handle::unbound("cache", MAX_IN_FLIGHT, deadline * 2),
            remove: Handle::unbound("cache", MAX_IN_FLIGHT, deadline * 2),
            load: Handle::unbound("cache", MAX_IN_FLIGHT, deadline),
            keys_invalidated: Handle::unbound("cache", MAX_IN_FLIGHT, deadline),
        }
    }

    /// Requests that the actor has taken and not answered yet.
    pub fn in_flight(&self) -> usize {
        self.read.in_flight()
            + self.inspect.in_flight()
            + self.invalidate.in_flight()
            + self.put.in_flight()
            + self.write_late.in_flight()
            + self.get_or_load.in_flight()
            + self.save.in_flight()
            + self.remove.in_flight()
            + self.load.in_flight()
            + self.keys_invalidated.in_flight()
    }

    pub(super) fn bind_each(&self, address: Option<&Addr<CacheActor>>) {
        fn bind<M>(handle: &Handle<M>, address: Option<&Addr<CacheActor>>)
        where
            M: Message + Send + 'static,
            M::Result: Send,
            CacheActor: Handler<M>,
            Context<CacheActor>: ToEnvelope<CacheActor, M>,
        {
            match address {
                Some(address) => handle.bind(address.clone().recipient()),
                None => handle.unbind(),
            }
        }
        bind(&self.read, address);
        bind(&self.inspect, address);
        bind(&self.invalidate, address);
        bind(&self.put, address);
        bind(&self.write_late, address);
        bind(&self.get_or_load, address);
        bind(&self.save, address);
        bind(&self.remove, address);
        bind(&self.load, address);
        bind(&self.keys_invalidated, address);
    }
}
