//! The repository against a real Postgres.

mod answers;
mod check;
mod fairness;
mod faults;
mod tls;

use std::time::Duration;

use bytes::Bytes;
use cachewarden::config::{Cache, Postgres, Query, Secret, Shape};
use cachewarden::keyspace::{KeyTemplate, RoutedKey, Router};
use cachewarden::repository::{Admission, LoadError, Repository};
use tokio::runtime::Handle;

use crate::support::DEADLINE;
use crate::support::eventually::eventually;
use crate::support::servers::{Database, database};

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
        aging: cachewarden::config::Aging::default(),
        max_loads: 2000,
        max_value: 1 << 20,
        l1: false,
        index: false,
        watched: false,
        write: None,
        max_unproven: Duration::ZERO,
        warm: None,
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
        Self::with_statement_timeout(url, pool_size, caches, DEADLINE)
    }

    fn with_statement_timeout(
        url: &str,
        pool_size: usize,
        caches: &[Cache],
        statement_timeout: Duration,
    ) -> Self {
        let postgres = Postgres {
            url: Secret::new(url),
            pool_size,
            statement_timeout,
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
