//! What the running daemon knows of wrong keys, if there is one that can be asked.

use crate::audit::Example;
use crate::cli::ask::ask_within;
use crate::cli::client::Reply;
use crate::config::Config;
use serde_json::{Map, Value};
use std::time::Duration;

/// The daemon answers this from memory, and one look at Redis.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon says of each example, in their order; or why it says nothing.
pub(super) type Traced = Result<Vec<Value>, String>;

pub(super) fn ask(config: &Config, examples: &[Example]) -> Traced {
    let ask = |example: &Example| {
        let words = [b"CACHE.EXPLAIN".to_vec(), example.key.to_vec()];
        let reply = ask_within(PATIENCE, config, &words).map_err(|error| error.to_string())?;
        Ok(as_json(reply, 0))
    };
    // The first that is not answered ends it: the others would wait in vain as long.
    examples.iter().map(ask).collect()
}

/// Maps come as lists, a name and a value by turns; the one list that is none is told by its place.
fn as_json(reply: Reply, depth: usize) -> Value {
    match reply {
        Reply::Text(text) | Reply::Error(text) => Value::from(text),
        Reply::Int(number) => Value::from(number),
        Reply::Nil => Value::Null,
        Reply::List(items) => {
            let mut map = Map::new();
            let mut items = items.into_iter();
            while let (Some(Reply::Text(name)), Some(value)) = (items.next(), items.next()) {
                let value = match (name.as_str(), value) {
                    ("invalidated_by", Reply::List(lines)) if depth == 0 => {
                        lines.into_iter().map(|line| as_json(line, 1)).collect()
                    }
                    (_, value) => as_json(value, depth + 1),
                };
                map.insert(name, value);
            }
            Value::Object(map)
        }
    }
}

/// On one line, for people.
pub(super) fn told(known: &Value) -> String {
    let event = |name: &str, shown: &str| {
        let event = known.get(name)?.as_object()?;
        let ago_ms = event.get("ago_ms")?;
        let source = event.get("source").and_then(Value::as_str);
        let source = source.map_or(String::new(), |source| format!(" by {source}"));
        Some(format!("{shown} {ago_ms} ms ago{source}"))
    };
    let events = [
        event("last_lease", "leased"),
        event("last_fill", "filled"),
        event("last_refused_fill", "a fill refused"),
        event("last_invalidation", "invalidated"),
    ];
    let events: Vec<String> = events.into_iter().flatten().collect();
    match events.is_empty() {
        true => "the daemon knows of nothing that happened to it".to_owned(),
        false => events.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_says_is_told_on_one_line() {
        let text = |text: &str| Reply::Text(text.to_owned());
        let fill = Reply::List(vec![text("ago_ms"), Reply::Int(12), text("by"), text("x")]);
        let last = Reply::List(vec![
            text("source"),
            text("watch"),
            text("ago_ms"),
            Reply::Int(3),
        ]);
        let reply = Reply::List(vec![
            text("lease"),
            Reply::Nil,
            text("invalidated_by"),
            Reply::List(vec![text("a"), text("b")]),
            text("last_fill"),
            fill,
            text("last_invalidation"),
            last,
        ]);
        let known = as_json(reply, 0);
        assert_eq!(
            told(&known),
            "filled 12 ms ago, invalidated 3 ms ago by watch"
        );
        assert_eq!(known["invalidated_by"], serde_json::json!(["a", "b"]));
        assert_eq!(known["lease"], Value::Null);
        let nothing = "the daemon knows of nothing that happened to it";
        assert_eq!(told(&Value::Null), nothing);
    }
}
