//! What a change in the database invalidates: templates such as `courses:{id}` or `courses:list:*`.
//!
//! A name in braces is a column of the changed row. Glob characters make the whole template a
//! pattern; those that come out of a row are escaped, so data never widens a pattern.

use std::fmt;
use std::ops::Range;

use super::error::shown_text;
use super::names::RESERVED_PREFIXES;
use super::{KeyTemplate, Param, ParamType, TemplateError, escape, template::Segment};

/// Limits of one template: those of a pattern that a client may send, less room for the row's values.
const MAX_TEMPLATE_BYTES: usize = 200;
/// Each wildcard multiplies what Redis may have to try for one key.
const MAX_WILDCARDS: usize = 8;
/// As long as a name in Postgres.
const MAX_COLUMN_BYTES: usize = 63;

/// A key or pattern with columns in it, to be filled from the old and the new row of a change.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeTemplate {
    text: String,
    parts: Vec<ChangePart>,
    is_pattern: bool,
}

/// A part of a [`ChangeTemplate`].
#[derive(Clone, Debug, PartialEq)]
pub enum ChangePart {
    /// Stands as it is, wildcards and escapes included.
    Text(String),
    /// The value of a column.
    Column {
        name: String,
        /// The parameter whose one spelling the value takes; `None`: as the database prints it.
        kind: Option<ParamType>,
    },
}

