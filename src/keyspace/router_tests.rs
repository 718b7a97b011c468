use proptest::prelude::*;

use super::super::Overlap;
use super::*;

fn router(caches: &[&str], namespaces: &[&str]) -> Router {
    let caches: Vec<_> = caches
        .iter()
        .enumerate()
        .map(|(n, text)| (format!("c{n}"), KeyTemplate::parse(text).unwrap()))
        .collect();
    let namespaces: Vec<_> = namespaces
        .iter()
        .enumerate()
        .map(|(n, prefix)| (format!("n{n}"), (*prefix).to_owned()))
        .collect();
    Router::new(&caches, &namespaces)
}

fn shop() -> Router {
    router(
        &[
            "courses:{id:bigint}",
            "courses:slug:{slug:text}",
            "courses:list:all",
            "courses:count",
            "user:{id:bigint}:purchases",
            "users:page:{page:int}:limit:{limit:int}",
            "v2:courses:{id:bigint}",
            "products:list:{kind:text}",
            "products:list:all",
        ],
        &["calc:", "calc2:deep:"],
    )
}

#[test]
fn a_key_leads_to_its_space_and_parameters() {
    let rows: &[(&str, u16, &[&str])] = &[
        ("courses:42", 0, &["42"]),
        ("courses:slug:rust-101", 1, &["rust-101"]),
        ("courses:slug:🦀", 1, &["🦀"]),
        ("courses:list:all", 2, &[]),
        ("courses:count", 3, &[]),
        ("user:7:purchases", 4, &["7"]),
        ("users:page:2:limit:10", 5, &["2", "10"]),
        ("v2:courses:42", 6, &["42"]),
        ("products:list:books", 7, &["books"]),
        ("products:list:user:*", u16::MAX, &[]),
        ("products:list:*", 7, &["*"]),
        ("products:list:all", 8, &[]),
        ("calc:a:b:c", 9, &[]),
        ("calc2:deep:x", 10, &[]),
    ];
    let router = shop();
    for (key, space, params) in rows {
        let Ok(route) = router.route(key.as_bytes()) else {
            assert_eq!(*space, u16::MAX, "{key}");
            continue;
        };
        let routed = route.with_key(Bytes::copy_from_slice(key.as_bytes()));
        assert_eq!(routed.space, SpaceId(*space), "{key}");
        assert_eq!(routed.params().collect::<Vec<_>>(), *params, "{key}");
        for (i, param) in params.iter().enumerate() {
            assert_eq!(routed.param(i), *param);
        }
        assert_eq!(routed.param(params.len()), "");
    }
}

#[test]
fn a_key_that_nothing_answers_is_told_why() {
    let long = "x".repeat(70_000);
    let rows: &[(&[u8], &str, &str)] = &[
        (b"", "BADKEY", "key is empty"),
        (long.as_bytes(), "BADKEY", "length 70000 exceeds 512"),
        (
            b"courses:abc",
            "BADKEY",
            "'abc' is not a bigint in 'courses:abc' (cache c0)",
        ),
        (
            b"courses:007",
            "BADKEY",
            "'007' is not the one spelling of a bigint (write '7') in 'courses:007' (cache c0)",
        ),
        (
            b"courses:99999999999999999999",
            "BADKEY",
            "'99999999999999999999' is out of range for bigint in 'courses:99999999999999999999' (cache c0)",
        ),
        (
            b"courses:",
            "BADKEY",
            "'' is not a bigint in 'courses:' (cache c0)",
        ),
        (
            b"user:*:purchases",
            "BADKEY",
            "'*' is not a bigint in 'user:*:purchases' (cache c4)",
        ),
        (
            b"users:page:1:limit:x",
            "BADKEY",
            "'x' is not an int in 'users:page:1:limit:x' (cache c5)",
        ),
        (
            b"courses:slug:a\0b",
            "BADKEY",
            "'a\\u{0}b' holds a control character, which a text may not in 'courses:slug:a\\u{0}b' (cache c1)",
        ),
        (
            b"courses:slug:\xff",
            "BADKEY",
            "'\\xff' is not valid UTF-8 in 'courses:slug:\\xff' (cache c1)",
        ),
        (
            b"calc:",
            "BADKEY",
            "key 'calc:' has nothing after its prefix (namespace n0)",
        ),
        (
            b"calc:a b",
            "BADKEY",
            "key 'calc:a b' holds a space (namespace n0)",
        ),
        (
            b"calc:\xff",
            "BADKEY",
            "key 'calc:\\xff' is not valid UTF-8 (namespace n0)",
        ),
        (
            b"cachewarden:leases",
            "BADKEY",
            "'cachewarden:leases' is reserved for cachewarden's own keys",
        ),
        (
            b"{courses:1}:lease",
            "BADKEY",
            "'{courses:1}:lease' is reserved for cachewarden's own keys",
        ),
        (
            b"foo\r\n",
            "ERR",
            "no cache is declared for key 'foo\\r\\n' (known: calc2:deep:, calc:, courses:, \
             products:, user:, users:, v2:)",
        ),
        (
            b"user:1",
            "ERR",
            "no cache is declared for key 'user:1' (known: user:{id:bigint}:purchases)",
        ),
        (
            b"USER:1:purchases",
            "ERR",
            "no cache is declared for key 'USER:1:purchases' (known: calc2",
        ),
    ];
    let router = shop();
    for (key, code, message) in rows {
        let error = router.route(key).unwrap_err();
        assert_eq!(error.code(), *code, "{error}");
        assert!(error.to_string().starts_with(message), "{error}");
    }
    let none = Router::new(&[], &[]).route(b"x:1").unwrap_err();
    assert_eq!(
        none.to_string(),
        "no cache is declared for key 'x:1' (none is declared)"
    );
}

