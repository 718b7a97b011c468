//! Keeps true that a configuration in use is free of faults, and that a faulty one says all of them.
//!
//! 1. Nothing is guessed: unknown keys, wrong types, values out of range and contradictions are
//!    errors, collected over the whole file, each with place and mend.
//! 2. No message and no `Debug` shows a secret.
//! 3. What is known but not served yet is checked all the same and named in [`Config::unserved`].
//!
//! ```text
//! text ─toml→ spanned tree ─reader, along schema→ checked sections ─servers, caches→ Config
//!                 └───────────────┴──── problems, by place ───────────┴→ Problems
//! ```

mod aging;
mod audit;
mod caches;
mod differing;
mod environment;
mod events;
mod http;
mod indexes;
mod invalidation;
mod l1;
mod limits;
mod passthrough;
mod problem;
mod query;
mod reader;
mod schedule;
mod schema;
mod secret;
mod servers;
mod url;
mod value;
mod warm;
mod write;

use std::{
    env,
    fs::File,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use toml::de::DeTable;

pub use aging::Aging;
pub use audit::Audit;
pub use caches::{Cache, Namespace, Shape};
pub use events::{EventPiece, EventRule, EventTemplate};
pub use http::Http;
pub use indexes::{Segment, segment, segments};
pub use invalidation::{Invalidation, OnDeaf, TableName, Watch, WatchTemplate};
pub use l1::L1;
pub use limits::{Algorithm, Limit, LimitDefaults, Locks, OnRedisError};
pub use passthrough::Passthrough;
pub use problem::{Problem, Problems, Source};
pub use query::{Declared, Piece, Query, QueryError};
use reader::{Env, Reader};
pub use schedule::Schedule;
pub use secret::Secret;
pub use servers::{DEFAULT_MAX_JOURNAL, Listen, Log, LogFormat, Postgres, Redis, Resp, TlsFiles};
use value::{Checked, Located};
pub use warm::Warm;
pub use write::{AfterSave, Names, Statement, Write, WriteMode};

use crate::keyspace::{KeyTemplate, Reach, Router, Scope};

/// The largest configuration, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;
const DEFAULT_PATH: &str = "/etc/cachewarden/cachewarden.toml";
const PATH_VARIABLE: &str = "CACHEWARDEN_CONFIG";

/// A configuration without faults.
#[derive(Clone, Debug)]
pub struct Config {
    /// None only if no cache is declared.
    pub postgres: Option<Postgres>,
    pub redis: Redis,
    pub resp: Resp,
    /// None: no such door.
    pub http: Option<Http>,
    pub log: Log,
    pub l1: L1,
    /// In the order of the text.
    pub caches: Vec<Cache>,
    /// In the order of the text.
    pub namespaces: Vec<Namespace>,
    /// In the order of the text.
    pub passthroughs: Vec<Passthrough>,
    pub invalidation: Invalidation,
    pub locks: Locks,
    /// In the order of the text.
    pub limits: Vec<Limit>,
    pub limit_defaults: LimitDefaults,
    pub audit: Audit,
    /// Parts that are accepted and not acted upon by this version, such as
    /// `caches.course.alert_below`.
    pub unserved: Vec<String>,
    /// What is no error and better otherwise, a line each.
    pub warnings: Vec<String>,
    pub source: Source,
}

impl Config {
    /// Reads a file, the environment it refers to, and the files of secrets it names.
    ///
    /// # Errors
    /// All that is wrong with the file or its content.
    pub fn load(path: &Path) -> Result<Config, Problems> {
        let source = Source {
            path: Some(path.to_owned()),
            text: String::new(),
        };
        match read_file(path) {
            Ok((text, mode)) => {
                Config::read(&text, source, Some(mode), &|name| env::var(name).ok())
            }
            Err(why) => {
                let message = format!(
                    "config {}: {why}",
                    path.display().to_string().escape_debug()
                );
                let help = "name the file with --config PATH or $CACHEWARDEN_CONFIG";
                Err(Problems::new(source, vec![Problem::of_file(message, help)]))
            }
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// All that is wrong with it.
    pub fn from_toml(text: &str) -> Result<Config, Problems> {
        Config::read(text, Source::default(), None, &|name| env::var(name).ok())
    }

    /// Where the configuration lies: `explicit`, else `$CACHEWARDEN_CONFIG`, else
    /// `/etc/cachewarden/cachewarden.toml`.
    pub fn find(explicit: Option<&Path>) -> PathBuf {
        explicit
            .map(Path::to_owned)
            .or_else(|| {
                env::var_os(PATH_VARIABLE)
                    .filter(|path| !path.is_empty())
                    .map(PathBuf::from)
            })
            .unwrap_or_else(|| PathBuf::from(DEFAULT_PATH))
    }

    /// The router of the declared spaces: caches first, then namespaces; and of plain keys.
    pub fn router(&self) -> Router {
        Router::new(&self.templates(), &self.namespace_prefixes())
            .with_plain(&self.plain_prefixes())
    }

    /// Everything that can be invalidated by name.
    pub fn scope(&self) -> Scope {
        Scope::new(&self.templates(), &self.namespace_prefixes(), self.reach())
            .with_plain(&self.plain_prefixes())
    }

    fn plain_prefixes(&self) -> Vec<(String, String)> {
        let named = |declared: &Passthrough| (declared.name.clone(), declared.prefix.clone());
        self.passthroughs.iter().map(named).collect()
    }

    /// Whether any cache saves or deletes rows: what that makes outdated is queued in the database.
    pub fn declares_writes(&self) -> bool {
        self.caches.iter().any(|cache| cache.write.is_some())
    }

    fn templates(&self) -> Vec<(String, KeyTemplate)> {
        let named = |cache: &Cache| (cache.name.clone(), cache.key.clone());
        self.caches.iter().map(named).collect()
    }

    fn namespace_prefixes(&self) -> Vec<(String, String)> {
        let named = |namespace: &Namespace| (namespace.name.clone(), namespace.prefix.clone());
        self.namespaces.iter().map(named).collect()
    }

    /// What an invalidation may remove: keys under the prefixes of caches, namespaces and `invalidation.prefixes`.
    pub fn reach(&self) -> Reach {
        let own = self.invalidation.prefixes.iter().cloned();
        Reach::new(invalidation::declared_prefixes(&self.caches, &self.namespaces).chain(own))
    }

    /// Renders what Postgres says of a statement that a cache declares, with its place in the file. `offset` is in bytes of
    /// the declared text; without one all of it is meant.
    pub fn report_declared(
        &self,
        cache: usize,
        declared: Declared,
        offset: Option<usize>,
        message: &str,
        hint: Option<&str>,
    ) -> String {
        let cache = self.caches.get(cache);
        let Some((cache, (text, span))) = cache.and_then(|c| Some((c, c.declared(declared)?)))
        else {
            return message.to_owned();
        };
        let place = offset.map_or(span.clone(), |offset| {
            self.source.place_in(text, span, offset)
        });
        let message = format!("caches.{}.{declared}: {message}", cache.name);
        let help = match declared {
            Declared::Query | Declared::WarmKeys => "mend the query, or the table it reads",
            Declared::Save | Declared::Delete => "mend the statement, or the table it writes to",
        };
        self.source.report(place, &message, hint.unwrap_or(help))
    }

    /// Whether something is declared that is done under a lock, and so needs fencing tokens.
    pub fn needs_fences(&self) -> bool {
        self.locks.is_declared || self.caches.iter().any(|cache| cache.warm.is_some())
    }

    /// Renders what Postgres says of a watch, with its place in the file: the template's, or the
    /// table's.
    pub fn report_watch(
        &self,
        watch: usize,
        template: Option<usize>,
        message: &str,
        hint: &str,
    ) -> String {
        let Some(watch) = self.invalidation.watches.get(watch) else {
            // No watch needs it, but locks.
            return format!("{message}\nhint: {hint}");
        };
        let template = template.and_then(|template| watch.templates.get(template));
        let place = template.map_or(&watch.table_span, |template| &template.span);
        self.source.report(place.clone(), message, hint)
    }

    fn read(
        text: &str,
        source: Source,
        mode: Option<u32>,
        env: Env<'_>,
    ) -> Result<Config, Problems> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Source {
            text: secret::mask(text),
            ..source
        };
        if text.trim().is_empty() {
            let problem = Problem::of_file(
                "the configuration is empty".into(),
                "begin with [redis] and its url",
            );
            return Err(Problems::new(source, vec![problem]));
        }
        let (tree, errors) = DeTable::parse_recoverable(text);
        let syntax: Vec<Problem> = errors.iter().map(syntax_problem).collect();
        let mut reader = Reader::new(&source, env, mode);
        let root = reader.section(tree.get_ref(), schema::ROOT, "", 0..0);
        let config = build(&mut reader, &root);
        let Reader {
            problems,
            warnings,
            unserved,
            ..
        } = reader;
        match config {
            Some(config) if problems.is_empty() && syntax.is_empty() => Ok(Config {
                warnings,
                unserved,
                source,
                ..config
            }),
            _ => Err(Problems::join(source, syntax, problems)),
        }
    }
}

/// Puts the sections together. None only if a problem was reported.
fn build(reader: &mut Reader<'_>, root: &Checked) -> Option<Config> {
    let empty = Checked::default();
    let section = |name: &str| root.table(name).unwrap_or(&empty);
    let postgres = root
        .table("postgres")
        .and_then(|table| servers::postgres(reader, table));
    let redis = root
        .table("redis")
        .and_then(|table| servers::redis(reader, table));
    let resp = servers::resp(reader, section("resp"));
    let http = root.table("http").map(|table| http::http(reader, table));
    let log = servers::log(reader, section("log"));
    let l1 = l1::l1(section("l1"));
    let audit = audit::audit(section("audit"));
    let locks = limits::locks(reader, section("locks"), root.table("locks").is_some());
    if let (true, Some(span)) = (
        locks.is_declared && root.is_empty_of(&["postgres"]),
        root.span_of("locks"),
    ) {
        reader.problems.push(Problem::absence(
            span,
            "`[locks]` is there, and no `[postgres]` that mints their fencing tokens".into(),
            "write [postgres] with url = \"postgres://user@host/database\"".into(),
        ));
    }
    let mut limits = Vec::new();
    for named in root.named("limits") {
        limits.extend(limits::limit(reader, named, section("limit_defaults")));
    }
    let mut claims = Vec::new();
    let (mut caches, mut namespaces) = (Vec::new(), Vec::new());
    for named in root.named("caches") {
        caches.extend(caches::cache(reader, named, &mut claims));
    }
    for named in root.named("namespaces") {
        namespaces.extend(caches::namespace(reader, named, &mut claims));
    }
    let mut passthroughs = Vec::new();
    for named in root.named("passthrough") {
        passthroughs.extend(passthrough::passthrough(reader, named, &mut claims));
    }
    caches::check_claims(reader, &claims);
    if let (Some(first), true) = (
        root.named("caches").first(),
        root.is_empty_of(&["postgres"]),
    ) {
        reader.problems.push(Problem::absence(
            first.name.span.clone(),
            "a cache is declared, and no `[postgres]` to load it from".into(),
            "write [postgres] with url = \"postgres://user@host/database\"".into(),
        ));
    }
    let invalidation = invalidation::invalidation(
        reader,
        section("invalidation"),
        &caches,
        root.named("caches"),
        &namespaces,
        &claims,
    );
    if let (Some(watch), true) = (
        invalidation.watches.first(),
        root.is_empty_of(&["postgres", "caches"]),
    ) {
        reader.problems.push(Problem::absence(
            watch.table_span.clone(),
            "a table is watched, and there is no `[postgres]` it lies in".into(),
            "write [postgres] with url = \"postgres://user@host/database\"".into(),
        ));
    }
    let prefixes = &invalidation.prefixes;
    let named = root.named("caches");
    let also = write::also_invalidated(reader, named, &caches, &claims, prefixes);
    let told = |prefix: &str| {
        let mut templates = also.iter().flatten();
        let writes = templates.any(|template| template.literal_head().starts_with(prefix));
        writes || invalidation.watches_under(prefix)
    };
    for namespace in &mut namespaces {
        namespace.watched = told(&namespace.prefix);
    }
    for cache in &mut caches {
        cache.watched = cache.write.is_some() || told(cache.key.prefix());
    }
    for (cache, also) in caches.iter_mut().zip(also) {
        if let Some(write) = &mut cache.write {
            write.also_invalidate = also;
        }
    }
    let kept = Located {
        value: l1,
        span: section("l1").span_of("capacity").unwrap_or_default(),
    };
    caches::check_effects(reader, root.named("caches"), &caches, &kept);
    Some(Config {
        postgres,
        redis: redis?,
        resp,
        http,
        log,
        l1,
        caches,
        namespaces,
        passthroughs,
        invalidation,
        locks,
        limits,
        limit_defaults: limits::defaults(section("limit_defaults")),
        audit,
        unserved: Vec::new(),
        warnings: Vec::new(),
        source: Source::default(),
    })
}

fn syntax_problem(error: &toml::de::Error) -> Problem {
    let span = error.span().unwrap_or_default();
    let help = match error.message() {
        message if message.contains("duplicate key") => "leave one of them",
        _ => {
            "texts, durations and sizes stand in quotes: ttl = \"10m\"; a section begins with [name]"
        }
    };
    Problem::new(span, error.message(), help)
}

/// The text of a file and its permissions.
fn read_file(path: &Path) -> Result<(String, u32), String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    if metadata.is_dir() {
        return Err("Is a directory (os error 21)".into());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(format!(
            "larger than {MAX_FILE_BYTES} bytes, the most a configuration may have"
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        format!(
            "not valid UTF-8 at byte {}",
            error.utf8_error().valid_up_to()
        )
    })?;
    Ok((text, metadata.permissions().mode()))
}

#[cfg(test)]
#[path = "mistakes_tests.rs"]
mod mistakes_tests;
#[cfg(test)]
mod tests;
