//! What somebody names to be invalidated: keys, patterns, whole caches; and what of it is refused.

use super::error::shown_text;
use super::{
    KeyError, KeyTemplate, MAX_KEY_BYTES, Pattern, PatternError, Reach, RoutedKey, Router,
    is_pattern, names,
};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// Why something named cannot be invalidated.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TargetError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Pattern(#[from] PatternError),
}

/// Nothing is declared under this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no cache is named '{name}'")]
pub struct UnknownCache {
    pub name: String,
}

impl TargetError {
    /// The code a Redis client sees before the message.
    pub fn code(&self) -> &'static str {
        match self {
            TargetError::Key(error) => error.code(),
            TargetError::Pattern(_) => "BADPATTERN",
        }
    }
}

/// What is to be invalidated.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Keys of declared spaces.
    pub keys: Vec<RoutedKey>,
    /// Keys that no template declares, under a declared prefix: another program's.
    pub others: Vec<Bytes>,
    pub patterns: Vec<Pattern>,
}

impl Targets {
    /// Whether nothing is to be invalidated.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.others.is_empty() && self.patterns.is_empty()
    }

    /// Leaves each but once.
    pub fn dedup(&mut self) {
        let mut seen = HashSet::new();
        self.keys.retain(|key| seen.insert(key.key.clone()));
        self.others.retain(|key| seen.insert(key.clone()));
        let mut seen = HashSet::new();
        self.patterns
            .retain(|pattern| seen.insert(pattern.text().clone()));
    }

    /// The names of all keys, declared or not.
    pub fn names(&self) -> Vec<Bytes> {
        let declared = self.keys.iter().map(|key| key.key.clone());
        declared.chain(self.others.iter().cloned()).collect()
    }
}

/// Everything that can be invalidated by name.
#[derive(Debug)]
pub struct Scope {
    router: Router,
    reach: Reach,
    /// All keys of each cache and namespace, by its name.
    spaces: HashMap<String, Pattern>,
}

impl Scope {
    /// The scope of declared caches (name, template), namespaces (name, prefix) and what is in `reach`.
    pub fn new(
        caches: &[(String, KeyTemplate)],
        namespaces: &[(String, String)],
        reach: Reach,
    ) -> Self {
        let of_caches = caches
            .iter()
            .map(|(name, template)| (name.clone(), Pattern::all_of(template)));
        let of_namespaces = namespaces
            .iter()
            .map(|(name, prefix)| (name.clone(), Pattern::all_under(prefix)));
        Self {
            router: Router::new(caches, namespaces),
            reach,
            spaces: of_caches.chain(of_namespaces).collect(),
        }
    }

    /// Spares plain keys (name and prefix of passthroughs), whoever names them.
    #[must_use]
    pub fn with_plain(self, passthroughs: &[(String, String)]) -> Self {
        Self {
            router: self.router.with_plain(passthroughs),
            ..self
        }
    }

    /// Whether a key is a plain one, which no invalidation removes.
    pub fn is_plain(&self, key: &[u8]) -> bool {
        self.router.is_plain(key)
    }

    /// What may be removed.
    pub fn reach(&self) -> &Reach {
        &self.reach
    }

    /// Adds a key or a pattern: it is a pattern if it holds `*`, `?`, `[` or `\`.
    ///
    /// # Errors
    /// See [`TargetError`].
    pub fn add(&self, text: &[u8], targets: &mut Targets) -> Result<(), TargetError> {
        if is_pattern(text) {
            self.add_pattern(text, targets)
        } else {
            self.add_key(text, targets)
        }
    }

