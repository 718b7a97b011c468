//! The statements of a transaction that saves, prepared once a connection.

use std::collections::HashMap;
use std::fmt::Write as _;

use bytes::{BufMut, BytesMut};
use futures_util::future::try_join3;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{CancelToken, Client, Error, Statement};

use super::super::batch::{Place, place, splice};
use super::{Write, Written};
use crate::config::{Names, Query};
use crate::keyspace::Param;

/// Statements that are sent before the first is answered: more would gain little.
const MAX_AHEAD: usize = 64;
/// What the queue names as the source of what was saved through a daemon. No table is named so: their schemas stand in front.
pub(in crate::repository) const SOURCE: &str = "write";

const QUEUE: &str =
    "INSERT INTO cachewarden.outbox (source, keys, patterns) VALUES ($1, $2, $3) RETURNING id";

/// A declared statement as Postgres is sent it. Every parameter of the key travels as text and is cast, as in loads.
pub(in crate::repository) struct Dml {
    pub sql: String,
    pub types: Vec<Type>,
    places: Vec<Place>,
    declared_len: usize,
}

impl Dml {
    /// Of a statement that saves: behind the key's parameters it has one more, the value.
    pub fn saving(declared: &Query, params: &[Param]) -> Self {
        let mut dml = Self::deleting(declared, params);
        dml.types.push(Type::JSONB);
        dml
    }

    /// Of one that has the key's parameters only.
    pub fn deleting(declared: &Query, params: &[Param]) -> Self {
        let mut sql = String::new();
        let places = splice(&mut sql, declared, |sql, index| {
            let number = index + 1;
            let _ = match params.get(index) {
                Some(param) => write!(sql, " (${number}::text::{}) ", param.kind.sql_name()),
                None => write!(sql, " (${number}::jsonb) "),
            };
        });
        Self {
            sql,
            types: vec![Type::TEXT; params.len()],
            places,
            declared_len: declared.text.len(),
        }
    }

    /// The byte of the declared text that Postgres means by `position` in the statement.
    pub fn declared_offset(&self, position: u32) -> Option<usize> {
        place(&self.sql, &self.places, position, self.declared_len)
    }
}

/// A JSON text, bound as `jsonb`: Postgres reads it once, however often the statement uses it.
#[derive(Debug)]
pub(in crate::repository) struct Json<'a>(pub &'a [u8]);

/// Of the binary form of `jsonb`, the only one there is.
const JSONB_VERSION: u8 = 1;

impl ToSql for Json<'_> {
    fn to_sql(
        &self,
        _: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.put_u8(JSONB_VERSION);
        out.put_slice(self.0);
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::JSONB
    }

    to_sql_checked!();
}

/// A connection that may write.
pub(super) struct Connection {
    client: Client,
    queue: Statement,
    /// By their text.
    prepared: HashMap<String, Statement>,
}

impl Connection {
    pub async fn new(client: Client) -> Result<Self, Error> {
        Ok(Self {
            queue: client.prepare(QUEUE).await?,
            client,
            prepared: HashMap::new(),
        })
    }

    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    pub fn cancel_token(&self) -> CancelToken {
        self.client.cancel_token()
    }

    /// Begins a transaction, runs the statements in it, and queues what they make outdated. Err:
    /// which of them failed first, and why.
    pub async fn write(
        &mut self,
        work: &[(&Dml, &Write)],
        names: &Names,
    ) -> Result<Written, (usize, Error)> {
        for (at, (dml, _)) in work.iter().enumerate() {
            if !self.prepared.contains_key(&dml.sql) {
                let prepared = self.client.prepare_typed(&dml.sql, &dml.types).await;
                let prepared = prepared.map_err(|error| (at, error))?;
                self.prepared.insert(dml.sql.clone(), prepared);
            }
        }
        let run = async |at: usize| {
            let (dml, write) = work[at];
            let json = write.value.as_deref().map(Json);
            let texts: Vec<&str> = write.key.params().collect();
            let mut binds: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(dml.types.len());
            binds.extend(texts.iter().map(|text| text as &(dyn ToSql + Sync)));
            binds.extend(json.as_ref().map(|json| json as &(dyn ToSql + Sync)));
            let ran = self.client.execute(&self.prepared[&dml.sql], &binds);
            ran.await.map_err(|error| (at, error))
        };
        let begin = async {
            let begun = self.client.batch_execute("BEGIN READ WRITE").await;
            begun.map_err(|error| (0, error))
        };
        let statements = stream::iter(0..work.len()).map(run).buffered(MAX_AHEAD);
        let queue = async {
            let binds: [&(dyn ToSql + Sync); 3] = [&SOURCE, &names.keys, &names.patterns];
            let queued = self.client.query_opt(&self.queue, &binds).await;
            let queued = queued.and_then(|row| row.map(|row| row.try_get(0)).transpose());
            queued.map_err(|error| (0, error))
        };
        // All are sent before one is answered. Behind the first error everything fails: it is the cause.
        let ((), rows, queued) = try_join3(begin, statements.try_collect(), queue).await?;
        Ok(Written { rows, queued })
    }

    pub async fn commit(&mut self) -> Result<(), Error> {
        self.client.batch_execute("COMMIT").await
    }

    pub async fn roll_back(&mut self) -> Result<(), Error> {
        self.client.batch_execute("ROLLBACK").await
    }
}