#[test]
fn bounds_are_kept_at_the_door() {
    let mut template = KeyTemplate::parse("users:{page:int}").unwrap();
    template.bound("page", Some(1), None).unwrap();
    let router = Router::new(&[("users".into(), template)], &[]);
    assert!(router.route(b"users:1").is_ok());
    assert_eq!(
        router.route(b"users:0").unwrap_err().to_string(),
        "'0' is out of bounds (min 1) in 'users:0' (cache users)"
    );
}

#[test]
fn sql_in_a_key_is_a_value_or_refused_and_never_more() {
    let router = shop();
    let slug = "';DROP/**/TABLE/**/courses;--";
    let key = format!("courses:slug:{slug}");
    let routed = router
        .route(key.as_bytes())
        .unwrap()
        .with_key(key.clone().into());
    assert_eq!(routed.param(0), slug);
    assert!(router.route(b"courses:1 OR 1=1").is_err());
    assert!(router.route(b"courses:1;DROP TABLE courses").is_err());
}

#[test]
fn shards_share_keys_evenly() {
    let mut counts = [0; 3];
    for n in 0..30_000 {
        counts[shard_of(format!("courses:{n}").as_bytes(), 3)] += 1;
    }
    assert!(
        counts.iter().all(|n| (9_500..10_500).contains(n)),
        "{counts:?}"
    );
    assert_eq!(shard_of(b"x", 0), 0);
}

/// Says the space of a key by trying every template, most literal segments first.
fn oracle(caches: &[(String, KeyTemplate)], key: &str) -> Option<(u16, Vec<String>)> {
    let segments: Vec<&str> = key.split(':').collect();
    (0u16..)
        .zip(caches)
        .filter_map(|(id, (_, template))| {
            let text = template.to_string();
            let declared: Vec<String> = text
                .replace("{x:int}", "<int>")
                .replace("{y:text}", "<text>")
                .replace("{z:bool}", "<bool>")
                .split(':')
                .map(str::to_owned)
                .collect();
            if declared.len() != segments.len() {
                return None;
            }
            let mut values = Vec::new();
            let mut literals = 0;
            for (declared, segment) in declared.iter().zip(&segments) {
                let fits = match declared.as_str() {
                    "<int>" => segment
                        .parse::<i32>()
                        .is_ok_and(|n| n.to_string() == *segment),
                    "<text>" => !segment.is_empty(),
                    "<bool>" => matches!(*segment, "true" | "false"),
                    literal => {
                        literals += 1;
                        literal == *segment
                    }
                };
                if !fits {
                    return None;
                }
                if declared.starts_with('<') {
                    values.push((*segment).to_owned());
                }
            }
            Some((literals, id, values))
        })
        .max_by_key(|(literals, ..)| *literals)
        .map(|(_, id, values)| (id, values))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn the_router_agrees_with_trying_every_template(
        texts in proptest::collection::vec(r"[ab]:(1|true|a|\{x:int\}|\{z:bool\})(:(1|b|\{y:text\})){0,2}", 1..12),
        keys in proptest::collection::vec("[ab](:(1|01|true|a|b|)){1,3}", 20),
    ) {
        // As the configuration does: what is ambiguous is not declared.
        let mut caches: Vec<(String, KeyTemplate)> = Vec::new();
        for text in texts {
            let template = KeyTemplate::parse(&text).unwrap_or_else(|_| KeyTemplate::parse("z:1").unwrap());
            if caches.iter().all(|(_, other)| other.overlap(&template) != Overlap::Ambiguous) {
                caches.push((text, template));
            }
        }
        let router = Router::new(&caches, &[]);
        for key in keys {
            let got = router.route(key.as_bytes()).ok().map(|route| {
                let routed = route.with_key(key.clone().into());
                let values: Vec<String> = routed.params().map(str::to_owned).collect();
                (routed.space.0, values)
            });
            prop_assert_eq!(got, oracle(&caches, &key), "{}", key);
        }
    }

    #[test]
    fn any_bytes_get_an_answer_of_one_bounded_line(key: Vec<u8>) {
        if let Err(error) = shop().route(&key) {
            let text = error.to_string();
            prop_assert!(text.len() <= 300 && !text.contains(char::is_control), "{}", text);
        }
    }
}
