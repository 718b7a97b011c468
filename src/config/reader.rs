//! Walks the parsed TOML along the schema and collects every fault on the way.

use std::ops::Range;

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    problem::{Problem, Source},
    schema::{Key, Kind},
    value::{Checked, Located, Named, Value},
};

/// How many sections of one kind there may be, such as caches.
pub(super) const MAX_SECTIONS: usize = 1000;
/// As long as a name in Postgres.
const MAX_NAME_BYTES: usize = 63;

/// Looks a variable of the environment up.
pub(super) type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The problems found so far, and what they are told with.
pub(super) struct Reader<'a> {
    pub source: &'a Source,
    pub env: Env<'a>,
    /// Permissions of the file, if it is one.
    pub mode: Option<u32>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
    /// Parts that are there and not served yet.
    pub unserved: Vec<String>,
}

impl<'a> Reader<'a> {
    pub fn new(source: &'a Source, env: Env<'a>, mode: Option<u32>) -> Reader<'a> {
        Reader {
            source,
            env,
            mode,
            problems: Vec::new(),
            warnings: Vec::new(),
            unserved: Vec::new(),
        }
    }

    pub fn fault(
        &mut self,
        span: Range<usize>,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.problems.push(Problem::new(span, message, help));
    }

    /// Tells of what may be meant so.
    pub fn warn(&mut self, span: &Range<usize>, message: &str) {
        let (line, column) = self.source.line_and_column(span.start);
        self.warnings.push(format!("{line}:{column}: {message}"));
    }

    /// Reads a section. `path` names it in messages (`caches.course`), empty for the whole file.
    pub fn section(
        &mut self,
        table: &DeTable<'_>,
        keys: &'static [Key],
        path: &str,
        span: Range<usize>,
    ) -> Checked {
        let mut checked = Checked {
            path: path.to_owned(),
            span,
            ..Checked::default()
        };
        for (name, value) in in_order(table) {
            match keys.iter().find(|key| key.name == name.get_ref()) {
                Some(key) => {
                    let place = dotted(path, key.name);
                    if !key.served {
                        self.unserved.push(if path.is_empty() {
                            format!("[{place}]")
                        } else {
                            place.clone()
                        });
                    }
                    match self.value(key, &place, name.span(), value) {
                        Some(value) => _ = checked.values.insert(key.name, value),
                        None => checked.refused.push(key.name),
                    }
                }
                None => self.unknown(name, keys),
            }
        }
        for key in keys
            .iter()
            .filter(|key| key.required && !table.contains_key(key.name))
        {
            self.missing_key(&checked, key);
        }
        checked
    }

    fn missing_key(&mut self, section: &Checked, key: &Key) {
        let message = match section.path.as_str() {
            "" => format!("`{}` is missing", key.name),
            path => format!("`{path}` has no `{}`", key.name),
        };
        self.problems
            .push(Problem::absence(section.span.clone(), message, advice(key)));
    }

    /// Reports an address that is needed and not there.
    pub fn missing_url(&mut self, section: &Checked, example: &str) {
        let message = format!("`{}` has neither `url` nor `url_file`", section.path);
        self.problems.push(Problem::absence(
            section.span.clone(),
            message,
            format!("write url = \"{example}\""),
        ));
    }

    /// Reports a secret that stands in the file itself: refused where others can read it.
    pub fn written_out(&mut self, span: Range<usize>, twin: &str) {
        let help = format!("move it to a file of its own and name that in `{twin}`");
        match self.mode {
            Some(mode) if mode & 0o007 != 0 => self.fault(
                span,
                format!(
                    "a secret in a file of mode {:04o}, want 0600",
                    mode & 0o7777
                ),
                format!("{help}, or chmod 600 this one"),
            ),
            _ => {
                self.warn(
                    &span,
                    &format!("a secret stands in the configuration: {help}"),
                );
            }
        }
    }

    fn unknown(&mut self, name: &Spanned<std::borrow::Cow<'_, str>>, keys: &[Key]) {
        let names: Vec<&str> = keys.iter().map(|key| key.name).collect();
        let help = nearest(name.get_ref(), &names).map_or_else(
            || format!("the keys here are {}", names.join(", ")),
            |meant| format!("did you mean `{meant}`?"),
        );
        self.fault(
            name.span(),
            format!("unknown key `{}`", name.get_ref().escape_debug()),
            help,
        );
    }

    fn value(
        &mut self,
        key: &Key,
        path: &str,
        name: Range<usize>,
        value: &Spanned<DeValue<'_>>,
    ) -> Option<Located<Value>> {
        let span = value.span();
        let read = match (key.kind, value.get_ref()) {
            (Kind::Table(keys), DeValue::Table(table)) => {
                Value::Table(self.section(table, keys, path, name.clone()))
            }
            (Kind::Named(keys), DeValue::Table(table)) => {
                Value::Named(self.named(table, keys, path))
            }
            (Kind::Tables(keys), DeValue::Array(items)) => {
                let mut tables = Vec::new();
                for item in items.iter().take(MAX_SECTIONS) {
                    match item.get_ref() {
                        DeValue::Table(table) => {
                            tables.push(self.section(table, keys, path, item.span()));
                        }
                        other => _ = self.wrong_type::<()>(key, item.span(), other),
                    }
                }
                if let Some(beyond) = items.get(MAX_SECTIONS) {
                    self.too_many(beyond.span(), path);
                }
                Value::Tables(tables)
            }
            (Kind::Texts, DeValue::Array(items)) => Value::Texts(self.texts(key, items.iter())?),
            (Kind::Columns, DeValue::Table(table)) => {
                let entries = in_order(table);
                let texts = self.texts(key, entries.iter().map(|(_, item)| *item))?;
                let names = entries.iter().map(|(name, _)| Located {
                    value: name.get_ref().to_string(),
                    span: name.span(),
                });
                Value::Columns(names.zip(texts).collect())
            }
            (Kind::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
            (Kind::Count { min, max }, DeValue::Integer(number)) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) if (min..=max).contains(&number) => Value::Number(number),
                    _ => {
                        return self.bad_value(
                            key,
                            span,
                            &format!("is {number}, which is out of range"),
                        );
                    }
                }
            }
            (Kind::Ratio, DeValue::Float(number)) => match number.as_str().parse::<f64>() {
                Ok(ratio) if (0.0..=1.0).contains(&ratio) => Value::Ratio(ratio),
                _ => {
                    return self.bad_value(
                        key,
                        span,
                        &format!("is {number}, which is out of range"),
                    );
                }
            },
            (Kind::Ratio, DeValue::Integer(number)) if matches!(number.as_str(), "0" | "1") => {
                Value::Ratio(if number.as_str() == "0" { 0.0 } else { 1.0 })
            }
            (kind, DeValue::String(text)) if is_written_as_text(kind) => {
                let text = self.text(text, span.clone())?;
                match kind.read(&text.value) {
                    Ok(value) => value,
                    Err(why) => return self.bad_value(key, span, &why),
                }
            }
            (_, other) => return self.wrong_type(key, span, other),
        };
        // The header's name is the better place for a section that spans many lines.
        let span = if matches!(key.kind, Kind::Table(_) | Kind::Named(_)) {
            name
        } else {
            span
        };
        Some(Located { value: read, span })
    }

    /// Reads texts; none if one of them is faulty, but all faults are told.
    fn texts<'t, 'i: 't>(
        &mut self,
        key: &Key,
        items: impl Iterator<Item = &'t Spanned<DeValue<'i>>>,
    ) -> Option<Vec<Located<String>>> {
        let mut texts = Some(Vec::new());
        for item in items {
            let text = match item.get_ref() {
                DeValue::String(text) => self.text(text, item.span()),
                other => self.wrong_type(key, item.span(), other),
            };
            texts = texts.zip(text).map(|(mut texts, text)| {
                texts.push(text);
                texts
            });
        }
        texts
    }

    fn named(&mut self, table: &DeTable<'_>, keys: &'static [Key], path: &str) -> Vec<Named> {
        let mut out = Vec::new();
        for (count, (name, value)) in in_order(table).into_iter().enumerate() {
            if count == MAX_SECTIONS {
                self.too_many(name.span(), path);
                break;
            }
            if !is_name(name.get_ref()) {
                self.fault(
                    name.span(),
                    format!("`{}` is no name for a section of `{path}`", name.get_ref().escape_debug()),
                    format!("write lower-case letters, digits and `_`, a letter or `_` first, at most {MAX_NAME_BYTES}"),
                );
            }
            let DeValue::Table(section) = value.get_ref() else {
                let help = format!("write a section [{path}.NAME] with keys of its own");
                self.fault(
                    name.span(),
                    format!(
                        "`{}` stands where a section of `{path}` should",
                        name.get_ref().escape_debug()
                    ),
                    help,
                );
                continue;
            };
            let place = dotted(path, name.get_ref());
            let table = self.section(section, keys, &place, name.span());
            let name = Located {
                value: name.get_ref().to_string(),
                span: name.span(),
            };
            out.push(Named { name, table });
        }
        out
    }

    fn too_many(&mut self, span: Range<usize>, path: &str) {
        self.fault(
            span,
            format!("more than {MAX_SECTIONS} sections under `{path}`"),
            "split them over several daemons",
        );
    }

    fn bad_value<T>(&mut self, key: &Key, span: Range<usize>, why: &str) -> Option<T> {
        self.fault(span, format!("`{}` {why}", key.name), advice(key));
        None
    }

    fn wrong_type<T>(&mut self, key: &Key, span: Range<usize>, found: &DeValue<'_>) -> Option<T> {
        let found = match found {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a number without unit or quotes",
            DeValue::Float(_) => "a number with a point",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.bad_value(key, span, &format!("can't be {found}"))
    }
}

