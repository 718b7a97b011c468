//! The commands this door serves: one table, one file a group.

mod explain;
pub(super) mod limits;
pub(super) mod locks;
mod plain;
mod reads;
mod saving;
mod server;
mod session;
mod warm;
mod writes;

use super::codec::{Request, reply};
use super::door::Door;
use crate::plain as passed;

pub(super) use limits::Fault;
pub(super) use session::Session;

/// What the connection does after a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    Close,
}

/// Every command, once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Get,
    Mget,
    Exists,
    Ttl,
    Pttl,
    Set,
    Del,
    Unlink,
    Getdel,
    Getex,
    Setex,
    Psetex,
    Setnx,
    Mset,
    Expire,
    Pexpire,
    Incr,
    Incrby,
    Decr,
    Scan,
    CacheGet,
    CacheInvalidate,
    CacheCount,
    CacheExplain,
    CacheCancel,
    CacheWarm,
    CacheWarming,
    Publish,
    RateCheck,
    RatePeek,
    RateReset,
    RateRefund,
    RateRelease,
    RateFixed,
    ClThrottle,
    LockAcquire,
    LockExtend,
    LockRelease,
    LockInfo,
    LockList,
    LockForce,
    Hello,
    Auth,
    Ping,
    Echo,
    Select,
    Client,
    Command,
    Info,
    Quit,
    Reset,
}

/// A line of the command table, in the terms of Redis' `COMMAND`.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// The name, in upper case.
    pub name: &'static str,
    pub(super) verb: Verb,
    /// Number of words with the name; negative: at least so many.
    pub arity: i32,
    /// Redis' flags.
    pub flags: &'static [&'static str],
    /// Positions of the first and last key and the step between keys.
    pub keys: (i32, i32, i32),
    /// Redis' group.
    pub group: &'static str,
    /// What it does, in a line.
    pub summary: &'static str,
}

macro_rules! commands {
    ($($verb:ident $name:literal $arity:literal [$($flag:literal)*] $keys:tt $group:literal $summary:literal;)*) => {
        /// The command table.
        pub const COMMANDS: &[Command] = &[$(Command {
            name: $name, verb: Verb::$verb, arity: $arity, flags: &[$($flag),*], keys: $keys, group: $group, summary: $summary,
        }),*];
    };
}