impl ChangeTemplate {
    /// Reads a template's text: literal text, `{column}` or `{column:type}`, a column's name in
    /// double quotes if it is no plain one, and Redis' wildcards `*` `?` `[…]` `\`.
    ///
    /// # Errors
    /// The first fault, its place in `text` and what to write instead.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > MAX_TEMPLATE_BYTES {
            let message = format!("{} bytes are too long for a template", text.len());
            let hint = format!("write at most {MAX_TEMPLATE_BYTES} bytes");
            return Err(TemplateError::new(0..text.len(), message, hint));
        }
        let mut parts: Vec<ChangePart> = Vec::new();
        let (mut rest, mut at) = (text, 0);
        while !rest.is_empty() {
            let (part, len) = match rest.strip_prefix('{') {
                Some(inside) => column(inside, at)?,
                None => {
                    let len = rest.find('{').unwrap_or(rest.len());
                    check_text(&rest[..len], at)?;
                    (ChangePart::Text(rest[..len].to_owned()), len)
                }
            };
            parts.push(part);
            (rest, at) = (&rest[len..], at + len);
        }
        let template = Self::of(text.to_owned(), parts);
        template.check_wildcards()?;
        template.check_head()?;
        Ok(template)
    }

    /// The template for the keys of a cache: each parameter filled from the column that `column`
    /// names for it, or any value at all.
    pub fn of_key<'c>(key: &KeyTemplate, column: impl Fn(&str) -> Option<&'c str>) -> Self {
        let mut parts = Vec::new();
        for (n, (segment, param)) in key.typed_segments().enumerate() {
            let colon = if n > 0 { ":" } else { "" };
            match (segment, param) {
                (Segment::Param { head, tail }, Some(param)) => {
                    parts.push(ChangePart::Text(format!("{colon}{head}")));
                    parts.push(match column(&param.name) {
                        Some(name) => ChangePart::Column {
                            name: name.to_owned(),
                            kind: Some(param.kind),
                        },
                        None => ChangePart::Text("*".to_owned()),
                    });
                    parts.push(ChangePart::Text(tail.clone()));
                }
                (Segment::Literal(text) | Segment::Param { head: text, .. }, _) => {
                    parts.push(ChangePart::Text(format!("{colon}{text}")));
                }
            }
        }
        Self::of(key.to_string(), joined(parts))
    }

    fn of(text: String, parts: Vec<ChangePart>) -> Self {
        let is_wild = |part: &ChangePart| matches!(part, ChangePart::Text(t) if t.contains(WILD));
        Self {
            is_pattern: parts.iter().any(is_wild),
            text,
            parts,
        }
    }

    pub fn parts(&self) -> &[ChangePart] {
        &self.parts
    }

    /// Whether it gives patterns; else keys.
    pub fn is_pattern(&self) -> bool {
        self.is_pattern
    }

    /// Whether every row gives the same.
    pub fn is_constant(&self) -> bool {
        self.parts
            .iter()
            .all(|part| matches!(part, ChangePart::Text(_)))
    }

    /// The template with any value in place of every column: what is invalidated when the rows are
    /// too many to name, or are not known.
    pub fn widest(&self) -> String {
        let parts = self.parts.iter().map(|part| match part {
            ChangePart::Text(text) => text.as_str(),
            ChangePart::Column { .. } => "*",
        });
        parts.collect()
    }

    /// The key or pattern with these values in place of the columns. In a pattern a value means itself.
    pub fn filled<'v>(&self, value: impl Fn(&str) -> &'v str) -> String {
        let mut made = String::with_capacity(self.text.len());
        for part in &self.parts {
            match part {
                ChangePart::Text(text) => made.push_str(text),
                ChangePart::Column { name, .. } if self.is_pattern => {
                    let escaped = escape(value(name).as_bytes());
                    made.push_str(&String::from_utf8_lossy(&escaped));
                }
                ChangePart::Column { name, .. } => made.push_str(value(name)),
            }
        }
        made
    }

    /// The literal text before the first wildcard or column.
    pub fn literal_head(&self) -> &str {
        match self.parts.first() {
            Some(ChangePart::Text(text)) => &text[..text.find(WILD).unwrap_or(text.len())],
            _ => "",
        }
    }

    /// The literal text up to and including the first `:`.
    pub fn prefix(&self) -> &str {
        match self.parts.first() {
            Some(ChangePart::Text(text)) => &text[..text.find(':').map_or(0, |at| at + 1)],
            _ => "",
        }
    }

    /// Gives every column without a type that of the parameter in its place, in those of `keys`
    /// that can have keys like this.
    ///
    /// # Errors
    /// The name of a column in whose place caches have another type, or different ones.
    pub fn infer<'k>(&mut self, keys: impl Iterator<Item = &'k KeyTemplate>) -> Result<(), String> {
        let segments = self.segments();
        for key in keys {
            let Some(found) = kinds_in(&segments, key) else {
                continue;
            };
            let columns = self.parts.iter_mut().filter_map(|part| match part {
                ChangePart::Column { name, kind } => Some((name, kind)),
                ChangePart::Text(_) => None,
            });
            for ((name, known), kind) in columns.zip(found) {
                if known.is_some_and(|known| known != kind) {
                    return Err(name.clone());
                }
                *known = Some(kind);
            }
        }
        Ok(())
    }

    /// Whether some row could give a key of `key`; a column may hold anything.
    pub fn may_be_of(&self, key: &KeyTemplate) -> bool {
        let ours = self.segments();
        let theirs: Vec<_> = key.typed_segments().collect();
        let fits = |ours: &[ChangePart], (segment, param): &(&Segment, Option<&Param>)| match (
            ours, segment, param,
        ) {
            ([ChangePart::Text(text)], Segment::Literal(other), _) => text == other,
            ([ChangePart::Text(text)], segment, Some(param)) => {
                let value = segment.value_in(text.as_bytes());
                value.is_some_and(|value| param.accepts(value))
            }
            (parts, ..) => !parts.is_empty(),
        };
        ours.len() == theirs.len() && ours.iter().zip(&theirs).all(|(o, t)| fits(o, t))
    }

    pub(super) fn segments(&self) -> Vec<Vec<ChangePart>> {
        let mut segments = vec![Vec::new()];
        for part in &self.parts {
            let texts: Vec<&str> = match part {
                ChangePart::Text(text) => text.split(':').collect(),
                ChangePart::Column { .. } => Vec::new(),
            };
            for (n, text) in texts.iter().enumerate() {
                if n > 0 {
                    segments.push(Vec::new());
                }
                if let (Some(last), false) = (segments.last_mut(), text.is_empty()) {
                    last.push(ChangePart::Text((*text).to_owned()));
                }
            }
            if let (Some(last), ChangePart::Column { .. }) = (segments.last_mut(), part) {
                last.push(part.clone());
            }
        }
        segments
    }

    fn check_wildcards(&self) -> Result<(), TemplateError> {
        let widest = self.widest();
        let wildcards = widest.matches(['*', '?', '[']).count();
        if wildcards > MAX_WILDCARDS {
            let message = format!("{wildcards} wildcards and columns are too many");
            let hint = format!("write at most {MAX_WILDCARDS}");
            return Err(TemplateError::new(0..self.text.len(), message, hint));
        }
        Ok(())
    }

    fn check_head(&self) -> Result<(), TemplateError> {
        let prefix = self.prefix();
        if prefix.len() < 2 || prefix.contains(WILD) {
            return Err(TemplateError::new(
                0..self.text.len(),
                format!(
                    "`{}` has no literal prefix",
                    shown_text(self.text.as_bytes())
                ),
                "begin with literal text and a `:`, such as \"courses:{id}\" or \"courses:list:*\"",
            ));
        }
        match RESERVED_PREFIXES.iter().find(|own| prefix == **own) {
            None => Ok(()),
            Some(own) => Err(TemplateError::new(
                0..own.len(),
                format!("`{own}` is reserved for cachewarden's own keys"),
                "name keys of a declared cache",
            )),
        }
    }
}

impl fmt::Display for ChangeTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What makes a text a pattern.
const WILD: [char; 4] = ['*', '?', '[', '\\'];

/// Neighbouring texts as one.
fn joined(parts: Vec<ChangePart>) -> Vec<ChangePart> {
    let mut out: Vec<ChangePart> = Vec::new();
    for part in parts {
        match (out.last_mut(), part) {
            (_, ChangePart::Text(text)) if text.is_empty() => {}
            (Some(ChangePart::Text(last)), ChangePart::Text(text)) => last.push_str(&text),
            (_, part) => out.push(part),
        }
    }
    out
}

