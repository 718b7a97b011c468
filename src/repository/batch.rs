//! One statement for any number of keys of a cache, whatever SQL was declared.
//!
//! The parameters of the keys become columns of `unnest`, the declared query a correlated subquery
//! over them. For `SELECT id, title FROM courses WHERE id = :id` in the shape of an object:
//!
//! ```sql
//! SELECT r.ord, <size of v if it is too large>, <v unless it is too large>
//! FROM (SELECT cachewarden_k.cachewarden_ord AS ord,
//!              (SELECT row_to_json(cachewarden_t)
//!               FROM (SELECT id, title FROM courses WHERE id = cachewarden_k.cachewarden_p0
//! ) cachewarden_t) AS v
//!       FROM unnest($1::text[]::bigint[]) WITH ORDINALITY
//!            AS cachewarden_k(cachewarden_p0, cachewarden_ord)
//!       OFFSET 0) AS r
//! ```
//!
//! - Every parameter travels as text and is cast, so one kind of bind serves every type; measured,
//!   the cast costs nothing beside the look-up. Values are bound, never pasted.
//! - Our names are long so that a slip in the declared query (`WHERE ord = 1`) is Postgres' error
//!   and does not quietly mean one of our columns.
//! - `OFFSET 0` keeps the planner from pulling the subquery up, which would run the declared query
//!   once for the size and again for the value. With it the guard costs about 3 %.
//! - The value stays `json`: a cast to text would copy it once more, and what is sent is the same.
//! - The line break before the closing parenthesis ends a declared query's `-- comment`.
//! - A cache without parameters gets one column that nobody reads, so that there is one way only.

use std::fmt::Write as _;
use std::ops::Range;

use crate::config::{Cache, Piece, Query, Shape};

/// The longest value that is fetched, in bytes. Postgres measures it and keeps longer ones back,
/// because the driver would read them into memory whole before anyone could refuse them.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;

/// What Postgres counts on top of a value's own bytes when it is measured.
pub(super) const HEADER_BYTES: usize = 4;

/// The statement of one cache.
#[derive(Debug)]
pub(super) struct Batch {
    /// The statement that loads keys.
    pub sql: String,
    /// How many parameters a key has.
    pub params: usize,
    /// Where its placeholders stand, `$1` first: one a parameter, and one if there is none.
    pub placeholders: Vec<Range<usize>>,
    /// The declared query by itself with typed placeholders: the form in which Postgres' complaints
    /// speak of nothing but the declared text.
    pub bare: String,
    sql_places: Vec<Place>,
    bare_places: Vec<Place>,
    declared_len: usize,
}

/// Where a part of the declared text lies in a statement.
#[derive(Debug)]
pub(super) struct Place {
    statement: Range<usize>,
    declared: usize,
    /// A parameter: its insides have no counterpart in the declared text.
    whole: bool,
}

impl Batch {
    pub fn new(cache: &Cache) -> Self {
        let params = cache.key.params();
        let (head, tail) = match cache.shape {
            Shape::Object => (
                "SELECT row_to_json(cachewarden_t) FROM (",
                ") cachewarden_t",
            ),
            Shape::Array => (
                "SELECT coalesce(json_agg(cachewarden_t), '[]') FROM (",
                ") cachewarden_t",
            ),
            Shape::Scalar => (
                "SELECT to_json(cachewarden_t.cachewarden_v) FROM (",
                ") cachewarden_t(cachewarden_v)",
            ),
        };
        let limit = MAX_ANSWER_BYTES + HEADER_BYTES;
        let mut sql = format!(
            "SELECT r.ord, \
             CASE WHEN pg_column_size(r.v) > {limit} THEN pg_column_size(r.v) END, \
             CASE WHEN pg_column_size(r.v) <= {limit} THEN r.v END \
             FROM (SELECT cachewarden_k.cachewarden_ord AS ord, ({head}"
        );
        let sql_places = splice(&mut sql, &cache.query, |sql, index| {
            let _ = write!(sql, " cachewarden_k.cachewarden_p{index} ");
        });
        let _ = write!(sql, "\n{tail}) AS v FROM unnest(");
        let columns = params.len().max(1);
        let mut placeholders = Vec::with_capacity(columns);
        for i in 0..columns {
            let kind = params.get(i).map_or("text", |param| param.kind.sql_name());
            sql.push_str(if i > 0 { ", " } else { "" });
            let from = sql.len();
            let _ = write!(sql, "${}", i + 1);
            placeholders.push(from..sql.len());
            let _ = write!(sql, "::text[]::{kind}[]");
        }
        sql.push_str(") WITH ORDINALITY AS cachewarden_k(");
        for i in 0..columns {
            let _ = write!(sql, "cachewarden_p{i}, ");
        }
        sql.push_str("cachewarden_ord) OFFSET 0) AS r");

        let mut bare = String::new();
        let bare_places = splice(&mut bare, &cache.query, |bare, index| {
            let _ = write!(
                bare,
                " (${}::{}) ",
                index + 1,
                params[index].kind.sql_name()
            );
        });
        Self {
            sql,
            params: params.len(),
            placeholders,
            bare,
            sql_places,
            bare_places,
            declared_len: cache.query.text.len(),
        }
    }

    /// The byte of the declared text that Postgres means by `position` (characters, from 1) in the
    /// batch statement. What comes after the declared text is its end; what comes before, nothing.
    pub fn declared_offset(&self, position: u32) -> Option<usize> {
        place(&self.sql, &self.sql_places, position, self.declared_len)
    }

    /// The same for a position in the bare statement.
    pub fn bare_offset(&self, position: u32) -> Option<usize> {
        place(&self.bare, &self.bare_places, position, self.declared_len)
    }
}

