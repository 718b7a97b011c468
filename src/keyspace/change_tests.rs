use super::*;

fn parse(text: &str) -> ChangeTemplate {
    ChangeTemplate::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn columns(template: &ChangeTemplate) -> Vec<(&str, Option<ParamType>)> {
    let columns = template.parts().iter().filter_map(|part| match part {
        ChangePart::Column { name, kind } => Some((name.as_str(), *kind)),
        ChangePart::Text(_) => None,
    });
    columns.collect()
}

#[test]
fn wildcards_make_a_pattern_and_columns_do_not() {
    let rows: &[(&str, bool, &[&str], &str)] = &[
        ("courses:{id}", false, &["id"], "courses:*"),
        ("courses:count", false, &[], "courses:count"),
        ("courses:list:*", true, &[], "courses:list:*"),
        ("orders:{user}:{n}:*", true, &["user", "n"], "orders:*:*:*"),
        ("a:v{n}px", false, &["n"], "a:v*px"),
        ("a:b?[0-9]", true, &[], "a:b?[0-9]"),
        (r"a:\*", true, &[], r"a:\*"),
        (
            r#"a:{"odd ""name:} of it"}"#,
            false,
            &["odd \"name:} of it"],
            "a:*",
        ),
        ("a:{größe}", false, &["größe"], "a:*"),
    ];
    for (text, is_pattern, names, widest) in rows {
        let template = parse(text);
        assert_eq!(template.is_pattern(), *is_pattern, "{text}");
        let found: Vec<&str> = columns(&template).iter().map(|(name, _)| *name).collect();
        assert_eq!(found, *names, "{text}");
        assert_eq!(template.widest(), *widest, "{text}");
        assert_eq!(template.is_constant(), names.is_empty(), "{text}");
    }
}

#[test]
fn a_broken_template_is_told_with_its_place() {
    let rows = [
        ("", 0..0, "no literal prefix"),
        ("courses", 0..7, "no literal prefix"),
        ("*", 0..1, "no literal prefix"),
        (":x", 0..2, "no literal prefix"),
        ("cour*:x", 0..7, "no literal prefix"),
        ("{id}:x", 0..6, "no literal prefix"),
        ("cachewarden:leases", 0..12, "reserved"),
        ("a:{id", 3..5, "not closed"),
        ("a:{}", 3..3, "is no name of a column"),
        ("a:{a b}", 3..6, "is no name of a column"),
        ("a:{id:money}", 5..11, "`money` is no type"),
        (r#"a:{"id}"#, 3..7, "not closed"),
        ("a:b}", 3..4, "may not stand"),
        ("a:b c", 3..4, "may not stand"),
        ("a:[x", 2..3, "`[` is not closed"),
        (r"a:\", 2..3, "nothing stands behind"),
        ("a:*********", 0..11, "too many"),
    ];
    for (text, at, message) in rows {
        let error = ChangeTemplate::parse(text).unwrap_err();
        assert!(error.message.contains(message), "{text}: {error}");
        assert_eq!(error.at, at, "{text}: {error}");
    }
    assert!(ChangeTemplate::parse(&format!("a:{}", "x".repeat(200))).is_err());
}

#[test]
fn a_column_takes_the_type_of_the_parameter_in_its_place() {
    use ParamType::*;
    let keys = [
        "courses:{id:bigint}",
        "courses:count",
        "courses:slug:{slug:text}",
        "courses:v{n:int}px:{day:date}",
        "orders:list:{user:uuid}:page:{page:int}",
    ]
    .map(|text| KeyTemplate::parse(text).unwrap());
    let rows: &[(&str, &[Option<ParamType>])] = &[
        ("courses:{id}", &[Some(BigInt)]),
        ("courses:{id:int}", &[Some(Int)]),
        ("courses:slug:{s}", &[Some(Text)]),
        ("courses:v{a}px:{b}", &[Some(Int), Some(Date)]),
        ("courses:w{a}px:{b}", &[None, None]),
        ("orders:list:{customer}:*", &[Some(Uuid)]),
        ("orders:list:{customer}:page:*", &[Some(Uuid)]),
        ("orders:list:{customer}:page:7", &[Some(Uuid)]),
        ("orders:list:{customer}:page:x", &[None]),
        ("orders:list:*:page:{page}", &[None]),
        ("orders:list:{customer}", &[None]),
        ("elsewhere:{id}", &[None]),
    ];
    for (text, kinds) in rows {
        let mut template = parse(text);
        let declared = columns(&template)[0].1;
        let inferred = template.infer(keys.iter());
        if declared.is_some() {
            assert_eq!(inferred, Err("id".to_owned()), "{text}");
            continue;
        }
        assert_eq!(inferred, Ok(()), "{text}");
        let found: Vec<_> = columns(&template).iter().map(|(_, kind)| *kind).collect();
        assert_eq!(found, *kinds, "{text}");
    }
}

#[test]
fn a_key_without_a_column_for_a_parameter_is_a_pattern() {
    let key = KeyTemplate::parse("users:page:v{page:int}:limit:{limit:int}").unwrap();
    let all = ChangeTemplate::of_key(&key, |name| {
        ["page", "limit"].into_iter().find(|n| *n == name)
    });
    assert!(!all.is_pattern());
    assert_eq!(all.widest(), "users:page:v*:limit:*");
    assert_eq!(
        columns(&all),
        [
            ("page", Some(ParamType::Int)),
            ("limit", Some(ParamType::Int))
        ]
    );
    let one = ChangeTemplate::of_key(&key, |name| (name == "page").then_some("p"));
    assert!(one.is_pattern());
    assert_eq!(columns(&one), [("p", Some(ParamType::Int))]);
    let none = ChangeTemplate::of_key(&key, |_| None);
    assert!(none.is_pattern() && none.is_constant());
    assert_eq!(
        none.parts(),
        [ChangePart::Text("users:page:v*:limit:*".to_owned())]
    );
}
