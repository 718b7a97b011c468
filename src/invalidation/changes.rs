//! What a row of the database's queue names, and what it could mean if it names nothing that can be invalidated. Pure.

use crate::keyspace::{Scope, TargetError, Targets};
use crate::repository::{Applied, Change};

/// Adds what a row names. `Some`: why some of it cannot be invalidated as it is named; everything under its prefix is
/// added instead, if we know that prefix.
pub(super) fn read(scope: &Scope, change: &Change, targets: &mut Targets) -> Option<String> {
    let mut refused = None;
    let keys = change.keys.iter().map(|key| (key, false));
    let patterns = change.patterns.iter().map(|pattern| (pattern, true));
    for (text, is_pattern) in keys.chain(patterns) {
        if let Err(error) = add(scope, text.as_bytes(), is_pattern, targets) {
            scope.add_all_beside(text.as_bytes(), targets);
            refused.get_or_insert_with(|| error.to_string());
        }
    }
    refused
}

/// All that was applied, to be invalidated once more. It was complete then, whoever applied it.
pub(super) fn once_more(scope: &Scope, applied: &Applied) -> Targets {
    let mut targets = Targets::default();
    let keys = applied.keys.iter().map(|key| (key, false));
    let patterns = applied.patterns.iter().map(|pattern| (pattern, true));
    for (text, is_pattern) in keys.chain(patterns) {
        if add(scope, text.as_bytes(), is_pattern, &mut targets).is_err() {
            scope.add_all_beside(text.as_bytes(), &mut targets);
        }
    }
    targets
}

fn add(
    scope: &Scope,
    text: &[u8],
    is_pattern: bool,
    targets: &mut Targets,
) -> Result<(), TargetError> {
    let added = match is_pattern {
        true => scope.add_pattern(text, targets),
        false => scope.add_key(text, targets),
    };
    // Whoever installed the trigger, or called the function, has declared the prefix, in a configuration that is newer or
    // older than ours: its daemons and ours empty the same queue.
    match added {
        Err(_) if scope.add_elsewhere(text, is_pattern, targets) => Ok(()),
        added => added,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::{KeyTemplate, Pattern, Reach};
    use std::time::Instant;

    fn targets(source: &str, keys: &[&str], patterns: &[&str]) -> (Targets, bool) {
        let template = KeyTemplate::parse("users:{id:bigint}").expect("a template");
        let reach = Reach::new(["users:".to_owned()]);
        let scope = Scope::new(&[("user".to_owned(), template)], &[], reach);
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let change = Change {
            id: 1,
            source: source.to_owned(),
            keys: owned(keys),
            patterns: owned(patterns),
            since: Instant::now(),
        };
        let mut targets = Targets::default();
        let refused = read(&scope, &change, &mut targets);
        (targets, refused.is_some())
    }

    fn shown(targets: &Targets) -> Vec<String> {
        targets.patterns.iter().map(Pattern::shown).collect()
    }

    #[test]
    fn a_row_is_taken_as_it_is() {
        let (targets, refused) = targets("public.users", &["users:1"], &["users:2*"]);
        assert!(!refused);
        assert_eq!(targets.names(), ["users:1"]);
        assert_eq!(shown(&targets), ["users:2*"]);
    }

    #[test]
    fn what_is_queued_is_invalidated_whatever_we_declare() {
        for source in ["invalidate", "public.t"] {
            let (targets, refused) = targets(source, &["orders:1"], &["orders:list:*"]);
            assert!(!refused, "{source}");
            assert_eq!(targets.others, ["orders:1"]);
            assert_eq!(shown(&targets), ["orders:list:*"]);
        }
    }

    #[test]
    fn our_own_keys_are_out_of_reach() {
        for source in ["invalidate", "public.t"] {
            let keys = ["cachewarden:leases", "{users:1}:lease"];
            let (targets, refused) = targets(source, &keys, &["cachewarden:*", "*"]);
            assert!(refused && targets.is_empty(), "{source}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_everything_under_its_prefix() {
        let (targets, refused) = targets("invalidate", &["users:007"], &["users:["]);
        assert!(refused);
        assert_eq!(shown(&targets), ["users:*", "users:*"]);
    }
}
