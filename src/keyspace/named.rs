//! Which keys a change in the database can name: for telling what would invalidate a key.

use super::{ChangePart, ChangeTemplate, ParamType, Pattern};

/// A part of a template, as far as it says what may stand there.
#[derive(Clone, Copy, Debug)]
pub enum Place<'t> {
    /// Text, with wildcards in it or without.
    Text(&'t str),
    /// A value that a key can have as a parameter of this type; `None`: any text at all.
    Value(Option<ParamType>),
}

impl ChangeTemplate {
    /// Whether some row makes this template name `key`, or a pattern that matches it.
    pub fn may_name(&self, key: &[u8]) -> bool {
        let places = self.parts().iter().map(|part| match part {
            ChangePart::Text(text) => Place::Text(text),
            ChangePart::Column { kind, .. } => Place::Value(*kind),
        });
        may_name(places, key)
    }
}

/// Whether a template of these places can name `key`, or a pattern that matches it.
pub fn may_name<'t>(places: impl Iterator<Item = Place<'t>>, key: &[u8]) -> bool {
    // Every length at which what was read so far may end: where one value ends and the next begins, nobody can tell.
    let mut ends = vec![0];
    for place in places {
        ends = match place {
            Place::Text(text) => {
                let text = Pattern::parse(text.as_bytes());
                let matches = |part: &[u8]| text.as_ref().is_ok_and(|text| text.matches(part));
                reached(&ends, key, matches)
            }
            Place::Value(Some(kind)) => reached(&ends, key, |part| kind.accepts(part)),
            Place::Value(None) => reached(&ends, key, |_any| true),
        };
    }
    ends.last() == Some(&key.len())
}

/// Where what `fits` may end, if it begins at one of `starts`; in order.
fn reached(starts: &[usize], key: &[u8], fits: impl Fn(&[u8]) -> bool) -> Vec<usize> {
    let fits_between = |end: usize| {
        let mut starts = starts.iter().take_while(|start| **start <= end);
        starts.any(|start| fits(&key[*start..end]))
    };
    (0..=key.len()).filter(|end| fits_between(*end)).collect()
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
            (
                "orders:list:{customer:int}:*",
                "orders:list:x:page:1",
                false,
            ),
            ("orders:{a:text}:list:*", "orders:1:2:list:3", false),
            ("orders:{a:text}:list:*", "orders:1:list:3", true),
            ("orders:{anything}", "orders:a", true),
        ] {
            assert_eq!(names(template, key), named, "{template} {key}");
        }
    }
}
