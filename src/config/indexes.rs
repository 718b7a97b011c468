//! Which keys have an index: those of a first segment together, for whoever fills a key knows its first segment, however
//! differently another daemon may declare it.

use super::reader::Reader;
use super::value::Located;
use super::{Cache, Namespace};
use crate::keyspace::names::segment_of;
use std::collections::BTreeMap;
use std::time::Duration;

/// The declared keys of one first segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Colon included.
    pub name: String,
    /// Whether any cache or namespace of it says `index = true`: an index of some of its keys would be of no use to a
    /// pattern for all of them.
    pub indexed: bool,
    /// The longest life that is declared for a value.
    pub longest_ttl: Duration,
}

/// The segments of all that is declared, each once.
pub fn segments(caches: &[Cache], namespaces: &[Namespace]) -> Vec<Segment> {
    let of_caches = caches.iter().map(|cache| {
        let life = cache.ttl.max(cache.missing_ttl);
        (cache.key.prefix(), cache.index, life)
    });
    let of_namespaces = namespaces
        .iter()
        .map(|namespace| (namespace.prefix.as_str(), namespace.index, namespace.ttl));
    let mut segments: BTreeMap<&str, Segment> = BTreeMap::new();
    for (prefix, indexed, life) in of_caches.chain(of_namespaces) {
        let name = segment(prefix);
        let segment = segments.entry(name).or_insert_with(|| Segment {
            name: name.to_owned(),
            indexed: false,
            longest_ttl: Duration::ZERO,
        });
        segment.indexed |= indexed;
        segment.longest_ttl = segment.longest_ttl.max(life);
    }
    segments.into_values().collect()
}

/// The first segment of a prefix, colon included.
pub fn segment(prefix: &str) -> &str {
    &prefix[..segment_of(prefix.as_bytes()).len()]
}

/// Keys that others set by themselves stand in no index: a sweep by it would miss them.
pub(super) fn check_foreign(
    reader: &mut Reader<'_>,
    prefixes: &[Located<String>],
    caches: &[Cache],
    namespaces: &[Namespace],
) {
    for indexed in segments(caches, namespaces).iter().filter(|it| it.indexed) {
        for foreign in prefixes {
            if segment(&foreign.value) == indexed.name {
                let message = format!(
                    "keys under `{}` are other programs', and `{}` has an index, which knows only our own",
                    foreign.value, indexed.name
                );
                let help = "leave the prefix out, or write index = false";
                reader.fault(foreign.span.clone(), message, help);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn read(text: &str) -> Result<Vec<Segment>, String> {
        let text = format!("redis.url = \"redis://h\"\n{text}");
        let config = Config::from_toml(&text).map_err(|problems| problems.to_string())?;
        assert!(config.unserved.is_empty(), "{:?}", config.unserved);
        Ok(segments(&config.caches, &config.namespaces))
    }

    #[test]
    fn namespaces_of_one_first_segment_share_its_index() {
        let read = read(
            "[namespaces.a]\nprefix = \"calc:a:\"\nttl = \"5m\"\nindex = true\n\
             [namespaces.b]\nprefix = \"calc:b:\"\nttl = \"9m\"\n\
             [namespaces.c]\nprefix = \"other:\"\nttl = \"1m\"\n",
        );
        let segment = |name: &str, indexed, minutes: u64| Segment {
            name: name.to_owned(),
            indexed,
            longest_ttl: Duration::from_secs(60 * minutes),
        };
        let expected = vec![segment("calc:", true, 9), segment("other:", false, 1)];
        assert_eq!(read, Ok(expected));
    }
}
