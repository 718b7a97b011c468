use proptest::prelude::*;

use super::super::Overlap;
use super::*;

fn template(text: &str) -> KeyTemplate {
    KeyTemplate::parse(text).unwrap()
}

#[test]
fn a_template_tells_its_prefix_and_parameters() {
    let users = template("users:page:{page:int}:limit:{limit:int}");
    assert_eq!(users.prefix(), "users:");
    let names: Vec<_> = users
        .params()
        .iter()
        .map(|p| (p.name.as_str(), p.kind))
        .collect();
    assert_eq!(names, [("page", ParamType::Int), ("limit", ParamType::Int)]);
    assert_eq!(users.to_string(), "users:page:{page:int}:limit:{limit:int}");
    assert_eq!(users.render(&["2", "10"]).unwrap(), "users:page:2:limit:10");
    assert_eq!(template("a::v{n:int}x").render(&["7"]).unwrap(), "a::v7x");
}

#[test]
fn a_fault_is_told_with_its_place_and_the_mend() {
    let rows: &[(&str, Range<usize>, &str, &str)] = &[
        ("", 0..0, "key is empty", "write a template"),
        (
            "courses",
            0..7,
            "no literal prefix",
            "begin with literal text",
        ),
        (":a", 0..2, "no literal prefix", "begin"),
        ("{id:int}:a", 0..10, "no literal prefix", "begin"),
        ("v{id:int}:a", 0..11, "no literal prefix", "begin"),
        (
            "a:{id}",
            2..6,
            "parameter `id` has no type",
            "int, bigint, text, uuid, date, bool",
        ),
        (
            "a:{id:number}",
            6..12,
            "`number` is no type",
            "the types are int",
        ),
        ("a:{Id:int}", 3..5, "`Id` is no name", "lower-case"),
        ("a:{:int}", 3..3, "`` is no name", "lower-case"),
        ("a:{id:int", 2..9, "`{` is not closed", "close"),
        ("a:id}", 4..5, "`}` may not stand", "visible ASCII"),
        (
            "a:{x:int}{y:int}",
            9..16,
            "two parameters in one segment",
            "put a `:` between",
        ),
        (
            "a:{x:int}:{x:int}",
            10..17,
            "parameter `x` is there twice",
            "of its own",
        ),
        ("a:b*", 3..4, "`*` may not stand", "visible ASCII"),
        ("a:é", 2..4, "`é` may not stand", "visible ASCII"),
        ("a b:{x:int}", 1..2, "` ` may not stand", "without spaces"),
        ("a:", 1..2, "key ends in `:`", "a:{id:bigint}"),
        (
            "cachewarden:{x:int}",
            0..12,
            "reserved",
            "another first segment",
        ),
        (
            "ratelimit:{x:int}",
            0..10,
            "reserved",
            "another first segment",
        ),
        (
            "a:1:2:3:4:5:6:7:8:9:10:11:12:13:14:15:16",
            0..40,
            "17 segments",
            "at most 16",
        ),
    ];
    for (text, at, message, hint) in rows {
        let error = KeyTemplate::parse(text).unwrap_err();
        assert_eq!(error.at, *at, "{text}: {error}");
        assert!(error.message.contains(message), "{text}: {error}");
        assert!(error.hint.contains(hint), "{text}: {}", error.hint);
    }
    assert!(KeyTemplate::parse(&format!("a:{}", "x".repeat(199))).is_err());
    let nine: String = (0..9).map(|n| format!(":{{p{n}:int}}")).collect();
    assert!(
        KeyTemplate::parse(&format!("a{nine}"))
            .unwrap_err()
            .message
            .contains("too many")
    );
}

#[test]
fn a_value_in_another_spelling_is_not_rendered() {
    let user = template("user:{id:bigint}");
    assert_eq!(
        user.render(&["abc"]).unwrap_err().to_string(),
        "'abc' is not a bigint in 'user:{id:bigint}'"
    );
    assert!(user.render(&["007"]).is_err());
    assert!(
        user.render(&[])
            .unwrap_err()
            .to_string()
            .contains("takes 1 values, not 0")
    );
    let texts = template("a:{x:text}:{y:text}:{z:text}");
    let long = "x".repeat(200);
    assert_eq!(
        texts.render(&[&long, &long, &long]),
        Err(KeyError::TooLong { len: 604 })
    );
}

