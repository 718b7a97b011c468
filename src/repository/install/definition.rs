//! The trigger function of a watched table, as SQL: what a row's keys are, and that they are queued.
//!
//! It is called for every statement that changes the table, and is on the writer's bill. So it does no more than the table
//! needs, in as few statements of its own as it can. And it never fails: a column may be renamed, or dropped, any day.

use xxhash_rust::xxh3::xxh3_64;

use super::catalog::Printed;
use crate::keyspace::{ChangePart, ChangeTemplate, MAX_KEY_BYTES, ParamType};

/// Begins the names of our functions.
pub(super) const WATCH: &str = "watch_";

/// Of so many rows, names may be queued more than once, such as those of a row that keeps its key. To look for repetitions
/// among them costs a writer more than anything else in here, and who empties the queue does it for many changes at once.
const FEW: usize = 8;

/// A trigger function. It is named after a hash of what it does, so tables whose changes invalidate alike share it, and
/// one that is there is known to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// Such as `watch_0123456789abcdef`.
    pub trigger: String,
    /// Makes it, for nobody but the triggers to call.
    pub create: String,
    /// A function of that name with another body was tampered with.
    pub body: String,
    /// Queues all that it could ever queue: what changed before there were triggers was told to nobody.
    pub tell_all: String,
}

impl Definition {
    /// For rows of a table: what `templates` make of them. A statement that changes more than `max_keys` of them is told
    /// as patterns. `printed`: what may become of the named columns, of all the worst.
    pub fn new(templates: &[&ChangeTemplate], max_keys: usize, printed: Printed) -> Self {
        let body = body(templates, max_keys);
        // Where it matters, values are printed as the keys spell them, whatever the writer's session is set to. It costs the
        // writer as much as all else in here.
        let settings = match printed {
            Printed::Alike => "",
            Printed::Anyhow => {
                " SET search_path = pg_catalog, pg_temp SET DateStyle = 'ISO, YMD' SET TimeZone = 'UTC'"
            }
        };
        let hash = xxh3_64(format!("{settings}\n{body}").as_bytes());
        let trigger = format!("{WATCH}{hash:016x}");
        // With the owner's rights: writers need none of ours.
        let create = format!(
            "CREATE OR REPLACE FUNCTION cachewarden.{trigger}() RETURNS trigger\n\
             LANGUAGE plpgsql SECURITY DEFINER{settings} AS {};\n\
             REVOKE ALL ON FUNCTION cachewarden.{trigger} FROM PUBLIC;",
            dollar_quoted(&body),
        );
        Self {
            create,
            trigger,
            body,
            tell_all: tell_all(templates),
        }
    }
}

/// The columns that templates name, each once.
pub(super) fn columns<'t>(templates: &[&'t ChangeTemplate]) -> Vec<&'t str> {
    let mut names: Vec<&str> = Vec::new();
    for name in templates.iter().flat_map(|template| columns_of(template)) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The columns that a template names, a name as often as it stands there.
fn columns_of(template: &ChangeTemplate) -> impl Iterator<Item = &str> {
    template.parts().iter().filter_map(|part| match part {
        ChangePart::Column { name, .. } => Some(name.as_str()),
        ChangePart::Text(_) => None,
    })
}

/// What templates make of the rows of a subquery: their keys, or their patterns.
struct List {
    /// The variable it is kept in.
    name: &'static str,
    /// An aggregate over all rows.
    of_rows: String,
    /// What holds whatever rows changed.
    widest: String,
}

impl List {
    /// The keys, and the patterns.
    fn both(templates: &[&ChangeTemplate], columns: &[&str]) -> [Self; 2] {
        let [keys, patterns] = widest(templates);
        [("exact", false, keys), ("globs", true, patterns)].map(|(name, wants_patterns, widest)| {
            let wanted = templates
                .iter()
                .copied()
                .filter(|template| template.is_pattern() == wants_patterns);
            let (constant, of_rows): (Vec<_>, Vec<_>) =
                wanted.partition(|template| template.is_constant());
            let mut arrays: Vec<String> = of_rows
                .iter()
                .map(|template| {
                    let entry = entry(template, columns);
                    format!("pg_catalog.array_remove(pg_catalog.array_agg({entry}), NULL)")
                })
                .collect();
            if !constant.is_empty() {
                let texts: Vec<String> = constant.iter().map(|t| literal(&t.widest())).collect();
                arrays.push(format!(
                    "CASE WHEN pg_catalog.count(*) OPERATOR(pg_catalog.>) 0 THEN {} END",
                    array(&texts)
                ));
            }
            let of_rows = arrays
                .into_iter()
                .reduce(|all, more| format!("pg_catalog.array_cat({all}, {more})"))
                .unwrap_or_else(|| "NULL::pg_catalog.text[]".to_owned());
            Self {
                name,
                of_rows,
                widest,
            }
        })
    }
}