commands! {
    Get "GET" 2 ["readonly" "fast"] (1, 1, 1) "string" "Returns the value of a declared key, loading it if it is not cached.";
    Mget "MGET" -2 ["readonly" "fast"] (1, -1, 1) "string" "Returns the values of keys; those of one cache that are not cached are loaded by one query.";
    Exists "EXISTS" -2 ["readonly" "fast"] (1, -1, 1) "generic" "Counts the keys that have a cached value, without loading.";
    Ttl "TTL" 2 ["readonly" "fast"] (1, 1, 1) "generic" "Returns the remaining life of a cached value in seconds, without loading.";
    Pttl "PTTL" 2 ["readonly" "fast"] (1, 1, 1) "generic" "Returns the remaining life of a cached value in milliseconds, without loading.";
    Set "SET" -3 ["write"] (1, 1, 1) "string" "Saves a JSON text in Postgres, by the statement that the key's cache declares; sets a plain key.";
    Mset "MSET" -3 ["write"] (1, -1, 2) "string" "Saves JSON texts under keys, all of them in one transaction; sets plain keys.";
    Del "DEL" -2 ["write"] (1, -1, 1) "generic" "Deletes rows where the keys' caches declare it; else invalidates keys. Returns how many rows and cached values there were.";
    Unlink "UNLINK" -2 ["write" "fast"] (1, -1, 1) "generic" "The same as DEL.";
    Getdel "GETDEL" 2 ["write" "fast"] (1, 1, 1) "string" "Returns the value of a plain key, and deletes it.";
    Getex "GETEX" -2 ["write" "fast"] (1, 1, 1) "string" "Returns the value of a plain key, and sets its expiry; PERSIST sets the declared one.";
    Setex "SETEX" 4 ["write" "denyoom"] (1, 1, 1) "string" "Sets a plain key for some seconds.";
    Psetex "PSETEX" 4 ["write" "denyoom"] (1, 1, 1) "string" "Sets a plain key for some milliseconds.";
    Setnx "SETNX" 3 ["write" "denyoom" "fast"] (1, 1, 1) "string" "Sets a plain key that is not there.";
    Expire "EXPIRE" -3 ["write" "fast"] (1, 1, 1) "generic" "Sets the remaining life of a plain key in seconds.";
    Pexpire "PEXPIRE" -3 ["write" "fast"] (1, 1, 1) "generic" "Sets the remaining life of a plain key in milliseconds.";
    Incr "INCR" 2 ["write" "denyoom" "fast"] (1, 1, 1) "string" "Adds one to the number under a plain key.";
    Incrby "INCRBY" 3 ["write" "denyoom" "fast"] (1, 1, 1) "string" "Adds to the number under a plain key.";
    Decr "DECR" 2 ["write" "denyoom" "fast"] (1, 1, 1) "string" "Takes one from the number under a plain key.";
    Scan "SCAN" -2 ["readonly"] (0, 0, 0) "generic" "Iterates over plain keys.";
    CacheGet "CACHE.GET" 2 ["readonly" "fast"] (1, 1, 1) "cachewarden" "Returns a value with its state, age and remaining life.";
    CacheInvalidate "CACHE.INVALIDATE" -2 ["write"] (1, -1, 1) "cachewarden" "Invalidates keys and whatever matches patterns; answered once acknowledged, with the number removed.";
    CacheCount "CACHE.COUNT" -2 ["readonly"] (1, -1, 1) "cachewarden" "Counts what CACHE.INVALIDATE would remove, and removes nothing.";
    CacheExplain "CACHE.EXPLAIN" 2 ["readonly" "fast"] (1, 1, 1) "cachewarden" "Tells all that is known of a key: its value's age, its lease, what happened to it, what would invalidate it.";
    CacheCancel "CACHE.CANCEL" -2 ["write"] (0, 0, 0) "cachewarden" "Gives up sweeps of this daemon whose patterns match; returns how many.";
    CacheWarm "CACHE.WARM" -1 ["write"] (0, 0, 0) "cachewarden" "Loads caches before they are read, those named or all that are warmed; FORCE before them loads what is fresh, too.";
    CacheWarming "CACHE.WARMING" 1 ["readonly" "fast"] (0, 0, 0) "cachewarden" "Tells how far the warmup of each cache is, or what came of the last.";
    Publish "PUBLISH" 3 ["pubsub" "fast"] (0, 0, 0) "pubsub" "Publishes a message on Redis, on a channel for invalidations.";
    RateCheck "RATE.CHECK" -3 ["write" "fast"] (2, 2, 1) "cachewarden" "Lets a subject through limits, or refuses it; takes from all of them or from none.";
    RatePeek "RATE.PEEK" -3 ["readonly" "fast"] (2, 2, 1) "cachewarden" "Tells what RATE.CHECK would answer, and takes nothing.";
    RateReset "RATE.RESET" 3 ["write" "fast"] (2, 2, 1) "cachewarden" "Forgets what a subject has taken of a limit.";
    RateRefund "RATE.REFUND" 4 ["write" "fast"] (2, 2, 1) "cachewarden" "Gives back what a subject has taken of a limit and not used; returns how much.";
    RateRelease "RATE.RELEASE" 4 ["write" "fast"] (2, 2, 1) "cachewarden" "Ends a request in flight that a limit counts, by its id.";
    RateFixed "RATE.FIXED" 4 ["write" "fast"] (1, 1, 1) "cachewarden" "Lets a subject through a fixed window that is declared nowhere.";
    ClThrottle "CL.THROTTLE" -5 ["write" "fast"] (1, 1, 1) "cachewarden" "Limits a rate as redis-cell does, by the numbers in the command.";
    LockAcquire "LOCK.ACQUIRE" -3 ["write"] (0, 0, 0) "cachewarden" "Takes a lock for some milliseconds, or waits for it; returns its token and its fence.";
    LockExtend "LOCK.EXTEND" 4 ["write" "fast"] (0, 0, 0) "cachewarden" "Holds a lock for so many milliseconds from now on; 1, or 0 if it is not yours any more.";
    LockRelease "LOCK.RELEASE" 3 ["write" "fast"] (0, 0, 0) "cachewarden" "Lets a lock go; 1, or 0 if it is not yours any more.";
    LockInfo "LOCK.INFO" 2 ["readonly" "fast"] (0, 0, 0) "cachewarden" "Tells who holds a lock, by its fence, for how long, and how many wait.";
    LockList "LOCK.LIST" -1 ["readonly"] (0, 0, 0) "cachewarden" "Tells the same of all locks whose names begin so.";
    LockForce "LOCK.FORCE" 2 ["write"] (0, 0, 0) "cachewarden" "Takes a lock away from whoever holds it, and says so in the log; 1, or 0 if nobody did.";
    Hello "HELLO" -1 ["noscript" "fast" "no_auth"] (0, 0, 0) "connection" "Chooses the protocol version, authenticates, names the connection.";
    Auth "AUTH" -2 ["noscript" "fast" "no_auth"] (0, 0, 0) "connection" "Authenticates the connection.";
    Ping "PING" -1 ["fast"] (0, 0, 0) "connection" "Returns PONG, or its argument.";
    Echo "ECHO" 2 ["fast"] (0, 0, 0) "connection" "Returns its argument.";
    Select "SELECT" 2 ["fast"] (0, 0, 0) "connection" "Accepts database 0, the only one.";
    Client "CLIENT" -2 ["noscript"] (0, 0, 0) "connection" "Names and describes the connection.";
    Command "COMMAND" -1 [] (0, 0, 0) "server" "Describes the commands of this door.";
    Info "INFO" -1 [] (0, 0, 0) "server" "Describes the daemon, in sections.";
    Quit "QUIT" -1 ["fast" "no_auth"] (0, 0, 0) "connection" "Closes the connection.";
    Reset "RESET" 1 ["fast" "no_auth"] (0, 0, 0) "connection" "Returns the connection to how it began.";
}

