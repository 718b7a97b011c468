//! Asks Postgres whether a declared statement can write, without writing anything.

use bytes::BytesMut;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{IsNull, ToSql, Type, to_sql_checked};

use super::super::QueryProblem;
use super::super::check::position;
use super::super::error::describe;
use super::statements::Dml;
use crate::config::Declared;

/// How many times a check asks the server at most.
pub(super) const STEPS: u32 = 3;

/// Whether it may be done is found out by having it planned, which prepares it to run, and does not run it.
const EXPLAIN: &str = "EXPLAIN ";

/// What is wrong with a statement, if anything. `Err`: the connection was lost, in safe words.
pub(super) async fn check(
    client: &Client,
    (cache, declared): (usize, Declared),
    dml: &Dml,
) -> Result<Option<QueryProblem>, String> {
    let Err((error, before)) = plan(client, dml).await else {
        return Ok(None);
    };
    let Some(refusal) = error.as_db_error().filter(|_| !client.is_closed()) else {
        return Err(describe(&error));
    };
    let at = position(refusal).and_then(|at| at.checked_sub(before));
    let is_no_dml = before > 0 && *refusal.code() == SqlState::SYNTAX_ERROR;
    let hint = match is_no_dml {
        true => Some("write an INSERT, UPDATE, DELETE or MERGE, or a SELECT that calls a function"),
        false => refusal.hint().or(refusal.detail()),
    };
    Ok(Some(QueryProblem {
        cache,
        declared,
        message: describe(&error),
        offset: at.and_then(|at| dml.declared_offset(at)),
        hint: hint.map(str::to_owned),
    }))
}

/// Err: what Postgres says, and of how many characters before the statement.
async fn plan(client: &Client, dml: &Dml) -> Result<(), (tokio_postgres::Error, u32)> {
    let prepared = client.prepare_typed(&dml.sql, &dml.types).await;
    prepared.map_err(|error| (error, 0))?;
    let before = u32::try_from(EXPLAIN.len()).unwrap_or_default();
    let explain = async {
        let text = format!("{EXPLAIN}{}", dml.sql);
        let explain = client.prepare_typed(&text, &dml.types).await?;
        let nulls = vec![&Null as &(dyn ToSql + Sync); dml.types.len()];
        client.query(&explain, &nulls).await
    };
    let explained = explain.await;
    explained.map(drop).map_err(|error| (error, before))
}

/// A parameter of any type, and of no value.
#[derive(Debug)]
struct Null;

impl ToSql for Null {
    fn to_sql(
        &self,
        _: &Type,
        _: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        Ok(IsNull::Yes)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    to_sql_checked!();
}
