//! Events: what one on a channel makes outdated, by the rules of `[[invalidation.event]]`. Pure.
//!
//! An event is a JSON object with its name under `event` or `type`, and its fields beside that, or in an object `data` or
//! `payload`.

use super::message::{MAX_MESSAGE_BYTES, Refusal, reason};
use crate::config::{EventPiece, EventRule, EventTemplate};
use crate::keyspace::{Scope, Targets, escape};
use serde_json::{Map, Value};
use uuid::Uuid;

/// The longest text of a field that a key can have, in bytes.
const MAX_FIELD_BYTES: usize = 200;

/// What an event on `channel` makes outdated, and what of it could not be told.
pub(super) fn read(
    scope: &Scope,
    rules: &[EventRule],
    channel: &str,
    payload: &[u8],
) -> (Targets, Vec<Refusal>) {
    let (mut targets, mut refused) = (Targets::default(), Vec::new());
    if payload.len() > MAX_MESSAGE_BYTES {
        let text = format!("{} bytes exceed {MAX_MESSAGE_BYTES}", payload.len());
        refused.push(Refusal {
            reason: "huge",
            text,
        });
        return (targets, refused);
    }
    let event: Map<String, Value> = match serde_json::from_slice(payload) {
        Ok(event) => event,
        Err(error) => {
            let text = format!("not an event: {error}");
            refused.push(Refusal {
                reason: "broken",
                text,
            });
            return (targets, refused);
        }
    };
    let name = event.get("event").or_else(|| event.get("type"));
    let Some(name) = name.and_then(Value::as_str) else {
        let text = "an event without a name under `event` or `type`".to_owned();
        refused.push(Refusal {
            reason: "broken",
            text,
        });
        return (targets, refused);
    };
    let ours = |rule: &&EventRule| rule.channel == channel && rule.event == name;
    for template in rules.iter().filter(ours).flat_map(|rule| &rule.invalidate) {
        if let Err(refusal) = render(scope, template, &event, &mut targets) {
            refused.push(refusal);
        }
    }
    (targets, refused)
}

/// Adds the key or pattern of a template.
fn render(
    scope: &Scope,
    template: &EventTemplate,
    event: &Map<String, Value>,
    targets: &mut Targets,
) -> Result<(), Refusal> {
    // As the event spells it, and as keys do: `007` for 7, an upper-case UUID. Either may be what somebody cached.
    let (mut given, mut canonical) = (Vec::new(), Vec::new());
    for piece in &template.pieces {
        match piece {
            EventPiece::Literal(text) => {
                given.extend_from_slice(text.as_bytes());
                canonical.extend_from_slice(text.as_bytes());
            }
            EventPiece::Field(name) => {
                let text = field(event, name).map_err(|why| Refusal {
                    reason: "field",
                    text: format!("field `{name}` of `{}` {why}", template.text),
                })?;
                let put = |into: &mut Vec<u8>, text: &str| {
                    if template.is_pattern {
                        into.extend(escape(text.as_bytes()));
                    } else {
                        into.extend_from_slice(text.as_bytes());
                    }
                };
                put(&mut given, &text);
                put(&mut canonical, &one_spelling(&text));
            }
        }
    }
    let mut add = |text: &[u8]| {
        if template.is_pattern {
            scope.add_pattern(text, targets)
        } else {
            scope.add_key(text, targets)
        }
    };
    let as_given = add(&given);
    if given != canonical && add(&canonical).is_ok() {
        return Ok(());
    }
    as_given.map_err(|error| Refusal {
        reason: reason(&error),
        text: error.to_string(),
    })
}

/// A field's text, if a key can have it.
fn field(event: &Map<String, Value>, name: &str) -> Result<String, &'static str> {
    let within = ["data", "payload"].into_iter();
    let inner = within.filter_map(|part| event.get(part)?.as_object()?.get(name));
    let value = event.get(name).or_else(|| inner.into_iter().next());
    let text = match value.ok_or("is missing")? {
        Value::String(text) => text.clone(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        Value::Number(_) => return Err("is no whole number of 64 bits"),
        Value::Null => return Err("is null"),
        Value::Array(_) | Value::Object(_) => return Err("is no single value"),
    };
    let is_barred = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '{' | '}' | ':');
    if text.is_empty() || text.len() > MAX_FIELD_BYTES || text.chars().any(is_barred) {
        return Err("is no text that a key can have");
    }
    Ok(text)
}

