//! Declared prefixes, and the one that a key begins with.

/// What is declared under each of some prefixes, of which none is the beginning of another.
#[derive(Clone, Debug)]
pub struct Prefixes<T> {
    /// Sorted by prefix.
    declared: Vec<(String, T)>,
}

impl<T> Prefixes<T> {
    /// Puts them in order.
    pub fn new(declared: impl IntoIterator<Item = (String, T)>) -> Self {
        let mut declared: Vec<_> = declared.into_iter().collect();
        declared.sort_by(|a, b| a.0.cmp(&b.0));
        Self { declared }
    }

    /// The prefix that `key` begins with, and what is declared under it.
    pub fn of(&self, key: &[u8]) -> Option<(&str, &T)> {
        // None is the beginning of another, so only the greatest one up to the key can fit.
        let after = self
            .declared
            .partition_point(|(prefix, _)| prefix.as_bytes() <= key);
        let (prefix, declared) = self.declared.get(after.checked_sub(1)?)?;
        key.starts_with(prefix.as_bytes())
            .then_some((prefix, declared))
    }

    /// All prefixes, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> {
        self.declared.iter().map(|(prefix, _)| prefix.as_str())
    }
}

impl<T> Default for Prefixes<T> {
    fn default() -> Self {
        Self {
            declared: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_prefix_it_begins_with_and_no_other() {
        let declared = ["b:", "a:x:", "a:y:", "ab:"].map(|prefix| (prefix.to_owned(), prefix));
        let prefixes = Prefixes::new(declared);
        for (key, prefix) in [
            ("a:x:1", Some("a:x:")),
            ("a:x:", Some("a:x:")),
            ("a:y:\u{10ffff}", Some("a:y:")),
            ("ab:c", Some("ab:")),
            ("b::", Some("b:")),
            ("a:x", None),
            ("a:", None),
            ("a:z:1", None),
            ("", None),
            ("zzz", None),
        ] {
            let found = prefixes.of(key.as_bytes());
            assert_eq!(found.map(|(prefix, _)| prefix), prefix, "{key}");
        }
        assert_eq!(Prefixes::<()>::default().of(b"a:1"), None);
    }
}
