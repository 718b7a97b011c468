//! Declared spaces: `[caches.*]`, `[namespaces.*]`, and that none stands in another's way.

use std::{ops::Range, time::Duration};

use super::{
    aging::{self, Aging},
    l1::L1,
    problem::Problem,
    query::{Declared, Query, QueryError},
    reader::Reader,
    value::{Checked, Located, Named},
    warm::{self, Warm},
    write::{self, Write, WriteMode},
};
use crate::keyspace::{KeyTemplate, Overlap, TemplateError, check_prefix};

const DEFAULT_TTL_JITTER: f64 = 0.1;
const DEFAULT_MISSING_TTL: Duration = Duration::from_secs(30);
const DEFAULT_LOAD_TIMEOUT: Duration = Duration::from_secs(2);
const DEFAULT_MAX_LOADS: usize = 64;
const DEFAULT_MAX_VALUE: usize = 1 << 20;
/// The queue is looked at a few times in it, and a late answer is no doubt yet: hits that were refused within it would be
/// refused for nothing.
const LONGEST_IN_NO_DOUBT: Duration = Duration::from_secs(1);

/// What a cache's query answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One row, as a JSON object.
    Object,
    /// All rows, as a JSON array.
    Array,
    /// The one column of one row, as JSON.
    Scalar,
}

/// `[caches.*]`: keys whose values are loaded by a query.
#[derive(Clone, Debug, PartialEq)]
pub struct Cache {
    pub name: String,
    pub key: KeyTemplate,
    pub query: Query,
    pub shape: Shape,
    pub ttl: Duration,
    /// The fraction of `ttl`, 0.0 to 0.5, by which a key's life may be shortened.
    pub ttl_jitter: f64,
    /// How long a row that does not exist is remembered; zero: never.
    pub missing_ttl: Duration,
    pub load_timeout: Duration,
    pub aging: Aging,
    /// Concurrent loads.
    pub max_loads: usize,
    /// The longest value that is cached, in bytes.
    pub max_value: usize,
    /// Whether its values are kept in the daemon's own memory, too.
    pub l1: bool,
    /// Whether an index of its keys is kept.
    pub index: bool,
    /// Whether changes are told of keys under its prefix: by a watch, or by writes through the daemon.
    pub watched: bool,
    /// How values that clients bring are saved.
    pub write: Option<Write>,
    /// How long hits are given while the queue of changes cannot be seen; zero: for ever, marked.
    pub max_unproven: Duration,
    /// `None`: it is not loaded before somebody asks.
    pub warm: Option<Warm>,
    /// The query's value in the configuration's text, quotes included.
    pub query_span: Range<usize>,
}

impl Cache {
    /// Whether its writes are acknowledged first, and saved from a journal.
    pub fn is_journaled(&self) -> bool {
        let write = self.write.as_ref();
        write.is_some_and(|write| write.mode == WriteMode::Behind)
    }

    /// The text of a statement, and its place in the configuration's text.
    pub(super) fn declared(&self, which: Declared) -> Option<(&str, &Range<usize>)> {
        let write = self.write.as_ref();
        let statement = match which {
            Declared::Query => return Some((&self.query.text, &self.query_span)),
            Declared::WarmKeys => {
                let warm = self.warm.as_ref()?;
                return Some((warm.keys.as_deref()?, &warm.keys_span));
            }
            Declared::Save => write?.save.as_ref()?,
            Declared::Delete => write?.delete.as_ref()?,
        };
        Some((&statement.sql.text, &statement.span))
    }
}

/// `[namespaces.*]`: keys that programs fill themselves.
#[derive(Clone, Debug, PartialEq)]
pub struct Namespace {
    pub name: String,
    pub prefix: String,
    pub ttl: Duration,
    pub load_timeout: Duration,
    /// Loaders that run at once while Redis is away.
    pub max_loads: usize,
    /// The longest value that is cached, in bytes.
    pub max_value: usize,
    /// Whether an index of its keys is kept.
    pub index: bool,
    /// Whether a watch names keys under its prefix.
    pub watched: bool,
}

