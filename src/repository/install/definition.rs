//! The functions of a watched table, as SQL: what a row's keys are, and the trigger that queues them.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use crate::keyspace::{ChangePart, ChangeTemplate, MAX_KEY_BYTES};

/// Begin the names of our functions.
pub(super) const KEYS: &str = "keys_";
pub(super) const WATCH: &str = "watch_";

/// Two functions. They are named after a hash of what they do, so tables whose changes invalidate
/// alike share them, and one that is there is known to be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    /// Such as `watch_0123456789abcdef`.
    pub trigger: String,
    /// Makes both, for nobody but the triggers to call.
    pub create: String,
    /// The bodies by function name: a function that has another was tampered with.
    pub bodies: [(String, String); 2],
}

impl Definition {
    /// For rows of a table: what `templates` make of them. A statement that changes more than
    /// `max_keys` of them is told as patterns.
    pub fn new(templates: &[&ChangeTemplate], max_keys: usize) -> Self {
        let columns = columns(templates);
        let keys_body = keys_body(templates, &columns);
        let watch_body = |keys: &str| watch_body(templates, &columns, max_keys, keys);
        let hash = xxh3_64(format!("{keys_body}\n{}", watch_body(KEYS)).as_bytes());
        let (keys, trigger) = (format!("{KEYS}{hash:016x}"), format!("{WATCH}{hash:016x}"));
        let watch_body = watch_body(&keys);
        let params: Vec<String> = (0..columns.len()).map(|n| format!("c{n} text")).collect();
        let params = params.join(", ");
        // Dates and times as the keys spell them, whatever the writer's session is set to; names from
        // the catalog, whatever it has in its path. With the owner's rights: writers need none of ours.
        let create = format!(
            "CREATE OR REPLACE FUNCTION cachewarden.{keys}({params}) RETURNS TABLE (entry text, is_pattern boolean)\n\
             LANGUAGE sql STABLE AS {};\n\
             CREATE OR REPLACE FUNCTION cachewarden.{trigger}() RETURNS trigger\n\
             LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp\n\
             SET DateStyle = 'ISO, YMD' SET TimeZone = 'UTC' AS {};\n\
             REVOKE ALL ON FUNCTION cachewarden.{keys}, cachewarden.{trigger} FROM PUBLIC;",
            dollar_quoted(&keys_body),
            dollar_quoted(&watch_body),
        );
        Self {
            create,
            bodies: [(keys, keys_body), (trigger.clone(), watch_body)],
            trigger,
        }
    }
}

/// The columns that templates name, each once.
pub(super) fn columns<'t>(templates: &[&'t ChangeTemplate]) -> Vec<&'t str> {
    let mut names: Vec<&str> = Vec::new();
    for part in templates.iter().flat_map(|template| template.parts()) {
        if let ChangePart::Column { name, .. } = part
            && !names.contains(&name.as_str())
        {
            names.push(name);
        }
    }
    names
}

/// One row in, an entry a template out. An entry without a value for each of its columns is NULL; a
/// key that would be too long is none, and a pattern that would be becomes the widest.
fn keys_body(templates: &[&ChangeTemplate], columns: &[&str]) -> String {
    let mut rows = Vec::new();
    for template in templates {
        let entry: Vec<String> = template
            .parts()
            .iter()
            .map(|part| match part {
                ChangePart::Text(text) => literal(text),
                ChangePart::Column { name, kind } => {
                    let at = columns.iter().position(|column| column == name);
                    let mut value = format!("c{}", at.unwrap_or_default());
                    if let Some(kind) = kind {
                        value = format!("cachewarden.as_{}({value})", kind.sql_name());
                    }
                    if template.is_pattern() {
                        value = format!("cachewarden.escape({value})");
                    }
                    value
                }
            })
            .collect();
        let widest = literal(&template.widest());
        rows.push(format!(
            "({}, {}, {widest})",
            entry.join(" || "),
            template.is_pattern()
        ));
    }
    format!(
        "\n    SELECT CASE WHEN octet_length(e.entry) <= {MAX_KEY_BYTES} THEN e.entry\n\
         \x20               WHEN e.is_pattern AND e.entry IS NOT NULL THEN e.widest END, e.is_pattern\n\
         \x20   FROM (VALUES\n        {}\n    ) AS e (entry, is_pattern, widest)\n",
        rows.join(",\n        ")
    )
}

