//! What is said of a declared query that cannot be loaded.

use cachewarden::config::Shape;

use super::{World, cache, shop};

#[tokio::test(flavor = "multi_thread")]
async fn a_check_says_what_is_wrong_and_where_in_the_declared_text() {
    let shop = shop().await;
    let table = [
        (
            "SELECT id, titel FROM courses WHERE id = :id",
            Shape::Object,
            "column \"titel\" does not exist (SQLSTATE 42703)",
            Some(11),
        ),
        (
            "SELECT 'ä', titel FROM courses WHERE id = :id",
            Shape::Object,
            "column \"titel\" does not exist (SQLSTATE 42703)",
            Some(13),
        ),
        (
            "SELECT id FROM courses WHERE id = :id AND nope = 1",
            Shape::Object,
            "column \"nope\" does not exist (SQLSTATE 42703)",
            Some(42),
        ),
        (
            "SELECT id FROM courses WHERE slug = :id",
            Shape::Object,
            "operator does not exist: text = integer (SQLSTATE 42883)",
            Some(34),
        ),
        (
            "SELECT id FRM courses WHERE id = :id",
            Shape::Object,
            "syntax error at or near \"courses\" (SQLSTATE 42601)",
            Some(14),
        ),
        (
            "SELECT id FROM courses WHERE id = :id AND",
            Shape::Object,
            "syntax error at end of input (SQLSTATE 42601)",
            Some(41),
        ),
        (
            "SELECT id FROM nowhere WHERE id = :id",
            Shape::Object,
            "relation \"nowhere\" does not exist (SQLSTATE 42P01)",
            Some(15),
        ),
        (
            "DELETE FROM courses WHERE id = :id RETURNING id",
            Shape::Object,
            "syntax error at or near \"FROM\" (SQLSTATE 42601)",
            Some(7),
        ),
        (
            "DELETE FROM courses WHERE id = :id",
            Shape::Object,
            "the query returns no columns",
            Some(0),
        ),
        (
            "WITH gone AS (DELETE FROM courses WHERE id = :id RETURNING id) SELECT * FROM gone",
            Shape::Object,
            "WITH clause containing a data-modifying statement must be at the top level (SQLSTATE 0A000)",
            Some(5),
        ),
        (
            "SELECT id FROM courses WHERE id = :id FOR UPDATE",
            Shape::Object,
            "cannot execute SELECT FOR UPDATE in a read-only transaction (SQLSTATE 25006)",
            None,
        ),
        (
            "SELECT id, slug FROM courses WHERE id = :id",
            Shape::Scalar,
            "a scalar needs exactly one column, the query returns 2",
            Some(0),
        ),
        (
            "SELECT cachewarden FROM courses WHERE id = :id",
            Shape::Scalar,
            "column \"cachewarden\" does not exist (SQLSTATE 42703)",
            Some(7),
        ),
        (
            "SELECT count(:id) FROM courses",
            Shape::Scalar,
            "column \"cachewarden_k.cachewarden_ord\" must appear in the GROUP BY clause or be \
             used in an aggregate function (SQLSTATE 42803)",
            None,
        ),
        (
            "SELECT 1) t) FROM pg_class UNION SELECT ((:id",
            Shape::Object,
            "syntax error at or near \")\" (SQLSTATE 42601)",
            Some(8),
        ),
    ];
    for (query, shape, message, offset) in table {
        let world = World::new(shop.url(), 1, &[cache("c:{id:int}", query, shape)]);
        let problem = world.problem().await;
        assert_eq!(
            (problem.0.as_str(), problem.1),
            (message, offset),
            "{query}"
        );
    }
    let deleted = World::new(
        shop.url(),
        1,
        &[cache("c:{id:int}", table[7].0, Shape::Object)],
    );
    assert_eq!(
        deleted.problem().await.2.as_deref(),
        Some("only a SELECT can be loaded")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_every_broken_query_and_leaves_the_others_out() {
    let shop = shop().await;
    let caches = [
        cache("a:{id:int}", "SELECT :id, nope", Shape::Object),
        cache("b:{id:int}", "SELECT :id AS id", Shape::Object),
        cache("c:{id:int}", "SELECT :id FROM", Shape::Object),
    ];
    let world = World::new(shop.url(), 1, &caches);
    let problems = world.repository.check().await.unwrap();
    let broken: Vec<_> = problems.iter().map(|problem| problem.cache).collect();
    assert_eq!(broken, [0, 2]);
    let rows = shop
        .client()
        .await
        .query_one("SELECT count(*) FROM courses", &[])
        .await
        .unwrap();
    assert_eq!(rows.get::<_, i64>(0), 1000);
}
