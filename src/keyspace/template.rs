//! Key templates: literal text and typed parameters, such as `users:page:{page:int}`.

use std::{fmt, ops::Range};

use super::{
    KeyError, MAX_KEY_BYTES, Param, ParamType,
    error::{shown_key, shown_text},
    names::RESERVED_PREFIXES,
};

/// Limits of one template: what fits a line of the configuration, and a mask of segments.
const MAX_TEMPLATE_BYTES: usize = 200;
pub(super) const MAX_SEGMENTS: usize = 16;
const MAX_PARAMS: usize = 8;
/// As long as a name in Postgres.
const MAX_NAME_BYTES: usize = 63;

/// What a cache's keys look like. Segments stand between `:`; each is literal text or holds one
/// parameter, and the first is literal.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyTemplate {
    text: String,
    prefix_len: usize,
    pub(super) segments: Vec<Segment>,
    params: Vec<Param>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Segment {
    Literal(String),
    /// The next parameter, between literal text that may be empty (`v{n:int}`).
    Param {
        head: String,
        tail: String,
    },
}

/// What is wrong with a template, and where in its text.
#[derive(thiserror::Error, Clone, Debug, PartialEq)]
#[error("{message}")]
pub struct TemplateError {
    /// Bytes of the template's text.
    pub at: Range<usize>,
    pub message: String,
    /// What to write instead.
    pub hint: String,
}

impl TemplateError {
    pub(super) fn new(
        at: Range<usize>,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        TemplateError {
            at,
            message: message.into(),
            hint: hint.into(),
        }
    }
}

/// Why a bound can't be set.
#[derive(thiserror::Error, Clone, Debug, PartialEq)]
pub enum BoundError {
    #[error("key `{template}` has no parameter `{name}`")]
    NoSuchParam { template: String, name: String },
    #[error("`{name}` is of type {kind}: only int and bigint have bounds")]
    NotAnInteger { name: String, kind: &'static str },
    #[error("bound {bound} is out of range for {kind}")]
    OutOfRange { bound: i64, kind: &'static str },
    #[error("min {min} is greater than max {max}")]
    Crossed { min: i64, max: i64 },
}

impl KeyTemplate {
    /// Reads a template's text.
    ///
    /// # Errors
    /// The first fault, its place in `text` and what to write instead.
    pub fn parse(text: &str) -> Result<KeyTemplate, TemplateError> {
        check_length(text)?;
        let mut params = Vec::new();
        let mut segments = Vec::new();
        let mut start = 0;
        // A `:` also stands between a parameter's name and type, so split outside braces only.
        for end in segment_ends(text) {
            segments.push(parse_segment(text, start..end, &mut params)?);
            start = end + 1;
        }
        check_segments(text, &segments)?;
        let prefix_len = check_prefix_of(text, &segments)?;
        Ok(KeyTemplate {
            text: text.to_owned(),
            prefix_len,
            segments,
            params,
        })
    }

    /// The literal text up to and including the first `:`.
    pub fn prefix(&self) -> &str {
        &self.text[..self.prefix_len]
    }

    /// The literal text that every key begins with: up to the first parameter.
    pub fn head(&self) -> &[u8] {
        let end = self.text.find('{').unwrap_or(self.text.len());
        &self.text.as_bytes()[..end]
    }

    pub fn params(&self) -> &[Param] {
        &self.params
    }

    /// Bounds the values of an integer parameter, inclusive.
    ///
    /// # Errors
    /// For a parameter that is not there or no integer, and for bounds that admit nothing.
    pub fn bound(
        &mut self,
        name: &str,
        min: Option<i64>,
        max: Option<i64>,
    ) -> Result<(), BoundError> {
        let template = self.text.clone();
        let Some(param) = self.params.iter_mut().find(|param| param.name == name) else {
            return Err(BoundError::NoSuchParam {
                template,
                name: name.to_owned(),
            });
        };
        let kind = param.kind.sql_name();
        let Some((least, greatest)) = param.kind.range() else {
            return Err(BoundError::NotAnInteger {
                name: name.to_owned(),
                kind,
            });
        };
        for bound in [min, max].into_iter().flatten() {
            if !(least..=greatest).contains(&bound) {
                return Err(BoundError::OutOfRange { bound, kind });
            }
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return Err(BoundError::Crossed { min, max });
        }
        (param.min, param.max) = (min, max);
        Ok(())
    }

    /// The key for `values`, one for each parameter in order.
    ///
    /// # Errors
    /// For a value that is not in its one spelling or out of bounds, a wrong number of values, and a
    /// key that would be too long.
    pub fn render(&self, values: &[&str]) -> Result<String, KeyError> {
        let template = || shown_key(self.text.as_bytes());
        if values.len() != self.params.len() {
            let (expected, given) = (self.params.len(), values.len());
            return Err(KeyError::WrongCount {
                template: template(),
                expected,
                given,
            });
        }
        for (param, value) in self.params.iter().zip(values) {
            param
                .check(value.as_bytes())
                .map_err(|why| KeyError::BadValue {
                    template: template(),
                    text: shown_text(value.as_bytes()),
                    why,
                })?;
        }
        let mut values = values.iter();
        let segments: Vec<String> = self
            .segments
            .iter()
            .map(|segment| match segment {
                Segment::Literal(text) => text.clone(),
                Segment::Param { head, tail } => {
                    [head, values.next().copied().unwrap_or_default(), tail].concat()
                }
            })
            .collect();
        let key = segments.join(":");
        if key.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { len: key.len() });
        }
        Ok(key)
    }

