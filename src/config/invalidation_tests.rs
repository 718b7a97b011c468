use super::*;
use crate::config::Config;
use crate::keyspace::{ChangePart, ParamType};

const HEAD: &str = "[redis]\nurl = \"redis://h\"\n[postgres]\nurl = \"postgres://u@h/d\"\n[namespaces.calc]\nprefix = \"calc:\"\nttl = \"1m\"\n";

fn cache(name: &str, key: &str, query: &str, more: &str) -> String {
    format!(
        "[caches.{name}]\nkey = \"{key}\"\nquery = \"{query}\"\nshape = \"array\"\nttl = \"1m\"\n{more}\n"
    )
}

fn columns(template: &WatchTemplate) -> Vec<(String, Option<ParamType>)> {
    let columns = template
        .template
        .parts()
        .iter()
        .filter_map(|part| match part {
            ChangePart::Column { name, kind } => Some((name.clone(), *kind)),
            ChangePart::Text(_) => None,
        });
    columns.collect()
}

#[test]
fn watches_are_read_with_the_types_of_the_caches_they_name() {
    let text = format!(
        "{HEAD}{}{}[invalidation]\nprefixes = [\"legacy:\"]\nmax_keys = 7\n\
         [[invalidation.watch]]\ntable = 'Public.\"Odd Table\"'\n\
         invalidate = [\"courses:{{id}}\", \"courses:list:*\", \"legacy:{{id}}\", \"calc:total\"]\n",
        cache("course", "courses:{id:bigint}", "SELECT :id", ""),
        cache(
            "page",
            "page:{user:uuid}:{n:int}",
            "SELECT :user, :n",
            "depends_on = { table = \"users\", on = { user = \"user_id\" } }"
        ),
    );
    let config = Config::from_toml(&text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(config.unserved, Vec::<String>::new());
    let Invalidation {
        watches,
        prefixes,
        max_keys,
        ..
    } = &config.invalidation;
    assert_eq!(
        (prefixes.as_slice(), *max_keys),
        (&["legacy:".to_owned()][..], 7)
    );
    assert_eq!(watches[0].table.to_string(), "\"public\".\"Odd Table\"");
    let kinds: Vec<_> = watches[0].templates.iter().map(columns).collect();
    let id = |kind| vec![("id".to_owned(), kind)];
    assert_eq!(
        kinds,
        [id(Some(ParamType::BigInt)), vec![], id(None), vec![]]
    );
    assert_eq!(
        &text[watches[0].templates[1].span.clone()],
        "\"courses:list:*\""
    );
    // What a cache depends on is a watch: a parameter without a column is any value.
    assert_eq!(watches[1].table.to_string(), "\"users\"");
    let derived = &watches[1].templates[0];
    assert_eq!(derived.template.widest(), "page:*:*");
    assert!(derived.template.is_pattern());
    assert_eq!(
        columns(derived),
        [("user_id".to_owned(), Some(ParamType::Uuid))]
    );
    let report = config.report_watch(0, Some(1), "why", "mend");
    assert!(
        report.contains("courses:list:*") && report.contains("help: mend"),
        "{report}"
    );
}

#[test]
fn without_the_section_nothing_is_watched() {
    let config = Config::from_toml(HEAD).unwrap();
    assert!(config.invalidation.watches.is_empty());
    assert_eq!(config.invalidation.max_keys, 1000);
}

#[test]
fn a_table_is_named_as_in_sql() {
    let rows = [
        ("courses", "\"courses\""),
        ("Shop.Courses", "\"shop\".\"courses\""),
        (
            "\"Shop\".\"Cour\"\"ses; --\"",
            "\"Shop\".\"Cour\"\"ses; --\"",
        ),
        ("größe_1$", "\"größe_1$\""),
    ];
    for (text, quoted) in rows {
        assert_eq!(TableName::parse(text).unwrap().to_string(), quoted);
    }
    for (text, why) in [
        ("", "is no name"),
        ("a.", "is no name"),
        ("a.b.c", "has `.c` behind"),
        ("a b", "has ` b` behind"),
        ("a;drop", "has `;drop` behind"),
        ("\"a", "not closed"),
        ("\"a\"b", "has `b` behind"),
        ("\"\"", "is no name"),
        ("1a", "begins with"),
        ("\"a\0b\"", "longer than"),
    ] {
        let found = TableName::parse(text).unwrap_err();
        assert!(found.contains(why), "{text}: {found}");
    }
    assert!(TableName::parse(&"x".repeat(64)).is_err());
}