/// Asks for both lists of `rows`, and how many these are. One query does all of it, and a plain one: each that a trigger runs,
/// and each part of it, costs the writer microseconds.
fn select([exact, globs]: &[List; 2], rows: &str, most: usize) -> String {
    // No more of a bulk than shows that it is one.
    let limit = most + 1;
    format!(
        "SELECT {}, {}, pg_catalog.count(*)
            INTO {}, {}, changed
            FROM ({rows} LIMIT {limit}) AS r;",
        exact.of_rows, globs.of_rows, exact.name, globs.name
    )
}

/// A row's key or pattern. Without a value for each of its columns it is NULL; a key that would be too long is none, and a
/// pattern that would be becomes the widest.
fn entry(template: &ChangeTemplate, columns: &[&str]) -> String {
    let mut longest = Some(0);
    let mut parts = Vec::new();
    for part in template.parts() {
        let (sql, bytes) = match part {
            ChangePart::Text(text) => (literal(text), Some(text.len())),
            ChangePart::Column { name, kind } => {
                let at = columns.iter().position(|column| column == name);
                let mut value = spelled(&format!("r.c{}", at.unwrap_or_default()), *kind);
                let mut bytes = kind.map(ParamType::longest);
                if template.is_pattern() {
                    value = format!("cachewarden.escape({value})");
                    bytes = bytes.map(|bytes| 2 * bytes);
                }
                (value, bytes)
            }
        };
        parts.push(sql);
        longest = longest.zip(bytes).map(|(sum, more)| sum + more);
    }
    let entry = parts
        .into_iter()
        .reduce(|head, part| format!("pg_catalog.textcat({head}, {part})"))
        .unwrap_or_default();
    if longest.is_some_and(|bytes| bytes <= MAX_KEY_BYTES) {
        return entry;
    }
    let beyond = match template.is_pattern() {
        true => format!(
            "WHEN ({entry}) IS NOT NULL THEN {} ",
            literal(&template.widest())
        ),
        false => String::new(),
    };
    format!(
        "CASE WHEN pg_catalog.octet_length({entry}) OPERATOR(pg_catalog.<=) {MAX_KEY_BYTES} THEN {entry} {beyond}END"
    )
}

/// A column's value as keys spell it; NULL for a value that no key can have.
///
/// Printed and not cast: a cast may be the table's owner's own function, and would run with our rights. Ordered byte by byte,
/// for not every collation can be searched. What is printed as it is spelled needs no function of ours; which type the column
/// has is asked again for every row, because it may be altered any day.
fn spelled(value: &str, kind: Option<ParamType>) -> String {
    let printed = format!("pg_catalog.concat({value}) COLLATE pg_catalog.\"C\"");
    let Some(kind) = kind else {
        return format!("CASE WHEN {value} IS NOT NULL THEN {printed} END");
    };
    let own = match kind {
        ParamType::Int => "smallint,integer",
        ParamType::BigInt => "smallint,integer,bigint",
        ParamType::Uuid => "uuid",
        ParamType::Text | ParamType::Date | ParamType::Bool => "",
    };
    let as_it_is = if own.is_empty() {
        String::new()
    } else {
        format!(
            "WHEN pg_catalog.pg_typeof({value}) OPERATOR(pg_catalog.=) ANY ('{{{own}}}'::pg_catalog.regtype[]) THEN {printed} "
        )
    };
    let kind = kind.sql_name();
    format!(
        "CASE WHEN {value} IS NULL THEN NULL {as_it_is}ELSE cachewarden.as_{kind}({printed}) END"
    )
}