/// Why a request is not run at all.
#[derive(Debug)]
pub(super) enum Refusal {
    Unknown(String),
    Arity(&'static str),
    NoAuth,
}

impl Refusal {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Refusal::Unknown(name) => reply::error(
                out,
                "ERR",
                format_args!(
                    "unknown command '{name}': not supported by this daemon; COMMAND LIST names those that are"
                ),
            ),
            Refusal::Arity(name) => {
                reply::error(out, "ERR", WrongArity(&name.to_ascii_lowercase()));
            }
            Refusal::NoAuth => reply::error(out, "NOAUTH", "Authentication required."),
        }
    }
}

/// Redis' words for it.
pub(super) struct WrongArity<'a>(pub(super) &'a str);

impl std::fmt::Display for WrongArity<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "wrong number of arguments for '{}' command", self.0)
    }
}

/// Bytes of an unknown command's name that the refusal repeats.
const SHOWN_NAME: usize = 128;

/// The command a request names, if it may run.
pub(super) fn find(request: &Request, input: &[u8], session: &Session) -> Result<Verb, Refusal> {
    let name = request.arg(input, 0);
    let command = lookup(name).ok_or_else(|| {
        let shown = &name[..name.len().min(SHOWN_NAME)];
        Refusal::Unknown(String::from_utf8_lossy(shown).into_owned())
    });
    let command = match command {
        Ok(command) => command,
        Err(_) if !session.authenticated => return Err(Refusal::NoAuth),
        Err(unknown) => return Err(unknown),
    };
    if !session.authenticated && !command.flags.contains(&"no_auth") {
        return Err(Refusal::NoAuth);
    }
    let words = i32::try_from(request.len()).unwrap_or(i32::MAX);
    let fits = if command.arity < 0 {
        words >= -command.arity
    } else {
        words == command.arity
    };
    if fits {
        Ok(command.verb)
    } else {
        Err(Refusal::Arity(command.name))
    }
}

