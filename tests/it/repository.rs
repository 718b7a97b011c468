//! The repository against a real Postgres.

use std::time::{Duration, Instant};

use bytes::Bytes;
use cachewarden::cli::demo::servers::PostgresOptions;
use cachewarden::config::{Cache, Postgres, Query, Secret, Shape};
use cachewarden::keyspace::{KeyTemplate, RoutedKey, Router};
use cachewarden::repository::{Admission, LoadError, Repository, RepositoryError};
use tokio::runtime::Handle;

use super::support::DEADLINE;
use super::support::eventually::eventually;
use super::support::servers::{Database, connect, database, own_postgres};

type Answer = Result<Option<Bytes>, LoadError>;

const SHOP: &str =
    "CREATE TABLE courses (id bigint PRIMARY KEY, slug text, price int, listed bool);
    INSERT INTO courses SELECT g, 'slug-' || g, g * 10, g % 2 = 0 FROM generate_series(1, 1000) g;";
const COURSE: &str = "SELECT id, slug FROM courses WHERE id = :id";

fn cache(key: &str, query: &str, shape: Shape) -> Cache {
    let key = KeyTemplate::parse(key).unwrap();
    Cache {
        name: key.prefix().trim_end_matches(':').to_owned(),
        query: Query::parse(query, key.params()).unwrap(),
        key,
        shape,
        ttl: Duration::from_secs(60),
        ttl_jitter: 0.0,
        missing_ttl: Duration::ZERO,
        load_timeout: DEADLINE,
        max_loads: 2000,
        max_value: 1 << 20,
        query_span: 0..0,
    }
}

fn course(load_timeout: Duration) -> Cache {
    Cache {
        load_timeout,
        ..cache("course:{id:bigint}", COURSE, Shape::Object)
    }
}

/// A repository over a test's database, and the keys of its caches.
struct World {
    repository: Repository,
    router: Router,
}

impl World {
    fn new(url: &str, pool_size: usize, caches: &[Cache]) -> Self {
        let postgres = Postgres {
            url: Secret::new(url),
            pool_size,
            statement_timeout: DEADLINE,
        };
        let spaces: Vec<_> = caches
            .iter()
            .map(|cache| (cache.name.clone(), cache.key.clone()))
            .collect();
        Self {
            repository: Repository::new(&postgres, caches, Handle::current()).unwrap(),
            router: Router::new(&spaces, &[]),
        }
    }

    fn key(&self, key: &str) -> RoutedKey {
        let route = self.router.route(key.as_bytes()).unwrap();
        route.with_key(Bytes::copy_from_slice(key.as_bytes()))
    }

    fn load(
        &self,
        keys: impl IntoIterator<Item = impl AsRef<str>>,
        admission: Admission,
    ) -> impl Future<Output = Vec<Answer>> + Send + 'static {
        let keys = keys.into_iter().map(|key| self.key(key.as_ref()));
        let keys: Vec<_> = keys.collect();
        let (cache, repository) = (usize::from(keys[0].space.0), self.repository.clone());
        async move { repository.load(cache, keys, admission).await }
    }

    async fn one(&self, key: &str) -> Answer {
        self.load([key], Admission::Wait).await.remove(0)
    }

    async fn text(&self, key: &str) -> String {
        shown(&self.one(key).await)
    }

    async fn problem(&self) -> (String, Option<usize>, Option<String>) {
        let mut problems = self.repository.check().await.unwrap();
        assert_eq!(problems.len(), 1, "{problems:?}");
        let problem = problems.remove(0);
        (problem.message, problem.offset, problem.hint)
    }
}

fn shown(answer: &Answer) -> String {
    match answer {
        Ok(Some(value)) => String::from_utf8_lossy(value).into_owned(),
        Ok(None) => "missing".to_owned(),
        Err(error) => format!("error: {error}"),
    }
}

async fn shop() -> Database {
    let database = database().await;
    database.execute(SHOP).await;
    database
}

