//! `[invalidation]`: the channels that are listened on, what may be removed, and the tables that are watched: `[[invalidation.watch]]` and `caches.*.depends_on`.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::{
    caches::{Cache, Claim, Namespace, place_within, template_fault},
    events::{EventRule, events},
    indexes::check_foreign,
    reader::{Reader, nearest},
    value::{Checked, Located, Named},
};
use crate::keyspace::{ChangeTemplate, Reach, check_prefix};

const DEFAULT_CHANNEL: &str = "cache:invalidate";
const DEFAULT_ACK_CHANNEL: &str = "cache:invalidated";
const DEFAULT_POLL: Duration = Duration::from_millis(20);
const DEFAULT_MAX_KEYS: usize = 1000;
const DEFAULT_REPLAY_WINDOW: Duration = Duration::from_secs(60);
/// Templates of one watch.
const MAX_TEMPLATES: usize = 100;
/// As long as a name in Postgres.
const MAX_NAME_BYTES: usize = 63;

/// `[invalidation]`: how changes in the database come to the cache.
#[derive(Clone, Debug, PartialEq)]
pub struct Invalidation {
    /// In the order of the text; what caches depend on comes last.
    pub watches: Vec<Watch>,
    /// Beginnings of keys that other programs cache by themselves.
    pub prefixes: Vec<String>,
    /// A statement that changes more rows becomes patterns.
    pub max_keys: usize,
    /// How long what was applied is kept, to be applied again.
    pub replay_window: Duration,
    /// The pause between two looks at the queue while there are changes.
    pub poll: Duration,
    /// Whether the database rings when something is queued.
    pub notify: bool,
    /// Where other programs publish keys and patterns.
    pub channel: String,
    /// Where we publish what came of it.
    pub ack_channel: String,
    pub on_deaf: OnDeaf,
    pub events: Vec<EventRule>,
}

impl Invalidation {
    /// Whether a watch names keys that begin with this prefix: all of them count as watched then, for which of them it names
    /// is known when a row changes and not before.
    pub fn watches_under(&self, prefix: &str) -> bool {
        let templates = self.watches.iter().flat_map(|watch| &watch.templates);
        let mut heads = templates.map(|template| template.template.literal_head());
        heads.any(|head| head.starts_with(prefix))
    }

    /// The channels that messages and events come on, each once.
    pub fn channels(&self) -> Vec<String> {
        let events = self.events.iter().map(|rule| rule.channel.clone());
        let mut channels: Vec<String> = events.chain([self.channel.clone()]).collect();
        channels.sort();
        channels.dedup();
        channels
    }
}

/// What is done once we hear again, and may have missed messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeaf {
    Ignore,
    /// Everything under every declared prefix is invalidated.
    Invalidate,
}

impl Default for Invalidation {
    fn default() -> Self {
        Self {
            watches: Vec::new(),
            prefixes: Vec::new(),
            max_keys: DEFAULT_MAX_KEYS,
            replay_window: DEFAULT_REPLAY_WINDOW,
            poll: DEFAULT_POLL,
            notify: false,
            channel: DEFAULT_CHANNEL.to_owned(),
            ack_channel: DEFAULT_ACK_CHANNEL.to_owned(),
            on_deaf: OnDeaf::Ignore,
            events: Vec::new(),
        }
    }
}

/// A table whose changes invalidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    pub table: TableName,
    /// The table's name in the configuration's text, quotes included.
    pub table_span: Range<usize>,
    pub templates: Vec<WatchTemplate>,
}

/// What a change invalidates.
#[derive(Clone, Debug, PartialEq)]
pub struct WatchTemplate {
    pub template: ChangeTemplate,
    /// Its place in the configuration's text.
    pub span: Range<usize>,
}

/// A table as Postgres knows it: unquoted names are folded to lower case when they are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableName {
    /// Without one the connection's `search_path` decides.
    pub schema: Option<String>,
    pub name: String,
}

