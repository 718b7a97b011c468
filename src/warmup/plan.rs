//! What is declared of one cache's warmup.

use crate::config::{self, Config};
use crate::keyspace::{KeyTemplate, Pattern, SpaceId};

/// One cache that is warmed.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) name: String,
    /// Its place in the configuration.
    pub(super) cache: usize,
    pub(super) space: SpaceId,
    pub(super) key: KeyTemplate,
    /// Whether Postgres says which keys; else there is one, or only the hottest are warmed.
    pub(super) has_query: bool,
    pub(super) warm: config::Warm,
}

impl Plan {
    /// Of all caches that are warmed, in the order of the configuration.
    pub(super) fn all(config: &Config) -> Vec<Self> {
        let caches = config.caches.iter().enumerate();
        let plan = |(place, cache): (usize, &config::Cache)| {
            let warm = cache.warm.clone()?;
            Some(Self {
                name: cache.name.clone(),
                cache: place,
                space: SpaceId(u16::try_from(place).ok()?),
                key: cache.key.clone(),
                has_query: warm.keys.is_some(),
                warm,
            })
        };
        caches.filter_map(plan).collect()
    }

    /// Whether there is but one key.
    pub(super) fn has_one_key(&self) -> bool {
        self.key.params().is_empty()
    }

    /// Whether a sweep of this pattern may have removed keys of it. One that could not have costs a look at what is fresh.
    pub(super) fn is_met_by(&self, pattern: &Pattern) -> bool {
        let own = self.key.head();
        let swept = pattern.head();
        own.starts_with(swept) || swept.starts_with(own)
    }
}
