//! What is in Redis, against the model.

use bytes::Bytes;
use cachewarden::journal::Entry;
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;

use super::expected::{KEYS, Pending, Row};
use super::play::{Play, token_of};
use super::steps::Step;
use super::{INDEX, JOURNAL, key_of, name, op_of, text_of, value_of};
use crate::support::resp::Value;
use crate::support::world::keys_with_life;

impl Play<'_> {
    /// How a write ought to stand in the journal.
    pub fn entry(&self, write: usize) -> Entry {
        let write = &self.model.writes[write];
        let ours = |text: &'static str| match write.id.is_empty() {
            true => Bytes::new(),
            false => Bytes::from_static(text.as_bytes()),
        };
        Entry {
            place: write.place.unwrap(),
            id: Bytes::from(write.id.clone()),
            cache: ours("account"),
            key: write.key.map_or_else(Bytes::new, key_of),
            op: ours(op_of(write.row)),
            value: text_of(write.row),
        }
    }

    /// All that is in Redis.
    pub async fn compare(&mut self, step: &Step) -> Result<(), TestCaseError> {
        let keys: Vec<_> = (0..KEYS).map(name).collect();
        let looks: Vec<_> = keys.iter().map(|key| look_at(key)).collect();
        let commands: Vec<Vec<&str>> = looks.iter().flatten().map(|look| words(look)).collect();
        let mut all: Vec<&[&str]> = commands.iter().map(Vec::as_slice).collect();
        all.push(&["XRANGE", JOURNAL, "-", "+"]);
        let replies = self.raw.pipeline(&all).await;
        let Some((Value::Array(entries), keys)) = replies.split_last() else {
            panic!("XRANGE gave no array")
        };
        self.compare_journal(entries, step)?;
        for (key, replies) in keys.chunks(looks[0].len()).enumerate() {
            self.compare_key(key, replies, step)?;
        }
        Ok(())
    }

    fn compare_journal(&mut self, entries: &[Value], step: &Step) -> Result<(), TestCaseError> {
        let waiting = self.model.waiting();
        prop_assert_eq!(entries.len(), waiting.len(), "after {:?}", step);
        for (entry, write) in entries.iter().map(seen).zip(waiting) {
            let expected = &mut self.model.writes[write];
            if expected.place.is_none() {
                expected.place = Some(entry.place);
                expected.id = String::from_utf8(entry.id.to_vec()).unwrap();
                let is_new = expected.id.is_empty() || self.ids.insert(expected.id.clone());
                prop_assert!(is_new, "an id was given twice: {:?}", entry);
            }
            prop_assert_eq!(entry, self.entry(write), "after {:?}", step);
        }
        Ok(())
    }

    fn compare_key(&self, key: usize, replies: &[Value], step: &Step) -> Result<(), TestCaseError> {
        let expected = &self.model.keys[key];
        let at = || format!("accounts:{key} after {step:?}");
        let text = |row: Row| Value::bulk(value_of(row));
        let wanted = [
            expected.value.map(|value| text(value.row)),
            expected.copy.map(text),
            expected.lease.map(|token| Value::bulk(token_of(token))),
        ];
        for (reply, wanted) in replies.iter().zip(wanted) {
            prop_assert_eq!(reply, &wanted.unwrap_or(Value::Nil), "{}", at());
        }
        prop_assert_eq!(replies[3] != Value::Nil, expected.is_listed, "{}", at());
        let is_there = i64::from(expected.pending != Pending::Nothing);
        prop_assert_eq!(&replies[4], &Value::Int(is_there), "{}", at());
        if let Pending::Write(write) = expected.pending {
            let write = &self.model.writes[write];
            let fields = [&write.id, op_of(write.row)].map(Value::bulk);
            let fields = fields.into_iter().chain([Value::bulk(text_of(write.row))]);
            prop_assert_eq!(&replies[5], &Value::Array(fields.collect()), "{}", at());
        }
        Ok(())
    }

    /// The journal and what is pending never expire, and everything else does; nothing else is there.
    pub async fn expiries(&mut self) -> Result<(), TestCaseError> {
        for (name, life) in keys_with_life(self.raw).await {
            let pending = |key: &usize| name == format!("{{{}}}:pending", self::name(*key));
            let pending = (0..KEYS).find(pending);
            let pending = pending.map(|key| self.model.keys[key].pending);
            let is_for_ever = match pending {
                Some(Pending::Strange) => continue,
                Some(_) => true,
                None => name == JOURNAL,
            };
            prop_assert_eq!(life == -1, is_for_ever, "{} lives for {} ms", name, life);
        }
        Ok(())
    }
}

/// What is asked of a key: its value, its copy, its lease, whether that is listed, and what is pending.
fn look_at(key: &str) -> [String; 6] {
    [
        format!("GET {key}"),
        format!("GET {{{key}}}:old"),
        format!("GET {{{key}}}:lease"),
        format!("ZSCORE {INDEX} {key}"),
        format!("EXISTS {{{key}}}:pending"),
        format!("HMGET {{{key}}}:pending id op value"),
    ]
}

fn words(command: &str) -> Vec<&str> {
    command.split(' ').collect()
}

/// An entry of the journal, as Redis shows it.
fn seen(entry: &Value) -> Entry {
    let Value::Array(parts) = entry else {
        panic!("{entry:?}")
    };
    let [place, fields] = parts.as_slice() else {
        panic!("{entry:?}")
    };
    let field = |name| {
        let value = fields.field(name).map(|value| value.text().to_owned());
        Bytes::from(value.unwrap_or_default())
    };
    Entry {
        place: place.text().parse().unwrap(),
        id: field("id"),
        cache: field("cache"),
        key: field("key"),
        op: field("op"),
        value: field("value"),
    }
}