impl TableName {
    /// Reads `table` or `schema.table`, each name in double quotes if it is no plain one.
    ///
    /// # Errors
    /// Why it is no name, to be read after it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (first, rest) = identifier(text)?;
        let Some(rest) = rest.strip_prefix('.') else {
            return match rest {
                "" => Ok(Self {
                    schema: None,
                    name: first,
                }),
                rest => Err(format!("has `{}` behind its name", rest.escape_debug())),
            };
        };
        match identifier(rest)? {
            (name, "") => Ok(Self {
                schema: Some(first),
                name,
            }),
            (_, rest) => Err(format!("has `{}` behind its name", rest.escape_debug())),
        }
    }
}

/// As SQL, quoted.
impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        if let Some(schema) = &self.schema {
            write!(f, "{}.", quoted(schema))?;
        }
        f.write_str(&quoted(&self.name))
    }
}

/// A name, and what stands behind it.
fn identifier(text: &str) -> Result<(String, &str), String> {
    let (name, rest) = match text.strip_prefix('"') {
        Some(quoted) => {
            let mut end = 0;
            loop {
                let at = quoted[end..].find('"').map(|at| end + at);
                let at = at.ok_or("has a `\"` that is not closed")?;
                if !quoted[at + 1..].starts_with('"') {
                    break (quoted[..at].replace("\"\"", "\""), &quoted[at + 1..]);
                }
                end = at + 2;
            }
        }
        None => {
            let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
            let end = text.find(|c| !plain(c)).unwrap_or(text.len());
            if text.starts_with(|c: char| c.is_ascii_digit() || c == '$') {
                return Err("begins with what only a quoted name may begin with".into());
            }
            // As Postgres folds: the letters of ASCII only.
            (text[..end].to_ascii_lowercase(), &text[end..])
        }
    };
    match name.len() {
        0 => Err("is no name".into()),
        len if len > MAX_NAME_BYTES || name.contains('\0') => Err(format!(
            "is longer than the {MAX_NAME_BYTES} bytes of a name in Postgres"
        )),
        _ => Ok((name, rest)),
    }
}

/// Reads `[invalidation]`. `caches` are those without a fault, `claims` all that is declared.
pub(super) fn invalidation(
    reader: &mut Reader<'_>,
    table: &Checked,
    caches: &[Cache],
    declared: &[Named],
    namespaces: &[Namespace],
    claims: &[Claim],
) -> Invalidation {
    let prefixes = prefixes(reader, table, claims);
    check_foreign(reader, &prefixes, caches, namespaces);
    let prefixes: Vec<String> = prefixes.into_iter().map(|prefix| prefix.value).collect();
    let mut watches = Vec::new();
    for watch in table.tables("watch") {
        watches.extend(self::watch(reader, watch, caches, claims, &prefixes));
    }
    for named in declared {
        let cache = caches.iter().find(|cache| cache.name == named.name.value);
        if let Some((depends, cache)) = named.table.table("depends_on").zip(cache) {
            watches.extend(derived(reader, depends, cache));
        }
    }
    let reach = Reach::new(declared_prefixes(caches, namespaces).chain(prefixes.iter().cloned()));
    let (channel, ack_channel) = channels(reader, table);
    Invalidation {
        events: events(reader, table, &reach, [&channel, &ack_channel]),
        channel,
        ack_channel,
        on_deaf: match table.text("on_deaf").map(|text| text.value) {
            Some("invalidate") => OnDeaf::Invalidate,
            _ => OnDeaf::Ignore,
        },
        watches,
        prefixes,
        max_keys: table.count("max_keys").unwrap_or(DEFAULT_MAX_KEYS),
        replay_window: table
            .duration("replay_window")
            .unwrap_or(DEFAULT_REPLAY_WINDOW),
        poll: table.duration("poll").unwrap_or(DEFAULT_POLL),
        notify: table.flag("notify").unwrap_or(false),
    }
}

