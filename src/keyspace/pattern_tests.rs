use super::*;
use proptest::prelude::*;

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn globs_match_as_redis_matches_them() {
    let rows = [
        ("a:*", "a:", true),
        ("a:*", "a:b:c", true),
        ("a:*", "b:", false),
        ("a:?", "a:b", true),
        ("a:?", "a:", false),
        ("a:?", "a:bc", false),
        ("a:*b*c", "a:xbybzc", true),
        ("a:*b*c", "a:xbybz", false),
        ("a:[bc]", "a:c", true),
        ("a:[^bc]", "a:c", false),
        ("a:[^bc]", "a:d", true),
        ("a:[a-c]", "a:b", true),
        ("a:[c-a]", "a:b", true),
        // A `]` in front closes: nothing is in the class, or everything is out of it.
        ("a:[]", "a:]", false),
        ("a:[^]", "a:x", true),
        ("a:[\\]]", "a:]", true),
        // `a-]` is a range; `]` is its end and does not close.
        ("a:[a-]x]", "a:^", true),
        ("a:[a-\\]]", "a:]]", true),
        ("a:[\\a-c]", "a:-", true),
        ("a:[\\a-c]", "a:b", false),
        ("a:\\*", "a:*", true),
        ("a:\\*", "a:x", false),
        ("a:\\x", "a:x", true),
        ("a:**", "a:", true),
        ("a:]", "a:]", true),
    ];
    for (text, key, expected) in rows {
        assert_eq!(
            pattern(text).matches(key.as_bytes()),
            expected,
            "{text} {key}"
        );
    }
}

#[test]
fn what_is_no_glob_or_costs_too_much_is_refused() {
    let long = format!("a:{}", "x".repeat(511));
    let rows: [(&[u8], &str); 8] = [
        (long.as_bytes(), "length 513 exceeds 512"),
        (b"a:*********", "'a:*********' has more than 8 wildcards"),
        (b"a:[bc", "unclosed '[' at 2 in 'a:[bc'"),
        (b"a:[a-]", "unclosed '[' at 2 in 'a:[a-]'"),
        (b"a:[^", "unclosed '[' at 2 in 'a:[^'"),
        (
            b"a:\\",
            "'a:\\' ends in '\\'; write '\\\\' for the character itself",
        ),
        (
            b"a:[a-\xff]",
            "the range at 3 in 'a:[a-\\xff]' has an end that is not ASCII",
        ),
        (b"a:[\\]", "unclosed '[' at 2 in 'a:[\\]'"),
    ];
    for (text, why) in rows {
        let refused = Pattern::parse(text).map(|pattern| pattern.shown());
        assert_eq!(refused.map_err(|error| error.to_string()), Err(why.into()));
    }
}

#[test]
fn only_what_begins_with_a_declared_prefix_is_in_reach() {
    let reach = Reach::new(["users:".to_owned(), "calc:".to_owned()]);
    for fine in ["users:*", "users:[ab]*", "users\\:*", "calc:x?", "users:"] {
        assert!(reach.pattern(fine.as_bytes()).is_ok(), "{fine}");
    }
    let known = "(known: calc:, users:)";
    let wide = "is too wide; begin with a declared prefix, colon included";
    let rows = [
        ("*", format!("'*' {wide} {known}")),
        ("", format!("'' {wide} {known}")),
        ("users*", format!("'users*' {wide} {known}")),
        ("*:user", format!("'*:user' {wide} {known}")),
        (
            "u*rs:*",
            format!("'u*rs:*' begins with no declared prefix {known}"),
        ),
        (
            "orders:*",
            format!("'orders:*' begins with no declared prefix {known}"),
        ),
        (
            "cachewarden:*",
            "'cachewarden:*' is reserved for cachewarden's own keys".to_owned(),
        ),
        (
            "{users:1}:*",
            "'{users:1}:*' is reserved for cachewarden's own keys".to_owned(),
        ),
    ];
    for (text, why) in rows {
        let refused = reach
            .pattern(text.as_bytes())
            .map(|pattern| pattern.shown());
        assert_eq!(refused.map_err(|error| error.to_string()), Err(why));
    }
    assert!(reach.covers(b"users:1"));
    assert!(!reach.covers(b"sess:1"));
    assert!(!reach.covers(&names::lease_of(b"users:1")));
}

#[test]
fn a_template_as_a_pattern_matches_its_keys() {
    let template = KeyTemplate::parse("users:page:{page:int}:v{n:int}x").expect("a template");
    let pattern = Pattern::all_of(&template);
    assert_eq!(pattern.text().as_ref(), b"users:page:*:v*x");
    assert_eq!(pattern.head(), b"users:page:");
    assert!(pattern.matches(b"users:page:7:v1x"));
    assert_eq!(Pattern::all_under("a*b:").text().as_ref(), b"a\\*b:*");
}

#[test]
fn many_stars_against_a_long_key_cost_little() {
    let pattern = pattern("a:*a*a*a*a*a*a*ab");
    let key = format!("a:{}", "a".repeat(500));
    // Backtracking into every star would take longer than the universe has.
    for _ in 0..1000 {
        assert!(!pattern.matches(key.as_bytes()));
    }
}

proptest! {
    #[test]
    fn an_escaped_text_matches_itself_alone(text in "[a-c*?\\[\\]\\\\^-]{1,8}", other in "[a-c*?\\[\\]\\\\^-]{1,8}") {
        let pattern = Pattern::parse(&escape(text.as_bytes())).expect("escaped");
        prop_assert!(pattern.matches(text.as_bytes()));
        prop_assert_eq!(pattern.matches(other.as_bytes()), text == other);
        prop_assert_eq!(pattern.only_key(), Some(text.as_bytes()));
    }
}
