//! Asks Postgres whether the declared queries can be loaded, without loading anything.

use tokio_postgres::Client;
use tokio_postgres::error::{DbError, ErrorPosition, SqlState};
use tokio_postgres::types::Type;

use super::QueryProblem;
use super::batch::Batch;
use super::error::describe;
use crate::config::{Declared, Shape};

/// How many times a check asks the server at most.
pub(super) const STEPS: u32 = 3;

/// What a check needs to know of a cache.
pub(super) struct Subject<'a> {
    pub cache: usize,
    pub shape: Shape,
    pub batch: &'a Batch,
}

/// What is wrong with a query, if anything. `Err`: the connection was lost, in safe words.
pub(super) async fn check(
    client: &Client,
    subject: Subject<'_>,
) -> Result<Option<QueryProblem>, String> {
    match find(client, &subject).await {
        Ok(problem) => Ok(problem),
        Err(error) if client.is_closed() => Err(describe(&error)),
        Err(error) => Ok(Some(subject.problem(describe(&error), None, None))),
    }
}

async fn find(
    client: &Client,
    subject: &Subject<'_>,
) -> Result<Option<QueryProblem>, tokio_postgres::Error> {
    let batch = subject.batch;
    // By itself first: here Postgres' words are about what was declared and nothing of ours.
    let bare = match client.prepare(&batch.bare).await {
        Ok(statement) => statement,
        Err(error) => return subject.refused(error, |at| batch.bare_offset(at)),
    };
    if bare.columns().is_empty() {
        let hint = "declare a SELECT that returns the columns of the cached value".to_owned();
        return Ok(Some(subject.problem(
            "the query returns no columns".to_owned(),
            Some(0),
            Some(hint),
        )));
    }
    if subject.shape == Shape::Scalar && bare.columns().len() != 1 {
        let message = format!(
            "a scalar needs exactly one column, the query returns {}",
            bare.columns().len()
        );
        let hint = "select one column, or declare shape = \"object\"".to_owned();
        return Ok(Some(subject.problem(message, Some(0), Some(hint))));
    }
    // Then the statement that loads, which allows less: it must be a SELECT, for one thing.
    let types = vec![Type::TEXT_ARRAY; batch.placeholders.len()];
    let statement = match client.prepare_typed(&batch.sql, &types).await {
        Ok(statement) => statement,
        Err(error) => {
            let hint = hint(error.code());
            let problem = subject.refused(error, |at| batch.declared_offset(at))?;
            return Ok(problem.map(|problem| QueryProblem {
                hint: hint.map(str::to_owned).or(problem.hint),
                ..problem
            }));
        }
    };
    // And run it with no keys: a locking clause is refused here, where nothing may be written.
    let none: Vec<String> = Vec::new();
    let binds = vec![&none as &(dyn tokio_postgres::types::ToSql + Sync); types.len()];
    match client.query(&statement, &binds).await {
        Ok(_) => Ok(None),
        Err(error) => subject.refused(error, |at| batch.declared_offset(at)),
    }
}

/// What a query that is right by itself has against being loaded in a batch.
fn hint(code: Option<&SqlState>) -> Option<&'static str> {
    match *code? {
        SqlState::SYNTAX_ERROR => Some("only a SELECT can be loaded"),
        // It would be an aggregate of the statement around, whose columns the parameters are.
        SqlState::GROUPING_ERROR => {
            Some("give an aggregate a column of the query's own tables, not only parameters")
        }
        _ => None,
    }
}

impl Subject<'_> {
    /// Postgres' refusal as a problem; any other error is passed on.
    fn refused(
        &self,
        error: tokio_postgres::Error,
        offset: impl Fn(u32) -> Option<usize>,
    ) -> Result<Option<QueryProblem>, tokio_postgres::Error> {
        let Some(refusal) = error.as_db_error() else {
            return Err(error);
        };
        let at = position(refusal).and_then(offset);
        let hint = refusal.hint().or(refusal.detail()).map(str::to_owned);
        Ok(Some(self.problem(describe(&error), at, hint)))
    }

    fn problem(
        &self,
        message: String,
        offset: Option<usize>,
        hint: Option<String>,
    ) -> QueryProblem {
        QueryProblem {
            cache: self.cache,
            declared: Declared::Query,
            message,
            offset,
            hint,
        }
    }
}

/// A position within a function's own text has no place in the declared query.
pub(super) fn position(refusal: &DbError) -> Option<u32> {
    match refusal.position()? {
        ErrorPosition::Original(position) => Some(*position),
        ErrorPosition::Internal { .. } => None,
    }
}