/// Reads a cache. Its claim is made even if the rest is faulty, so that nothing waits for a second try.
pub(super) fn cache(
    reader: &mut Reader<'_>,
    named: &Named,
    claims: &mut Vec<Claim>,
) -> Option<Cache> {
    let table = &named.table;
    let key = table
        .text("key")
        .and_then(|text| key_template(reader, &text, table));
    claims.extend(key.as_ref().map(|key| Claim {
        who: format!("cache `{}`", named.name.value),
        prefix: key.prefix().to_owned(),
        template: Some(key.clone()),
        span: table.span_of("key").unwrap_or_default(),
    }));
    let declared = table.text("query");
    // Without a key there is nothing to tell the query's parameters by.
    let query = declared.as_ref().zip(key.as_ref()).and_then(|(text, key)| {
        Query::parse(text.value, key.params())
            .map_err(|errors| query_faults(reader, text, errors))
            .ok()
    });
    let load_timeout = table
        .duration("load_timeout")
        .unwrap_or(DEFAULT_LOAD_TIMEOUT);
    let aging = aging::aging(reader, table, load_timeout);
    let write = table.table("write").zip(key.as_ref());
    let write = write.map(|(table, key)| write::write(reader, table, key));
    check_max_unproven(reader, table);
    let warm = warm::warm(reader, table, key.as_ref());
    let shape = match table.text("shape")?.value {
        "array" => Shape::Array,
        "scalar" => Shape::Scalar,
        _ => Shape::Object,
    };
    Some(Cache {
        name: named.name.value.clone(),
        key: key?,
        query: query?,
        shape,
        ttl: table.duration("ttl")?,
        ttl_jitter: table.ratio("ttl_jitter").unwrap_or(DEFAULT_TTL_JITTER),
        missing_ttl: table.duration("missing_ttl").unwrap_or(DEFAULT_MISSING_TTL),
        load_timeout,
        aging,
        max_loads: table.count("max_loads").unwrap_or(DEFAULT_MAX_LOADS),
        max_value: table.count("max_value").unwrap_or(DEFAULT_MAX_VALUE),
        l1: table.flag("l1").unwrap_or(false),
        index: table.flag("index").unwrap_or_default(),
        watched: false,
        // Without one that is faultless there is a problem, and no configuration.
        write: write.flatten(),
        max_unproven: table.duration("max_unproven").unwrap_or_default(),
        warm,
        query_span: declared?.span,
    })
}

pub(super) fn namespace(
    reader: &mut Reader<'_>,
    named: &Named,
    claims: &mut Vec<Claim>,
) -> Option<Namespace> {
    let table = &named.table;
    let prefix = claim_prefix(reader, "namespace", named, claims);
    Some(Namespace {
        name: named.name.value.clone(),
        prefix: prefix?,
        ttl: table.duration("ttl")?,
        load_timeout: table
            .duration("load_timeout")
            .unwrap_or(DEFAULT_LOAD_TIMEOUT),
        max_loads: table.count("max_loads").unwrap_or(DEFAULT_MAX_LOADS),
        max_value: table.count("max_value").unwrap_or(DEFAULT_MAX_VALUE),
        index: table.flag("index").unwrap_or_default(),
        watched: false,
    })
}

/// Checks and claims the `prefix` of a namespace or passthrough.
pub(super) fn claim_prefix(
    reader: &mut Reader<'_>,
    kind: &str,
    named: &Named,
    claims: &mut Vec<Claim>,
) -> Option<String> {
    let text = named.table.text("prefix")?;
    if let Err(error) = check_prefix(text.value) {
        template_fault(reader, &text, error);
        return None;
    }
    claims.push(Claim {
        who: format!("{kind} `{}`", named.name.value),
        prefix: text.value.to_owned(),
        template: None,
        span: text.span,
    });
    Some(text.value.to_owned())
}

fn key_template(
    reader: &mut Reader<'_>,
    text: &Located<&str>,
    table: &Checked,
) -> Option<KeyTemplate> {
    let mut key = match KeyTemplate::parse(text.value) {
        Ok(key) => key,
        Err(error) => {
            template_fault(reader, text, error);
            return None;
        }
    };
    for Named {
        name,
        table: bounds,
    } in table.named("params")
    {
        if let Err(error) = key.bound(&name.value, bounds.number("min"), bounds.number("max")) {
            let names: Vec<&str> = key
                .params()
                .iter()
                .map(|param| param.name.as_str())
                .collect();
            let help = format!(
                "bounds are for the key's int and bigint parameters ({})",
                names.join(", ")
            );
            reader.fault(name.span.clone(), error.to_string(), help);
        }
    }
    Some(key)
}