/// What stands before the keys of caches and namespaces, colon included.
pub(super) fn declared_prefixes(
    caches: &[Cache],
    namespaces: &[Namespace],
) -> impl Iterator<Item = String> {
    let of_caches = caches.iter().map(|cache| cache.key.prefix().to_owned());
    let of_namespaces = namespaces.iter().map(|namespace| namespace.prefix.clone());
    of_caches.chain(of_namespaces)
}

fn channels(reader: &mut Reader<'_>, table: &Checked) -> (String, String) {
    let channel = channel(reader, table, "channel", DEFAULT_CHANNEL);
    let ack_channel = self::channel(reader, table, "ack_channel", DEFAULT_ACK_CHANNEL);
    if channel == ack_channel {
        let span = table.span_of("ack_channel").or(table.span_of("channel"));
        let message = format!("`channel` and `ack_channel` are both `{channel}`");
        reader.fault(
            span.unwrap_or_default(),
            message,
            "write two different names: acknowledgements would be read as messages",
        );
    }
    (channel, ack_channel)
}

fn channel(reader: &mut Reader<'_>, table: &Checked, key: &str, default: &str) -> String {
    let Some(text) = table.text(key) else {
        return default.to_owned();
    };
    if text.value.starts_with("cachewarden:") {
        let message = format!("`{}` is one of the daemon's own channels", text.value);
        reader.fault(text.span, message, format!("write \"{default}\""));
    }
    text.value.to_owned()
}

fn prefixes(reader: &mut Reader<'_>, table: &Checked, claims: &[Claim]) -> Vec<Located<String>> {
    let mut fine: Vec<Located<String>> = Vec::new();
    for prefix in table.texts("prefixes").unwrap_or_default() {
        if let Err(error) = check_prefix(&prefix.value) {
            let text = Located {
                value: prefix.value.as_str(),
                span: prefix.span.clone(),
            };
            template_fault(reader, &text, error);
            continue;
        }
        let hidden = claims.iter().find(|claim| {
            claim.is_passthrough()
                && (claim.prefix.starts_with(&prefix.value)
                    || prefix.value.starts_with(&claim.prefix))
        });
        if let Some(claim) = hidden {
            let message = format!("prefix `{}` reaches keys of {}", prefix.value, claim.who);
            reader.fault(
                prefix.span.clone(),
                message,
                "passthrough keys are never invalidated; name other keys",
            );
            continue;
        }
        fine.push(prefix.clone());
    }
    fine
}

/// A watch as it is declared. None only if a problem was reported.
fn watch(
    reader: &mut Reader<'_>,
    watch: &Checked,
    caches: &[Cache],
    claims: &[Claim],
    prefixes: &[String],
) -> Option<Watch> {
    let table = table_name(reader, watch);
    let texts = watch.texts("invalidate")?;
    let span = watch.span_of("invalidate").unwrap_or_default();
    if texts.is_empty() || texts.len() > MAX_TEMPLATES {
        let message = format!("`invalidate` has {} templates", texts.len());
        let help = format!("write 1 to {MAX_TEMPLATES}, such as invalidate = [\"courses:{{id}}\"]");
        reader.fault(span, message, help);
        return None;
    }
    let mut templates = Vec::new();
    for (n, text) in texts.iter().enumerate() {
        if texts[..n].iter().any(|earlier| earlier.value == text.value) {
            let message = format!("`{}` is there twice", text.value.escape_debug());
            reader.fault(text.span.clone(), message, "leave one of them");
            continue;
        }
        templates.extend(template(reader, text, caches, claims, prefixes));
    }
    let (table, table_span) = table?;
    Some(Watch {
        table,
        table_span,
        templates,
    })
}

