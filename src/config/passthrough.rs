//! `[passthrough.*]`: plain keys, without a database behind them.

use super::caches::{Claim, claim_prefix};
use super::reader::Reader;
use super::value::Named;
use std::time::Duration;

/// Keys that commands write and read in Redis itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passthrough {
    pub name: String,
    pub prefix: String,
    /// The life of a key whose writer does not say.
    pub ttl: Duration,
}

/// `None` only if a problem was reported.
pub(super) fn passthrough(
    reader: &mut Reader<'_>,
    named: &Named,
    claims: &mut Vec<Claim>,
) -> Option<Passthrough> {
    let prefix = claim_prefix(reader, "passthrough", named, claims);
    Some(Passthrough {
        name: named.name.value.clone(),
        prefix: prefix?,
        ttl: named.table.duration("ttl")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_passthrough_has_its_prefix_and_the_life_of_its_keys() {
        let text = "redis.url = \"redis://h\"\n[passthrough.session]\nprefix = \"sess:\"\nttl = \"7d\"\n\
            [passthrough.cart]\nprefix = \"shop:cart:\"\nttl = \"1h\"\n";
        let config = Config::from_toml(text).unwrap();
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        let declared = |name: &str, prefix: &str, ttl| Passthrough {
            name: name.to_owned(),
            prefix: prefix.to_owned(),
            ttl,
        };
        let session = declared("session", "sess:", hours(7 * 24));
        let cart = declared("cart", "shop:cart:", hours(1));
        assert_eq!(config.passthroughs, [session, cart]);
        assert!(config.unserved.is_empty());
        assert!(config.router().is_plain(b"sess:1"));
        let scope = config.scope();
        assert!(scope.is_plain(b"shop:cart:1") && !scope.is_plain(b"shop:1"));
        assert!(config.reach().prefixes().is_empty());
    }
}
