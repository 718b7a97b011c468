//! The steps, done to Redis and to the model.

use std::collections::HashSet;
use std::time::Duration;

use cachewarden::cache::Space;
use cachewarden::cache::leases::{self, Accept, Ending, Lease, Leases, Terms, Token, Wish};
use cachewarden::journal::{Entry, Journal, Page, Place};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::expected::{Fill, KEYS, Load, Model, Pending, Told};
use super::steps::{DAEMONS, LOADS, NO_LIMIT, Step, Strange};
use super::{INDEX, JOURNAL, key_of, name, text_of, value_of};
use crate::support::resp::{Client, Value};

/// Long enough that no test sees it pass.
const LONG: Duration = Duration::from_secs(600);

pub fn token_of(token: usize) -> Token {
    (token as u128).to_be_bytes()
}

fn chosen(keys: [bool; KEYS]) -> Vec<usize> {
    (0..KEYS).filter(|key| keys[*key]).collect()
}

/// One sequence of steps.
pub struct Play<'a> {
    pub model: Model,
    loads: [Load; LOADS],
    /// The pages each daemon has read: the numbers of their writes, and what was read.
    read: [Vec<Vec<(usize, Entry)>>; DAEMONS],
    tokens: usize,
    pub ids: HashSet<String>,
    leases: &'a Leases,
    journal: &'a Journal,
    space: &'a Space,
    pub raw: &'a mut Client,
}

impl<'a> Play<'a> {
    pub fn new(
        leases: &'a Leases,
        journal: &'a Journal,
        space: &'a Space,
        raw: &'a mut Client,
    ) -> Self {
        Self {
            model: Model::default(),
            loads: Default::default(),
            read: Default::default(),
            tokens: 0,
            ids: HashSet::new(),
            leases,
            journal,
            space,
            raw,
        }
    }

    /// Forgets what the sequences before have left.
    pub async fn begin_anew(&mut self) {
        self.raw.command(&["FLUSHALL"]).await;
    }

