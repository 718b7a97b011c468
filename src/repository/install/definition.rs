//! The trigger function of a watched table, as SQL: what a row's keys are, and that they are queued.
//!
//! It is called for every statement that changes the table, and is on the writer's bill. So it does no more than the table
//! needs, in as few statements of its own as it can. And it never fails: a column may be renamed, or dropped, any day.

use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use super::catalog::Printed;
use crate::keyspace::{ChangePart, ChangeTemplate, MAX_KEY_BYTES, ParamType};

/// Begins the names of our functions.
pub(super) const WATCH: &str = "watch_";

/// So many names may be queued more than once by a statement, such as those of a row that keeps its key. To look for repetitions
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
}

impl Definition {
    /// For rows of a table: what `templates` make of them. A statement that changes more than `max_keys` of them is told
    /// as patterns. `printed`: what may become of the named columns, of all the worst.
    pub fn new(templates: &[&ChangeTemplate], max_keys: usize, printed: Printed) -> Self {
        let body = body(templates, max_keys);
        // Names from the catalog, whatever the writer has in its path. With the owner's rights: writers need none of ours.
        let mut settings = "SET search_path = pg_catalog, pg_temp".to_owned();
        if printed == Printed::Anyhow {
            // Dates and times as the keys spell them, whatever the writer's session is set to.
            settings += " SET DateStyle = 'ISO, YMD' SET TimeZone = 'UTC'";
        }
        let hash = xxh3_64(format!("{settings}\n{body}").as_bytes());
        let trigger = format!("{WATCH}{hash:016x}");
        let create = format!(
            "CREATE OR REPLACE FUNCTION cachewarden.{trigger}() RETURNS trigger\n\
             LANGUAGE plpgsql SECURITY DEFINER {settings} AS {};\n\
             REVOKE ALL ON FUNCTION cachewarden.{trigger} FROM PUBLIC;",
            dollar_quoted(&body),
        );
        Self {
            create,
            trigger,
            body,
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

/// What templates make of the rows of a subquery.
struct Entries {
    /// An expression a template that names columns.
    each: Vec<String>,
    /// The keys and the patterns of all rows, as arrays; NULL for no rows.
    exact: String,
    globs: String,
    /// What holds whatever rows changed.
    widest: [String; 2],
}

impl Entries {
    fn of(templates: &[&ChangeTemplate], columns: &[&str]) -> Self {
        let (mut each, mut arrays) = (Vec::new(), [Vec::new(), Vec::new()]);
        for wants_patterns in [false, true] {
            let wanted = |template: &&&ChangeTemplate| template.is_pattern() == wants_patterns;
            let arrays = &mut arrays[usize::from(wants_patterns)];
            let mut constant = Vec::new();
            for template in templates.iter().filter(wanted) {
                if template.is_constant() {
                    constant.push(literal(&template.widest()));
                    continue;
                }
                let name = format!("e{}", each.len());
                arrays.push(format!(
                    "array_agg({name}) FILTER (WHERE {name} IS NOT NULL)"
                ));
                each.push(format!("{} AS {name}", entry(template, columns)));
            }
            if !constant.is_empty() {
                let constant = constant.join(", ");
                arrays.push(format!(
                    "CASE WHEN count(*) > 0 THEN ARRAY[{constant}]::text[] END"
                ));
            }
            if arrays.is_empty() {
                arrays.push("NULL::text[]".to_owned());
            }
        }
        let [exact, globs] = arrays.map(|arrays| arrays.join(" || "));
        Self {
            each,
            exact,
            globs,
            widest: widest(templates),
        }
    }

    /// The keys `k` and patterns `p` of `rows`; of more than `most` rows, the widest. One statement does all of it, for each
    /// that a trigger runs costs the writer microseconds.
    fn select(&self, rows: &str, most: usize) -> String {
        let [exact, globs] = &self.widest;
        format!(
            "SELECT CASE WHEN is_bulk THEN {exact} ELSE coalesce(k, '{{}}') END AS k,
                   CASE WHEN is_bulk THEN {globs} ELSE coalesce(p, '{{}}') END AS p
            FROM (SELECT {} AS k,
                         {} AS p,
                         count(*) > {most} AS is_bulk
                  FROM (SELECT {} FROM ({rows}) AS r) AS e) AS rows",
            self.exact,
            self.globs,
            self.each.join(", ")
        )
    }
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
                let mut value = format!("r.c{}", at.unwrap_or_default());
                let mut bytes = kind.map(ParamType::longest);
                if let Some(kind) = kind {
                    value = format!("cachewarden.as_{}({value})", kind.sql_name());
                }
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
    let entry = parts.join(" || ");
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
    format!("CASE WHEN octet_length({entry}) <= {MAX_KEY_BYTES} THEN {entry} {beyond}END")
}

fn body(templates: &[&ChangeTemplate], max_keys: usize) -> String {
    let columns = columns(templates);
    let entries = Entries::of(templates, &columns);
    // As text, ordered byte by byte: not every type can be, nor every collation searched.
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
    let rows_of = |table: &str| format!("{} FROM {table} AS t", of("t"));
    let (old, new) = (rows_of("cachewarden_old"), rows_of("cachewarden_new"));
    let one = format!(
        "{} WHERE TG_OP <> 'INSERT' UNION ALL {} WHERE TG_OP <> 'DELETE'",
        of("OLD"),
        of("NEW")
    );
    let [exact, globs] = &entries.widest;
    // An update mostly has as many old rows as new ones. Where it has not, because a trigger let none arrive in another
    // partition, all of them are told, or it is a bulk: so the limit is one of both together.
    let [of_row, of_update, of_insert, of_delete] = [
        (one, 2),
        (format!("{old} UNION ALL {new}"), 2 * max_keys),
        (new, max_keys),
        (old, max_keys),
    ]
    .map(|(rows, most)| {
        // No more of a bulk than shows that it is one.
        let select = entries.select(&format!("{rows} LIMIT {}", most + 1), most);
        format!("SELECT k, p INTO exact, globs FROM ({select}) AS told;")
    });
    format!(
        "
DECLARE
    exact text[];
    globs text[];
BEGIN
    -- Whatever goes wrong in here, such as a column that has another name by now, the writer goes on. Nothing is written in
    -- here: a block that writes takes a transaction id of its own, and many of those make every snapshot of everybody dearer.
    BEGIN
        IF TG_OP = 'UPDATE' AND TG_LEVEL = 'STATEMENT' THEN
            {of_update}
        ELSIF TG_LEVEL = 'ROW' THEN
            -- The statement triggers speak for all rows of a statement; for what is replicated here they are not asked.
            IF cachewarden.is_apply_worker() THEN
                {of_row}
            END IF;
        ELSIF TG_OP = 'INSERT' THEN
            {of_insert}
        ELSIF TG_OP = 'DELETE' THEN
            {of_delete}
        ELSE
            exact := {exact};
            globs := {globs};
        END IF;
        IF cardinality(exact) > {FEW} OR cardinality(globs) > {FEW} THEN
            exact := ARRAY(SELECT DISTINCT u.name FROM unnest(exact) AS u (name));
            globs := ARRAY(SELECT DISTINCT u.name FROM unnest(globs) AS u (name));
        END IF;
    EXCEPTION WHEN OTHERS THEN
        RAISE WARNING 'cachewarden cannot tell the keys of the changed rows and invalidates all: %', SQLERRM;
        exact := {exact};
        globs := {globs};
    END;
    IF cardinality(exact) > 0 OR cardinality(globs) > 0 THEN
        INSERT INTO cachewarden.outbox (source, keys, patterns)
        VALUES (TG_TABLE_SCHEMA || '.' || TG_TABLE_NAME, exact, globs);
    END IF;
    RETURN NULL;
END
"
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
        format!("ARRAY[{}]::text[]", texts.join(", "))
    })
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
