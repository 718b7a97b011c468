//! `[[invalidation.event]]`: how events on a channel become keys and patterns.

use super::{
    reader::Reader,
    value::{Checked, Located},
};
use crate::keyspace::{Pattern, Reach, is_pattern};
use std::collections::HashSet;

/// `[[invalidation.event]]`: what an event on a channel makes outdated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRule {
    pub channel: String,
    /// The event's name.
    pub event: String,
    pub invalidate: Vec<EventTemplate>,
}

/// A key or a pattern with fields of an event in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTemplate {
    pub text: String,
    pub pieces: Vec<EventPiece>,
    /// Whether it has wildcards of its own. A field never adds one.
    pub is_pattern: bool,
}

/// A part of an [`EventTemplate`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventPiece {
    Literal(String),
    /// The name of a field.
    Field(String),
}

impl EventTemplate {
    /// Reads `order:single:{orderId}` or `orders:list:{customerId}:*`.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, behind)) = rest.split_once('{') {
            let (field, tail) = behind.split_once('}').ok_or("has an unclosed `{`")?;
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
            if field.is_empty() || !field.chars().all(is_name) {
                return Err("has a field whose name is not letters, digits, `_` and `-`");
            }
            pieces.push(EventPiece::Literal(literal.to_owned()));
            pieces.push(EventPiece::Field(field.to_owned()));
            rest = tail;
        }
        pieces.push(EventPiece::Literal(rest.to_owned()));
        let literals = || {
            pieces.iter().filter_map(|piece| match piece {
                EventPiece::Literal(text) => Some(text.as_str()),
                EventPiece::Field(_) => None,
            })
        };
        if literals().any(|text| text.contains('}')) {
            return Err("has a `}` without its `{`");
        }
        let is_pattern = literals().any(|text| is_pattern(text.as_bytes()));
        Ok(Self {
            text: text.to_owned(),
            is_pattern,
            pieces,
        })
    }
}

/// Reads all of them. `taken`: channels for something else.
pub(super) fn events(
    reader: &mut Reader<'_>,
    table: &Checked,
    reach: &Reach,
    taken: [&String; 2],
) -> Vec<EventRule> {
    let mut rules: Vec<EventRule> = Vec::new();
    let mut seen = HashSet::new();
    for table in table.tables("event") {
        let Some(rule) = event(reader, table, reach) else {
            continue;
        };
        if taken.contains(&&rule.channel) {
            let span = table.span_of("channel").unwrap_or_default();
            let message = format!("`{}` is no channel for events", rule.channel);
            let help = "give events a channel of their own, such as \"events\"";
            reader.fault(span, message, help);
        }
        let (channel, name) = (rule.channel.clone(), rule.event.clone());
        for text in table.texts("invalidate").unwrap_or_default() {
            if !seen.insert((channel.clone(), name.clone(), text.value.as_str())) {
                let shown = text.value.escape_debug();
                let message = format!("`{shown}` is there twice for event `{name}` on `{channel}`");
                reader.fault(text.span.clone(), message, "leave one of them");
            }
        }
        rules.push(rule);
    }
    rules
}

/// Reads one. None only if a problem was reported.
fn event(reader: &mut Reader<'_>, table: &Checked, reach: &Reach) -> Option<EventRule> {
    let mut templates = Vec::new();
    for text in table.texts("invalidate")? {
        match template(text, reach) {
            Ok(template) => templates.push(template),
            Err((message, help)) => reader.fault(text.span.clone(), message, help),
        }
    }
    Some(EventRule {
        channel: table.text("channel")?.value.to_owned(),
        event: table.text("event")?.value.to_owned(),
        invalidate: templates,
    })
}

fn template(text: &Located<String>, reach: &Reach) -> Result<EventTemplate, (String, String)> {
    let example = "write a key or a pattern such as \"order:single:{orderId}\"";
    let shown = text.value.escape_debug();
    let template = EventTemplate::parse(&text.value)
        .map_err(|why| (format!("`{shown}` {why}"), example.to_owned()))?;
    // As it is with a field's text in place; whatever that text is, it adds nothing that matters here.
    let filled: String = template
        .pieces
        .iter()
        .map(|piece| match piece {
            EventPiece::Literal(text) => text.as_str(),
            EventPiece::Field(_) => "x",
        })
        .collect();
    let pattern = Pattern::parse(filled.as_bytes())
        .map_err(|error| (format!("`{shown}`: {error}"), example.to_owned()))?;
    // Data chooses no wildcard.
    let is_torn = |piece: &EventPiece| matches!(piece, EventPiece::Literal(text) if Pattern::parse(text.as_bytes()).is_err());
    if template.pieces.iter().any(is_torn) {
        let message = format!("`{shown}` has a field within `[…]` or behind a `\\`");
        return Err((message, example.to_owned()));
    }
    let head = match template.pieces.first() {
        Some(EventPiece::Literal(head)) => head.as_bytes(),
        _ => &[],
    };
    let is_declared = |prefix: &str| pattern.head().starts_with(prefix.as_bytes());
    match reach.prefix_of(head) {
        Some(prefix) if is_declared(prefix) => Ok(template),
        _ => Err((
            format!("`{shown}` begins with no declared prefix"),
            "begin with a cache's or namespace's prefix, colon included, or one of invalidation.prefixes"
                .to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_template_knows_its_fields_and_whether_it_is_a_pattern() {
        let template = EventTemplate::parse("orders:{customer-Id}:x{n}:*").expect("fine");
        assert!(template.is_pattern);
        let fields: Vec<_> = template
            .pieces
            .iter()
            .filter_map(|piece| match piece {
                EventPiece::Field(name) => Some(name.as_str()),
                EventPiece::Literal(_) => None,
            })
            .collect();
        assert_eq!(fields, ["customer-Id", "n"]);
        assert!(!EventTemplate::parse("a:{b}").expect("fine").is_pattern);
        for broken in ["a:{b", "a:b}", "a:{}", "a:{b c}"] {
            assert!(EventTemplate::parse(broken).is_err(), "{broken}");
        }
    }
}
