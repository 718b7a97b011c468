//! Which sections of two configurations differ, wherever they stand in their texts.

use super::{Cache, Config, Invalidation};

impl Config {
    /// The sections that mean something else in `other`; but for `[limits.*]`, which may change while the daemon runs, and
    /// what this version does not serve.
    pub fn sections_unlike(&self, other: &Config) -> Vec<&'static str> {
        let same = [
            ("[postgres]", self.postgres == other.postgres),
            ("[redis]", self.redis == other.redis),
            ("[resp]", self.resp == other.resp),
            ("[log]", self.log == other.log),
            ("[l1]", self.l1 == other.l1),
            ("[audit]", self.audit == other.audit),
            ("[locks]", self.locks == other.locks),
            (
                "[caches.*]",
                self.caches
                    .iter()
                    .map(placeless_cache)
                    .eq(other.caches.iter().map(placeless_cache)),
            ),
            ("[namespaces.*]", self.namespaces == other.namespaces),
            (
                "[invalidation]",
                placeless_watches(&self.invalidation) == placeless_watches(&other.invalidation),
            ),
        ];
        let unlike = same.into_iter().filter(|(_, same)| !same);
        unlike.map(|(name, _)| name).collect()
    }
}

/// A line more above it makes no other cache of it.
fn placeless_cache(cache: &Cache) -> Cache {
    Cache {
        query_span: 0..0,
        ..cache.clone()
    }
}

fn placeless_watches(invalidation: &Invalidation) -> Invalidation {
    let mut placeless = invalidation.clone();
    for watch in &mut placeless.watches {
        watch.table_span = 0..0;
        for template in &mut watch.templates {
            template.span = 0..0;
        }
    }
    placeless
}
