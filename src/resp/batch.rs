//! Reads of one pipeline that follow one another: one message to the actor, replies in order.

use super::codec::{Protocol, reply};
use super::door::Door;
use super::failure;
use crate::cache::{Answer, Found, Hit, Read, State};
use crate::keyspace::{KeyError, RoutedKey};
use bytes::Bytes;
use std::iter::Peekable;
use std::sync::Arc;
use std::time::{Duration, Instant};

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

/// What needs no asking.
enum Known {
    /// The key leads nowhere.
    Fault(KeyError),
    /// L1 has it.
    Value(Option<Bytes>),
    Described(Found),
}

/// The keys of all commands in a row; in the place of one that L1 has, or that leads nowhere, stands its answer.
#[derive(Default)]
pub(super) struct Batch {
    forms: Vec<Form>,
    keys: Vec<RoutedKey>,
    /// What is known, and in the place of which key each stands.
    known: Vec<(usize, Known)>,
    with_age: bool,
    /// One look at the clock serves all reads until something is waited for.
    now: Option<Instant>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.forms.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= FULL
    }

    /// Adds a `GET`; or answers it at once, if nothing has to be answered before it and L1 has it. Whether it did.
    pub(super) fn get(
        &mut self,
        door: &Door,
        core: usize,
        key: &[u8],
        protocol: Protocol,
        out: &mut Vec<u8>,
    ) -> bool {
        if !self.is_empty() {
            self.forms.push(Form::Value);
            self.push(door, core, key);
            return false;
        }
        let write = |hit: &Hit<'_>| write_value(hit.value(), protocol, out);
        if door.hit(core, key, self.now(), write).is_some() {
            return true;
        }
        self.forms.push(Form::Value);
        self.route(door, key);
        false
    }

    pub(super) fn mget<'a>(
        &mut self,
        door: &Door,
        core: usize,
        keys: impl ExactSizeIterator<Item = &'a [u8]>,
    ) {
        self.forms.push(Form::Values(keys.len()));
        self.keys.reserve(keys.len());
        keys.for_each(|key| self.push(door, core, key));
    }

    pub(super) fn describe(&mut self, door: &Door, core: usize, key: &[u8]) {
        self.forms.push(Form::Described);
        if let Some(found) = door.hit(core, key, self.now(), |hit: &Hit<'_>| hit.found()) {
            return self.known.push((self.len(), Known::Described(found)));
        }
        self.with_age = true;
        self.route(door, key);
    }

    /// Time has passed.
    pub(super) fn forget_time(&mut self) {
        self.now = None;
    }

    fn now(&mut self) -> Instant {
        *self.now.get_or_insert_with(Instant::now)
    }

    fn len(&self) -> usize {
        self.keys.len() + self.known.len()
    }

    fn push(&mut self, door: &Door, core: usize, key: &[u8]) {
        let value = |hit: &Hit<'_>| hit.value().cloned();
        match door.hit(core, key, self.now(), value) {
            Some(value) => self.known.push((self.len(), Known::Value(value))),
            None => self.route(door, key),
        }
    }

    fn route(&mut self, door: &Door, key: &[u8]) {
        match door.route(key) {
            Ok(key) => self.keys.push(key),
            Err(error) => self.known.push((self.len(), Known::Fault(error))),
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
            known: self.known.into_iter().peekable(),
            at: 0,
            known_so_far: 0,
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
    known: Peekable<std::vec::IntoIter<(usize, Known)>>,
    /// The place that comes next, and how many before it were known.
    at: usize,
    known_so_far: usize,
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
            if let Some((_, known)) = self.known.next_if(|(place, _)| *place == at) {
                self.known_so_far += 1;
                known.write(protocol, out);
            } else if let Some(key) = self.keys.get(at - self.known_so_far) {
                self.answers.write_next(key, self.form, protocol, out);
            }
        }
        true
    }
}

impl Known {
    fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        match self {
            Known::Fault(error) => failure::key(out, error),
            Known::Value(value) => write_value(value.as_ref(), protocol, out),
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
                Form::Value | Form::Values(_) => write_value(found.value.as_ref(), protocol, out),
            },
            Some(Err(error)) => failure::read(out, key, &error),
            // An actor answers every key it was asked for.
            None => failure::read(out, key, &crate::cache::CacheError::Restarted),
        }
    }
}

fn write_value(value: Option<&Bytes>, protocol: Protocol, out: &mut Vec<u8>) {
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
    write_value(found.value.as_ref(), protocol, out);
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