/// Reads a template of keys under what is declared. None only if a problem was reported.
pub(super) fn template(
    reader: &mut Reader<'_>,
    text: &Located<String>,
    caches: &[Cache],
    claims: &[Claim],
    prefixes: &[String],
) -> Option<WatchTemplate> {
    let located = Located {
        value: text.value.as_str(),
        span: text.span.clone(),
    };
    let mut template = match ChangeTemplate::parse(&text.value) {
        Ok(template) => template,
        Err(error) => {
            template_fault(reader, &located, error);
            return None;
        }
    };
    let prefix = template.prefix();
    // A prefix may have several segments: the template's literal head must hold all of it.
    let head = template.literal_head();
    // What is passed through has no database behind it.
    let known: Vec<&str> = claims
        .iter()
        .filter(|claim| !claim.is_passthrough())
        .map(|claim| claim.prefix.as_str())
        .chain(prefixes.iter().map(String::as_str))
        .collect();
    if !known.iter().any(|known| head.starts_with(known)) {
        let span = place_within(reader, &located, 0..prefix.len());
        let message = format!("nothing is declared under `{prefix}`");
        let help = nearest(prefix, &known).map_or_else(
            || "name keys of a declared cache or namespace, or add the prefix to invalidation.prefixes".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        reader.fault(span, message, help);
        return None;
    }
    let keys = || caches.iter().map(|cache| &cache.key);
    let is_of_caches = known
        .iter()
        .filter(|known| head.starts_with(**known))
        .all(|known| keys().any(|key| key.prefix() == *known));
    if is_of_caches && !template.is_pattern() && !keys().any(|key| template.may_be_of(key)) {
        let message = format!(
            "no cache has keys like `{template}`: what it names is put aside, and everything under `{prefix}` invalidated"
        );
        reader.warn(&text.span, &message);
    }
    if let Err(column) = template.infer(caches.iter().map(|cache| &cache.key)) {
        let message =
            format!("`{{{column}}}` stands where caches have a parameter of another type");
        let help = "give the column no type; if caches differ, write a template for each of them";
        reader.fault(text.span.clone(), message, help);
        return None;
    }
    Some(WatchTemplate {
        template,
        span: text.span.clone(),
    })
}

/// The watch that a cache's `depends_on` stands for.
fn derived(reader: &mut Reader<'_>, depends: &Checked, cache: &Cache) -> Option<Watch> {
    let table = table_name(reader, depends);
    let columns = depends.columns("on");
    let names: Vec<&str> = cache
        .key
        .params()
        .iter()
        .map(|param| param.name.as_str())
        .collect();
    let mut is_fine = true;
    for (param, column) in columns {
        if !names.contains(&param.value.as_str()) {
            let message = format!(
                "key `{}` has no parameter `{}`",
                cache.key,
                param.value.escape_debug()
            );
            let help = match nearest(&param.value, &names) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("its parameters are: {}", names.join(", ")),
            };
            reader.fault(param.span.clone(), message, help);
            is_fine = false;
        }
        if column.value.is_empty()
            || column.value.len() > MAX_NAME_BYTES
            || column.value.contains('\0')
        {
            let message = format!("`{}` is no name of a column", column.value.escape_debug());
            reader.fault(
                column.span.clone(),
                message,
                format!("write 1 to {MAX_NAME_BYTES} bytes"),
            );
            is_fine = false;
        }
    }
    let column = |name: &str| {
        let named = columns.iter().find(|(param, _)| param.value == name);
        named.map(|(_, column)| column.value.as_str())
    };
    let template = ChangeTemplate::of_key(&cache.key, column);
    let (table, table_span) = table.filter(|_| is_fine)?;
    let span = depends
        .span_of("on")
        .unwrap_or_else(|| depends.span.clone());
    let templates = vec![WatchTemplate { template, span }];
    Some(Watch {
        table,
        table_span,
        templates,
    })
}

fn table_name(reader: &mut Reader<'_>, section: &Checked) -> Option<(TableName, Range<usize>)> {
    let text = section.text("table")?;
    match TableName::parse(text.value) {
        Ok(table) => Some((table, text.span)),
        Err(why) => {
            let message = format!("table `{}` {why}", text.value.escape_debug());
            let help = "write table or schema.table; a name that is no plain one stands in double quotes, as in SQL";
            reader.fault(text.span, message, help);
            None
        }
    }
}

#[cfg(test)]
#[path = "invalidation_tests.rs"]
mod tests;