pub(super) fn template_fault(reader: &mut Reader<'_>, text: &Located<&str>, error: TemplateError) {
    let span = place_within(reader, text, error.at);
    reader.fault(span, error.message, error.hint);
}

pub(super) fn query_faults(reader: &mut Reader<'_>, text: &Located<&str>, errors: Vec<QueryError>) {
    for error in errors {
        let span = place_within(reader, text, error.at);
        reader.fault(span, error.message, error.help);
    }
}

/// The place in the file of a part of a text: exact if the text stands there verbatim.
pub(super) fn place_within(
    reader: &Reader<'_>,
    text: &Located<&str>,
    at: Range<usize>,
) -> Range<usize> {
    let is_all = at == (0..text.value.len());
    match reader.source.find_in(&text.span, text.value) {
        Some(start) if !is_all => start + at.start..start + at.end,
        _ => text.span.clone(),
    }
}

fn check_max_unproven(reader: &mut Reader<'_>, table: &Checked) {
    let given = table.duration("max_unproven").unwrap_or_default();
    if let Some(span) = table.span_of("max_unproven")
        && !given.is_zero()
        && given <= LONGEST_IN_NO_DOUBT
    {
        let message = format!(
            "`max_unproven` is {given:?}: a look at the queue may be that old when nothing is wrong"
        );
        reader.fault(
            span,
            message,
            "write more, such as \"30s\", or \"0s\" for never",
        );
    }
}

/// Tells of what has no effect as the other sections stand; it may be meant so for a while.
pub(super) fn check_effects(
    reader: &mut Reader<'_>,
    declared: &[Named],
    caches: &[Cache],
    l1: &Located<L1>,
) {
    for cache in caches {
        let named = declared.iter().find(|named| named.name.value == cache.name);
        let span = named.and_then(|named| named.table.span_of("max_unproven"));
        if let Some(span) = span.filter(|_| !cache.watched && !cache.max_unproven.is_zero()) {
            let (name, prefix) = (&cache.name, cache.key.prefix());
            let message = format!(
                "`max_unproven` of cache `{name}` has no effect: no watch names keys under `{prefix}`"
            );
            reader.warn(&span, &message);
        }
    }
    if let Some(cache) = caches.iter().find(|cache| cache.l1)
        && l1.value.capacity == 0
    {
        let message = format!(
            "cache `{}` says `l1 = true`, and a capacity of 0B keeps nothing in memory",
            cache.name
        );
        reader.warn(&l1.span, &message);
    }
}

/// A place where keys are declared: a cache's prefix and template, or a prefix alone.
pub(super) struct Claim {
    /// Such as ``cache `course` ``.
    pub who: String,
    pub prefix: String,
    pub template: Option<KeyTemplate>,
    pub span: Range<usize>,
}

impl Claim {
    /// Whether these keys have no database behind them, and are nobody's to invalidate.
    pub fn is_passthrough(&self) -> bool {
        self.who.starts_with("passthrough ")
    }
}

/// Reports each claim that meets an earlier one: two templates that could match one key, or a prefix
/// that holds another's keys. Only the first such meeting of a claim is told.
pub(super) fn check_claims(reader: &mut Reader<'_>, claims: &[Claim]) {
    for (n, claim) in claims.iter().enumerate() {
        let meeting = claims[..n]
            .iter()
            .find_map(|other| Some((other, conflict(other, claim)?)));
        if let Some((other, message)) = meeting {
            let help = match claim.template {
                Some(_) if other.template.is_some() => {
                    "make a segment literal that tells them apart, or drop one"
                }
                _ => "choose prefixes of which none begins with another",
            };
            let problem = Problem::new(claim.span.clone(), message, help);
            reader
                .problems
                .push(problem.and(other.span.clone(), format!("{} is here", other.who)));
        }
    }
}

fn conflict(a: &Claim, b: &Claim) -> Option<String> {
    match (&a.template, &b.template) {
        (Some(first), Some(second)) => (first.overlap(second) == Overlap::Ambiguous)
            .then(|| format!("{} and {} could both match a key", a.who, b.who)),
        _ => (a.prefix.starts_with(&b.prefix) || b.prefix.starts_with(&a.prefix)).then(|| {
            format!(
                "prefix `{}` of {} overlaps `{}` of {}",
                b.prefix, b.who, a.prefix, a.who
            )
        }),
    }
}