#[test]
fn only_integers_have_bounds_and_they_must_admit_something() {
    let mut page = template("users:{page:int}:{name:text}");
    assert_eq!(page.bound("page", Some(1), Some(9)), Ok(()));
    assert!(page.render(&["0", "x"]).is_err());
    assert!(page.render(&["9", "x"]).is_ok());
    assert!(matches!(
        page.bound("pag", None, None),
        Err(BoundError::NoSuchParam { .. })
    ));
    assert!(matches!(
        page.bound("name", Some(1), None),
        Err(BoundError::NotAnInteger { .. })
    ));
    assert!(matches!(
        page.bound("page", Some(3), Some(2)),
        Err(BoundError::Crossed { .. })
    ));
    assert!(matches!(
        page.bound("page", Some(1 << 40), None),
        Err(BoundError::OutOfRange { .. })
    ));
}

#[test]
fn a_namespace_prefix_is_literal_and_ends_in_a_colon() {
    assert_eq!(check_prefix("calc:"), Ok(()));
    assert_eq!(check_prefix("calc:v2:"), Ok(()));
    for bad in [
        "",
        "calc",
        ":",
        "calc:*",
        "c{x:int}:",
        "cachewarden:x:",
        "ratelimit:",
    ] {
        assert!(check_prefix(bad).is_err(), "{bad}");
    }
}

/// Any value of a type, in its one spelling.
fn value_of(kind: ParamType) -> BoxedStrategy<String> {
    match kind {
        ParamType::Int => any::<i32>().prop_map(|n| n.to_string()).boxed(),
        ParamType::BigInt => any::<i64>().prop_map(|n| n.to_string()).boxed(),
        ParamType::Text => "[a-zA-Z0-9*?é🦀'-]{1,20}".boxed(),
        ParamType::Uuid => any::<u128>()
            .prop_map(|n| uuid::Uuid::from_u128(n).to_string())
            .boxed(),
        ParamType::Date => (1..=9999, 1..=12, 1..=28)
            .prop_map(|(y, m, d)| format!("{y:04}-{m:02}-{d:02}"))
            .boxed(),
        ParamType::Bool => any::<bool>().prop_map(|b| b.to_string()).boxed(),
    }
}

/// A template and values for it.
fn filled_template() -> impl Strategy<Value = (String, Vec<String>)> {
    let kinds = proptest::sample::select(ParamType::ALL.to_vec());
    let segment = prop_oneof![
        "[a-z0-9.-]{1,6}".prop_map(|text| (text, None)),
        (kinds, "[a-z]{0,2}", "[a-z]{0,2}").prop_flat_map(|(kind, head, tail)| {
            value_of(kind).prop_map(move |value| {
                let pattern = format!("{head}{{NAME:{}}}{tail}", kind.sql_name());
                (pattern, Some(value))
            })
        }),
    ];
    proptest::collection::vec(segment, 1..8).prop_map(|segments| {
        let mut text = "x".to_owned();
        let mut values = Vec::new();
        for (n, (segment, value)) in segments.into_iter().enumerate() {
            text.push(':');
            text.push_str(&segment.replace("NAME", &format!("p{n}")));
            values.extend(value);
        }
        (text, values)
    })
}

proptest! {
    #[test]
    fn parsing_never_panics_and_keeps_the_text(text in r"[a-z:{}*é -]{0,40}") {
        if let Ok(template) = KeyTemplate::parse(&text) {
            prop_assert_eq!(template.to_string(), text);
        }
    }

    #[test]
    fn a_rendered_key_routes_back_to_its_values((text, values) in filled_template()) {
        let template = template(&text);
        let values: Vec<&str> = values.iter().map(String::as_str).collect();
        let key = template.render(&values).unwrap();
        let router = super::super::Router::new(&[("x".into(), template.clone())], &[]);
        let routed = router.route(key.as_bytes()).unwrap().with_key(key.into());
        prop_assert_eq!(routed.params().collect::<Vec<_>>(), values);
        prop_assert_eq!(template.overlap(&template), Overlap::Ambiguous);
    }
}
