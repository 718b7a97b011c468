//! What the database's catalog says of the watched tables and of what is installed.

use tokio_postgres::types::{Oid, Type};
use tokio_postgres::{Client, Row};

use super::definition::WATCH;
use super::doorbell::{self, Doorbell};
use crate::config::Watch;
use crate::repository::error::describe;

/// What is there, at one time.
pub(super) struct Catalog {
    /// Whether the server only follows another one.
    pub is_standby: bool,
    pub has_schema: bool,
    /// Whether there is the list of what was run in it: without it the schema is none of ours.
    pub has_list: bool,
    /// Who we are, quoted.
    pub role: String,
    /// How the database stores texts, such as `UTF8`.
    pub encoding: String,
    /// Whether we may do what a daemon does with the tables of the schema, those that are there.
    pub may_drain: bool,
    /// Versions of the migrations that were run.
    pub migrations: Vec<String>,
    /// A table for each watch.
    pub tables: Vec<Lookup>,
    pub triggers: Vec<Trigger>,
    pub functions: Vec<Function>,
    /// What hangs on the queue; it is not among those above.
    pub doorbell: Doorbell,
}

pub(super) enum Lookup {
    /// The table, then all its partitions and children.
    Found(Vec<Relation>),
    Missing,
    /// In Postgres' words.
    Refused(String),
}

/// A table, or a part of one.
#[derive(Clone, Debug)]
pub(super) struct Relation {
    pub oid: Oid,
    /// Quoted, with its schema.
    pub name: String,
    /// As in `pg_class.relkind`: `r` a table, `p` a partitioned one; `system` for one of Postgres' own, `own` for one of ours.
    pub kind: String,
    pub columns: Vec<Column>,
}

impl Relation {
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// A column of a table.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub name: String,
    pub printed: Printed,
}

/// What may become of a value that is printed, by its type; the worse, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Printed {
    /// The same text in every session.
    Alike,
    /// A text that depends on the session's settings; or the type is somebody's own, and nothing is known.
    Anyhow,
}

impl Printed {
    fn of(type_oid: Oid) -> Self {
        match Type::from_oid(type_oid) {
            Some(Type::INT2 | Type::INT4 | Type::INT8 | Type::NUMERIC) => Self::Alike,
            Some(Type::BOOL | Type::UUID | Type::TEXT | Type::VARCHAR | Type::BPCHAR) => {
                Self::Alike
            }
            _ => Self::Anyhow,
        }
    }
}

/// A trigger that calls a function of ours, or whatever trigger there is on the queue.
pub(super) struct Trigger {
    pub relation: Oid,
    /// Quoted, with its schema.
    pub relation_name: String,
    pub name: String,
    /// What makes it fire, as bits.
    pub kind: i16,
    /// As in `pg_trigger.tgenabled`.
    pub enabled: String,
    pub function: String,
    /// Whether that lies in our schema.
    pub is_ours: bool,
    /// Names of the tables of old and new rows.
    pub rows: [Option<String>; 2],
    /// Whether it fires only for some rows, or for updates of some columns.
    pub is_narrowed: bool,
}

impl Trigger {
    /// Whether it may keep rows out of its table that clients insert, without an error.
    pub fn may_swallow(&self) -> bool {
        /// As bits of `kind`: for each row, before, an insert.
        const ROW_BEFORE_INSERT: i16 = 1 | 2 | 4;
        let fires = self.enabled == "O" || self.enabled == "A";
        fires && self.kind & ROW_BEFORE_INSERT == ROW_BEFORE_INSERT
    }
}

/// A function of a watch, or of the doorbell.
pub(super) struct Function {
    pub name: String,
    /// With its parentheses, for dropping it.
    pub signature: String,
    pub body: String,
}

/// Reads it. Err: the connection was lost, or the catalog cannot be read, in safe words.
pub(super) async fn read(client: &Client, watches: &[Watch]) -> Result<Catalog, String> {
    let mut tables = Vec::new();
    for watch in watches {
        tables.push(match table(client, watch).await {
            Err(error) if error.as_db_error().is_none() => return Err(describe(&error)),
            Err(error) => Lookup::Refused(describe(&error)),
            Ok(relations) if relations.is_empty() => Lookup::Missing,
            Ok(relations) => Lookup::Found(relations),
        });
    }
    let installed = installed(client, tables).await;
    installed.map_err(|error| describe(&error))
}