    /// Adds a key, whatever characters it holds.
    ///
    /// # Errors
    /// For a key that is not spelled as its cache declares it, or lies under no declared prefix.
    pub fn add_key(&self, key: &[u8], targets: &mut Targets) -> Result<(), TargetError> {
        match self.router.route(key) {
            Ok(route) => {
                let key = Bytes::copy_from_slice(key);
                targets.keys.push(route.with_key(key));
            }
            Err(KeyError::Undeclared { .. }) if self.reach.covers(key) => {
                targets.others.push(Bytes::copy_from_slice(key));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Adds a pattern. One without wildcards is the key it matches.
    ///
    /// # Errors
    /// For a pattern that is refused.
    pub fn add_pattern(&self, text: &[u8], targets: &mut Targets) -> Result<(), TargetError> {
        let pattern = self.reach.pattern(text)?;
        match pattern.only_key() {
            Some(key) => self.add_key(key, targets),
            None => {
                targets.patterns.push(pattern);
                Ok(())
            }
        }
    }

    /// Adds a key or pattern of a prefix that others declare and we do not; whether that can be one. A pattern that matches plain
    /// keys among others is one, and who sweeps it spares them.
    pub fn add_elsewhere(&self, text: &[u8], is_pattern: bool, targets: &mut Targets) -> bool {
        if self.reach.prefix_of(text).is_some() || self.is_plain(text) {
            return false;
        }
        let is_name = |text: &[u8]| {
            text.contains(&b':') && !names::is_reserved(text) && !text.starts_with(b"{")
        };
        if !is_pattern {
            let is_key = is_name(text) && text.len() <= MAX_KEY_BYTES;
            if is_key {
                targets.others.push(Bytes::copy_from_slice(text));
            }
            return is_key;
        }
        let pattern = Pattern::parse(text).ok();
        let pattern = pattern.filter(|pattern| is_name(pattern.head()));
        let is_pattern = pattern.is_some();
        targets.patterns.extend(pattern);
        is_pattern
    }

    /// Adds everything under the declared prefix that `text` begins with, if there is one: all that it could mean.
    pub fn add_all_beside(&self, text: &[u8], targets: &mut Targets) {
        let prefix = self.reach.prefix_of(text).map(Pattern::all_under);
        targets.patterns.extend(prefix);
    }

    /// Adds all keys of a cache or namespace.
    ///
    /// # Errors
    /// For a name nothing is declared under.
    pub fn add_space(&self, name: &str, targets: &mut Targets) -> Result<(), UnknownCache> {
        let unknown = || UnknownCache {
            name: shown_text(name.as_bytes()),
        };
        let pattern = self.spaces.get(name).ok_or_else(unknown)?;
        match pattern.only_key() {
            // The one key of a template without parameters is always routed.
            Some(key) => self.add_key(key, targets).map_err(|_never| unknown())?,
            None => targets.patterns.push(pattern.clone()),
        }
        Ok(())
    }

    /// Everything under every declared prefix.
    pub fn everything(&self) -> Targets {
        let prefixes = self.reach.prefixes().iter();
        Targets {
            patterns: prefixes.map(|prefix| Pattern::all_under(prefix)).collect(),
            ..Targets::default()
        }
    }

    /// A pattern under the same declared prefix that matches whatever `pattern` matches, and more.
    pub fn widened(&self, pattern: &Pattern) -> Pattern {
        self.reach
            .prefix_of(pattern.head())
            .map_or_else(|| pattern.clone(), Pattern::all_under)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope() -> Scope {
        let template = |text| KeyTemplate::parse(text).expect("a template");
        let caches = [
            ("user".to_owned(), template("users:{id:bigint}")),
            ("count".to_owned(), template("users:count")),
        ];
        let namespaces = [("calc".to_owned(), "calc:".to_owned())];
        let prefixes = ["users:", "calc:", "legacy:"].map(str::to_owned);
        Scope::new(&caches, &namespaces, Reach::new(prefixes))
    }

    #[test]
    fn a_bare_argument_is_a_pattern_if_it_has_a_wildcard_and_a_key_otherwise() {
        let scope = scope();
        let mut targets = Targets::default();
        for text in [
            "users:42",
            "users:*",
            "legacy:x",
            "users:4\\2",
            "users:profile:7",
        ] {
            scope.add(text.as_bytes(), &mut targets).expect(text);
        }
        assert_eq!(targets.keys.len(), 2, "{targets:?}");
        assert_eq!(targets.others, ["legacy:x", "users:profile:7"]);
        assert_eq!(targets.patterns.len(), 1);
    }

    #[test]
    fn what_is_named_twice_is_left_once_and_a_key_is_no_pattern() {
        let scope = scope();
        let mut targets = Targets::default();
        for text in ["users:42", "legacy:x", "users:*", "users:43", "legacy:y"] {
            for _ in 0..2 {
                scope.add(text.as_bytes(), &mut targets).expect(text);
            }
        }
        targets.dedup();
        assert_eq!(
            targets.names(),
            ["users:42", "users:43", "legacy:x", "legacy:y"]
        );
        assert_eq!(targets.patterns.len(), 1);
    }

    #[test]
    fn what_is_not_spelled_as_declared_or_is_foreign_is_refused() {
        let scope = scope();
        let mut targets = Targets::default();
        for (text, code) in [
            ("users:007", "BADKEY"),
            ("orders:1", "ERR"),
            ("", "BADKEY"),
            ("cachewarden:leases", "BADKEY"),
            ("{users:1}:lease", "BADKEY"),
            ("orders:*", "BADPATTERN"),
            ("*", "BADPATTERN"),
        ] {
            let refused = scope.add(text.as_bytes(), &mut targets);
            assert_eq!(refused.map_err(|error| error.code()), Err(code), "{text}");
        }
        assert!(targets.is_empty());
    }

    #[test]
    fn a_space_is_all_its_keys() {
        let scope = scope();
        let mut targets = Targets::default();
        for name in ["user", "count", "calc"] {
            scope.add_space(name, &mut targets).expect(name);
        }
        assert_eq!(targets.keys.len(), 1, "a cache of one key is that key");
        let texts: Vec<_> = targets.patterns.iter().map(Pattern::shown).collect();
        assert_eq!(texts, ["users:*", "calc:*"]);
        assert!(scope.add_space("nobody", &mut targets).is_err());
        let wide = scope.widened(&scope.reach().pattern(b"users:4*").expect("fine"));
        assert_eq!(wide.shown(), "users:*");
    }
}