/// The types of the first columns, if keys of `key` can look like this. Behind a wildcard that may span
/// segments nothing is known of the rest.
fn kinds_in(segments: &[Vec<ChangePart>], key: &KeyTemplate) -> Option<Vec<ParamType>> {
    let mut theirs = key.typed_segments();
    let mut found = Vec::new();
    for ours in segments {
        let has_wildcard =
            |part: &ChangePart| matches!(part, ChangePart::Text(t) if t.contains(WILD));
        if ours.iter().any(has_wildcard) {
            return Some(found);
        }
        match (ours.as_slice(), theirs.next()?) {
            ([], _) => return None,
            ([ChangePart::Text(text)], (Segment::Literal(other), _)) if text == other => {}
            ([ChangePart::Text(text)], (segment @ Segment::Param { .. }, Some(param))) => {
                let value = segment.value_in(text.as_bytes())?;
                param.accepts(value).then_some(())?;
            }
            (parts, (Segment::Param { head, tail }, Some(param))) => {
                let text = |part: Option<&ChangePart>| match part {
                    Some(ChangePart::Text(text)) => text.clone(),
                    _ => String::new(),
                };
                let is_column = |part: &&ChangePart| matches!(part, ChangePart::Column { .. });
                let is_one = parts.iter().filter(is_column).count() == 1;
                if !is_one || text(parts.first()) != *head || text(parts.last()) != *tail {
                    return None;
                }
                found.push(param.kind);
            }
            _ => return None,
        }
    }
    theirs.next().is_none().then_some(found)
}

/// Reads a column behind its `{`, which stands at `at`; and its length, braces included.
fn column(inside: &str, at: usize) -> Result<(ChangePart, usize), TemplateError> {
    let fault = |range: Range<usize>, message: String, hint: &str| {
        let range = at + 1 + range.start..at + 1 + range.end;
        Err(TemplateError::new(range, message, hint))
    };
    let (name, end) = match inside.strip_prefix('"') {
        Some(quoted) => match unquote(quoted) {
            Some((name, len)) => (name, 1 + len),
            None => {
                let message = "the quoted name of a column is not closed".to_owned();
                return fault(
                    0..inside.len(),
                    message,
                    "close it with `\"`; write `\"\"` for a quote in it",
                );
            }
        },
        None => {
            let end = inside.find([':', '}']).unwrap_or(inside.len());
            let name = &inside[..end];
            let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            if name.is_empty() || !name.chars().all(plain) {
                let message = format!("`{}` is no name of a column", shown_text(name.as_bytes()));
                return fault(
                    0..end,
                    message,
                    "write a column's name, in double quotes if it is no plain one",
                );
            }
            (name.to_owned(), end)
        }
    };
    if name.is_empty() || name.len() > MAX_COLUMN_BYTES || name.contains('\0') {
        let message = format!("`{}` is no name of a column", shown_text(name.as_bytes()));
        return fault(0..end, message, "write 1 to 63 bytes");
    }
    let Some(close) = inside[end..].find('}').map(|close| end + close) else {
        return fault(
            0..inside.len(),
            "`{` is not closed".to_owned(),
            "close the column with `}`",
        );
    };
    let kind = match inside[end..close].strip_prefix(':') {
        None if end == close => None,
        Some(word) if ParamType::from_sql_name(word).is_some() => ParamType::from_sql_name(word),
        _ => {
            let types = ParamType::ALL.map(ParamType::sql_name).join(", ");
            let word = shown_text(inside[end..close].trim_start_matches(':').as_bytes());
            let message = format!("`{word}` is no type of a parameter");
            return fault(end..close, message, &format!("the types are {types}"));
        }
    };
    Ok((ChangePart::Column { name, kind }, close + 2))
}

/// The name up to the closing quote, and the length of what was read, that quote included.
fn unquote(quoted: &str) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '"' {
            if !quoted[at + 1..].starts_with('"') {
                return Some((name, at + 1));
            }
            chars.next();
        }
        name.push(c);
    }
    None
}

fn check_text(text: &str, at: usize) -> Result<(), TemplateError> {
    let bad = |c: char| !c.is_ascii_graphic() || "}\"'`".contains(c);
    if let Some((offset, c)) = text.char_indices().find(|(_, c)| bad(*c)) {
        let place = at + offset..at + offset + c.len_utf8();
        let message = format!("`{}` may not stand in a template's text", c.escape_debug());
        let hint = "write visible ASCII without spaces, quotes and braces";
        return Err(TemplateError::new(place, message, hint));
    }
    let bytes = text.as_bytes();
    let mut open = None;
    let mut n = 0;
    while n < bytes.len() {
        match bytes[n] {
            b'\\' if n + 1 == bytes.len() => {
                let message = "nothing stands behind `\\`";
                return Err(TemplateError::new(
                    at + n..at + n + 1,
                    message,
                    "write `\\\\` for a backslash",
                ));
            }
            b'\\' => n += 1,
            b'[' if open.is_none() => open = Some(n),
            b']' => open = None,
            _ => {}
        }
        n += 1;
    }
    match open {
        None => Ok(()),
        Some(open) => Err(TemplateError::new(
            at + open..at + open + 1,
            "`[` is not closed",
            "close it with `]`, or write `\\[` for the character",
        )),
    }
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
