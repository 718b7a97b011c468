//! Reads of one pipeline that follow one another: looked for in memory together, the rest in one message to the actor, replies
//! in order.

use super::codec::{Protocol, reply};
use super::commands::Verb;
use super::door::Door;
use super::failure;
use super::plain::command;
use crate::cache::{Answer, Found, Read, Record, State};
use crate::keyspace::{KeyError, RoutedKey};
use crate::plain::{self, Command, Passed};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

/// Keys after which a batch is sent although more reads follow.
const FULL: usize = 512;
/// Keys of one `MGET` that are asked for together: their answers lie in memory until they are sent. Of more it is read in parts, each
/// asked for when the one before is on its way to the client.
const MAX_PART: usize = 1024;

/// What a key's answer becomes.
#[derive(Clone, Copy)]
enum Form {
    /// The value.
    Value,
    /// An array of so many values begins with it.
    FirstOf(usize),
    /// Another value of that array.
    Next,
    /// A map of value, state, age and remaining life.
    Described,
}

/// What needs no asking.
enum Known {
    /// The key leads nowhere.
    Fault(KeyError),
    /// L1 has it.
    Value(Option<Record>),
    Described(Found),
}

/// A `GET`, `MGET` or `CACHE.GET`: its keys that are in no batch yet, and what the next one's answer becomes.
pub(super) struct Asked<K> {
    keys: K,
    form: Form,
}

impl<'a, K: ExactSizeIterator<Item = &'a [u8]>> Asked<K> {
    pub(super) fn new(verb: Verb, keys: K) -> Self {
        let form = match verb {
            Verb::Mget => Form::FirstOf(keys.len()),
            Verb::CacheGet => Form::Described,
            _ => Form::Value,
        };
        Self { keys, form }
    }

    /// Whether all of its keys are in a batch.
    pub(super) fn is_over(&self) -> bool {
        self.keys.len() == 0
    }
}

/// Whether an `MGET` of so many keys is read in parts.
pub(super) fn is_parted(keys: usize) -> bool {
    keys > MAX_PART
}

/// The keys of all commands in a row, and what each one's answer becomes.
#[derive(Default)]
pub(super) struct Batch<'a> {
    keys: Vec<&'a [u8]>,
    forms: Vec<Form>,
}

impl<'a> Batch<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= FULL
    }

    /// Adds the next part of a read.
    pub(super) fn add<K: ExactSizeIterator<Item = &'a [u8]>>(&mut self, asked: &mut Asked<K>) {
        for key in asked.keys.by_ref().take(MAX_PART) {
            self.keys.push(key);
            self.forms.push(asked.form);
            if let Form::FirstOf(_) = asked.form {
                asked.form = Form::Next;
            }
        }
    }

    /// Looks for all keys in memory, asks the actor of core `core` for the others, and empties the batch. What nothing has to
    /// be waited for is written to `out` at once, until it holds `enough` bytes.
    pub(super) async fn ask(
        &mut self,
        door: &Door,
        core: usize,
        protocol: Protocol,
        (out, enough): (&mut Vec<u8>, usize),
    ) -> Replies {
        let (mut replies, with_age, plain) = self.look(door, core, protocol, (out, enough));
        if !plain.is_empty() {
            // Boxed: a read of cached keys should not carry room for it.
            replies.plain = Box::pin(ask_plain(door, core, plain)).await;
        }
        if !replies.keys.is_empty() {
            let keys = Arc::clone(&replies.keys);
            let read = Read { keys, with_age };
            replies.answers = match door.caches[core].read.ask(read).await {
                Ok(answers) => Answers::Each(answers.into_iter()),
                Err(error) => Answers::None(error),
            };
        }
        replies
    }

    /// Replies that have all but what actors are asked for; whether ages are asked for; and what of plain keys.
    fn look(
        &mut self,
        door: &Door,
        core: usize,
        protocol: Protocol,
        (out, enough): (&mut Vec<u8>, usize),
    ) -> (Replies, bool, Vec<(usize, Command)>) {
        let (mut keys, mut known, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        let (mut at, mut written, mut with_age) = (0, 0, false);
        let forms = &self.forms;
        door.hits(core, &self.keys, |key, hit| {
            let form = forms[at];
            match hit {
                Some(hit) if written == at && out.len() < enough => {
                    written += 1;
                    match form {
                        Form::Described => describe(&hit.found(), protocol, out),
                        Form::FirstOf(count) => {
                            reply::array(out, count);
                            write_value(hit.value(), protocol, out);
                        }
                        Form::Value | Form::Next => write_value(hit.value(), protocol, out),
                    }
                }
                Some(hit) => known.push((
                    at,
                    match form {
                        Form::Described => Known::Described(hit.found()),
                        Form::FirstOf(_) | Form::Next | Form::Value => Known::Value(hit.record()),
                    },
                )),
                None if door.is_plain(key) && !matches!(form, Form::Described) => {
                    plain.push((at, passed(form, key)));
                }
                None => match door.route(key) {
                    Ok(key) => {
                        with_age |= matches!(form, Form::Described);
                        if keys.is_empty() {
                            // Where one is not in memory, most are not.
                            keys.reserve(forms.len() - at);
                        }
                        keys.push(key);
                    }
                    Err(error) => known.push((at, Known::Fault(error))),
                },
            }
            at += 1;
        });
        self.keys.clear();
        let replies = Replies {
            forms: std::mem::take(&mut self.forms),
            keys: keys.into(),
            known: known.into_iter().peekable(),
            plain: Vec::new().into_iter().peekable(),
            at: written,
            asked_so_far: 0,
            answers: Answers::Each(Vec::new().into_iter()),
        };
        (replies, with_age, plain)
    }
}

