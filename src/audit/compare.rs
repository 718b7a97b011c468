//! Whether a cached value says what the database says. Pure.

use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// What a remembered missing row looks like in Redis.
const MISSING: &[u8] = b"null";

/// Whether both say the same. Redis holds the very bytes that Postgres made, so those nearly always decide; a query that
/// orders nothing may answer its rows in any order, so arrays with the same items are equal.
pub(super) fn is_same(cached: &[u8], stored: Option<&[u8]>) -> bool {
    let stored = stored.unwrap_or(MISSING);
    cached == stored || in_order(cached).is_some_and(|cached| Some(cached) == in_order(stored))
}

/// The value with the items of every array, and the fields of every object, in one order. Numbers stay as they are written:
/// read as numbers, two that differ in the last of twenty digits would be equal.
fn in_order(json: &[u8]) -> Option<String> {
    let raw: &RawValue = serde_json::from_slice(json).ok()?;
    let text = raw.get();
    match text.as_bytes().first()? {
        b'[' => {
            let items: Vec<&RawValue> = serde_json::from_str(text).ok()?;
            let items = items.iter().map(|item| in_order(item.get().as_bytes()));
            let mut items: Vec<String> = items.collect::<Option<_>>()?;
            items.sort_unstable();
            Some(format!("[{}]", items.join(",")))
        }
        b'{' => {
            let fields: BTreeMap<String, &RawValue> = serde_json::from_str(text).ok()?;
            let fields = fields.iter().map(|(name, value)| {
                let value = in_order(value.get().as_bytes())?;
                Some(format!("{name:?}:{value}"))
            });
            let fields: Vec<String> = fields.collect::<Option<_>>()?;
            Some(format!("{{{}}}", fields.join(",")))
        }
        _ => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_decide_and_the_order_of_rows_does_not_matter() {
        for (cached, stored, same) in [
            (r#"{"id":1}"#, Some(r#"{"id":1}"#), true),
            (r#"{"id":1}"#, Some(r#"{"id":2}"#), false),
            (
                r#"[{"id":1},{"id":2}]"#,
                Some(r#"[{"id":2},{"id":1}]"#),
                true,
            ),
            (
                r#"[{"id":1},{"id":1}]"#,
                Some(r#"[{"id":1},{"id":2}]"#),
                false,
            ),
            (r#"[{"a":[1,2]}]"#, Some(r#"[{"a":[2,1]}]"#), true),
            (r#"[1,1,2]"#, Some(r#"[1,2,2]"#), false),
            (r#"[1]"#, Some(r#"[1,1]"#), false),
            (
                "12345678901234567890.1",
                Some("12345678901234567890.2"),
                false,
            ),
            ("null", None, true),
            ("null", Some("1"), false),
            ("1", None, false),
            ("[]", None, false),
            ("no json", Some("1"), false),
            ("no json", Some("no json"), true),
        ] {
            let stored_bytes = stored.map(str::as_bytes);
            assert_eq!(
                is_same(cached.as_bytes(), stored_bytes),
                same,
                "{cached} {stored:?}"
            );
        }
    }
}
