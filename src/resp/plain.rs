//! Commands on plain keys in one pipeline that follow one another: one message to the actor, replies in order.

use super::codec::{Protocol, reply};
use super::commands::Verb;
use super::door::Door;
use super::failure;
use crate::plain::{self, Answer, Command, Passed};
use bytes::Bytes;

/// Commands after which a batch is sent although more follow.
const FULL: usize = 512;

/// All commands on plain keys in a row.
#[derive(Default)]
pub(super) struct Plain {
    commands: Vec<Command>,
}

impl Plain {
    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.commands.len() >= FULL
    }

    /// Adds a command with these words behind its name.
    pub(super) fn add<'a>(&mut self, verb: plain::Verb, words: impl Iterator<Item = &'a [u8]>) {
        self.commands.push(command(verb, words));
    }

    /// Asks the actor of core `core`, and empties the batch.
    pub(super) async fn ask(&mut self, door: &Door, core: usize) -> Replies {
        let commands = std::mem::take(&mut self.commands);
        Replies(ask(door, core, commands).await.into_iter())
    }
}

/// The replies of a batch, written piece by piece.
pub(super) struct Replies(std::vec::IntoIter<Answer>);

impl Replies {
    /// Writes until `out` holds `enough` bytes, or nothing is left. Returns whether something is.
    pub(super) fn write(&mut self, protocol: Protocol, out: &mut Vec<u8>, enough: usize) -> bool {
        while out.len() < enough {
            let Some(answer) = self.0.next() else {
                return false;
            };
            write(&answer, protocol, out);
        }
        true
    }
}

/// A command with these words behind its name.
pub(super) fn command<'a>(verb: plain::Verb, words: impl Iterator<Item = &'a [u8]>) -> Command {
    let words = words.map(Bytes::copy_from_slice).collect();
    Command { verb, words }
}

/// Asks the actor of core `core`; an answer each.
pub(super) async fn ask(door: &Door, core: usize, commands: Vec<Command>) -> Vec<Answer> {
    match door.plain.get(core) {
        Some(plain) => plain.ask(commands).await,
        // Without a passthrough no key is a plain one.
        None => vec![Err(plain::PlainError::Undeclared); commands.len()],
    }
}

/// Writes what Redis said, or why it was not asked.
pub(super) fn write(answer: &Answer, protocol: Protocol, out: &mut Vec<u8>) {
    match answer {
        Ok(passed) => write_passed(passed, protocol, out),
        Err(error) => failure::plain(out, error),
    }
}

fn write_passed(passed: &Passed, protocol: Protocol, out: &mut Vec<u8>) {
    match passed {
        Passed::Nil => reply::null(out, protocol),
        Passed::Okay => reply::simple(out, "OK"),
        Passed::Integer(number) => reply::integer(out, *number),
        Passed::Text(text) => reply::bulk(out, text),
        Passed::Error(line) => reply::passed_error(out, line),
        Passed::List(items) => {
            reply::array(out, items.len());
            for item in items {
                write_passed(item, protocol, out);
            }
        }
    }
}

/// The command that is passed on for plain keys, if this is one. `CACHE.GET` and the like know cached keys only.
pub(super) fn verb_of(verb: Verb) -> Option<plain::Verb> {
    Some(match verb {
        Verb::Get => plain::Verb::Get,
        Verb::Getdel => plain::Verb::Getdel,
        Verb::Getex => plain::Verb::Getex,
        Verb::Mget => plain::Verb::Mget,
        Verb::Set => plain::Verb::Set,
        Verb::Setex => plain::Verb::Setex,
        Verb::Psetex => plain::Verb::Psetex,
        Verb::Setnx => plain::Verb::Setnx,
        Verb::Mset => plain::Verb::Mset,
        Verb::Del => plain::Verb::Del,
        Verb::Unlink => plain::Verb::Unlink,
        Verb::Exists => plain::Verb::Exists,
        Verb::Expire => plain::Verb::Expire,
        Verb::Pexpire => plain::Verb::Pexpire,
        Verb::Ttl => plain::Verb::Ttl,
        Verb::Pttl => plain::Verb::Pttl,
        Verb::Incr => plain::Verb::Incr,
        Verb::Incrby => plain::Verb::Incrby,
        Verb::Decr => plain::Verb::Decr,
        Verb::Scan => plain::Verb::Scan,
        _ => return None,
    })
}
