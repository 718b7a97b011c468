//! `[caches.*.write]`: how what clients bring is saved in Postgres, and what that makes outdated.

use std::ops::Range;

use super::{
    caches::{Cache, Claim, query_faults},
    invalidation::template,
    problem::Problem,
    query::Query,
    reader::{Reader, nearest},
    value::{Checked, Located, Named},
};
use crate::keyspace::{ChangePart, ChangeTemplate, KeyTemplate, RoutedKey};

/// Templates of one `also_invalidate`.
const MAX_TEMPLATES: usize = 100;
/// What stands in a statement for the value that is saved.
const VALUE: &str = "value";

/// `[caches.*.write]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Write {
    pub mode: WriteMode,
    /// Saves a value. Behind the key's parameters it has one more, the value.
    pub save: Option<Statement>,
    pub delete: Option<Statement>,
    pub after_save: AfterSave,
    /// What is outdated beside the key itself. Columns are parameters of the key.
    pub also_invalidate: Vec<ChangeTemplate>,
}

/// When Postgres is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteMode {
    /// Before it is answered.
    Through,
    /// Later, from a journal.
    Behind,
}

/// What becomes of a cached value whose row was saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterSave {
    /// It is removed; the next read loads it.
    Invalidate,
    /// The same, and it is read anew before the save is answered.
    Update,
}

/// A declared statement that writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Statement {
    pub sql: Query,
    /// Its place in the configuration's text, quotes included.
    pub span: Range<usize>,
}

/// Keys and patterns, as clients spell them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub keys: Vec<String>,
    pub patterns: Vec<String>,
}

impl Write {
    /// Adds what a write under `key`, a key of the template `of`, makes outdated beside that key itself.
    pub fn add_names(&self, of: &KeyTemplate, key: &RoutedKey, names: &mut Names) {
        let value = |name: &str| {
            let at = of.params().iter().position(|param| param.name == name);
            at.map_or("", |at| key.param(at))
        };
        for template in &self.also_invalidate {
            let made = template.filled(value);
            match template.is_pattern() {
                true => names.patterns.push(made),
                false => names.keys.push(made),
            }
        }
    }
}

/// Reads the section, but for what it says of other caches. None only if a problem was reported.
pub(super) fn write(reader: &mut Reader<'_>, table: &Checked, key: &KeyTemplate) -> Option<Write> {
    let mode = match table.text("mode").map(|text| text.value) {
        Some("behind") => WriteMode::Behind,
        _ => WriteMode::Through,
    };
    if table.is_empty_of(&["save", "delete"]) {
        let message = format!("`{}` has neither `save` nor `delete`", table.path);
        let help = "write save = \"UPDATE courses SET title = :value->>'title' WHERE id = :id\"";
        let problem = Problem::absence(table.span.clone(), message, help.to_owned());
        reader.problems.push(problem);
        return None;
    }
    let save = statement(reader, table, "save", key);
    let delete = statement(reader, table, "delete", key);
    Some(Write {
        mode,
        save: save?,
        delete: delete?,
        after_save: match table.text("after_save").map(|text| text.value) {
            Some("update") => AfterSave::Update,
            _ => AfterSave::Invalidate,
        },
        also_invalidate: Vec::new(),
    })
}

/// None only if a problem was reported.
fn statement(
    reader: &mut Reader<'_>,
    table: &Checked,
    name: &str,
    key: &KeyTemplate,
) -> Option<Option<Statement>> {
    let Some(text) = table.text(name) else {
        return Some(None);
    };
    let mut names: Vec<&str> = key.params().iter().map(|p| p.name.as_str()).collect();
    if name == "save" {
        if names.contains(&VALUE) {
            let message = format!("`:{VALUE}` is what is saved, and a parameter of key `{key}`");
            let help = "give the key's parameter another name";
            reader.fault(text.span.clone(), message, help);
            return None;
        }
        names.push(VALUE);
    }
    match Query::parse_statement(text.value, &names) {
        Ok(sql) => Some(Some(Statement {
            sql,
            span: text.span,
        })),
        Err(errors) => {
            query_faults(reader, &text, errors);
            None
        }
    }
}

/// Reads what writes make outdated, once it is known what is declared: for each of `caches`.
pub(super) fn also_invalidated(
    reader: &mut Reader<'_>,
    declared: &[Named],
    caches: &[Cache],
    claims: &[Claim],
    prefixes: &[String],
) -> Vec<Vec<ChangeTemplate>> {
    let of_cache = |cache: &Cache| {
        let named = declared.iter().find(|named| named.name.value == cache.name);
        let texts = named
            .and_then(|named| named.table.table("write"))
            .and_then(|write| write.texts("also_invalidate"))
            .unwrap_or_default();
        if let Some(beyond) = texts.get(MAX_TEMPLATES) {
            let message = format!("`also_invalidate` has {} templates", texts.len());
            let help = format!("write at most {MAX_TEMPLATES}, or a pattern");
            reader.fault(beyond.span.clone(), message, help);
            return Vec::new();
        }
        let mut templates = Vec::new();
        for (n, text) in texts.iter().enumerate() {
            if texts[..n].iter().any(|earlier| earlier.value == text.value) {
                let message = format!("`{}` is there twice", text.value.escape_debug());
                reader.fault(text.span.clone(), message, "leave one of them");
                continue;
            }
            let template = template(reader, text, caches, claims, prefixes);
            let template = template.map(|watched| watched.template);
            templates.extend(template.filter(|made| check_columns(reader, text, made, &cache.key)));
        }
        templates
    };
    caches.iter().map(of_cache).collect()
}

/// Whether all columns of a template are parameters of the key.
fn check_columns(
    reader: &mut Reader<'_>,
    text: &Located<String>,
    template: &ChangeTemplate,
    key: &KeyTemplate,
) -> bool {
    let names: Vec<&str> = key.params().iter().map(|p| p.name.as_str()).collect();
    let columns = template.parts().iter().filter_map(|part| match part {
        ChangePart::Column { name, .. } => Some(name.as_str()),
        ChangePart::Text(_) => None,
    });
    let strangers = columns.filter(|name| !names.contains(name));
    let strangers: Vec<&str> = strangers.collect();
    for name in &strangers {
        let message = format!("key `{key}` has no parameter `{}`", name.escape_debug());
        let help = match (nearest(name, &names), names.as_slice()) {
            (Some(meant), _) => format!("did you mean `{{{meant}}}`?"),
            (None, []) => "write `*` for whatever may stand there".to_owned(),
            (None, names) => format!("its parameters are: {}", names.join(", ")),
        };
        reader.fault(text.span.clone(), message, help);
    }
    strangers.is_empty()
}
