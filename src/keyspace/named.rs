//! Which keys a change in the database can name: for telling what would invalidate a key.

use super::{ChangePart, ChangeTemplate, Pattern};

impl ChangeTemplate {
    /// Whether some row makes this template name `key`, or a pattern that matches it. Exact, but where columns and
    /// wildcards stand in one template: then a column may be taken to hold a `:`.
    pub fn may_name(&self, key: &[u8]) -> bool {
        let widest = Pattern::parse(self.widest().as_bytes());
        if !widest.is_ok_and(|widest| widest.matches(key)) {
            return false;
        }
        let untyped = |part: &ChangePart| matches!(part, ChangePart::Column { kind: None, .. });
        self.is_pattern() || self.parts().iter().any(untyped) || self.holds(key)
    }

    /// Whether each column's place in `key` holds what a column of its type can have.
    fn holds(&self, key: &[u8]) -> bool {
        let segments = self.segments();
        let theirs: Vec<&[u8]> = key.split(|byte| *byte == b':').collect();
        let pairs = || segments.iter().zip(&theirs);
        segments.len() == theirs.len() && pairs().all(|(ours, value)| fits(ours, value))
    }
}

/// Whether a segment with one column at most can be `value`. Of more columns nobody can tell where one ends.
fn fits(segment: &[ChangePart], value: &[u8]) -> bool {
    let is_column = |part: &ChangePart| matches!(part, ChangePart::Column { .. });
    if segment.iter().filter(|part| is_column(part)).count() > 1 {
        return true;
    }
    let text = |part: Option<&ChangePart>| match part {
        Some(ChangePart::Text(text)) => text.as_bytes().to_vec(),
        _ => Vec::new(),
    };
    let kind = segment.iter().find_map(|part| match part {
        ChangePart::Column { kind, .. } => *kind,
        ChangePart::Text(_) => None,
    });
    if !segment.iter().any(is_column) {
        return value == text(segment.first());
    }
    let behind = value.strip_prefix(text(segment.first()).as_slice());
    let held = behind.and_then(|behind| behind.strip_suffix(text(segment.last()).as_slice()));
    held.is_some_and(|held| kind.is_none_or(|kind| kind.accepts(held)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyspace::KeyTemplate;

    fn names(template: &str, key: &str) -> bool {
        let mut template = ChangeTemplate::parse(template).expect("a template");
        let keys = ["courses:{id:bigint}", "courses:slug:{slug:text}"];
        let keys = keys.map(|key| KeyTemplate::parse(key).expect("a key"));
        template.infer(keys.iter()).expect("one type");
        template.may_name(key.as_bytes())
    }

    #[test]
    fn a_template_names_the_keys_that_a_row_can_make_of_it() {
        for (template, key, named) in [
            ("courses:{id}", "courses:42", true),
            ("courses:{id}", "courses:count", false),
            ("courses:{id}", "courses:42:reviews", false),
            ("courses:{id}", "course:42", false),
            ("courses:slug:{slug}", "courses:slug:sql-42", true),
            ("courses:slug:{slug}", "courses:slug:a:b", false),
            ("courses:v{n:int}x", "courses:v12x", true),
            ("courses:v{n:int}x", "courses:v12", false),
            ("courses:v{n:int}x", "courses:vax", false),
            ("courses:{a:int}-{b:int}", "courses:1-2", true),
            ("courses:count", "courses:count", true),
            ("courses:count", "courses:counts", false),
            ("courses:list:*", "courses:list:a:b", true),
            ("courses:list:*", "courses:42", false),
            ("courses:*", "courses:42", true),
            ("orders:list:{customer}:*", "orders:list:7:page:1", true),
            ("orders:{anything}", "orders:a", true),
        ] {
            assert_eq!(names(template, key), named, "{template} {key}");
        }
    }
}
