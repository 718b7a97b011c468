//! `CACHE.EXPLAIN`: all that is known of a key.

use super::super::batch::millis;
use super::super::codec::{Protocol, reply};
use super::super::door::{Door, Named};
use super::super::failure;
use crate::audit::{Explain, Explanation, token};
use crate::cache::CacheError;
use crate::keyspace::RoutedKey;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

pub(super) async fn explain(door: &Door, key: &[u8], protocol: Protocol, out: &mut Vec<u8>) {
    let ask = match door.named(key) {
        Ok(Named::Ours(RoutedKey { key, space, .. })) => Explain {
            key,
            space: Some(space),
        },
        Ok(Named::Foreign(key)) => Explain { key, space: None },
        Err(error) => return failure::key(out, &error),
    };
    match door.audit.explain.ask(ask).await {
        Ok(Ok(explanation)) => Page { protocol, out }.write(&explanation),
        Ok(Err(error)) => failure::command(out, &CacheError::Store(error)),
        Err(error) => failure::ask(out, error),
    }
}

/// Writes an explanation as a map; what is not there is null.
struct Page<'a> {
    protocol: Protocol,
    out: &'a mut Vec<u8>,
}

impl Page<'_> {
    fn write(&mut self, known: &Explanation) {
        reply::map(self.out, self.protocol, 12);
        self.name("cache");
        match &known.cache {
            None => reply::null(self.out, self.protocol),
            Some(cache) => reply::bulk(self.out, cache.as_bytes()),
        }
        self.name("redis_key");
        reply::bulk(self.out, &known.redis_key);
        self.name("cached");
        reply::integer(self.out, i64::from(known.cached));
        self.time("age_ms", known.age);
        self.time("ttl_ms", known.left);
        self.name("lease");
        match &known.lease {
            None => reply::null(self.out, self.protocol),
            Some(lease) => {
                reply::map(self.out, self.protocol, 2);
                self.text("token", &token(lease.token));
                self.time("ttl_ms", Some(lease.left));
            }
        }
        self.name("l1");
        reply::integer(self.out, i64::from(known.l1));
        self.last_invalidation(known);
        self.name("invalidated_by");
        reply::array(self.out, known.invalidated_by.len());
        for line in &known.invalidated_by {
            reply::bulk(self.out, line.as_bytes());
        }
        let story = &known.story;
        let leased = story
            .leased
            .map(|leased| (leased.at, Some(token(leased.token))));
        let filled = story.filled.map(|at| (at, None));
        let refused = story.refused.map(|at| (at, None));
        self.event("last_lease", leased, known.instance);
        self.event("last_fill", filled, known.instance);
        self.event("last_refused_fill", refused, known.instance);
    }

    fn last_invalidation(&mut self, known: &Explanation) {
        self.name("last_invalidation");
        let Some(last) = &known.story.invalidated else {
            return reply::null(self.out, self.protocol);
        };
        reply::map(self.out, self.protocol, 5);
        self.text("source", last.origin.label());
        self.name("named");
        let pattern = last.pattern.as_ref().map(|pattern| pattern.text());
        reply::bulk(self.out, pattern.unwrap_or(&known.redis_key));
        self.moment(last.at, last.by);
    }

    fn event(&mut self, name: &str, event: Option<(Instant, Option<String>)>, by: Uuid) {
        self.name(name);
        let Some((at, token)) = event else {
            return reply::null(self.out, self.protocol);
        };
        reply::map(self.out, self.protocol, 3 + usize::from(token.is_some()));
        if let Some(token) = token {
            self.text("token", &token);
        }
        self.moment(at, by);
    }

    /// How long ago, when by the clock (milliseconds since 1970), and in which daemon.
    fn moment(&mut self, at: Instant, by: Uuid) {
        let ago = at.elapsed();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.time("ago_ms", Some(ago));
        self.time("at_ms", now.ok().map(|now| now.saturating_sub(ago)));
        self.text("by", &by.to_string());
    }

    fn name(&mut self, name: &str) {
        reply::bulk(self.out, name.as_bytes());
    }

    fn text(&mut self, name: &str, text: &str) {
        self.name(name);
        reply::bulk(self.out, text.as_bytes());
    }

    fn time(&mut self, name: &str, time: Option<Duration>) {
        self.name(name);
        match time {
            Some(time) => reply::integer(self.out, millis(time)),
            None => reply::null(self.out, self.protocol),
        }
    }
}
