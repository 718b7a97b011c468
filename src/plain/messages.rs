//! What one may ask a plain actor.

use super::{PlainActor, PlainError};
use crate::store::Passed;
use crate::supervisor::Handle;
use actix::{Addr, Message};
use bytes::Bytes;
use std::time::Duration;

/// The commands that are passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Get,
    Getdel,
    Getex,
    Mget,
    Set,
    Setex,
    Psetex,
    Setnx,
    Mset,
    Del,
    Unlink,
    Exists,
    Expire,
    Pexpire,
    Ttl,
    Pttl,
    Incr,
    Incrby,
    Decr,
    Scan,
}

/// A command on plain keys, all of them under declared prefixes.
#[derive(Clone, Debug)]
pub struct Command {
    pub verb: Verb,
    /// What stands behind the name; no fewer words than Redis asks for.
    pub words: Vec<Bytes>,
}

/// What Redis said, or why it was not asked.
pub type Answer = Result<Passed, PlainError>;

/// Passes commands on that follow one another; answers in their order.
#[derive(Debug, Message)]
#[rtype(result = "Vec<Answer>")]
pub struct Pass {
    pub commands: Vec<Command>,
}

/// Batches one actor takes at once; one more is answered *overloaded*.
const MAX_IN_FLIGHT: usize = 16_384;
/// Redis has a deadline of its own for every exchange, which comes first.
const DEADLINE: Duration = Duration::from_secs(60);

/// The handle of a plain actor. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PlainHandle {
    pub pass: Handle<Pass>,
}

impl PlainHandle {
    /// A handle nobody answers yet.
    pub fn unbound() -> Self {
        Self {
            pass: Handle::unbound("plain", MAX_IN_FLIGHT, DEADLINE),
        }
    }

    /// Passes commands on; an answer each, in their order.
    pub async fn ask(&self, commands: Vec<Command>) -> Vec<Answer> {
        let count = commands.len();
        match self.pass.ask(Pass { commands }).await {
            Ok(answers) => answers,
            Err(error) => vec![Err(PlainError::Actor(error)); count],
        }
    }

    /// Points the handle at a started actor, or away from a dead one.
    pub(super) fn bind(&self, address: Option<&Addr<PlainActor>>) {
        match address {
            Some(address) => self.pass.bind(address.clone().recipient()),
            None => self.pass.unbind(),
        }
    }
}