/// The spelling a declared key would have for the same value.
fn one_spelling(text: &str) -> String {
    if let Ok(uuid) = Uuid::try_parse(text) {
        return uuid.hyphenated().to_string();
    }
    text.parse::<i64>()
        .map_or_else(|_no_number| text.to_owned(), |number| number.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::message::tests::scope;
    use super::*;
    use crate::config::Config;

    fn rules() -> Vec<EventRule> {
        let text = r#"
            redis.url = "redis://h"
            [namespaces.orders]
            prefix = "orders:"
            ttl = "1m"
            [invalidation]
            prefixes = ["users:"]
            [[invalidation.event]]
            channel = "events"
            event = "order.updated"
            invalidate = ["orders:{orderId}", "users:{user}:list:*"]
            [[invalidation.event]]
            channel = "others"
            event = "order.updated"
            invalidate = ["orders:{orderId}"]"#;
        let config = Config::from_toml(text).unwrap_or_else(|problems| panic!("{problems}"));
        config.invalidation.events
    }

    fn told(payload: &str) -> (Vec<String>, Vec<String>) {
        let (targets, refused) = read(&scope(), &rules(), "events", payload.as_bytes());
        let names = targets.names().into_iter();
        let mut told: Vec<String> = names
            .map(|name| String::from_utf8_lossy(&name).into_owned())
            .collect();
        told.extend(targets.patterns.iter().map(|pattern| pattern.shown()));
        (
            told,
            refused.into_iter().map(|refusal| refusal.text).collect(),
        )
    }

    const ID: &str = "6ba7b810-9dad-11d1-80b4-00c04fd430c8";

    #[test]
    fn fields_of_an_event_become_keys_and_patterns_in_the_one_spelling() {
        let expected = (
            vec![format!("orders:{ID}"), "users:7:list:*".to_owned()],
            vec![],
        );
        let upper = ID.to_uppercase();
        for payload in [
            format!(r#"{{"event":"order.updated","orderId":"{ID}","user":7}}"#),
            format!(r#"{{"type":"order.updated","data":{{"orderId":"{ID}","user":"7"}}}}"#),
            format!(r#"{{"event":"order.updated","payload":{{"orderId":"{upper}","user":7}}}}"#),
        ] {
            assert_eq!(told(&payload), expected, "{payload}");
        }
        let (both, _) = told(&format!(
            r#"{{"event":"order.updated","orderId":"{ID}","user":"007"}}"#
        ));
        assert!(both.contains(&"users:7:list:*".to_owned()), "{both:?}");
    }

    #[test]
    fn a_field_never_widens_a_pattern() {
        let payload = format!(r#"{{"event":"order.updated","orderId":"{ID}","user":"*?[\\"}}"#);
        let (told, _) = told(&payload);
        assert_eq!(told[1], r"users:\*\?\[\\:list:*");
    }

    #[test]
    fn a_field_that_is_missing_or_fits_no_key_is_told_and_the_rest_is_carried_out() {
        for (user, why) in [
            ("", "is missing"),
            (r#","user":null"#, "is null"),
            (r#","user":1.5"#, "is no whole number"),
            (r#","user":99999999999999999999"#, "is no whole number"),
            (r#","user":[1]"#, "is no single value"),
            (r#","user":"""#, "is no text that a key can have"),
            (r#","user":"a b""#, "is no text that a key can have"),
            (r#","user":"a:b""#, "is no text that a key can have"),
        ] {
            let payload = format!(r#"{{"event":"order.updated","orderId":"{ID}"{user}}}"#);
            let (told, refused) = told(&payload);
            assert_eq!(told, [format!("orders:{ID}")], "{user}");
            assert!(refused[0].contains(why), "{refused:?}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused_and_events_of_others_are_ignored() {
        for payload in ["", "x", "[]", "{}", r#"{"event":7}"#, r#"{"event":"a"} x"#] {
            let (told, refused) = told(payload);
            assert!(told.is_empty() && refused.len() == 1, "{payload}");
        }
        assert_eq!(told(r#"{"event":"user.created"}"#), (vec![], vec![]));
    }
}
