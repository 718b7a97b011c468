//! What would invalidate a key: the watches, events and channels whose templates can name it.

use crate::config::{Config, EventPiece};
use crate::keyspace::{ChangeTemplate, Pattern};

/// Everything declared that invalidates by itself.
#[derive(Debug)]
pub struct Origins {
    watches: Vec<(String, ChangeTemplate)>,
    events: Vec<(String, Pattern)>,
    channel: String,
}

impl Origins {
    /// What this configuration declares.
    pub fn of(config: &Config) -> Self {
        let settings = &config.invalidation;
        let watches = settings.watches.iter().flat_map(|watch| {
            watch.templates.iter().map(|template| {
                let template = &template.template;
                let shown = format!("watch {}: {template}", watch.table);
                (shown, template.clone())
            })
        });
        let events = settings.events.iter().flat_map(|rule| {
            rule.invalidate.iter().filter_map(|template| {
                let widest = template.pieces.iter().map(|piece| match piece {
                    EventPiece::Literal(text) => text.as_str(),
                    EventPiece::Field(_) => "*",
                });
                let pattern = Pattern::parse(widest.collect::<String>().as_bytes()).ok()?;
                let (event, channel) = (&rule.event, &rule.channel);
                let shown = format!("event {event} on {channel}: {}", template.text);
                Some((shown, pattern))
            })
        });
        Self {
            watches: watches.collect(),
            events: events.collect(),
            channel: settings.channel.clone(),
        }
    }

    /// Whether changes of a watched table invalidate this key: then its value is never to be wrong for longer than the
    /// queue takes.
    pub fn is_watched(&self, key: &[u8]) -> bool {
        self.watches.iter().any(|(_, watch)| watch.may_name(key))
    }

    /// All that would invalidate this key, a line each.
    pub fn naming(&self, key: &[u8]) -> Vec<String> {
        let watches = self.watches.iter().filter(|(_, watch)| watch.may_name(key));
        let events = self.events.iter().filter(|(_, event)| event.matches(key));
        let mut found: Vec<String> = watches.map(|(shown, _)| shown.clone()).collect();
        found.extend(events.map(|(shown, _)| shown.clone()));
        found.push(format!("message on {}", self.channel));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_invalidated_by_whatever_can_name_it() {
        let config = Config::from_toml(
            r#"
            postgres.url = "postgres://localhost/x"
            redis.url = "redis://localhost"
            [caches.course]
            key = "courses:{id:bigint}"
            query = "SELECT title FROM courses WHERE id = :id"
            shape = "scalar"
            ttl = "1h"
            [caches.count]
            key = "courses:count"
            query = "SELECT count(*) FROM courses"
            shape = "scalar"
            ttl = "1h"
            [[invalidation.watch]]
            table = "public.courses"
            invalidate = ["courses:{id}"]
            [[invalidation.event]]
            channel = "events"
            event = "course.changed"
            invalidate = ["courses:{courseId}", "courses:c*"]
            "#,
        )
        .expect("fine");
        let origins = Origins::of(&config);
        assert!(origins.is_watched(b"courses:1") && !origins.is_watched(b"courses:count"));
        assert_eq!(
            origins.naming(b"courses:1"),
            [
                "watch \"public\".\"courses\": courses:{id}",
                "event course.changed on events: courses:{courseId}",
                "message on cache:invalidate"
            ]
        );
        assert_eq!(origins.naming(b"courses:count").len(), 3);
    }
}