fn watch_body(
    templates: &[&ChangeTemplate],
    columns: &[&str],
    max_keys: usize,
    keys: &str,
) -> String {
    let args: Vec<String> = (0..columns.len()).map(|n| format!("r.c{n}")).collect();
    let select = |from: &str| {
        format!(
            "SELECT array_agg(DISTINCT k.entry) FILTER (WHERE NOT k.is_pattern),\n\
             \x20                  array_agg(DISTINCT k.entry) FILTER (WHERE k.is_pattern)\n\
             \x20           INTO exact, globs\n\
             \x20           FROM ({from}) AS r, cachewarden.{keys}({}) AS k\n\
             \x20           WHERE k.entry IS NOT NULL;",
            args.join(", ")
        )
    };
    // As text, compared byte by byte: not every type can be compared, nor every collation searched.
    // Printed and not cast: a cast may be the table's owner's own function, and would run with our
    // rights.
    let of = |row: &str| {
        let mut list = "SELECT true".to_owned();
        for (n, column) in columns.iter().enumerate() {
            let value = format!("{row}.{}", identifier(column));
            let _infallible = write!(
                list,
                ", CASE WHEN {value} IS NOT NULL THEN format('%s', {value}) END COLLATE \"C\" AS c{n}"
            );
        }
        list
    };
    let (old, new) = (of("t"), of("t"));
    let inserted = select(&format!(
        "{new} FROM cachewarden_new AS t GROUP BY 1{}",
        group_by(columns)
    ));
    let deleted = select(&format!(
        "{old} FROM cachewarden_old AS t GROUP BY 1{}",
        group_by(columns)
    ));
    let updated = select(&format!(
        "{old} FROM cachewarden_old AS t UNION {new} FROM cachewarden_new AS t"
    ));
    let one = select(&format!(
        "{} WHERE TG_OP <> 'INSERT' UNION {} WHERE TG_OP <> 'DELETE'",
        of("OLD"),
        of("NEW")
    ));
    let is_many = |table: &str| {
        let beyond = max_keys + 1;
        format!(
            "is_bulk := (SELECT count(*) > {max_keys} FROM (SELECT FROM {table} LIMIT {beyond}) AS few);"
        )
    };
    let (many_old, many_new) = (is_many("cachewarden_old"), is_many("cachewarden_new"));
    let (exact, globs) = widest(templates);
    format!(
        "
DECLARE
    exact text[];
    globs text[];
    is_bulk boolean := TG_OP = 'TRUNCATE';
BEGIN
    -- The statement triggers speak for all rows of a statement; for what is replicated here they are not asked.
    IF TG_LEVEL = 'ROW' AND NOT cachewarden.is_apply_worker() THEN
        RETURN NULL;
    END IF;
    -- Whatever goes wrong in here, the writer goes on. Nothing is written in here: a block that writes takes a
    -- transaction id of its own, and many of those make every snapshot of everybody dearer.
    BEGIN
        IF TG_LEVEL = 'ROW' THEN
            {one}
        ELSIF TG_OP = 'INSERT' THEN
            {many_new}
            IF NOT is_bulk THEN
            {inserted}
            END IF;
        ELSIF TG_OP = 'UPDATE' THEN
            {many_new}
            IF NOT is_bulk THEN
            {updated}
            END IF;
        ELSIF TG_OP = 'DELETE' THEN
            {many_old}
            IF NOT is_bulk THEN
            {deleted}
            END IF;
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'cachewarden cannot tell the keys of the changed rows and invalidates all: %', SQLERRM;
        is_bulk := true;
    END;
    IF is_bulk THEN
        exact := {exact};
        globs := {globs};
    END IF;
    IF cardinality(exact) > 0 OR cardinality(globs) > 0 THEN
        INSERT INTO cachewarden.outbox (source, keys, patterns)
        VALUES (TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, coalesce(exact, '{{}}'), coalesce(globs, '{{}}'));
    END IF;
    RETURN NULL;
END
"
    )
}

fn group_by(columns: &[&str]) -> String {
    (0..columns.len()).map(|n| format!(", {}", n + 2)).collect()
}

/// Keys and patterns, as SQL, that hold whatever rows changed.
fn widest(templates: &[&ChangeTemplate]) -> (String, String) {
    let array = |wants_patterns: bool| {
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
        format!("ARRAY[{}]::text[]", texts.join(", "))
    };
    (array(false), array(true))
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
        let name = |templates: &[&ChangeTemplate], max| Definition::new(templates, max).trigger;
        assert_eq!(name(&[&one], 10), name(&[&one], 10));
        assert_ne!(name(&[&one], 10), name(&[&one], 11));
        assert_ne!(name(&[&one], 10), name(&[&two], 10));
        assert_ne!(name(&[&one], 10), name(&[&one, &two], 10));
    }
}
