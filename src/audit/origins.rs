//! What would invalidate a key: the watches, events and channels whose templates can name it.

use crate::config::{Cache, Config, EventPiece, EventTemplate};
use crate::keyspace::{ChangeTemplate, ParamType, Place, may_name};

/// Everything declared that invalidates by itself.
#[derive(Debug)]
pub struct Origins {
    watches: Vec<(String, ChangeTemplate)>,
    writes: Vec<(String, ChangeTemplate)>,
    events: Vec<(String, EventTemplate)>,
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
            rule.invalidate.iter().map(|template| {
                let (event, channel) = (&rule.event, &rule.channel);
                let shown = format!("event {event} on {channel}: {}", template.text);
                (shown, template.clone())
            })
        });
        Self {
            watches: watches.collect(),
            writes: config.caches.iter().flat_map(writes).collect(),
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
        let told = self.watches.iter().chain(&self.writes);
        let told = told.filter(|(_, template)| template.may_name(key));
        let events = self.events.iter().filter(|(_, event)| makes(event, key));
        let mut found: Vec<String> = told.map(|(shown, _)| shown.clone()).collect();
        found.extend(events.map(|(shown, _)| shown.clone()));
        found.push(format!("message on {}", self.channel));
        found
    }
}

/// What writes of a cache name: its own keys, and what it declares to be outdated with them.
fn writes(cache: &Cache) -> Vec<(String, ChangeTemplate)> {
    let Some(write) = &cache.write else {
        return Vec::new();
    };
    // Which parameter it is does not matter here, only what values it has.
    let own = ChangeTemplate::of_key(&cache.key, |_param| Some("any"));
    let templates = [&own].into_iter().chain(&write.also_invalidate);
    let named = templates.map(|template| {
        let shown = format!("write of cache {}: {template}", cache.name);
        (shown, template.clone())
    });
    named.collect()
}

/// Whether an event makes its template name this key: its fields are texts as keys have them.
fn makes(template: &EventTemplate, key: &[u8]) -> bool {
    let places = template.pieces.iter().map(|piece| match piece {
        EventPiece::Literal(text) => Place::Text(text),
        EventPiece::Field(_) => Place::Value(Some(ParamType::Text)),
    });
    may_name(places, key)
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
            write.delete = "DELETE FROM courses WHERE id = :id"
            write.also_invalidate = ["courses:count"]
            [caches.review]
            key = "courses:{id:bigint}:reviews"
            query = "SELECT :id"
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
                "write of cache course: courses:{id:bigint}",
                "event course.changed on events: courses:{courseId}",
                "message on cache:invalidate"
            ]
        );
        assert_eq!(origins.naming(b"courses:count").len(), 4);
        // No field of an event holds a colon.
        assert_eq!(
            origins.naming(b"courses:1:reviews"),
            ["message on cache:invalidate"]
        );
    }
}