    /// The segments, each parameter segment with its parameter.
    pub(super) fn typed_segments(&self) -> impl Iterator<Item = (&Segment, Option<&Param>)> {
        let mut params = self.params.iter();
        self.segments.iter().map(move |segment| match segment {
            Segment::Literal(_) => (segment, None),
            Segment::Param { .. } => (segment, params.next()),
        })
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Checks the prefix of a namespace: literal text that ends in `:`, and none of our own.
///
/// # Errors
/// The first fault, its place in `text` and what to write instead.
pub fn check_prefix(text: &str) -> Result<(), TemplateError> {
    check_length(text)?;
    check_literal(text, 0..text.len())?;
    let all = 0..text.len();
    if !text.ends_with(':') || text.starts_with(':') {
        return Err(TemplateError::new(
            all,
            format!("prefix `{text}` does not end a first segment"),
            "write literal text that ends in `:`, such as \"calc:\"",
        ));
    }
    check_not_reserved(text)
}

fn check_length(text: &str) -> Result<(), TemplateError> {
    if text.is_empty() {
        return Err(TemplateError::new(
            0..0,
            "key is empty",
            "write a template, such as \"courses:{id:bigint}\"",
        ));
    }
    if text.len() > MAX_TEMPLATE_BYTES {
        return Err(TemplateError::new(
            0..text.len(),
            format!("{} bytes are too long for a template", text.len()),
            format!("write at most {MAX_TEMPLATE_BYTES} bytes"),
        ));
    }
    Ok(())
}

fn segment_ends(text: &str) -> Vec<usize> {
    let mut in_braces = false;
    let mut ends: Vec<usize> = text
        .bytes()
        .enumerate()
        .filter_map(|(at, byte)| {
            match byte {
                b'{' => in_braces = true,
                b'}' => in_braces = false,
                _ => {}
            }
            (byte == b':' && !in_braces).then_some(at)
        })
        .collect();
    ends.push(text.len());
    ends
}

fn parse_segment(
    text: &str,
    at: Range<usize>,
    params: &mut Vec<Param>,
) -> Result<Segment, TemplateError> {
    let segment = &text[at.clone()];
    let Some(open) = segment.find('{') else {
        check_literal(text, at)?;
        return Ok(Segment::Literal(segment.to_owned()));
    };
    let open = at.start + open;
    let Some(close) = text[open..at.end].find('}').map(|close| open + close) else {
        return Err(TemplateError::new(
            open..at.end,
            "`{` is not closed",
            "close the parameter with `}`",
        ));
    };
    if let Some(second) = text[close..at.end].find('{') {
        return Err(TemplateError::new(
            close + second..at.end,
            "two parameters in one segment can't be told apart",
            "put a `:` between them",
        ));
    }
    check_literal(text, at.start..open)?;
    check_literal(text, close + 1..at.end)?;
    let param = parse_param(text, open..close + 1)?;
    if params.iter().any(|other| other.name == param.name) {
        return Err(TemplateError::new(
            open..close + 1,
            format!("parameter `{}` is there twice", param.name),
            "give each parameter a name of its own",
        ));
    }
    if params.len() == MAX_PARAMS {
        return Err(TemplateError::new(
            open..close + 1,
            "too many parameters",
            format!("write at most {MAX_PARAMS}"),
        ));
    }
    params.push(param);
    Ok(Segment::Param {
        head: text[at.start..open].to_owned(),
        tail: text[close + 1..at.end].to_owned(),
    })
}

/// Reads `{name:type}`, braces included in `at`.
fn parse_param(text: &str, at: Range<usize>) -> Result<Param, TemplateError> {
    let inside = &text[at.start + 1..at.end - 1];
    let types = ParamType::ALL.map(ParamType::sql_name).join(", ");
    let Some((name, kind_name)) = inside.split_once(':') else {
        return Err(TemplateError::new(
            at,
            format!("parameter `{}` has no type", inside.escape_debug()),
            format!("write {{name:type}}; the types are {types}"),
        ));
    };
    let name_end = at.start + 1 + name.len();
    if !is_name(name) {
        return Err(TemplateError::new(
            at.start + 1..name_end,
            format!("`{}` is no name for a parameter", name.escape_debug()),
            format!(
                "write lower-case letters, digits and `_`, a letter or `_` first, at most {MAX_NAME_BYTES}"
            ),
        ));
    }
    let Some(kind) = ParamType::from_sql_name(kind_name) else {
        return Err(TemplateError::new(
            name_end + 1..at.end - 1,
            format!("`{}` is no type of a parameter", kind_name.escape_debug()),
            format!("the types are {types}"),
        ));
    };
    Ok(Param {
        name: name.to_owned(),
        kind,
        min: None,
        max: None,
    })
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// Glob characters would make a template's pattern wider than the template; braces and quotes would
/// make a key unreadable in messages.
fn check_literal(text: &str, at: Range<usize>) -> Result<(), TemplateError> {
    let bad = |c: char| !c.is_ascii_graphic() || "*?[]\\{}\"'`".contains(c);
    match text[at.clone()].char_indices().find(|(_, c)| bad(*c)) {
        None => Ok(()),
        Some((offset, c)) => {
            let start = at.start + offset;
            Err(TemplateError::new(
                start..start + c.len_utf8(),
                format!(
                    "`{}` may not stand in a key's literal text",
                    c.escape_debug()
                ),
                "write visible ASCII without spaces, quotes, braces and * ? [ ] \\",
            ))
        }
    }
}

fn check_segments(text: &str, segments: &[Segment]) -> Result<(), TemplateError> {
    let all = 0..text.len();
    if segments.len() > MAX_SEGMENTS {
        return Err(TemplateError::new(
            all,
            format!("{} segments are too many", segments.len()),
            format!("write at most {MAX_SEGMENTS}"),
        ));
    }
    if segments
        .last()
        .is_some_and(|last| *last == Segment::Literal(String::new()))
    {
        return Err(TemplateError::new(
            text.len() - 1..text.len(),
            "key ends in `:`",
            format!("write what follows, such as \"{text}{{id:bigint}}\""),
        ));
    }
    Ok(())
}

fn check_prefix_of(text: &str, segments: &[Segment]) -> Result<usize, TemplateError> {
    match segments {
        [Segment::Literal(first), _, ..] if !first.is_empty() => {
            let prefix_len = first.len() + 1;
            check_not_reserved(&text[..prefix_len])?;
            Ok(prefix_len)
        }
        _ => Err(TemplateError::new(
            0..text.len(),
            "key has no literal prefix",
            "begin with literal text and a `:`, such as \"courses:{id:bigint}\"",
        )),
    }
}

fn check_not_reserved(text: &str) -> Result<(), TemplateError> {
    match RESERVED_PREFIXES.iter().find(|own| text.starts_with(**own)) {
        None => Ok(()),
        Some(own) => Err(TemplateError::new(
            0..own.len(),
            format!("`{own}` is reserved for cachewarden's own keys"),
            "choose another first segment",
        )),
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