/// Statements of ours that the server is working on.
async fn active(database: &Database) -> i64 {
    let sql = "SELECT count(*) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'cachewarden' \
               AND state = 'active'";
    database
        .client()
        .await
        .query_one(sql, &[])
        .await
        .unwrap()
        .get(0)
}

async fn until_active(database: &Database, count: i64) {
    eventually(DEADLINE, async || match active(database).await {
        seen if seen == count => Ok(()),
        seen => Err(seen),
    })
    .await;
}

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
async fn five_caches_over_a_locked_table_leave_the_others_alone() {
    let shop = shop().await;
    shop.execute("CREATE TABLE locked (id bigint)").await;
    let mut caches = vec![course(DEADLINE)];
    for name in ["a", "b", "c", "d", "e"] {
        let query = "SELECT id FROM locked WHERE id = :id";
        caches.push(cache(
            &format!("{name}:{{id:bigint}}"),
            query,
            Shape::Object,
        ));
    }
    let world = World::new(shop.url(), 8, &caches);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE locked")
        .await
        .unwrap();
    let mut stuck = Vec::new();
    for round in 0..4 {
        for name in ["a", "b", "c", "d", "e"] {
            stuck.push(tokio::spawn(
                world.load([format!("{name}:{round}")], Admission::Wait),
            ));
        }
    }
    eventually(DEADLINE, async || match world.repository.stats().running {
        8 => Ok(()),
        seen => Err(seen),
    })
    .await;
    for id in 1..=200 {
        let expected = format!(r#"{{"id":{id},"slug":"slug-{id}"}}"#);
        assert_eq!(world.text(&format!("course:{id}")).await, expected);
    }
    // Who had to make room is served all the same, once the table is free.
    locker.batch_execute("COMMIT").await.unwrap();
    for load in stuck {
        assert_eq!(load.await.unwrap(), [Ok(None)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_hangs_has_half_of_the_connections_and_the_rest_goes_together() {
    let shop = shop().await;
    let world = World::new(shop.url(), 4, &[course(DEADLINE)]);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let loads: Vec<_> = (1..=50)
        .map(|id| tokio::spawn(world.load([format!("course:{id}")], Admission::Wait)))
        .collect();
    eventually(DEADLINE, async || {
        let stats = world.repository.stats();
        let seen = (stats.running, stats.waiting);
        if seen == (2, 48) { Ok(()) } else { Err(seen) }
    })
    .await;
    locker.batch_execute("COMMIT").await.unwrap();
    for (id, load) in (1..=50).zip(loads) {
        let expected = format!(r#"{{"id":{id},"slug":"slug-{id}"}}"#);
        assert_eq!(shown(&load.await.unwrap()[0]), expected);
    }
    assert!(world.repository.stats().statements < 25);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_that_times_out_is_answered_in_time_and_cancelled_on_the_server() {
    let shop = shop().await;
    let world = World::new(shop.url(), 4, &[course(Duration::from_millis(300))]);
    assert!(world.one("course:1").await.is_ok());
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let answers = world.load(["course:1", "course:2"], Admission::Wait).await;
    assert_eq!(answers, vec![Err(LoadError::TimedOut { after_ms: 300 }); 2]);
    until_active(&shop, 0).await;
    locker.batch_execute("COMMIT").await.unwrap();
    assert!(world.one("course:1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_that_goes_away_harms_nobody_and_its_waiting_keys_are_not_asked_for() {
    let shop = shop().await;
    let world = World::new(shop.url(), 2, &[course(DEADLINE)]);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let sent = tokio::spawn(world.load(["course:1"], Admission::Wait));
    until_active(&shop, 1).await;
    let gone = tokio::spawn(world.load((2..100).map(|id| format!("course:{id}")), Admission::Wait));
    let stays = tokio::spawn(world.load(["course:100"], Admission::Wait));
    eventually(DEADLINE, async || match world.repository.stats().waiting {
        99 => Ok(()),
        seen => Err(seen),
    })
    .await;
    sent.abort();
    gone.abort();
    locker.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(stays.await.unwrap()[..], [Ok(Some(_))]));
    let statements = world.repository.stats().statements;
    assert!(statements <= 2, "{statements}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_terminated_costs_its_own_load_at_most() {
    let shop = shop().await;
    let world = World::new(shop.url(), 2, &[course(DEADLINE)]);
    let kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                WHERE application_name = 'cachewarden' AND datname = current_database()";
    for _ in 0..20 {
        assert!(world.one("course:1").await.unwrap().is_some());
        shop.execute(kill).await;
    }
    // While a statement runs: the connection had been used before, so the load is tried again.
    let locker = shop.client().await;
    assert!(world.one("course:1").await.unwrap().is_some());
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let load = tokio::spawn(world.load(["course:1"], Admission::Wait));
    until_active(&shop, 1).await;
    shop.execute(kill).await;
    locker.batch_execute("COMMIT").await.unwrap();
    assert!(matches!(load.await.unwrap()[..], [Ok(Some(_))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_waiting_a_cache_at_its_limit_is_busy_at_once() {
    let shop = shop().await;
    let narrow = Cache {
        max_loads: 4,
        ..course(DEADLINE)
    };
    let world = World::new(shop.url(), 8, &[narrow]);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let keys = |from: u32, to: u32| (from..to).map(|id| format!("course:{id}"));
    let first = tokio::spawn(world.load(keys(0, 3), Admission::NoWait));
    until_active(&shop, 1).await;
    let second = tokio::spawn(world.load(keys(3, 6), Admission::NoWait));
    until_active(&shop, 2).await;
    let busy = LoadError::Busy {
        cache: "course".into(),
        limit: 4,
    };
    let refused = world.load(keys(6, 8), Admission::NoWait).await;
    assert_eq!(refused, vec![Err(busy.clone()); 2]);
    let waits = tokio::spawn(world.load(keys(8, 8 + 4 * 64 + 2), Admission::Wait));
    eventually(DEADLINE, async || match world.repository.stats().waiting {
        256 => Ok(()),
        seen => Err(seen),
    })
    .await;
    locker.batch_execute("COMMIT").await.unwrap();
    assert!(first.await.unwrap().iter().all(Result::is_ok));
    let second = second.await.unwrap();
    assert!(second[0].is_ok());
    assert_eq!(second[1..], [Err(busy.clone()), Err(busy.clone())]);
    let waited = waits.await.unwrap();
    assert!(waited[..256].iter().all(Result::is_ok));
    assert_eq!(waited[256..], [Err(busy.clone()), Err(busy)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stands_still_costs_the_timeout_and_goes_on_by_itself() {
    let mut postgres = own_postgres(&PostgresOptions::default());
    connect(&postgres.postgres_url("postgres"))
        .await
        .batch_execute(SHOP)
        .await
        .unwrap();
    let world = World::new(
        &postgres.postgres_url("postgres"),
        2,
        &[course(Duration::from_millis(200))],
    );
    assert!(world.one("course:1").await.is_ok());
    postgres.freeze().unwrap();
    assert_eq!(
        world.one("course:1").await,
        Err(LoadError::TimedOut { after_ms: 200 })
    );
    postgres.thaw().unwrap();
    eventually(DEADLINE, async || world.one("course:1").await).await;
    assert!(world.repository.is_up());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_down_refuses_at_once_and_is_found_when_it_is_back() {
    let mut postgres = own_postgres(&PostgresOptions::default());
    connect(&postgres.postgres_url("postgres"))
        .await
        .batch_execute(SHOP)
        .await
        .unwrap();
    let world = World::new(&postgres.postgres_url("postgres"), 4, &[course(DEADLINE)]);
    assert!(!world.repository.is_up());
    assert!(world.one("course:1").await.is_ok());
    assert!(world.repository.is_up());
    // What was committed is written down only at leisure here.
    let admin = connect(&postgres.postgres_url("postgres")).await;
    admin.batch_execute("CHECKPOINT").await.unwrap();
    postgres.kill().unwrap();
    let began = Instant::now();
    for _ in 0..100 {
        let Err(LoadError::Unavailable { reason }) = world.one("course:1").await else {
            panic!("an answer from a dead server");
        };
        assert!(reason.contains("refused"), "{reason}");
    }
    // Not one of them waited for the timeout.
    assert!(began.elapsed() < DEADLINE);
    assert!(!world.repository.is_up());
    let checked = world.repository.check().await;
    assert!(
        matches!(checked, Err(RepositoryError::Connect(_))),
        "{checked:?}"
    );
    postgres.start_again().unwrap();
    // By itself: nothing asks for a key meanwhile.
    eventually(DEADLINE, async || {
        if world.repository.is_up() {
            Ok(())
        } else {
            Err("down")
        }
    })
    .await;
    assert!(world.one("course:1").await.unwrap().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_out_of_connections_is_used_with_those_there_are() {
    let shop = shop().await;
    shop.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1; GRANT SELECT ON courses TO narrow")
        .await;
    let url = shop
        .url()
        .replace("postgres://postgres@", "postgres://narrow@");
    let world = World::new(&url, 8, &[course(DEADLINE)]);
    assert!(world.one("course:1").await.is_ok());
    let loads: Vec<_> = (1..=100)
        .map(|id| tokio::spawn(world.load([format!("course:{id}")], Admission::Wait)))
        .collect();
    for load in loads {
        let answer = load.await.unwrap().remove(0);
        assert!(matches!(answer, Ok(Some(_))), "{}", shown(&answer));
    }
    assert!(world.repository.is_up());
}

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
async fn no_error_shows_the_password() {
    let postgres = own_postgres(&PostgresOptions::default());
    let port = postgres.port();
    for (url, why) in [
        (
            format!("postgres://nobody:S3CR3T@127.0.0.1:{port}/postgres"),
            "nobody",
        ),
        (
            format!("postgres://postgres:S3CR3T@127.0.0.1:{port}/nowhere"),
            "nowhere",
        ),
        (
            format!("postgres://postgres:S3CR3T@127.0.0.1:{port}/postgres?sslmode=require"),
            "TLS",
        ),
        (
            "postgres://postgres:S3CR3T@127.0.0.1:1/postgres".to_owned(),
            "refused",
        ),
        (
            "postgres://postgres:S3CR3T@no-such-host.invalid/postgres".to_owned(),
            "lookup",
        ),
    ] {
        let world = World::new(&url, 1, &[course(DEADLINE)]);
        let error = world.one("course:1").await.unwrap_err();
        let checked = world.repository.check().await.unwrap_err();
        let said = format!("{error} {error:?} {checked} {checked:?}");
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("S3CR3T"), "{said}");
    }
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

#[tokio::test(flavor = "multi_thread")]
async fn closing_refuses_what_waits_and_ends_with_what_runs() {
    let shop = shop().await;
    let world = World::new(shop.url(), 2, &[course(Duration::from_millis(500))]);
    let locker = shop.client().await;
    locker
        .batch_execute("BEGIN; LOCK TABLE courses")
        .await
        .unwrap();
    let runs = tokio::spawn(world.load(["course:1"], Admission::Wait));
    until_active(&shop, 1).await;
    let waits = tokio::spawn(world.load(["course:2"], Admission::Wait));
    eventually(DEADLINE, async || match world.repository.stats().waiting {
        1 => Ok(()),
        seen => Err(seen),
    })
    .await;
    world.repository.close().await;
    assert_eq!(world.repository.stats().running, 0);
    let stopping = "error: postgres is not available: the daemon is stopping";
    assert_eq!(shown(&waits.await.unwrap()[0]), stopping);
    assert_eq!(
        runs.await.unwrap(),
        [Err(LoadError::TimedOut { after_ms: 500 })]
    );
    assert_eq!(world.text("course:1").await, stopping);
}
