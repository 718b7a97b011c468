//! What becomes of the values of a changed row, and of the names of what it lies in.

use cachewarden::keyspace::ParamType;
use uuid::Uuid;

use super::courses;
use crate::support::watched::{Watched, queued};

#[tokio::test]
async fn a_column_is_spelled_as_the_parameter_whatever_its_type_and_the_writers_settings() {
    let sql = "CREATE TABLE t (i int, b bigint, x text, u uuid, d date, f bool, n numeric, ts timestamptz, c char(8), ut text)";
    let types = ["int", "bigint", "text", "uuid", "date", "bool"];
    let mut caches = String::new();
    for kind in types {
        caches += &format!(
            "[caches.c_{kind}]\nkey = \"{kind}:{{p:{kind}}}\"\nquery = \"SELECT :p\"\nshape = \"scalar\"\nttl = \"1m\"\n"
        );
    }
    caches += r#"
[invalidation]
prefixes = ["other:"]
[[invalidation.watch]]
table = "t"
invalidate = ["int:{i}", "bigint:{b}", "text:{x}", "uuid:{u}", "date:{d}", "bool:{f}", "bigint:{n}", "date:{ts}", "text:{c}", "uuid:{ut}", "other:{b}"]
"#;
    let world = Watched::start(sql, &caches).await;
    world.execute("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Pacific/Auckland'; SET standard_conforming_strings = off; SET search_path = pg_temp").await;
    let insert = |values: &str| format!("INSERT INTO public.t VALUES ({values})");
    let full = "-7, 9223372036854775807, 'Grüße', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '24/12/2026', true, 42.00, \
                '2026-06-30 23:30:00+00', 'abc', '{A0EEBC999C0B4EF8BB6D6BB9BD380A11}'";
    let expected = queued(
        &[
            "bigint:42",
            "bigint:9223372036854775807",
            "bool:true",
            "date:2026-06-30",
            "date:2026-12-24",
            "int:-7",
            "other:9223372036854775807",
            "text:Grüße",
            "text:abc",
            // Of two columns.
            "uuid:a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        ],
        &[],
    );
    assert_eq!(world.queues(&insert(full)).await, [expected]);
    // What no key can be: nothing to invalidate, and nobody refused.
    for values in [
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
        "NULL, NULL, '', NULL, 'infinity', NULL, 'NaN', 'infinity', '', 'no uuid'",
        "NULL, NULL, 'a b', NULL, '0044-03-15 BC', NULL, 1.5, '10001-01-01', 'a:b', ''",
        "NULL, NULL, 'a{b}', NULL, NULL, NULL, 1e30, NULL, NULL, NULL",
        "NULL, NULL, repeat('x', 201), NULL, NULL, NULL, NULL, NULL, NULL, repeat('a', 100000)",
    ] {
        assert_eq!(world.queues(&insert(values)).await, [], "{values}");
    }
    let odd = "2147483647, -9223372036854775808, 'it''s*?[]\\\\', NULL, '0001-01-01', false, -0.0, NULL, NULL, NULL";
    let expected = queued(
        &[
            "bigint:-9223372036854775808",
            "bigint:0",
            "bool:false",
            "date:0001-01-01",
            "int:2147483647",
            "other:-9223372036854775808",
            "text:it's*?[]\\",
        ],
        &[],
    );
    assert_eq!(world.queues(&insert(odd)).await, [expected]);
}

#[tokio::test]
async fn data_never_widens_a_pattern() {
    let world = courses().await;
    for (slug, escaped) in [
        ("*", r"similar:\*:*"),
        ("a?b", r"similar:a\?b:*"),
        ("[a-z]", r"similar:\[a-z\]:*"),
        (r"\*", r"similar:\\\*:*"),
        ("it's", "similar:it's:*"),
    ] {
        let insert = "INSERT INTO courses VALUES (100, $1)";
        world.client.execute(insert, &[&slug]).await.unwrap();
        let got = world.take().await;
        assert_eq!(got[0].patterns, ["courses:list:*", escaped], "{slug}");
        assert!(
            got[0].keys.contains(&format!("courses:slug:{slug}")),
            "{slug}"
        );
        world.queues("DELETE FROM courses WHERE id = 100").await;
    }
}

#[tokio::test]
async fn names_of_any_kind_are_quoted() {
    let sql = r#"CREATE SCHEMA "Sch""ema"; CREATE TABLE "Sch""ema"."ta'ble; DROP TABLE x; -- $cachewarden$" ("i""d" int, "select" int, exact int, t int)"#;
    let caches = r#"
[caches.a]
key = "a:{p:int}:{q:int}:{r:int}:{s:int}"
query = "SELECT :p, :q, :r, :s"
shape = "array"
ttl = "1m"
[[invalidation.watch]]
table = "\"Sch\"\"ema\".\"ta'ble; DROP TABLE x; -- $cachewarden$\""
invalidate = ['a:{"i""d"}:{select}:{exact}:{t}']
"#;
    let world = Watched::start(sql, caches).await;
    let insert =
        r#"INSERT INTO "Sch""ema"."ta'ble; DROP TABLE x; -- $cachewarden$" VALUES (1, 2, 3, 4)"#;
    assert_eq!(world.queues(insert).await, [queued(&["a:1:2:3:4"], &[])]);
    assert_eq!(world.migrate().await, "nothing to do\n");
}

/// Values of a type in the spelling of its keys, of every length and many alphabets.
fn spellings(kind: ParamType, rng: &mut fastrand::Rng) -> Vec<String> {
    let mut out = Vec::new();
    while out.len() < 2000 {
        let text = match kind {
            ParamType::Int => rng.i32(..).to_string(),
            ParamType::BigInt => (rng.i64(..) >> rng.u32(..64)).to_string(),
            ParamType::Uuid => Uuid::from_u128(rng.u128(..)).to_string(),
            ParamType::Date => format!(
                "{:04}-{:02}-{:02}",
                rng.u32(1..10_000),
                rng.u32(1..13),
                rng.u32(1..32)
            ),
            ParamType::Bool => rng.bool().to_string(),
            ParamType::Text => {
                let alphabets = [' '..='~', '\u{1}'..='\u{17f}', '\u{1}'..=char::MAX];
                let alphabet = rng.choice(alphabets).unwrap();
                let len = rng.usize(1..=200);
                (0..len).map(|_| rng.char(alphabet.clone())).collect()
            }
        };
        if kind.accepts(text.as_bytes()) {
            out.push(text);
        }
    }
    out
}

#[tokio::test]
async fn no_value_that_a_key_can_have_is_passed_over_or_spelled_otherwise() {
    let world = courses().await;
    // Another seed each time; a failure shows the value.
    let mut rng = fastrand::Rng::new();
    for kind in ParamType::ALL {
        let values = spellings(kind, &mut rng);
        let sql = format!(
            "SELECT v, cachewarden.as_{}(v COLLATE \"C\") FROM unnest($1::text[]) AS v",
            kind.sql_name()
        );
        for row in world.client.query(&sql, &[&values]).await.unwrap() {
            let (value, spelled): (String, Option<String>) = (row.get(0), row.get(1));
            assert_eq!(spelled.as_ref(), Some(&value), "{kind:?}");
        }
    }
}

#[tokio::test]
async fn whatever_a_column_holds_becomes_a_key_that_exists_or_none() {
    let world = courses().await;
    let mut rng = fastrand::Rng::new();
    // Parts that numbers, dates, uuids and booleans in any spelling are made of, and what breaks them.
    let parts = [
        "0",
        "00",
        "7",
        "-",
        "+",
        " ",
        ".",
        "e",
        "E9",
        "99999999999999999999",
        "true",
        "T",
        "2026-01-02",
        "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
        "A0EEBC999C0B4EF8BB6D6BB9BD380A11",
        "{",
        "}",
        "BC",
        "infinity",
        "NaN",
        "\n",
        "é",
        "*",
        "'",
    ];
    let text = |rng: &mut fastrand::Rng| -> String {
        let count = rng.usize(0..5);
        (0..count).map(|_| *rng.choice(&parts).unwrap()).collect()
    };
    let values: Vec<String> = (0..5000).map(|_| text(&mut rng)).collect();
    // A date's column has a day that exists.
    for kind in ParamType::ALL
        .into_iter()
        .filter(|kind| *kind != ParamType::Date)
    {
        let sql = format!(
            "SELECT v, cachewarden.as_{}(v) FROM unnest($1::text[]) AS v",
            kind.sql_name()
        );
        for row in world.client.query(&sql, &[&values]).await.unwrap() {
            let (value, spelled): (String, Option<String>) = (row.get(0), row.get(1));
            let fine = spelled
                .as_ref()
                .is_none_or(|spelled| kind.accepts(spelled.as_bytes()));
            assert!(fine, "{kind:?}: {value:?} became {spelled:?}");
        }
    }
}
