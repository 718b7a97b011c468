use proptest::prelude::*;

use super::*;
use crate::keyspace::ParamType;

fn params(names: &[&str]) -> Vec<Param> {
    let param = |name: &&str| Param {
        name: (*name).into(),
        kind: ParamType::BigInt,
        min: None,
        max: None,
    };
    names.iter().map(param).collect()
}

/// The texts of the parameters found.
fn found(text: &str) -> Vec<String> {
    let query =
        Query::parse(text, &params(&["id", "page"])).unwrap_or_else(|e| panic!("{text}: {e:?}"));
    let names = query.pieces.iter().filter_map(|piece| match piece {
        Piece::Param { at, .. } => Some(query.text[at.clone()].to_owned()),
        Piece::Sql(_) => None,
    });
    names.collect()
}

#[test]
fn a_name_is_a_parameter_only_where_sql_has_none_of_its_own() {
    let both = |middle: &str| format!("SELECT :id {middle} :page");
    let unseen = [
        "':id'",
        "'it''s :id'",
        r"'\' || ':id'",
        r"E'\':id'",
        r"e'\\\':id'",
        r"E'a'':id'",
        "E'a'\n'\\':id'",
        "'a'\n':id'",
        "--\r':id'",
        "\":id\"",
        "\"a\"\":id\"",
        "$$:id$$",
        "$a$ $$ :id $a$",
        "$é$:id$é$",
        "-- :id\n",
        "/* :id /* :id */ :id */",
        "x::id",
        "f(id := 1)",
        "a[1:2]",
        "a[1: id]",
        "'-- ' || '/*'",
        "a$$ || b$$",
        "U&':id'",
        "'multi\nline :id'",
        "-- it's\n",
        "/* it's */",
    ];
    for middle in unseen {
        assert_eq!(found(&both(middle)), [":id", ":page"], "{middle}");
    }
    let seen = [
        "x=:id",
        "(:id)",
        ":id::bigint",
        "type'x' = :id",
        "x -:id",
        "':a'||:id",
    ];
    for middle in seen {
        assert_eq!(found(&both(middle)), [":id", ":id", ":page"], "{middle}");
    }
}

#[test]
fn what_ends_the_statement_is_taken_off() {
    for text in ["SELECT 1;", "SELECT 1 ; ", "SELECT 1;; -- done"] {
        let query = Query::parse(text, &[]).unwrap();
        assert_eq!(query.text.trim_end(), "SELECT 1");
    }
}

#[test]
fn each_mistake_is_told_with_its_place_and_the_mend() {
    let rows: &[(&str, Range<usize>, &str, &str)] = &[
        ("", 0..0, "the query is empty", "SELECT"),
        (" -- only a comment", 0..18, "the query is empty", "SELECT"),
        (";", 0..1, "the query is empty", "SELECT"),
        (
            "SELECT :di, :page",
            7..10,
            "`:di` is no parameter",
            "did you mean `:id`?",
        ),
        (
            "SELECT :ID",
            7..10,
            "`:ID` is no parameter",
            "the parameters are :id, :page",
        ),
        (
            "SELECT :page",
            0..12,
            "never uses the key's parameter `id`",
            "use it as `:id`",
        ),
        (
            "SELECT $1, :id",
            7..9,
            "`$1` is no parameter",
            "such as `:id`",
        ),
        (
            "SELECT :id; DROP TABLE x",
            10..11,
            "separates statements",
            "one statement",
        ),
        (
            "SELECT 'a, :id",
            7..8,
            "string that begins here is not closed",
            "close it with `'`",
        ),
        (
            "SELECT \"a, :id",
            7..8,
            "string that begins here is not closed",
            "close it with `\"`",
        ),
        (
            "SELECT $x$ :id $y$",
            7..8,
            "dollar quote",
            "close it with `$x$`",
        ),
        ("SELECT /* /* */ :id", 7..8, "comment", "close it with `*/`"),
        ("SELECT \0 :id", 7..8, "NUL", "take it out"),
        (r"SELECT E'\' :id", 7 + 1..9, "string", "close it"),
    ];
    for (text, at, message, help) in rows {
        let errors = Query::parse(text, &params(&["id", "page"])).unwrap_err();
        assert_eq!(errors[0].at, *at, "{text}: {errors:?}");
        assert!(errors[0].message.contains(message), "{text}: {errors:?}");
        assert!(errors[0].help.contains(help), "{text}: {errors:?}");
    }
    let errors = Query::parse("SELECT :a, :b, $1", &[]).unwrap_err();
    assert_eq!(errors.len(), 3, "{errors:?}");
    let text = "UPDATE t SET v = :value";
    assert!(Query::parse_statement(text, &["value"]).is_ok());
    let errors = Query::parse_statement(text, &["value", "id"]).unwrap_err();
    assert!(errors[0].message.contains("never uses `:id`"), "{errors:?}");
}

proptest! {
    #[test]
    fn pieces_cover_the_text_without_gaps(text in r"(:id|:page|::|'|E'|\$\$|\$a\$|--|/\*|\*/|;|\n|\\|[a ])*") {
        let Ok(query) = Query::parse(&format!("{text} :id :page"), &params(&["id", "page"])) else { return Ok(()) };
        let mut done = 0;
        for piece in &query.pieces {
            let (Piece::Sql(range) | Piece::Param { at: range, .. }) = piece;
            prop_assert_eq!(range.start, done);
            done = range.end;
        }
        prop_assert_eq!(done, query.text.len());
    }

    #[test]
    fn any_text_is_read_without_panic(text: String) {
        let _ = Query::parse(&text, &params(&["id"]));
    }
}
