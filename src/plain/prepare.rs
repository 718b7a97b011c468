//! What Redis is sent for a command: the command itself, unless it would leave a key without an expiry.

use super::PlainError;
use super::exchange::Step;
use super::messages::{Command, Verb};
use crate::config::Passthrough;
use crate::keyspace::{Pattern, Prefixes, Reach};
use crate::store::{Call, Script};
use bytes::Bytes;
use std::sync::LazyLock;

/// The most keys that one `SCAN` looks at: it is a hint for clients, and for everybody else the time that Redis does nothing
/// but that.
const MAX_SCAN_COUNT: i64 = 10_000;

/// Keys of one command that counts keys: what Redis does for them holds up everybody else for as long as it runs.
const MAX_COUNTED: usize = 1024;

static WRITE_KEY: LazyLock<Script> =
    LazyLock::new(|| Script::new("write_key", include_str!("scripts/write_key.lua")));
static SET_KEYS: LazyLock<Script> =
    LazyLock::new(|| Script::new("set_keys", include_str!("scripts/set_keys.lua")));

/// The passthroughs.
pub(super) struct Declared {
    /// The life of a key whose writer does not say, in milliseconds.
    lives: Prefixes<Bytes>,
    reach: Reach,
}

impl Declared {
    pub(super) fn new(passthroughs: &[Passthrough]) -> Self {
        let lives = passthroughs.iter().map(|declared| {
            let life = declared.ttl.as_millis().to_string();
            (declared.prefix.clone(), Bytes::from(life))
        });
        let prefixes = passthroughs.iter().map(|declared| declared.prefix.clone());
        Self {
            lives: Prefixes::new(lives),
            reach: Reach::new(prefixes),
        }
    }

    fn life(&self, key: &[u8]) -> Result<Bytes, PlainError> {
        let declared = self.lives.of(key).ok_or(PlainError::Undeclared)?;
        Ok(declared.1.clone())
    }
}

/// What becomes of Redis' reply.
#[derive(Clone, Copy)]
pub(super) enum Turn {
    /// Passed on.
    AsItIs,
    /// 1 where something was set, 0 where nothing was.
    WasSet,
    /// A number that came as text.
    Number,
    /// One list of all that came.
    Joined,
    /// The sum of all that came.
    Summed,
}

pub(super) struct Prepared {
    pub(super) steps: Vec<Step>,
    pub(super) turn: Turn,
}

impl Prepared {
    fn one(call: Call, values: usize, turn: Turn) -> Self {
        let steps = vec![Step { call, values }];
        Self { steps, turn }
    }

    fn as_it_is(name: &'static str, words: Vec<Bytes>, values: usize) -> Self {
        Self::one(Call::new(name, words), values, Turn::AsItIs)
    }
}

/// What Redis is sent for `command`; at most `at_once` values are asked for by one `MGET`.
///
/// # Errors
/// For keys that are not plain ones, and what could leave one without an expiry.
pub(super) fn prepare(
    command: Command,
    declared: &Declared,
    at_once: usize,
) -> Result<Prepared, PlainError> {
    let Command { verb, words } = command;
    check_keys(verb, &words, declared)?;
    let (name, values) = match verb {
        Verb::Mget => return Ok(mget(&words, at_once)),
        Verb::Del => return Ok(summed("DEL", &words)),
        Verb::Unlink => return Ok(summed("UNLINK", &words)),
        Verb::Exists => return Ok(summed("EXISTS", &words)),
        Verb::Set => return set(words, declared),
        Verb::Setnx => return setnx(words, declared),
        Verb::Mset if words.len() % 2 == 0 => return mset(words, declared),
        Verb::Getex => return getex(words, declared),
        Verb::Incr => return counted("INCR", words, declared),
        Verb::Incrby => return counted("INCRBY", words, declared),
        Verb::Decr => return counted("DECR", words, declared),
        Verb::Scan => return scan(&words, declared),
        Verb::Get => ("GET", 1),
        Verb::Getdel => ("GETDEL", 1),
        Verb::Setex => ("SETEX", 0),
        Verb::Psetex => ("PSETEX", 0),
        // Of an odd number of words: Redis refuses it.
        Verb::Mset => ("MSET", 0),
        Verb::Expire => ("EXPIRE", 0),
        Verb::Pexpire => ("PEXPIRE", 0),
        Verb::Ttl => ("TTL", 0),
        Verb::Pttl => ("PTTL", 0),
    };
    Ok(Prepared::as_it_is(name, words, values))
}

impl Verb {
    /// Which of its words are keys: of so many from the first on, one every so many.
    pub fn keys(self) -> (usize, usize) {
        match self {
            Verb::Mget | Verb::Del | Verb::Unlink | Verb::Exists => (usize::MAX, 1),
            Verb::Mset => (usize::MAX, 2),
            Verb::Scan => (0, 1),
            _ => (1, 1),
        }
    }
}

fn check_keys(verb: Verb, words: &[Bytes], declared: &Declared) -> Result<(), PlainError> {
    let (count, step) = verb.keys();
    let mut keys = words.iter().take(count).step_by(step);
    let strange = keys.any(|key| declared.lives.of(key).is_none());
    if strange || (count > 0 && words.is_empty()) {
        return Err(PlainError::Undeclared);
    }
    Ok(())
}

fn mget(words: &[Bytes], at_once: usize) -> Prepared {
    let step = |keys: &[Bytes]| Step {
        call: Call::new("MGET", keys.to_vec()),
        values: keys.len(),
    };
    Prepared {
        steps: words.chunks(at_once.max(1)).map(step).collect(),
        turn: Turn::Joined,
    }
}

