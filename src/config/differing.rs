//! Which sections of two configurations differ, wherever they stand in their texts.

use super::{Cache, Config, Invalidation, Warm};

impl Config {
    /// The sections that mean something else in `other`; but for `[limits.*]`, which may change while the daemon runs, and
    /// what this version does not serve.
    pub fn sections_unlike(&self, other: &Config) -> Vec<&'static str> {
        let same = [
            ("[postgres]", self.postgres == other.postgres),
            ("[redis]", self.redis == other.redis),
            ("[resp]", self.resp == other.resp),
            ("[http]", self.http == other.http),
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
            ("[passthrough.*]", self.passthroughs == other.passthroughs),
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
    let warm = cache.warm.clone().map(|warm| Warm {
        keys_span: 0..0,
        ..warm
    });
    Cache {
        query_span: 0..0,
        warm,
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Each section, said otherwise.
    const UNLIKE: [(&str, &str); 11] = [
        ("[postgres]", "postgres.pool_size = 3"),
        ("[redis]", "redis.timeout = \"77ms\""),
        ("[resp]", "resp.password = \"other\""),
        ("[http]", "http.listen = \"127.0.0.1:9681\""),
        ("[log]", "log.level = \"debug\""),
        ("[l1]", "l1.capacity = \"3MiB\""),
        ("[audit]", "audit.rate = 7"),
        ("[locks]", "locks.max_ttl = \"11m\""),
        (
            "[namespaces.*]",
            "namespaces.other = { prefix = \"other:\", ttl = \"1m\" }",
        ),
        (
            "[passthrough.*]",
            "passthrough.other = { prefix = \"other:\", ttl = \"1m\" }",
        ),
        ("[invalidation]", "invalidation.poll = \"77ms\""),
    ];

    #[test]
    fn a_section_that_means_something_else_is_named_and_one_that_only_moved_is_not() {
        let caches = "[caches.course]\nkey = \"courses:{id:bigint}\"\nquery = \"SELECT 1 WHERE 1 = :id\"\n\
            shape = \"object\"\nttl = \"1m\"\ndepends_on = { table = \"courses\", on = { id = \"id\" } }\n";
        let read = |more: &str, caches: &str| {
            let servers = "redis.url = \"redis://h\"\npostgres.url = \"postgres://u@h/d\"";
            Config::from_toml(&format!("{servers}\n{more}\n{caches}"))
                .unwrap_or_else(|problems| panic!("{problems}"))
        };
        let before = read("", caches);
        let nothing: [&str; 0] = [];
        let moved = "# a line more\n[limits.api]\nalgorithm = \"concurrency\"\nlimit = 2\n";
        assert_eq!(before.sections_unlike(&read(moved, caches)), nothing);
        for (section, line) in UNLIKE {
            assert_eq!(
                before.sections_unlike(&read(line, caches)),
                [section],
                "{line}"
            );
        }
        let slower = caches.replace("1m", "2m");
        assert_eq!(before.sections_unlike(&read("", &slower)), ["[caches.*]"]);
        let other_table = caches.replace("\"courses\"", "\"lessons\"");
        assert_eq!(
            before.sections_unlike(&read("", &other_table)),
            ["[invalidation]"]
        );
    }
}