fn body(templates: &[&ChangeTemplate], max_keys: usize) -> String {
    let columns = columns(templates);
    let lists = List::both(templates, &columns);
    let of = |row: &str| {
        let columns = columns.iter().enumerate();
        let list: Vec<String> = columns
            .map(|(n, column)| format!("{row}.{} AS c{n}", identifier(column)))
            .collect();
        // Rows without columns are rows.
        format!("SELECT {}", list.join(", "))
    };
    let rows_of = |table: &str| format!("{} FROM {table} AS t", of("t"));
    let (old, new) = (rows_of("cachewarden_old"), rows_of("cachewarden_new"));
    let one = format!(
        "{} WHERE TG_OP OPERATOR(pg_catalog.<>) 'INSERT' UNION ALL {} WHERE TG_OP OPERATOR(pg_catalog.<>) 'DELETE'",
        of("OLD"),
        of("NEW")
    );
    // An update mostly has as many old rows as new ones. Where it has not, because a trigger let none arrive in another
    // partition, all of them are told, or it is a bulk: so the limit is one of both together.
    let most_of_update = 2 * max_keys;
    let [of_row, of_update, of_insert, of_delete] = [
        (one, 2),
        (format!("{old} UNION ALL {new}"), most_of_update),
        (new, max_keys),
        (old, max_keys),
    ]
    .map(|(rows, most)| select(&lists, &rows, most));
    let few = FEW.min(max_keys);
    let [exact, globs] = lists.map(|list| list.widest);
    format!(
        "
-- Every name in here is qualified, for the writer's search_path holds: to set another one costs more than all that is done.
DECLARE
    exact pg_catalog.text[];
    globs pg_catalog.text[];
    changed bigint;
BEGIN
    -- Whatever goes wrong in here, such as a column that has another name by now, the writer goes on. Nothing is written in
    -- here: a block that writes takes a transaction id of its own, and many of those make every snapshot of everybody dearer.
    BEGIN
        IF TG_OP OPERATOR(pg_catalog.=) 'UPDATE' AND TG_LEVEL OPERATOR(pg_catalog.=) 'STATEMENT' THEN
            {of_update}
        ELSIF TG_LEVEL OPERATOR(pg_catalog.=) 'ROW' THEN
            -- The statement triggers speak for all rows of a statement; for what is replicated here they are not asked.
            IF cachewarden.is_apply_worker() THEN
                {of_row}
            END IF;
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
            {of_insert}
        ELSIF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
            {of_delete}
        ELSE
            -- Of what is truncated no row is told.
            exact := {exact};
            globs := {globs};
        END IF;
        IF changed OPERATOR(pg_catalog.>) {few} THEN
            IF changed OPERATOR(pg_catalog.>) (CASE WHEN TG_OP OPERATOR(pg_catalog.=) 'UPDATE' THEN {most_of_update} ELSE {max_keys} END) THEN
                exact := {exact};
                globs := {globs};
            ELSE
                exact := ARRAY(SELECT DISTINCT u.name FROM pg_catalog.unnest(exact) AS u (name));
                globs := ARRAY(SELECT DISTINCT u.name FROM pg_catalog.unnest(globs) AS u (name));
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'cachewarden cannot tell the keys of the changed rows and invalidates all: %', SQLERRM;
        exact := {exact};
        globs := {globs};
    END;
    IF pg_catalog.cardinality(exact) OPERATOR(pg_catalog.>) 0 OR pg_catalog.cardinality(globs) OPERATOR(pg_catalog.>) 0 THEN
        INSERT INTO cachewarden.outbox (source, keys, patterns)
        VALUES (pg_catalog.concat(TG_TABLE_SCHEMA, '.', TG_TABLE_NAME), coalesce(exact, '{{}}'), coalesce(globs, '{{}}'));
    END IF;
    RETURN NULL;
END
"
    )
}

fn tell_all(templates: &[&ChangeTemplate]) -> String {
    let [exact, globs] = widest(templates);
    format!(
        "INSERT INTO cachewarden.outbox (source, keys, patterns)\nVALUES ('migrate', {exact}, {globs});\n"
    )
}

/// Keys and patterns, as SQL, that hold whatever rows changed.
fn widest(templates: &[&ChangeTemplate]) -> [String; 2] {
    [false, true].map(|wants_patterns| {
        let is_wanted = |template: &&&ChangeTemplate| {
            (template.is_pattern() || !template.is_constant()) == wants_patterns
        };
        let mut texts: Vec<String> = templates
            .iter()
            .filter(is_wanted)
            .map(|template| literal(&template.widest()))
            .collect();
        texts.sort();
        texts.dedup();
        array(&texts)
    })
}

/// Expressions as an array.
fn array(texts: &[String]) -> String {
    format!("ARRAY[{}]::pg_catalog.text[]", texts.join(", "))
}

/// A name as SQL.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A text as SQL, whatever the session takes a backslash for.
fn literal(text: &str) -> String {
    let text = text.replace('\'', "''");
    if text.contains('\\') {
        format!("E'{}'", text.replace('\\', "\\\\"))
    } else {
        format!("'{text}'")
    }
}

/// A function's body as SQL. The quotes are such as the body, which holds names of others, lacks.
fn dollar_quoted(body: &str) -> String {
    let mut quote = "$cachewarden$".to_owned();
    while body.contains(quote.trim_end_matches('$')) {
        quote.insert(quote.len() - 1, '_');
    }
    format!("{quote}{body}{quote}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_named_stays_within_its_quotes() {
        assert_eq!(
            identifier("a\"; DROP TABLE x; --"),
            "\"a\"\"; DROP TABLE x; --\""
        );
        assert_eq!(literal("a'b"), "'a''b'");
        assert_eq!(literal(r"a\*'"), r"E'a\\*'''");
        let body = "x $cachewarden$ y $cachewarden_$";
        let quoted = dollar_quoted(body);
        assert!(quoted.starts_with("$cachewarden__$x ") && quoted.ends_with("$cachewarden__$"));
    }

    #[test]
    fn a_name_stands_for_what_is_done() {
        let one = ChangeTemplate::parse("a:{id}").unwrap();
        let two = ChangeTemplate::parse("a:{id:int}").unwrap();
        let name = |templates: &[&ChangeTemplate], max| {
            Definition::new(templates, max, Printed::Alike).trigger
        };
        assert_eq!(name(&[&one], 10), name(&[&one], 10));
        assert_ne!(name(&[&one], 10), name(&[&one], 11));
        assert_ne!(name(&[&one], 10), name(&[&two], 10));
        assert_ne!(name(&[&one], 10), name(&[&one, &two], 10));
    }
}
