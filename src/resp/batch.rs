//! Reads of one pipeline that follow one another: one message to the actor, replies in order.

use super::codec::{Protocol, reply};
use super::door::Door;
use super::failure;
use crate::cache::{Answer, Found, Read, State};
use crate::keyspace::{KeyError, RoutedKey};
use std::iter::Peekable;
use std::sync::Arc;
use std::time::Duration;

/// Keys after which a batch is sent although more reads follow.
const FULL: usize = 512;

/// One read command: how its keys' answers become a reply.
#[derive(Clone, Copy)]
enum Form {
    /// The value.
    Value,
    /// An array of so many values.
    Values(usize),
    /// A map of value, state, age and remaining life.
    Described,
}

/// The keys of all commands in a row; in the place of one that leads nowhere stands its error.
#[derive(Default)]
pub(super) struct Batch {
    forms: Vec<Form>,
    keys: Vec<RoutedKey>,
    /// Errors, and in the place of which key each stands.
    faults: Vec<(usize, KeyError)>,
    with_age: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= FULL
    }

    pub(super) fn get(&mut self, door: &Door, key: &[u8]) {
        self.forms.push(Form::Value);
        self.push(door, key);
    }

    pub(super) fn mget<'a>(&mut self, door: &Door, keys: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.forms.push(Form::Values(keys.len()));
        self.keys.reserve(keys.len());
        keys.for_each(|key| self.push(door, key));
    }

    pub(super) fn describe(&mut self, door: &Door, key: &[u8]) {
        self.forms.push(Form::Described);
        self.push(door, key);
        self.with_age = true;
    }

    fn len(&self) -> usize {
        self.keys.len() + self.faults.len()
    }

    fn push(&mut self, door: &Door, key: &[u8]) {
        match door.route(key) {
            Ok(key) => self.keys.push(key),
            Err(error) => self.faults.push((self.len(), error)),
        }
    }

    /// Asks the actor of core `core`.
    pub(super) async fn ask(self, door: &Door, core: usize) -> Replies {
        let keys: Arc<[RoutedKey]> = self.keys.into();
        let answers = if keys.is_empty() {
            Ok(Vec::new())
        } else {
            let read = Read {
                keys: Arc::clone(&keys),
                with_age: self.with_age,
            };
            door.caches[core].read.ask(read).await
        };
        Replies {
            forms: self.forms.into_iter(),
            keys,
            faults: self.faults.into_iter().peekable(),
            at: 0,
            faulty: 0,
            form: Form::Value,
            left: 0,
            answers: match answers {
                Ok(answers) => Answers::Each(answers.into_iter()),
                Err(error) => Answers::None(error),
            },
        }
    }
}

/// The replies of a batch, written piece by piece.
pub(super) struct Replies {
    forms: std::vec::IntoIter<Form>,
    keys: Arc<[RoutedKey]>,
    faults: Peekable<std::vec::IntoIter<(usize, KeyError)>>,
    /// The place that comes next, and how many before it were faults.
    at: usize,
    faulty: usize,
    /// The form of the reply that is being written, and how many of its keys are left.
    form: Form,
    left: usize,
    answers: Answers,
}

impl Replies {
    /// Writes until `out` holds `enough` bytes, or nothing is left. Returns whether something is.
    pub(super) fn write(&mut self, protocol: Protocol, out: &mut Vec<u8>, enough: usize) -> bool {
        while out.len() < enough {
            if self.left == 0 {
                let Some(form) = self.forms.next() else {
                    return false;
                };
                self.form = form;
                self.left = match form {
                    Form::Values(count) => {
                        reply::array(out, count);
                        count
                    }
                    Form::Value | Form::Described => 1,
                };
                continue;
            }
            self.left -= 1;
            let at = self.at;
            self.at += 1;
            if let Some((_, error)) = self.faults.next_if(|(place, _)| *place == at) {
                self.faulty += 1;
                failure::key(out, &error);
            } else if let Some(key) = self.keys.get(at - self.faulty) {
                self.answers.write_next(key, self.form, protocol, out);
            }
        }
        true
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
                Form::Value | Form::Values(_) => write_value(&found, protocol, out),
            },
            Some(Err(error)) => failure::read(out, key, &error),
            // An actor answers every key it was asked for.
            None => failure::read(out, key, &crate::cache::CacheError::Restarted),
        }
    }
}

fn write_value(found: &Found, protocol: Protocol, out: &mut Vec<u8>) {
    match &found.value {
        Some(value) => reply::bulk(out, value),
        None => reply::null(out, protocol),
    }
}

fn describe(found: &Found, protocol: Protocol, out: &mut Vec<u8>) {
    let state: &[u8] = match found.state {
        State::Hit => b"hit",
        State::Stale => b"stale",
        State::Miss => b"miss",
        State::Missing => b"missing",
    };
    reply::map(out, protocol, 4);
    reply::bulk(out, b"value");
    write_value(found, protocol, out);
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