/// The entries in the order of the text; toml keeps them sorted by name.
fn in_order<'t, 'i>(
    table: &'t DeTable<'i>,
) -> Vec<(
    &'t Spanned<std::borrow::Cow<'i, str>>,
    &'t Spanned<DeValue<'i>>,
)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(name, _)| name.span().start);
    entries
}

fn is_written_as_text(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::Text
            | Kind::Duration { .. }
            | Kind::Size { .. }
            | Kind::Percent { .. }
            | Kind::Choice(_)
            | Kind::Schedule
            | Kind::TimeZone
    )
}

fn advice(key: &Key) -> String {
    match key.kind {
        Kind::Table(_) | Kind::Named(_) | Kind::Tables(_) if key.example.is_empty() => {
            format!("write a section [{}]", key.name)
        }
        kind => format!("write {} = {} ({})", key.name, key.example, kind.wants()),
    }
}

fn dotted(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
}

/// The known name that was probably meant: at most a third of it differs.
pub(super) fn nearest<'n>(name: &str, known: &[&'n str]) -> Option<&'n str> {
    // Comparing costs the product of the lengths; nothing known is as long as this.
    if name.len() > 2 * MAX_NAME_BYTES {
        return None;
    }
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(name, known), *known))
        .filter(|(distance, known)| *distance <= (known.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
