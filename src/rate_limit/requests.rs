//! From what is asked to what the scripts are told: names looked up, everything within bounds.

use super::LimitError;
use super::messages::{Ask, Asked};
use super::rule::{Kind, MAX_LIMIT, Rule};
use crate::config::{self, OnRedisError};
use crate::telemetry::Metrics;
use bytes::Bytes;
use smallvec::SmallVec;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Limits of one request.
pub const MAX_LIMITS: usize = 8;
/// Bytes of a subject, and of a request's id.
const MAX_NAME: usize = 512;

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Take,
    Peek,
    Refund,
    Reset,
    Release,
}

impl Verb {
    /// Its name in the scripts.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Take => "take",
            Verb::Peek => "peek",
            Verb::Refund => "refund",
            Verb::Reset => "reset",
            Verb::Release => "release",
        }
    }

    /// Whether it is answered with a decision; else with how much was given back.
    pub fn decides(self) -> bool {
        matches!(self, Verb::Take | Verb::Peek)
    }
}

/// A request in order.
#[derive(Clone, Debug)]
pub struct Request {
    pub verb: Verb,
    pub rules: SmallVec<[Arc<Rule>; 1]>,
    pub subject: Bytes,
    pub cost: u64,
    /// Its name among those in flight, if a limit counts these.
    pub id: Option<Bytes>,
}

/// The limits of the configuration, by name.
#[derive(Debug, Default)]
pub struct Rules {
    by_name: HashMap<String, Arc<Rule>>,
}

impl Rules {
    /// As declared.
    pub fn of(limits: &[config::Limit], metrics: &Metrics) -> Self {
        let rule = |limit: &config::Limit| {
            let rule = Rule::declared(limit, metrics);
            (limit.name.clone(), Arc::new(rule))
        };
        Self {
            by_name: limits.iter().map(rule).collect(),
        }
    }

    /// What is asked, in order.
    ///
    /// # Errors
    /// If it makes no sense, or a limit is not declared.
    pub fn check(&self, asked: Asked) -> Result<Request, LimitError> {
        let verb = match asked.ask {
            Ask::Take => Verb::Take,
            Ask::Peek => Verb::Peek,
        };
        require(asked.cost > 0, || "the cost is at least 1".to_owned())?;
        let rules = self.named(&asked.limits)?;
        let counts_flights = rules.iter().any(|rule| rule.numbers.kind == Kind::InFlight);
        require(!counts_flights || asked.cost == 1, || {
            "the cost of a request in flight is 1".to_owned()
        })?;
        if let Some(id) = &asked.id {
            within(id, "an id")?;
        }
        let made = || Bytes::from(Uuid::new_v4().to_string());
        let request = Request {
            verb,
            rules,
            subject: asked.subject,
            cost: asked.cost.min(MAX_LIMIT + 1),
            id: match verb {
                _ if !counts_flights => None,
                Verb::Take => Some(asked.id.unwrap_or_else(made)),
                _ => asked.id,
            },
        };
        request.in_order()
    }

    /// Something to be given back to one limit.
    ///
    /// # Errors
    /// If it makes no sense for that limit, or the limit is not declared.
    pub fn give_back(
        &self,
        verb: Verb,
        limit: &[u8],
        subject: Bytes,
        amount: u64,
        id: Option<Bytes>,
    ) -> Result<Request, LimitError> {
        let rule = self.one(limit)?;
        let is_flights = rule.numbers.kind == Kind::InFlight;
        match verb {
            Verb::Refund => require(!is_flights, || {
                format!(
                    "`{}` counts requests in flight: release them",
                    rule.policy.name
                )
            })?,
            Verb::Release => require(is_flights, || {
                format!(
                    "`{}` does not count requests in flight: refund what was not used",
                    rule.policy.name
                )
            })?,
            _ => {}
        }
        require(amount > 0, || "the amount is at least 1".to_owned())?;
        if let Some(id) = &id {
            within(id, "an id")?;
        }
        let request = Request {
            verb,
            rules: SmallVec::from_elem(rule, 1),
            subject,
            cost: amount.min(MAX_LIMIT),
            id,
        };
        request.in_order()
    }

    /// Whether one of them is shared among daemons while Redis is away.
    pub fn share(&self) -> bool {
        let mut rules = self.by_name.values();
        rules.any(|rule| rule.on_redis_error == OnRedisError::Local)
    }

    fn named(&self, names: &[u8]) -> Result<SmallVec<[Arc<Rule>; 1]>, LimitError> {
        let mut rules = SmallVec::<[Arc<Rule>; 1]>::new();
        for name in names.split(|byte| *byte == b',') {
            require(!name.is_empty(), || "a limit's name is empty".to_owned())?;
            let rule = self.one(name)?;
            require(rules.len() < MAX_LIMITS, || {
                format!("a request has at most {MAX_LIMITS} limits")
            })?;
            let is_new = !rules.iter().any(|other| Arc::ptr_eq(other, &rule));
            require(is_new, || {
                format!("limit `{}` is named twice", rule.policy.name)
            })?;
            rules.push(rule);
        }
        Ok(rules)
    }

    fn one(&self, name: &[u8]) -> Result<Arc<Rule>, LimitError> {
        let found = std::str::from_utf8(name).ok();
        let found = found.and_then(|name| self.by_name.get(name));
        found.cloned().ok_or_else(|| {
            let shown = &name[..name.len().min(MAX_NAME)];
            LimitError::Undeclared {
                name: String::from_utf8_lossy(shown).into_owned(),
            }
        })
    }
}

impl Request {
    /// A request under a rule that a command brought with it; of cost 0 it only looks.
    ///
    /// # Errors
    /// If its subject is out of bounds.
    pub fn alone(rule: Rule, subject: Bytes, cost: u64) -> Result<Self, LimitError> {
        let request = Self {
            verb: if cost > 0 { Verb::Take } else { Verb::Peek },
            rules: SmallVec::from_elem(Arc::new(rule), 1),
            subject,
            cost: cost.min(MAX_LIMIT + 1),
            id: None,
        };
        request.in_order()
    }

    fn in_order(self) -> Result<Self, LimitError> {
        within(&self.subject, "a subject").map(|()| self)
    }
}

fn within(name: &[u8], what: &str) -> Result<(), LimitError> {
    require((1..=MAX_NAME).contains(&name.len()), || {
        format!("{what} has 1 to {MAX_NAME} bytes")
    })
}

/// Refuses what is out of bounds, and says why.
pub(super) fn require(holds: bool, why: impl FnOnce() -> String) -> Result<(), LimitError> {
    match holds {
        true => Ok(()),
        false => Err(LimitError::Invalid(why())),
    }
}
