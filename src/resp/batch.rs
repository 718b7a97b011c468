//! Reads of one pipeline that follow one another: one message to the actor, replies in order.

use super::codec::{Protocol, reply};
use super::door::Door;
use super::failure;
use crate::cache::{Answer, Found, Read, State};
use crate::keyspace::{KeyError, RoutedKey};
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

/// The keys of all commands in a row; a key that leads nowhere keeps its error.
#[derive(Default)]
pub(super) struct Batch {
    forms: Vec<Form>,
    keys: Vec<Result<RoutedKey, KeyError>>,
    with_age: bool,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.keys.len() >= FULL
    }

    pub(super) fn get(&mut self, door: &Door, key: &[u8]) {
        self.forms.push(Form::Value);
        self.keys.push(door.route(key));
    }

    pub(super) fn mget<'a>(&mut self, door: &Door, keys: impl ExactSizeIterator<Item = &'a [u8]>) {
        self.forms.push(Form::Values(keys.len()));
        self.keys.extend(keys.map(|key| door.route(key)));
    }

    pub(super) fn describe(&mut self, door: &Door, key: &[u8]) {
        self.forms.push(Form::Described);
        self.keys.push(door.route(key));
        self.with_age = true;
    }

    /// Asks the actor of core `core`.
    pub(super) async fn ask(self, door: &Door, core: usize) -> Replies {
        let wanted: Vec<RoutedKey> = self.keys.iter().flatten().cloned().collect();
        let answers = if wanted.is_empty() {
            Ok(Vec::new())
        } else {
            let read = Read {
                keys: wanted,
                with_age: self.with_age,
            };
            door.caches[core].read.ask(read).await
        };
        Replies {
            forms: self.forms.into_iter(),
            keys: self.keys.into_iter(),
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
    keys: std::vec::IntoIter<Result<RoutedKey, KeyError>>,
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
            match self.keys.next() {
                Some(Ok(key)) => self.answers.write_next(&key, self.form, protocol, out),
                Some(Err(error)) => failure::key(out, &error),
                // A form's keys were added together with it.
                None => return false,
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
