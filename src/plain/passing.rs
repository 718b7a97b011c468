//! Passes commands on, and puts their answers in order.

use super::PlainError;
use super::exchange::{Exchange, Step};
use super::messages::{Answer, Command};
use super::prepare::{Declared, Prepared, Turn, prepare};
use crate::config::Passthrough;
use crate::store::{Passed, Store, StoreError};

/// What is declared, and the way to Redis.
pub(super) struct Passing {
    declared: Declared,
    exchange: Exchange,
}

impl Passing {
    pub(super) fn new(declared: &[Passthrough], store: Store, largest: usize) -> Self {
        Self {
            declared: Declared::new(declared),
            exchange: Exchange::new(store, largest),
        }
    }

    /// An answer each, in their order.
    pub(super) async fn pass(&self, commands: Vec<Command>) -> Vec<Answer> {
        let at_once = self.exchange.values_at_once();
        let mut steps: Vec<Step> = Vec::with_capacity(commands.len());
        let mut places = Vec::with_capacity(commands.len());
        for command in commands {
            let prepared = prepare(command, &self.declared, at_once);
            places.push(prepared.map(|Prepared { steps: own, turn }| {
                let count = own.len();
                steps.extend(own);
                (count, turn)
            }));
        }
        let mut replies = self.exchange.send(&steps).await.into_iter();
        let answers = places.into_iter().map(|place| {
            let (count, turn) = place?;
            let own: Vec<_> = replies.by_ref().take(count).collect();
            let own: Result<Vec<_>, StoreError> = own.into_iter().collect();
            answer(turn, own.map_err(PlainError::Store)?)
        });
        answers.collect()
    }
}

/// What a client is told of what Redis said.
fn answer(turn: Turn, mut replies: Vec<Passed>) -> Answer {
    let unexpected = || PlainError::Store(StoreError::Unexpected { command: "EVAL" });
    match turn {
        Turn::Joined => return Ok(joined(replies)),
        Turn::Summed => return Ok(summed(replies)),
        Turn::AsItIs | Turn::WasSet | Turn::Number => {}
    }
    let reply = replies.pop().ok_or_else(unexpected)?;
    Ok(match (turn, reply) {
        (Turn::WasSet, Passed::Okay) => Passed::Integer(1),
        (Turn::WasSet, Passed::Nil) => Passed::Integer(0),
        (Turn::Number, Passed::Text(text)) => {
            let number = std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok());
            Passed::Integer(number.ok_or_else(unexpected)?)
        }
        (_, reply) => reply,
    })
}

/// One list of several.
fn joined(replies: Vec<Passed>) -> Passed {
    let mut all = Vec::new();
    for reply in replies {
        match reply {
            Passed::List(items) => all.extend(items),
            // Redis refuses all of them, or none.
            other => return other,
        }
    }
    Passed::List(all)
}

/// One number of several.
fn summed(replies: Vec<Passed>) -> Passed {
    let mut sum = 0_i64;
    for reply in replies {
        match reply {
            Passed::Integer(number) => sum = sum.saturating_add(number),
            other => return other,
        }
    }
    Passed::Integer(sum)
}