fn summed(name: &'static str, words: &[Bytes]) -> Prepared {
    let step = |keys: &[Bytes]| Step {
        call: Call::new(name, keys.to_vec()),
        values: 0,
    };
    Prepared {
        steps: words.chunks(MAX_COUNTED).map(step).collect(),
        turn: Turn::Summed,
    }
}

/// What `SET` is told of the key's life.
enum Life {
    /// When it ends.
    Told,
    /// As it was: if it was without end, or is new, it would have none.
    Kept,
    Untold,
}

/// Reads the options of `SET`. An option that we do not know is refused as Redis refuses it: one of a later version could take
/// the next word for its own, and what looks like an expiry would be none.
fn life_in(options: &[Bytes]) -> Result<Life, PlainError> {
    let mut life = Life::Untold;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is_one_of(option, &["EX", "PX", "EXAT", "PXAT"]) {
            options.next();
            life = Life::Told;
        } else if is_one_of(option, &["KEEPTTL"]) {
            life = match life {
                Life::Told => Life::Told,
                Life::Kept | Life::Untold => Life::Kept,
            };
        } else if !is_one_of(option, &["NX", "XX", "GET"]) {
            return Err(PlainError::Syntax);
        }
    }
    Ok(life)
}

fn set(mut words: Vec<Bytes>, declared: &Declared) -> Result<Prepared, PlainError> {
    let options = words.get(2..).unwrap_or_default();
    let returns_old = usize::from(options.iter().any(|option| is_one_of(option, &["GET"])));
    match life_in(options)? {
        Life::Told => {}
        Life::Kept => return guarded("SET", words, returns_old, Turn::AsItIs, declared),
        Life::Untold => {
            let life = declared.life(&words[0])?;
            words.extend([Bytes::from_static(b"PX"), life]);
        }
    }
    Ok(Prepared::as_it_is("SET", words, returns_old))
}

fn setnx(mut words: Vec<Bytes>, declared: &Declared) -> Result<Prepared, PlainError> {
    let life = declared.life(&words[0])?;
    words.extend([Bytes::from_static(b"PX"), life, Bytes::from_static(b"NX")]);
    Ok(Prepared::one(Call::new("SET", words), 0, Turn::WasSet))
}

/// Without its expiry a key would stay for ever: it gets the declared life instead.
fn getex(mut words: Vec<Bytes>, declared: &Declared) -> Result<Prepared, PlainError> {
    let options = words.get(1..).unwrap_or_default();
    let persists = options.iter().all(|option| is_one_of(option, &["PERSIST"]));
    if persists && !options.is_empty() {
        let life = declared.life(&words[0])?;
        words.truncate(1);
        words.extend([Bytes::from_static(b"PX"), life]);
    }
    Ok(Prepared::as_it_is("GETEX", words, 1))
}

fn counted(
    name: &'static str,
    words: Vec<Bytes>,
    declared: &Declared,
) -> Result<Prepared, PlainError> {
    guarded(name, words, 0, Turn::Number, declared)
}

/// A command on one key, which gets the declared life unless it has one.
fn guarded(
    name: &'static str,
    words: Vec<Bytes>,
    values: usize,
    turn: Turn,
    declared: &Declared,
) -> Result<Prepared, PlainError> {
    let key = words[0].clone();
    let mut args = vec![declared.life(&key)?, Bytes::from_static(name.as_bytes())];
    args.extend(words);
    let call = Call::script(&WRITE_KEY, vec![key], args);
    Ok(Prepared::one(call, values, turn))
}

fn mset(words: Vec<Bytes>, declared: &Declared) -> Result<Prepared, PlainError> {
    let keys: Vec<Bytes> = words.iter().step_by(2).cloned().collect();
    let values = words.into_iter().skip(1).step_by(2);
    let mut args = Vec::with_capacity(2 * keys.len());
    for (key, value) in keys.iter().zip(values) {
        args.extend([value, declared.life(key)?]);
    }
    let call = Call::script(&SET_KEYS, keys, args);
    Ok(Prepared::one(call, 0, Turn::AsItIs))
}

/// Whatever it matches begins with the literal text in front of its first wildcard, so with a declared prefix.
fn scan(words: &[Bytes], declared: &Declared) -> Result<Prepared, PlainError> {
    let [cursor, options @ ..] = words else {
        return Err(PlainError::Syntax);
    };
    let mut pattern = None;
    let mut sent = vec![cursor.clone()];
    for option in options.chunks(2) {
        let [name, value] = option else {
            return Err(PlainError::Syntax);
        };
        if is_one_of(name, &["MATCH"]) {
            pattern = Some(declared.reach.pattern(value)?.text().clone());
        } else if is_one_of(name, &["COUNT"]) {
            sent.extend([name.clone(), bounded_count(value)]);
        } else if is_one_of(name, &["TYPE"]) {
            sent.extend([name.clone(), value.clone()]);
        } else {
            return Err(PlainError::Syntax);
        }
    }
    let pattern = match (pattern, declared.reach.prefixes()) {
        (Some(pattern), _) => pattern,
        (None, [only]) => Pattern::all_under(only).text().clone(),
        (None, several) => {
            let known = several.join(", ");
            return Err(PlainError::Unbounded { known });
        }
    };
    sent.extend([Bytes::from_static(b"MATCH"), pattern]);
    Ok(Prepared::as_it_is("SCAN", sent, 0))
}

/// What is no number, Redis refuses.
fn bounded_count(value: &Bytes) -> Bytes {
    let count = std::str::from_utf8(value)
        .ok()
        .and_then(|text| text.parse::<i64>().ok());
    match count {
        Some(count) if count > MAX_SCAN_COUNT => Bytes::from(MAX_SCAN_COUNT.to_string()),
        _ => value.clone(),
    }
}

fn is_one_of(word: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|name| word.eq_ignore_ascii_case(name.as_bytes()))
}