/// Appends the declared query, with `param` writing what stands for a parameter.
///
/// `param` writes spaces around it: `LIMIT:limit` is legal in a declared query.
pub(super) fn splice(
    sql: &mut String,
    declared: &Query,
    param: impl Fn(&mut String, usize),
) -> Vec<Place> {
    let mut places = Vec::with_capacity(declared.pieces.len());
    for piece in &declared.pieces {
        let from = sql.len();
        let (at, whole) = match piece {
            Piece::Sql(range) => {
                sql.push_str(&declared.text[range.clone()]);
                (range.start, false)
            }
            Piece::Param { index, at } => {
                param(sql, *index);
                (at.start, true)
            }
        };
        places.push(Place {
            statement: from..sql.len(),
            declared: at,
            whole,
        });
    }
    places
}

/// The byte of the declared text that Postgres means by `position` in a statement made of it.
pub(super) fn place(
    sql: &str,
    places: &[Place],
    position: u32,
    declared_len: usize,
) -> Option<usize> {
    let skip = usize::try_from(position.checked_sub(1)?).ok()?;
    let byte = sql
        .char_indices()
        .nth(skip)
        .map_or(sql.len(), |(byte, _)| byte);
    if let Some(place) = places.iter().find(|place| place.statement.contains(&byte)) {
        let within = if place.whole {
            0
        } else {
            byte - place.statement.start
        };
        return Some(place.declared + within);
    }
    let end = places.last()?.statement.end;
    (byte >= end).then_some(declared_len)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::keyspace::KeyTemplate;

    fn batch(key: &str, query: &str, shape: Shape) -> Batch {
        let key = KeyTemplate::parse(key).unwrap();
        Batch::new(&Cache {
            name: "c".to_owned(),
            query: Query::parse(query, key.params()).unwrap(),
            key,
            shape,
            ttl: Duration::from_secs(60),
            ttl_jitter: 0.0,
            missing_ttl: Duration::ZERO,
            load_timeout: Duration::from_secs(1),
            aging: crate::config::Aging::default(),
            max_loads: 1,
            max_value: 1 << 20,
            l1: false,
            index: false,
            watched: false,
            write: None,
            max_unproven: Duration::ZERO,
            warm: None,
            query_span: 0..0,
        })
    }

    #[test]
    fn a_declared_query_becomes_a_subquery_over_its_keys() {
        let batch = batch(
            "c:{a:int}:{b:text}",
            "SELECT 1 LIMIT:a--:b\n+:b",
            Shape::Array,
        );
        assert_eq!(
            batch.sql,
            "SELECT r.ord, CASE WHEN pg_column_size(r.v) > 67108868 THEN pg_column_size(r.v) END, \
             CASE WHEN pg_column_size(r.v) <= 67108868 THEN r.v END \
             FROM (SELECT cachewarden_k.cachewarden_ord AS ord, \
             (SELECT coalesce(json_agg(cachewarden_t), '[]') FROM \
             (SELECT 1 LIMIT cachewarden_k.cachewarden_p0 --:b\n+ cachewarden_k.cachewarden_p1 \n\
             ) cachewarden_t) AS v \
             FROM unnest($1::text[]::int[], $2::text[]::text[]) WITH ORDINALITY \
             AS cachewarden_k(cachewarden_p0, cachewarden_p1, cachewarden_ord) OFFSET 0) AS r"
        );
        assert_eq!(batch.bare, "SELECT 1 LIMIT ($1::int) --:b\n+ ($2::text) ");
        let binds: Vec<_> = batch
            .placeholders
            .iter()
            .map(|at| &batch.sql[at.clone()])
            .collect();
        assert_eq!(binds, ["$1", "$2"]);
    }

    #[test]
    fn a_place_in_a_parameter_is_its_beginning_and_behind_the_query_its_end() {
        let query = "SELECT :a + 1";
        let batch = batch("c:{a:int}", query, Shape::Object);
        let at = |text: &str| u32::try_from(batch.sql.find(text).unwrap() + 1).unwrap();
        assert_eq!(batch.declared_offset(at("cachewarden_p0")), Some(7));
        assert_eq!(batch.declared_offset(at("+ 1")), Some(10));
        assert_eq!(
            batch.declared_offset(at(") cachewarden_t")),
            Some(query.len())
        );
        assert_eq!(batch.declared_offset(u32::MAX), Some(query.len()));
        assert_eq!(batch.declared_offset(1), None);
        assert_eq!(batch.declared_offset(0), None);
    }

    proptest! {
        #[test]
        fn every_character_of_a_query_is_found_where_it_stands(
            words in proptest::collection::vec("(é|😀|x| |:a |:b |'ä:a' ){1,4}", 1..12),
        ) {
            let query = format!("SELECT :a:b {}", words.concat());
            let batch = batch("c:{a:int}:{b:int}", &query, Shape::Object);
            for (statement, found) in [
                (&batch.sql, Batch::declared_offset as fn(&Batch, u32) -> Option<usize>),
                (&batch.bare, Batch::bare_offset),
            ] {
                for (position, (_, c)) in (1..).zip(statement.char_indices()) {
                    let offset = found(&batch, position);
                    if let Some(at) = offset && "é😀xä'".contains(c) && at < query.len()
                        && !query[at..].starts_with(':')
                    {
                        prop_assert!(query[at..].starts_with(c), "{c} at {at} of {query}");
                    }
                }
                let seen: std::collections::HashSet<_> =
                    (1..).zip(statement.chars()).filter_map(|(p, _)| found(&batch, p)).collect();
                for (at, c) in query.char_indices().filter(|(_, c)| "é😀xä".contains(*c)) {
                    prop_assert!(seen.contains(&at), "{c} at {at} of {query}");
                }
            }
        }
    }
}
