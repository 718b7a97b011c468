//! The keys that caches are warmed with: read by a declared query, a page at a time.
//!
//! The cursor is one *with hold*: the server runs the query to its end, in one read-only transaction, and keeps the rows until
//! they are fetched. A transaction that stayed open for as long as a warmup takes would keep the database from cleaning up
//! after its writers, and at a low `rate` that is hours. So a query that never ends is ended by its own deadline, and one that
//! gives rows for ever by [`MAX_KEYS`].

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio_postgres::error::ErrorPosition;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Statement};

use super::connect::Connector;
use super::dsn::Dsn;
use super::error::describe;
use super::line::Line;
use super::{QueryProblem, RepositoryError};
use crate::config;
use crate::keyspace::ParamType;

/// Keys of one run; what is beyond is not read.
pub const MAX_KEYS: u64 = 10_000_000;
/// What the query may take until all its keys are known; more only if `statement_timeout` says so.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// Characters of a value that are fetched: longer than any value that a key can have, and told to be too long.
const MAX_VALUE_CHARS: usize = 256;

/// Reads the keys to warm caches with. Cheap to clone.
#[derive(Clone)]
pub struct WarmKeys(Arc<Inner>);

struct Inner {
    line: Line,
    /// By the cache's place in the configuration; `None`: it has no such query.
    caches: Vec<Option<Declared>>,
    max_keys: u64,
}

struct Declared {
    /// As declared, but with a line break behind it: it may end in a comment.
    query: String,
    kinds: Vec<ParamType>,
}

/// One value of a key for each parameter; `None`: NULL.
pub type WarmRow = Vec<Option<String>>;

/// The keys of one run, as far as they are not read yet. Its connection closes with it.
pub struct WarmCursor {
    keys: WarmKeys,
    client: Client,
    fetch: Statement,
    columns: usize,
    /// How many the query gave, at most [`MAX_KEYS`].
    pub total: u64,
    /// Whether it gave more than that.
    pub is_cut: bool,
    left: u64,
}

impl WarmKeys {
    /// For `caches`; connections' drivers will run on `runtime`. None is made yet.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn new(
        postgres: &config::Postgres,
        caches: &[config::Cache],
        runtime: Handle,
    ) -> Result<Self, RepositoryError> {
        Self::with_max_keys(postgres, caches, runtime, MAX_KEYS)
    }

    /// The same with another bound than [`MAX_KEYS`]: for tests.
    ///
    /// # Errors
    /// If the URL cannot be used.
    pub fn with_max_keys(
        postgres: &config::Postgres,
        caches: &[config::Cache],
        runtime: Handle,
        max_keys: u64,
    ) -> Result<Self, RepositoryError> {
        let limit = postgres.statement_timeout.max(QUERY_TIMEOUT);
        let connector = Connector::reading(Dsn::parse(postgres.url.expose())?, limit);
        Ok(Self(Arc::new(Inner {
            line: Line::new(connector, limit, runtime),
            caches: caches.iter().map(declared).collect(),
            max_keys,
        })))
    }

    /// What Postgres has against the declared queries, at most one problem each; offsets are into the query. It is asked to
    /// prepare them, and to run them for no row.
    ///
    /// # Errors
    /// If Postgres cannot be reached, or is lost on the way.
    pub async fn check(&self) -> Result<Vec<QueryProblem>, RepositoryError> {
        if self.0.caches.iter().all(Option::is_none) {
            return Ok(Vec::new());
        }
        let client = self.0.line.client().await?;
        let mut problems = Vec::new();
        for (cache, declared) in self.0.caches.iter().enumerate() {
            if let Some(declared) = declared {
                let found = self.0.line.in_time(find(&client, cache, declared)).await?;
                match found {
                    Ok(problem) => problems.extend(problem),
                    Err(error) => return Err(RepositoryError::Connect(describe(&error))),
                }
            }
        }
        Ok(problems)
    }

    /// Runs the query of a cache, and stands before its first row.
    ///
    /// # Errors
    /// If Postgres cannot be reached, refuses, or takes too long.
    pub async fn open(&self, cache: usize) -> Result<WarmCursor, RepositoryError> {
        let declared = self.0.caches.get(cache).and_then(Option::as_ref);
        let Some(declared) = declared else {
            return Err(warm("the cache declares no query for its keys".to_owned()));
        };
        let client = self.0.line.client().await?;
        // One more than may be, to know whether there are more.
        let most = self.0.max_keys.saturating_add(1);
        let declare = format!(
            "DECLARE cachewarden_keys SCROLL CURSOR WITH HOLD FOR {} LIMIT {most}",
            declared.as_text()
        );
        let opening = async {
            let begin = "SET DateStyle = 'ISO, YMD'; BEGIN READ ONLY";
            client.batch_execute(begin).await?;
            // Prepared, so that it is one statement whatever was declared.
            client.execute(&declare, &[]).await?;
            client.batch_execute("COMMIT").await?;
            let given = client.execute("MOVE FORWARD ALL IN cachewarden_keys", &[]);
            let given = given.await?;
            client
                .execute("MOVE ABSOLUTE 0 IN cachewarden_keys", &[])
                .await?;
            Ok(given)
        };
        let given = self.answered(opening).await?;
        let fetch = format!("FETCH FORWARD {PAGE} FROM cachewarden_keys");
        let fetch = self.answered(client.prepare(&fetch)).await?;
        let total = given.min(self.0.max_keys);
        Ok(WarmCursor {
            keys: self.clone(),
            client,
            fetch,
            columns: declared.kinds.len(),
            total,
            is_cut: given > total,
            left: total,
        })
    }

    async fn answered<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, RepositoryError> {
        self.0.line.answered(answer, |_, words| warm(words)).await
    }
}

