//! The batch statement as diesel knows it, and the rows it gives.

use bytes::Bytes;
use diesel::deserialize::{self, FromSql, FromSqlRow, Queryable};
use diesel::pg::{Pg, PgValue};
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
use diesel::sql_types::{Array, BigInt, Integer, Json, Nullable, Text};

use super::batch::Batch;

/// A batch statement with its binds.
///
/// Our own fragment, because `diesel::sql_query` is never kept as a prepared statement: each call
/// would be parsed and planned anew, at four times the cost. Without a static query id the cache of
/// statements goes by the text, and there is one text a cache.
pub(super) struct LoadKeys<'a> {
    pub batch: &'a Batch,
    /// One column a placeholder, one value a key.
    pub columns: Vec<Vec<&'a str>>,
}

impl QueryFragment<Pg> for LoadKeys<'_> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        // diesel writes the placeholders itself, with the numbers they have in the text anyway.
        let (sql, mut from) = (self.batch.sql.as_str(), 0);
        for (at, column) in self.batch.placeholders.iter().zip(&self.columns) {
            out.push_sql(&sql[from..at.start]);
            out.push_bind_param::<Array<Text>, _>(column)?;
            from = at.end;
        }
        out.push_sql(&sql[from..]);
        Ok(())
    }
}

impl QueryId for LoadKeys<'_> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl Query for LoadKeys<'_> {
    type SqlType = (BigInt, Nullable<Integer>, Nullable<Json>);
}

/// One key's answer: which key of the batch (from 1), how large the value is if it is too large,
/// and the value otherwise.
#[derive(Queryable)]
pub(super) struct Row {
    pub ord: i64,
    pub too_large: Option<i32>,
    pub value: Option<JsonBytes>,
}

/// A JSON value as Postgres wrote it. Copied once, out of the driver's read buffer: a slice of that
/// buffer would keep all of it in memory for as long as the smallest value lives.
#[derive(FromSqlRow)]
#[diesel(sql_type = Json)]
pub(super) struct JsonBytes(pub Bytes);

impl FromSql<Json, Pg> for JsonBytes {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(Bytes::copy_from_slice(value.as_bytes())))
    }
}