async fn installed(client: &Client, tables: Vec<Lookup>) -> Result<Catalog, tokio_postgres::Error> {
    let server = "SELECT pg_is_in_recovery(), to_regnamespace('cachewarden') IS NOT NULL,
                  EXISTS (SELECT FROM pg_catalog.pg_class WHERE relnamespace = to_regnamespace('cachewarden')
                          AND relname = '__diesel_schema_migrations'), quote_ident(current_user),
                  current_setting('server_encoding')";
    let server = client.query_one(server, &[]).await?;
    let may_drain = client.query_one(MAY_DRAIN, &[]).await?.try_get(0)?;
    let migrations = if may_drain && server.try_get(2)? {
        let sql = "SELECT version FROM cachewarden.__diesel_schema_migrations ORDER BY version";
        let rows = client.query(sql, &[]).await?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<_, _>>()?
    } else {
        Vec::new()
    };
    let triggers = client.query(TRIGGERS, &[]).await?;
    let mut triggers: Vec<Trigger> = triggers.iter().map(trigger).collect::<Result<_, _>>()?;
    let functions = client
        .query(FUNCTIONS, &[&WATCH, &doorbell::FUNCTION])
        .await?;
    let mut functions: Vec<Function> = functions.iter().map(function).collect::<Result<_, _>>()?;
    Ok(Catalog {
        is_standby: server.try_get(0)?,
        has_schema: server.try_get(1)?,
        has_list: server.try_get(2)?,
        role: server.try_get(3)?,
        encoding: server.try_get(4)?,
        may_drain,
        migrations,
        tables,
        doorbell: Doorbell::take(&mut triggers, &mut functions),
        triggers,
        functions,
    })
}

const MAY_DRAIN: &str = "\
SELECT coalesce(bool_and(has_schema_privilege(c.relnamespace, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
           AND (c.relname = '__diesel_schema_migrations'
                OR has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'UPDATE')
                   AND has_table_privilege(c.oid, 'DELETE'))), true)
   AND coalesce((SELECT bool_and(has_sequence_privilege(s.oid, 'USAGE')) FROM pg_catalog.pg_class s
                 WHERE s.relnamespace = to_regnamespace('cachewarden') AND s.relname = 'fence_tokens'), true)
FROM pg_catalog.pg_class c
WHERE c.relnamespace = to_regnamespace('cachewarden') AND c.relkind = 'r'";

/// A table with its partitions and children, however deep. Names are bound, and read by Postgres
/// itself, which knows its quoting and its `search_path`.
async fn table(client: &Client, watch: &Watch) -> Result<Vec<Relation>, tokio_postgres::Error> {
    let name = watch.table.to_string();
    let rows = client.query(RELATIONS, &[&name]).await?;
    rows.iter().map(relation).collect()
}

const RELATIONS: &str = "\
WITH RECURSIVE tree (oid, depth) AS (
    SELECT to_regclass($1)::oid, 0
    UNION
    SELECT i.inhrelid, depth + 1 FROM pg_catalog.pg_inherits i JOIN tree ON i.inhparent = tree.oid
), parts AS (SELECT oid, min(depth) AS depth FROM tree GROUP BY oid)
SELECT c.oid, format('%I.%I', n.nspname, c.relname),
       CASE WHEN n.nspname IN ('pg_catalog', 'information_schema', 'pg_toast') THEN 'system'
            WHEN n.nspname = 'cachewarden' THEN 'own' ELSE c.relkind::text END,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum),
       ARRAY(SELECT a.atttypid FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum)
FROM parts
JOIN pg_catalog.pg_class c ON c.oid = parts.oid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
ORDER BY parts.depth, 2";

fn relation(row: &Row) -> Result<Relation, tokio_postgres::Error> {
    let (names, types): (Vec<String>, Vec<Oid>) = (row.try_get(3)?, row.try_get(4)?);
    let columns = names.into_iter().zip(types).map(|(name, type_oid)| Column {
        name,
        printed: Printed::of(type_oid),
    });
    Ok(Relation {
        oid: row.try_get(0)?,
        name: row.try_get(1)?,
        kind: row.try_get(2)?,
        columns: columns.collect(),
    })
}

const TRIGGERS: &str = "\
SELECT t.tgrelid, format('%I.%I', n.nspname, c.relname), t.tgname::text, t.tgtype, t.tgenabled::text,
       p.proname::text, t.tgoldtable::text, t.tgnewtable::text,
       t.tgqual IS NOT NULL OR cardinality(t.tgattr::int2[]) > 0,
       coalesce(p.pronamespace = to_regnamespace('cachewarden'), false)
FROM pg_catalog.pg_trigger t
JOIN pg_catalog.pg_proc p ON p.oid = t.tgfoid
JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE (p.pronamespace = to_regnamespace('cachewarden') OR t.tgrelid = to_regclass('cachewarden.outbox'))
  AND NOT t.tgisinternal
ORDER BY 2, 3";

fn trigger(row: &Row) -> Result<Trigger, tokio_postgres::Error> {
    Ok(Trigger {
        relation: row.try_get(0)?,
        relation_name: row.try_get(1)?,
        name: row.try_get(2)?,
        kind: row.try_get(3)?,
        enabled: row.try_get(4)?,
        function: row.try_get(5)?,
        rows: [row.try_get(6)?, row.try_get(7)?],
        is_narrowed: row.try_get(8)?,
        is_ours: row.try_get(9)?,
    })
}

const FUNCTIONS: &str = "\
SELECT p.proname::text, p.oid::regprocedure::text, p.prosrc
FROM pg_catalog.pg_proc p
WHERE p.pronamespace = to_regnamespace('cachewarden')
  AND (starts_with(p.proname::text, $1) OR p.proname = $2)
ORDER BY 1 DESC";

fn function(row: &Row) -> Result<Function, tokio_postgres::Error> {
    Ok(Function {
        name: row.try_get(0)?,
        signature: row.try_get(1)?,
        body: row.try_get(2)?,
    })
}