/// Rows of one page.
pub const PAGE: usize = 1000;

impl WarmCursor {
    /// The next rows, at most [`PAGE`]; none: there are no more.
    ///
    /// # Errors
    /// If Postgres is lost, or does not answer.
    pub async fn next_page(&mut self) -> Result<Vec<WarmRow>, RepositoryError> {
        if self.left == 0 {
            return Ok(Vec::new());
        }
        let fetched = self.client.query(&self.fetch, &[]);
        let rows = self.keys.answered(fetched).await?;
        let most = usize::try_from(self.left).unwrap_or(usize::MAX);
        let read = |row: &tokio_postgres::Row| {
            let value = |column| row.try_get::<_, Option<String>>(column);
            (0..self.columns).map(value).collect::<Result<WarmRow, _>>()
        };
        let rows: Result<Vec<WarmRow>, _> = rows.iter().take(most).map(read).collect();
        let rows = rows.map_err(|error| warm(describe(&error)))?;
        self.left = match rows.len() {
            0 => 0,
            read => self.left - read as u64,
        };
        Ok(rows)
    }
}

impl Declared {
    /// A query for the same rows, every value as text; without what would be its limit.
    fn as_text(&self) -> String {
        let names: Vec<String> = (0..self.kinds.len())
            .map(|n| format!("cachewarden_k{n}"))
            .collect();
        let value = |name: &String| format!("left({name}::text, {MAX_VALUE_CHARS})");
        let values: Vec<String> = names.iter().map(value).collect();
        format!(
            "SELECT {} FROM ({}\n) AS cachewarden_keys({})",
            values.join(", "),
            self.query,
            names.join(", ")
        )
    }
}

fn declared(cache: &config::Cache) -> Option<Declared> {
    let query = cache.warm.as_ref()?.keys.clone()?;
    let kinds = cache.key.params().iter().map(|param| param.kind).collect();
    Some(Declared { query, kinds })
}

fn warm(message: String) -> RepositoryError {
    RepositoryError::WarmKeys { message }
}

/// What is wrong with a query, if anything.
async fn find(
    client: &Client,
    cache: usize,
    declared: &Declared,
) -> Result<Option<QueryProblem>, tokio_postgres::Error> {
    let problem = |message: String, offset, hint: Option<String>| {
        Some(QueryProblem {
            cache,
            declared: config::Declared::WarmKeys,
            message,
            offset,
            hint,
        })
    };
    let refused = |error: tokio_postgres::Error, offset_known: bool| {
        let Some(refusal) = error.as_db_error() else {
            return Err(error);
        };
        let at = match refusal.position() {
            Some(ErrorPosition::Original(at)) if offset_known => byte_of(&declared.query, *at),
            _ => None,
        };
        let hint = refusal.hint().or(refusal.detail()).map(str::to_owned);
        Ok(problem(describe(&error), at, hint))
    };
    // By itself first: here Postgres' words are about what was declared and nothing of ours.
    let bare = match client.prepare(&declared.query).await {
        Ok(bare) => bare,
        Err(error) => return refused(error, true),
    };
    let (columns, kinds) = (bare.columns(), &declared.kinds);
    if columns.len() != kinds.len() {
        let (given, wanted) = (columns.len(), kinds.len());
        let message = format!("it gives {given} columns, and the key has {wanted} parameters");
        let hint = "select a column for each parameter, in their order".to_owned();
        return Ok(problem(message, Some(0), Some(hint)));
    }
    for (column, kind) in columns.iter().zip(kinds) {
        if !is_spelled_like(column.type_(), *kind) {
            let (name, given, wanted) = (column.name(), column.type_(), kind.sql_name());
            let message = format!("column `{name}` is {given}, and the parameter {wanted}");
            let hint = format!("select {name}::{wanted}");
            return Ok(problem(message, Some(0), Some(hint)));
        }
    }
    // It must be a SELECT, and must not lock.
    let none = format!("{} LIMIT 0", declared.as_text());
    match client.query(&none, &[]).await {
        Ok(_) => Ok(None),
        Err(error) => refused(error, false),
    }
}

/// Whether the values of a column are spelled as those of a parameter. A text may say anything: each value is looked at later.
fn is_spelled_like(column: &Type, kind: ParamType) -> bool {
    let is_text = [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME].contains(column);
    is_text
        || match kind {
            ParamType::Int | ParamType::BigInt => {
                [Type::INT2, Type::INT4, Type::INT8].contains(column)
            }
            ParamType::Text => column.schema() != "pg_catalog",
            ParamType::Uuid => *column == Type::UUID,
            ParamType::Date => *column == Type::DATE,
            ParamType::Bool => *column == Type::BOOL,
        }
}

/// The byte of a text at a position that counts characters, from 1.
fn byte_of(text: &str, position: u32) -> Option<usize> {
    let skip = usize::try_from(position.checked_sub(1)?).ok()?;
    let found = text.char_indices().nth(skip);
    Some(found.map_or(text.len(), |(byte, _)| byte))
}