pub(super) fn lookup(name: &[u8]) -> Option<&'static Command> {
    COMMANDS
        .iter()
        .find(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

/// Runs a command that is no batched read; its reply goes to `out`.
pub(super) async fn run(
    verb: Verb,
    request: &Request,
    input: &[u8],
    door: &Door,
    core: usize,
    session: &mut Session,
    out: &mut Vec<u8>,
) -> Flow {
    let args: Vec<&[u8]> = request.args(input).skip(1).collect();
    let caches = &door.caches[core];
    match verb {
        // Batched by the connection; and what it waits for itself.
        Verb::Get | Verb::Mget | Verb::CacheGet => {}
        Verb::RateCheck | Verb::RatePeek => {}
        Verb::LockAcquire => {}
        Verb::Exists => reads::exists(door, core, &args, out).await,
        Verb::Ttl => reads::ttl(door, caches, args[0], reads::Unit::Seconds, out).await,
        Verb::Pttl => reads::ttl(door, caches, args[0], reads::Unit::Milliseconds, out).await,
        Verb::Set => saving::set(door, caches, &args, out).await,
        Verb::Mset => saving::mset(door, caches, &args, out).await,
        Verb::Del => saving::delete(door, core, passed::Verb::Del, &args, out).await,
        Verb::Unlink => saving::delete(door, core, passed::Verb::Unlink, &args, out).await,
        // On plain keys they are batched by the connection.
        Verb::Getdel | Verb::Getex | Verb::Setex | Verb::Psetex | Verb::Setnx => {
            plain::refuse(door, verb, &args, out);
        }
        Verb::Expire | Verb::Pexpire | Verb::Incr | Verb::Incrby | Verb::Decr | Verb::Scan => {
            plain::refuse(door, verb, &args, out);
        }
        Verb::CacheInvalidate => writes::invalidate(door, caches, &args, out).await,
        Verb::CacheCount => writes::count_matches(door, &args, out).await,
        Verb::CacheExplain => explain::explain(door, args[0], session.protocol, out).await,
        Verb::CacheCancel => writes::cancel(door, &args, out).await,
        Verb::CacheWarm => warm::warm(door, &args, session.protocol, out).await,
        Verb::CacheWarming => warm::warming(door, session.protocol, out).await,
        Verb::Publish => writes::publish(door, args[0], args[1], out).await,
        Verb::RateReset => limits::reset(door, &args, out).await,
        Verb::RateRefund => limits::refund(door, &args, out).await,
        Verb::RateRelease => limits::release(door, &args, out).await,
        Verb::RateFixed => limits::fixed(door, &args, out).await,
        Verb::ClThrottle => limits::throttle(door, &args, out).await,
        Verb::LockExtend => locks::extend(door, &args, out).await,
        Verb::LockRelease => locks::release(door, &args, out).await,
        Verb::LockInfo => locks::info(door, args[0], session, out).await,
        Verb::LockList => locks::list(door, &args, session.protocol, out).await,
        Verb::LockForce => locks::force(door, args[0], session, out).await,
        Verb::Hello => session.hello(door, &args, out).await,
        Verb::Auth => session.auth(door, &args, out).await,
        Verb::Ping => server::ping(&args, out),
        Verb::Echo => reply::bulk(out, args[0]),
        Verb::Select => session::select(args[0], out),
        Verb::Client => session.client(&args, out),
        Verb::Command => server::command(&args, session.protocol, out),
        Verb::Info => server::info(door, &args, session.protocol, out),
        Verb::Reset => session.reset(door, out),
        Verb::Quit => {
            reply::simple(out, "OK");
            return Flow::Close;
        }
    }
    Flow::Continue
}