/// What is asked of a plain key that stands among others. Of an `MGET` it is a list of one value.
fn passed(form: Form, key: &[u8]) -> Command {
    let verb = match form {
        Form::FirstOf(_) | Form::Next => plain::Verb::Mget,
        Form::Value | Form::Described => plain::Verb::Get,
    };
    command(verb, [key].into_iter())
}

async fn ask_plain(
    door: &Door,
    core: usize,
    asked: Vec<(usize, Command)>,
) -> Peekable<std::vec::IntoIter<(usize, plain::Answer)>> {
    let (places, commands): (Vec<_>, Vec<_>) = asked.into_iter().unzip();
    let answers = super::plain::ask(door, core, commands).await;
    let placed: Vec<_> = places.into_iter().zip(answers).collect();
    placed.into_iter().peekable()
}

/// The replies of a batch, written piece by piece.
pub(super) struct Replies {
    forms: Vec<Form>,
    /// The keys that the actor was asked for.
    keys: Arc<[RoutedKey]>,
    /// What is known, and in the place of which key each stands.
    known: Peekable<std::vec::IntoIter<(usize, Known)>>,
    /// The same of plain keys.
    plain: Peekable<std::vec::IntoIter<(usize, plain::Answer)>>,
    /// The place that comes next, and how many before it were asked for.
    at: usize,
    asked_so_far: usize,
    answers: Answers,
}

impl Replies {
    /// Writes until `out` holds `enough` bytes, or nothing is left. Returns whether something is.
    pub(super) fn write(&mut self, protocol: Protocol, out: &mut Vec<u8>, enough: usize) -> bool {
        while out.len() < enough {
            let Some(form) = self.forms.get(self.at).copied() else {
                return false;
            };
            if let Form::FirstOf(count) = form {
                reply::array(out, count);
            }
            let at = self.at;
            self.at += 1;
            if let Some((_, known)) = self.known.next_if(|(place, _)| *place == at) {
                known.write(protocol, out);
            } else if let Some((_, answer)) = self.plain.next_if(|(place, _)| *place == at) {
                write_plain(answer, protocol, out);
            } else if let Some(key) = self.keys.get(self.asked_so_far) {
                self.asked_so_far += 1;
                self.answers.write_next(key, form, protocol, out);
            }
        }
        true
    }
}

impl Known {
    fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        match self {
            Known::Fault(error) => failure::key(out, error),
            Known::Value(value) => {
                write_value(value.as_ref().map(Record::value), protocol, out);
            }
            Known::Described(found) => describe(found, protocol, out),
        }
    }
}

enum Answers {
    Each(std::vec::IntoIter<Answer>),
    None(crate::supervisor::AskError),
}

impl Answers {
    fn write_next(&mut self, key: &RoutedKey, form: Form, protocol: Protocol, out: &mut Vec<u8>) {
        let answer = match self {
            Answers::None(error) => return failure::ask(out, *error),
            Answers::Each(answers) => answers.next(),
        };
        match answer {
            Some(Ok(found)) => match form {
                Form::Described => describe(&found, protocol, out),
                Form::Value | Form::Next | Form::FirstOf(_) => {
                    write_value(found.value.as_deref(), protocol, out)
                }
            },
            Some(Err(error)) => failure::read(out, key, &error),
            // An actor answers every key it was asked for.
            None => failure::read(out, key, &crate::cache::CacheError::Restarted),
        }
    }
}

fn write_plain(answer: plain::Answer, protocol: Protocol, out: &mut Vec<u8>) {
    let value = answer.map(|passed| match passed {
        Passed::List(mut values) if values.len() == 1 => values.remove(0),
        other => other,
    });
    super::plain::write(&value, protocol, out);
}

fn write_value(value: Option<&[u8]>, protocol: Protocol, out: &mut Vec<u8>) {
    match value {
        Some(value) => reply::bulk(out, value),
        None => reply::null(out, protocol),
    }
}

fn describe(found: &Found, protocol: Protocol, out: &mut Vec<u8>) {
    let state: &[u8] = match found.state {
        State::Hit => b"hit",
        State::HitL1 => b"hit-l1",
        State::Stale => b"stale",
        State::Miss => b"miss",
        State::Missing => b"missing",
    };
    reply::map(out, protocol, 4);
    reply::bulk(out, b"value");
    write_value(found.value.as_deref(), protocol, out);
    reply::bulk(out, b"state");
    reply::bulk(out, state);
    reply::bulk(out, b"age_ms");
    reply::integer(out, millis(found.age));
    reply::bulk(out, b"ttl_ms");
    reply::integer(out, millis(found.left));
}

/// Whole milliseconds, as replies count time.
pub(super) fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
