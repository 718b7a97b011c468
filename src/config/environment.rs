//! Texts that refer to the environment: `${NAME}`, and `$${` for the characters themselves.

use std::ops::Range;

use super::{reader::Reader, value::Located};

impl Reader<'_> {
    /// The text with `${NAME}` replaced from the environment.
    pub(super) fn text(&mut self, text: &str, span: Range<usize>) -> Option<Located<String>> {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find("${") {
            if rest[..at].ends_with('$') {
                out.push_str(&rest[..at - 1]);
                out.push_str("${");
                rest = &rest[at + 2..];
                continue;
            }
            out.push_str(&rest[..at]);
            let name = rest[at + 2..].split('}').next().unwrap_or_default();
            let variable = rest.get(at..at + name.len() + 3).unwrap_or(&rest[at..]);
            let place = self
                .source
                .find_in(&span, variable)
                .map_or(span.clone(), |start| start..start + variable.len());
            if variable.len() < name.len() + 3 {
                self.fault(
                    place,
                    "`${` is not closed",
                    "write ${NAME}, or $${ for the characters themselves",
                );
                return None;
            }
            let Some(value) = (self.env)(name) else {
                self.fault(
                    place,
                    format!(
                        "variable `{}` is not set in the environment",
                        name.escape_debug()
                    ),
                    "set it, or write $${ for the characters themselves",
                );
                return None;
            };
            out.push_str(&value);
            rest = &rest[at + variable.len()..];
        }
        out.push_str(rest);
        Some(Located { value: out, span })
    }
}