    pub async fn act(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Accept { writes, limit } => self.accept(writes, *limit).await,
            Step::Read {
                daemon,
                goes_on,
                limit,
            } => self.read(*daemon, *goes_on, *limit).await,
            Step::Complete { daemon, ago, aside } => self.complete(*daemon, *ago, *aside).await,
            Step::Acquire {
                load,
                keys,
                is_aware,
                anew,
            } => {
                let keys = chosen(*keys);
                let told = self.begin(*load, &keys, (*is_aware, *anew));
                self.acquire(*load, &keys, *anew, told).await
            }
            Step::Warm {
                load,
                keys,
                is_aware,
                anew,
            } => {
                let keys = chosen(*keys);
                self.warm(*load, &keys, (*is_aware, *anew)).await
            }
            Step::End { load, fill } => self.end(*load, *fill).await,
            Step::Change { keys } => {
                let keys = chosen(*keys);
                for key in &keys {
                    self.model.change(*key);
                }
                let keys: Vec<_> = keys.into_iter().map(key_of).collect();
                self.leases.invalidate(&keys).await.unwrap();
                Ok(())
            }
            Step::Evict => {
                self.raw.command(&["DEL", INDEX]).await;
                for key in &mut self.model.keys {
                    key.is_listed = false;
                }
                Ok(())
            }
            Step::Disturb { key, strange } => self.disturb(*key, *strange).await,
            Step::Enter { key } => {
                let key_name = key.map_or_else(String::new, name);
                let words = ["XADD", JOURNAL, "*", "what", "is this?", "key", &key_name];
                self.raw.command(&words).await;
                self.model.enter(String::new(), *key, None);
                Ok(())
            }
            Step::ComeBack => self.come_back().await,
        }
    }

    async fn accept(
        &mut self,
        writes: &[(usize, bool)],
        limit: usize,
    ) -> Result<(), TestCaseError> {
        let mut row = |is_set: bool| is_set.then(|| self.model.version());
        let rows: Vec<_> = writes
            .iter()
            .map(|(key, is_set)| (*key, row(*is_set)))
            .collect();
        let owned = rows
            .iter()
            .map(|(key, row)| (key_of(*key), row.map(|_| text_of(*row))));
        let owned: Vec<_> = owned.collect();
        let writes = owned
            .iter()
            .map(|(key, value)| (key, b"account".as_slice(), value.as_ref()));
        let accepted = self.leases.accept_writes(writes, limit).await.unwrap();
        prop_assert_eq!(accepted, self.model.accept(&rows, limit));
        Ok(())
    }

    async fn read(
        &mut self,
        daemon: usize,
        goes_on: bool,
        limit: usize,
    ) -> Result<(), TestCaseError> {
        let last = self.read[daemon].iter().rev().find_map(|page| page.last());
        let after = last.map(|(_, entry)| entry.place).filter(|_| goes_on);
        let page = self.journal.read(after, limit).await.unwrap();
        let waiting = self.model.waiting();
        let last = waiting
            .last()
            .and_then(|last| self.model.writes[*last].place);
        let expected = self.model.read(after, limit);
        let Page { now_ms, length, .. } = page;
        prop_assert_eq!((length, page.last), (waiting.len() as u64, last));
        prop_assert!(last.is_none_or(|last| last.ms <= now_ms), "{}", now_ms);
        let wanted: Vec<_> = expected.iter().map(|write| self.entry(*write)).collect();
        prop_assert_eq!(&page.entries, &wanted);
        let page = expected.into_iter().zip(page.entries);
        self.read[daemon].push(page.collect());
        Ok(())
    }

    async fn complete(
        &mut self,
        daemon: usize,
        ago: usize,
        aside: u32,
    ) -> Result<(), TestCaseError> {
        let Some(page) = self.read[daemon].iter().rev().nth(ago) else {
            return Ok(());
        };
        let is_aside = |at: usize| aside >> (at % 32) & 1 == 1;
        let page = page.iter().enumerate().filter(|(at, _)| !is_aside(*at));
        let (writes, entries): (Vec<_>, Vec<_>) = page.map(|(_, write)| write.clone()).unzip();
        self.journal.complete(&entries).await.unwrap();
        self.model.complete(&writes);
        Ok(())
    }

    /// Begins a load with a token of its own; one that had this number before is given up, and its leases stay.
    fn begin(&mut self, load: usize, keys: &[usize], (is_aware, anew): (bool, bool)) -> Vec<Told> {
        self.tokens += 1;
        let load = &mut self.loads[load];
        *load = Load {
            token: self.tokens,
            rows: Vec::new(),
            is_aware,
        };
        let told = keys.iter().map(|key| self.model.acquire(*key, load, anew));
        told.collect()
    }

    async fn acquire(
        &mut self,
        load: usize,
        keys: &[usize],
        anew: bool,
        told: Vec<Told>,
    ) -> Result<(), TestCaseError> {
        if keys.is_empty() {
            return Ok(());
        }
        let load = &self.loads[load];
        let terms = Terms {
            life: LONG,
            accept: match anew {
                true => Accept::Nothing,
                false => Accept::Left(Duration::ZERO),
            },
            is_journaled: load.is_aware,
        };
        let keys: Vec<_> = keys.iter().copied().map(key_of).collect();
        let token = token_of(load.token);
        let answers = self.leases.acquire(&keys, &token, terms).await.unwrap();
        let as_told = answers.into_iter().map(|answer| match answer {
            Lease::Pending(value) => (Some(value), None, "pending"),
            Lease::There { value, .. } => (None, Some(value), "there"),
            Lease::Taken => (None, None, "taken"),
            Lease::Held => (None, None, "held"),
        });
        let expected = told.into_iter().map(|told| match told {
            Told::Pending(row) => (Some(row.map(|_| text_of(row))), None, "pending"),
            Told::There(row) => (None, Some(value_of(row)), "there"),
            Told::Taken => (None, None, "taken"),
            Told::Held => (None, None, "held"),
        });
        let (as_told, expected): (Vec<_>, Vec<_>) = (as_told.collect(), expected.collect());
        prop_assert_eq!(as_told, expected);
        Ok(())
    }

    async fn warm(
        &mut self,
        load: usize,
        keys: &[usize],
        (is_aware, anew): (bool, bool),
    ) -> Result<(), TestCaseError> {
        // What is strange is left alone as well: it may be a write of somebody who knows more.
        let is_strange = |key: &&usize| self.model.keys[**key].pending == Pending::Strange;
        let (strange, ours): (Vec<_>, Vec<_>) =
            keys.iter().partition(|key| is_aware && is_strange(key));
        if strange.len() + ours.len() == 0 {
            return Ok(());
        }
        let told = self.begin(load, &ours, (is_aware, anew));
        let expected = strange.iter().map(|_| Wish::Fresh);
        let expected = expected.chain(told.into_iter().map(|told| match told {
            Told::Pending(_) | Told::There(_) => Wish::Fresh,
            Told::Taken => Wish::Taken,
            Told::Held => Wish::Held,
        }));
        let expected: Vec<_> = expected.collect();
        let keys: Vec<_> = strange.into_iter().chain(ours).map(key_of).collect();
        let enough = match anew {
            true => Duration::MAX,
            false => Duration::ZERO,
        };
        let token = token_of(self.loads[load].token);
        let terms = (LONG, is_aware);
        let wishes = self
            .leases
            .acquire_to_warm(&keys, &vec![enough; keys.len()], &token, terms)
            .await
            .unwrap();
        prop_assert_eq!(wishes, expected);
        Ok(())
    }

    async fn end(&mut self, load: usize, fill: Fill) -> Result<(), TestCaseError> {
        let load = &self.loads[load];
        if load.rows.is_empty() {
            return Ok(());
        }
        let endings = load.rows.iter().map(|(key, row)| Ending {
            key: key_of(*key),
            fill: match fill {
                Fill::Store => leases::Fill::Store(value_of(*row), LONG),
                Fill::Remove => leases::Fill::Remove,
                Fill::Leave => leases::Fill::Leave,
            },
        });
        let endings: Vec<_> = endings.collect();
        let token = token_of(load.token);
        let ours = self.leases.end(&endings, &token, self.space).await.unwrap();
        let rows = load.rows.iter();
        let expected: Vec<_> = rows.map(|row| self.model.end(load, *row, fill)).collect();
        prop_assert_eq!(ours, expected);
        Ok(())
    }

    async fn disturb(&mut self, key: usize, strange: Strange) -> Result<(), TestCaseError> {
        let pending = format!("{{{}}}:pending", name(key));
        self.raw.command(&["DEL", &pending]).await;
        match strange {
            Strange::Text => self.raw.command(&["SET", &pending, "what?"]).await,
            Strange::Hash | Strange::Expiring => {
                let words = ["HSET", &pending, "id", "", "what", "is this?"];
                self.raw.command(&words).await
            }
        };
        if let Strange::Expiring = strange {
            self.raw.command(&["EXPIRE", &pending, "600"]).await;
        }
        self.model.disturb(key);
        Ok(())
    }

    /// As if Redis had lost its last write, and another of that key had been accepted since.
    async fn come_back(&mut self) -> Result<(), TestCaseError> {
        let Some(last) = self.model.waiting().pop() else {
            return Ok(());
        };
        let lost = self.model.writes[last].clone();
        let (Some(place), Some(key), false) = (lost.place, lost.key, lost.id.is_empty()) else {
            return Ok(());
        };
        let before = match place.number.checked_sub(1) {
            Some(number) => Place { number, ..place },
            None => Place {
                ms: place.ms - 1,
                number: u64::MAX,
            },
        };
        self.model.writes[last].waits = false;
        let row = Some(self.model.version());
        let (at, value) = (place.to_string(), text_of(row));
        let value = std::str::from_utf8(&value).unwrap();
        let (key_name, id) = (name(key), uuid::Uuid::new_v4().to_string());
        let write = ["id", &id, "op", "set", "value", value];
        let entry = ["cache", "account", "key", &key_name];
        let [copy, lease, pending] =
            ["old", "lease", "pending"].map(|what| format!("{{{key_name}}}:{what}"));
        let replies = self
            .raw
            .pipeline(&[
                &["XDEL", JOURNAL, &at],
                &["XSETID", JOURNAL, &before.to_string()],
                &[["XADD", JOURNAL, &at].as_slice(), &write, &entry].concat(),
                &["DEL", &key_name, &copy, &lease, &pending],
                &["ZREM", INDEX, &key_name],
                &[["HSET", &pending].as_slice(), &write].concat(),
            ])
            .await;
        let is_error = |reply: &Value| matches!(reply, Value::Error(_));
        prop_assert!(!replies.iter().any(is_error), "{:?}", replies);
        prop_assert!(self.model.accept(&[(key, row)], NO_LIMIT));
        Ok(())
    }
}
