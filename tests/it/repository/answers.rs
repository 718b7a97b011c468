//! What is loaded: values as Postgres writes them, and each key for itself.

use cachewarden::cli::demo::servers::PostgresOptions;
use cachewarden::config::Shape;
use cachewarden::repository::{Admission, LoadError};

use super::{COURSE, World, cache, shop, shown};
use crate::support::servers::own_postgres;

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_and_type_is_answered_as_postgres_writes_it() {
    let shop = shop().await;
    let paged =
        "SELECT id FROM courses ORDER BY id LIMIT:limit OFFSET (:page - 1) * :limit -- :page";
    let uuid = "00000000-0000-4000-8000-000000000001";
    let world = World::new(
        shop.url(),
        4,
        &[
            cache("course:{id:bigint}", COURSE, Shape::Object),
            cache("page:{page:int}:limit:{limit:int}", paged, Shape::Array),
            cache("count:all", "SELECT count(*) FROM courses", Shape::Scalar),
            cache(
                "slug:{s:text}",
                "SELECT id FROM courses WHERE slug = :s",
                Shape::Scalar,
            ),
            cache(
                "uuid:{u:uuid}",
                "SELECT :u::text || '/' || ':u' AS t",
                Shape::Object,
            ),
            cache("date:{d:date}", "SELECT :d + 1 AS t", Shape::Object),
            cache(
                "listed:{l:bool}",
                "SELECT count(*) FROM courses WHERE listed = :l",
                Shape::Scalar,
            ),
            cache("null:{id:int}", "SELECT nullif(:id, 1) AS t", Shape::Scalar),
            cache(
                "json:{id:int}",
                "SELECT CASE :id WHEN 1 THEN 'null'::jsonb ELSE '[1]' END",
                Shape::Scalar,
            ),
        ],
    );
    assert_eq!(world.repository.check().await, Ok(vec![]));
    for (key, value) in [
        ("course:42", r#"{"id":42,"slug":"slug-42"}"#.to_owned()),
        ("course:4200", "missing".to_owned()),
        ("page:2:limit:2", "[{\"id\":3}, \n {\"id\":4}]".to_owned()),
        ("page:9000:limit:2", "[]".to_owned()),
        ("count:all", "1000".to_owned()),
        ("slug:slug-7", "7".to_owned()),
        ("slug:nothing", "missing".to_owned()),
        (&format!("uuid:{uuid}"), format!(r#"{{"t":"{uuid}/:u"}}"#)),
        ("date:2024-02-28", r#"{"t":"2024-02-29"}"#.to_owned()),
        ("listed:true", "500".to_owned()),
        ("null:1", "missing".to_owned()),
        ("null:2", "2".to_owned()),
        ("json:1", "missing".to_owned()),
        ("json:2", "[1]".to_owned()),
    ] {
        assert_eq!(world.text(key).await, value, "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_keys_are_one_statement_and_it_is_prepared_once() {
    let shop = shop().await;
    shop.execute(
        "CREATE FUNCTION prepared() RETURNS bigint LANGUAGE sql VOLATILE \
         RETURN (SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%prepared()%')",
    )
    .await;
    let query = "SELECT :id AS id, prepared() AS n";
    let world = World::new(shop.url(), 1, &[cache("n:{id:int}", query, Shape::Object)]);
    for round in 1..=3 {
        let keys = (0..1000).map(|id| format!("n:{id}"));
        let answers = world.load(keys, Admission::Wait).await;
        assert_eq!(answers.len(), 1000);
        for (id, answer) in answers.iter().enumerate() {
            assert_eq!(shown(answer), format!(r#"{{"id":{id},"n":1}}"#));
        }
        assert_eq!(world.repository.stats().statements, round);
    }
    assert_eq!(world.repository.stats().keys_loaded, 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_key_says_is_bound_and_never_run() {
    let shop = shop().await;
    let query = "SELECT :s AS s, (SELECT count(*) FROM courses WHERE slug = :s) AS n";
    let world = World::new(
        shop.url(),
        2,
        &[cache("slug:{s:text}", query, Shape::Object)],
    );
    for text in [
        "';DROP/**/TABLE/**/courses;--",
        "$1",
        "\\",
        "%s",
        "'||(SELECT(1))||'",
        "NULL",
        "\"a\",b",
        "😀",
    ] {
        let answer = world.one(&format!("slug:{text}")).await.unwrap().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(json, serde_json::json!({ "s": text, "n": 0 }));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_postgres_refuses_takes_no_neighbour_with_it() {
    let shop = shop().await;
    shop.execute("CREATE TABLE twins (id int); INSERT INTO twins VALUES (7), (7), (8)")
        .await;
    let world = World::new(
        shop.url(),
        2,
        &[
            cache("div:{n:int}", "SELECT 12 / :n AS q", Shape::Scalar),
            cache(
                "twin:{id:int}",
                "SELECT id FROM twins WHERE id = :id",
                Shape::Object,
            ),
            cache("never:{id:int}", "SELECT :id / 0 AS q", Shape::Scalar),
        ],
    );
    for bad in [
        vec![0],
        vec![39],
        vec![13],
        vec![0, 1, 2, 20, 39],
        (1..40).collect(),
    ] {
        let keys = (0..40).map(|i| format!("div:{}", if bad.contains(&i) { 0 } else { i + 1 }));
        let answers = world.load(keys, Admission::Wait).await;
        for (i, answer) in (0..40).zip(&answers) {
            let expected = if bad.contains(&i) {
                "error: postgres refused the query: division by zero".to_owned()
            } else {
                (12 / (i + 1)).to_string()
            };
            assert_eq!(shown(answer), expected, "{i} of {bad:?}");
        }
    }
    let answers = world
        .load(["twin:7", "twin:8", "twin:9"], Admission::Wait)
        .await;
    let answers: Vec<_> = answers.iter().map(shown).collect();
    assert!(answers[0].contains("more than one row"), "{}", answers[0]);
    assert_eq!(answers[1..], [r#"{"id":8}"#, "missing"]);

    let before = world.repository.stats().statements;
    let keys = (0..64).map(|i| format!("never:{i}"));
    assert!(
        world
            .load(keys, Admission::Wait)
            .await
            .iter()
            .all(Result::is_err)
    );
    assert!(world.repository.stats().statements - before < 2 * 64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_too_large_to_fetch_is_refused_by_itself() {
    let shop = shop().await;
    let query = "SELECT repeat('x', :mib * 1048576 - 2)";
    let world = World::new(
        shop.url(),
        2,
        &[cache("big:{mib:int}", query, Shape::Scalar)],
    );
    let answers = world
        .load(["big:1", "big:65", "big:64"], Admission::Wait)
        .await;
    let sizes: Vec<_> = answers
        .into_iter()
        .map(|answer| answer.map(|value| value.map_or(0, |value| value.len())))
        .collect();
    let (mib, limit) = (1 << 20, 64 << 20);
    let too_large = LoadError::TooLarge {
        bytes: 65 * mib,
        limit,
    };
    assert_eq!(sizes, [Ok(mib), Err(too_large), Ok(limit)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_can_only_read() {
    let shop = shop().await;
    shop.execute(
        "CREATE FUNCTION sneak() RETURNS int LANGUAGE sql VOLATILE \
         AS 'INSERT INTO courses VALUES (5000) RETURNING 1'",
    )
    .await;
    let world = World::new(
        shop.url(),
        1,
        &[cache("n:{id:int}", "SELECT sneak() + :id", Shape::Scalar)],
    );
    let answer = world.text("n:1").await;
    assert!(answer.contains("read-only transaction"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_serves_as_well_as_an_address() {
    let postgres = own_postgres(&PostgresOptions::default());
    let url = postgres.postgres_socket_url("postgres");
    let world = World::new(
        &format!("{url}&sslmode=require"),
        1,
        &[cache("n:{id:int}", "SELECT :id", Shape::Scalar)],
    );
    assert_eq!(world.text("n:7").await, "7");
}
