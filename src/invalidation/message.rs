//! What a message on the channel for invalidations says. Anybody may publish there, so nothing is taken on trust: whatever
//! it is, it can make values be read again, and no more. Pure.

use crate::keyspace::{KeyError, PatternError, Scope, TargetError, Targets};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Write;

/// The longest message that is read, in bytes: as many keys as may be, of the longest.
pub(super) const MAX_MESSAGE_BYTES: usize = 1 << 20;
/// The most keys, patterns and caches of one message.
const MAX_NAMED: usize = 1000;
/// The longest `id` that is repeated, in bytes of JSON.
const MAX_ID_BYTES: usize = 128;
/// Bytes of a refused message that are logged.
const SHOWN_BYTES: usize = 200;

/// What is refused of a message, or why all of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// For metrics.
    pub(super) reason: &'static str,
    /// For people: one line.
    pub(super) text: String,
}

/// A message. What of it is fine is carried out, whatever else it holds: outdated is outdated.
#[derive(Debug)]
pub(super) struct Message {
    /// As it was written, for the acknowledgement.
    pub(super) id: Option<Box<RawValue>>,
    pub(super) targets: Targets,
    pub(super) refused: Vec<Refusal>,
}

/// The JSON form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Json {
    id: Option<Box<RawValue>>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    patterns: Vec<String>,
    #[serde(default)]
    caches: Vec<String>,
    /// For people who watch the channel.
    #[serde(rename = "reason")]
    _reason: Option<String>,
}

/// Of a message that is JSON, but not ours: whom to tell.
#[derive(Deserialize)]
struct IdOnly {
    id: Option<Box<RawValue>>,
}

/// An acknowledgement.
#[derive(Serialize)]
pub(super) struct Ack<'a> {
    pub(super) id: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) removed: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) took_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
    pub(super) by: String,
}

/// Reads a bare key or pattern, or a JSON object.
pub(super) fn read(scope: &Scope, payload: &[u8]) -> Message {
    let mut message = Message {
        id: None,
        targets: Targets::default(),
        refused: Vec::new(),
    };
    if payload.len() > MAX_MESSAGE_BYTES {
        let text = format!("{} bytes exceed {MAX_MESSAGE_BYTES}", payload.len());
        message.refuse("huge", text);
    } else if payload.trim_ascii_start().first() == Some(&b'{') {
        message.read_json(scope, payload);
    } else if let Err(error) = scope.add(payload, &mut message.targets) {
        message.refuse_target(&error);
    }
    message
}

impl Message {
    fn read_json(&mut self, scope: &Scope, payload: &[u8]) {
        let json: Json = match serde_json::from_slice(payload) {
            Ok(json) => json,
            Err(error) => {
                let id = serde_json::from_slice::<IdOnly>(payload);
                self.id = id.ok().and_then(|only| only.id).filter(|id| is_short(id));
                return self.refuse("broken", format!("not a message: {error}"));
            }
        };
        self.id = json.id;
        if self.id.as_deref().is_some_and(|id| !is_short(id)) {
            self.id = None;
            self.refuse(
                "broken",
                format!("`id` is longer than {MAX_ID_BYTES} bytes"),
            );
        }
        let named = json.keys.len() + json.patterns.len() + json.caches.len();
        if named > MAX_NAMED {
            let text = format!("{named} keys, patterns and caches exceed {MAX_NAMED}");
            return self.refuse("huge", text);
        }
        if named == 0 {
            return self.refuse(
                "broken",
                "names no `keys`, `patterns` or `caches`".to_owned(),
            );
        }
        for key in &json.keys {
            if let Err(error) = scope.add_key(key.as_bytes(), &mut self.targets) {
                self.refuse_target(&error);
            }
        }
        for pattern in &json.patterns {
            if let Err(error) = scope.add_pattern(pattern.as_bytes(), &mut self.targets) {
                self.refuse_target(&error);
            }
        }
        for cache in &json.caches {
            if let Err(error) = scope.add_space(cache, &mut self.targets) {
                self.refuse("foreign", error.to_string());
            }
        }
    }

    fn refuse(&mut self, reason: &'static str, text: String) {
        self.refused.push(Refusal { reason, text });
    }

    fn refuse_target(&mut self, error: &TargetError) {
        self.refuse(reason(error), error.to_string());
    }

    /// What was refused, for whoever published it.
    pub(super) fn error(&self) -> Option<String> {
        let (first, more) = self.refused.split_first()?;
        let mut text = first.text.clone();
        if !more.is_empty() {
            // Writing to a String cannot fail.
            let _infallible = write!(text, " (and {} more)", more.len());
        }
        Some(text)
    }
}

fn is_short(id: &RawValue) -> bool {
    id.get().len() <= MAX_ID_BYTES
}

/// Why a key or pattern is refused, for metrics.
pub(super) fn reason(error: &TargetError) -> &'static str {
    match error {
        TargetError::Pattern(PatternError::TooWide { .. }) => "too_wide",
        TargetError::Pattern(PatternError::Foreign { .. } | PatternError::Reserved { .. })
        | TargetError::Key(KeyError::Undeclared { .. } | KeyError::Reserved { .. }) => "foreign",
        TargetError::Pattern(PatternError::TooLong { .. })
        | TargetError::Key(KeyError::TooLong { .. }) => "huge",
        TargetError::Pattern(_) | TargetError::Key(_) => "malformed",
    }
}

/// The beginning of a message, for the log, which escapes what is no text on one line.
pub(super) fn shown(payload: &[u8]) -> Cow<'_, str> {
    let head = &payload[..payload.len().min(SHOWN_BYTES)];
    String::from_utf8_lossy(head)
}

#[cfg(test)]
#[path = "message_tests.rs"]
pub(super) mod tests;
