//! A typed repository with a cache in front: that of the example, around diesel.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cachewarden::cli::demo::servers::Redis;
use cachewarden::typed::{CacheRepository, Error};
use tokio::task::JoinSet;

use super::support::daemon::{InProcess, config_without_postgres};
use super::support::servers::{Database, database, redis};
use users::{SCHEMA, User, Users};

#[path = "../../examples/support/users.rs"]
mod users;

const NAMESPACE: &str = r#"
    [namespaces.users]
    prefix = "users:"
    ttl = "10m"
"#;

/// Two instances of a service, each with a daemon, on one database and one Redis.
struct Fleet {
    database: Database,
    redis: Redis,
    daemons: [InProcess; 2],
    users: [CacheRepository<Users>; 2],
    /// What all of them have asked the database.
    queries: Arc<AtomicU64>,
}

impl Fleet {
    async fn start() -> Self {
        let (database, redis) = (database().await, redis());
        database.execute(SCHEMA).await;
        let config = config_without_postgres(&redis.redis_url(), NAMESPACE);
        let daemons = [
            InProcess::start(&config).await,
            InProcess::start(&config).await,
        ];
        let queries = Arc::<AtomicU64>::default();
        let users = [0, 1].map(|n: usize| {
            let users = Users::new(database.url(), Arc::clone(&queries)).unwrap();
            CacheRepository::new(daemons[n].warden.clone(), "users:", users)
        });
        Self {
            database,
            redis,
            daemons,
            users,
            queries,
        }
    }

    fn queries(&self) -> u64 {
        self.queries.load(Ordering::Relaxed)
    }

    async fn stop(self) {
        for daemon in self.daemons {
            daemon.stop().await;
        }
    }
}

fn user(id: i64, name: &str) -> User {
    let name = name.to_owned();
    User { id, name }
}

#[tokio::test]
async fn an_entity_and_its_pages_are_read_once_and_right_after_every_write_through_any_daemon() {
    let fleet = Fleet::start().await;
    let [one, two] = &fleet.users;
    for id in 1..=5 {
        one.save(user(id, "before")).await.unwrap();
    }
    let begun = fleet.queries();
    let mut readers = JoinSet::new();
    for n in 0..100 {
        let users = fleet.users[n % 2].clone();
        readers.spawn(async move {
            let found = users.find_by_id(&1).await.unwrap();
            (found, users.find_page(1, 3).await.unwrap().len())
        });
    }
    while let Some(read) = readers.join_next().await {
        assert_eq!(read.unwrap(), (Some(user(1, "before")), 3));
    }
    assert_eq!(fleet.queries() - begun, 2, "an entity and a page");

    two.save(user(1, "after")).await.unwrap();
    assert_eq!(one.find_by_id(&1).await.unwrap(), Some(user(1, "after")));
    assert_eq!(one.find_page(1, 3).await.unwrap()[0], user(1, "after"));
    assert!(one.delete(&1).await.unwrap());
    assert!(!one.delete(&1).await.unwrap());
    assert_eq!(two.find_by_id(&1).await.unwrap(), None);
    let ids = |users: Vec<User>| users.iter().map(|user| user.id).collect::<Vec<_>>();
    assert_eq!(ids(two.find_page(1, 3).await.unwrap()), [2, 3, 4]);
    assert_eq!(ids(two.find_page(2, 3).await.unwrap()), [5]);
    assert_eq!(ids(two.find_page(3, 3).await.unwrap()), [0; 0]);
    // There is one now, and it had not been remembered that there was none.
    two.save(user(1, "again")).await.unwrap();
    assert_eq!(one.find_by_id(&1).await.unwrap(), Some(user(1, "again")));
    fleet.stop().await;
}

#[tokio::test]
async fn no_read_that_begins_after_a_write_has_returned_is_older_than_it() {
    const WRITES: u64 = 200;
    let fleet = Fleet::start().await;
    let written = Arc::<AtomicU64>::default();
    fleet.users[0].save(user(1, "0")).await.unwrap();
    let mut readers = JoinSet::new();
    for n in 0..6 {
        let (users, written) = (fleet.users[n % 2].clone(), Arc::clone(&written));
        readers.spawn(async move {
            let (mut reads, mut stale) = (0u64, 0u64);
            loop {
                let least = written.load(Ordering::Acquire);
                let found = users.find_by_id(&1).await.unwrap().unwrap();
                let page = users.find_page(1, 10).await.unwrap();
                for name in [&found.name, &page[0].name] {
                    reads += 1;
                    stale += u64::from(name.parse::<u64>().unwrap() < least);
                }
                if least == WRITES {
                    return (reads, stale);
                }
            }
        });
    }
    for version in 1..=WRITES {
        let users = &fleet.users[usize::from(version % 2 == 0)];
        users.save(user(1, &version.to_string())).await.unwrap();
        written.store(version, Ordering::Release);
    }
    let mut sum = (0, 0);
    while let Some(read) = readers.join_next().await {
        let (reads, stale) = read.unwrap();
        sum = (sum.0 + reads, sum.1 + stale);
    }
    println!("{} reads, {} of them stale", sum.0, sum.1);
    assert_eq!(sum.1, 0, "{sum:?}");
    assert!(sum.0 > 2 * WRITES, "{sum:?}");
    fleet.stop().await;
}

#[tokio::test]
async fn who_writes_is_told_what_was_done_and_what_was_not() {
    let mut fleet = Fleet::start().await;
    let users = fleet.users[0].clone();
    users.save(user(1, "before")).await.unwrap();
    let refused = users.save(user(1, "")).await.unwrap_err();
    assert!(matches!(refused, Error::Repository(_)), "{refused}");
    assert!(
        refused.to_string().contains("check constraint"),
        "{refused}"
    );
    assert_eq!(users.find_by_id(&1).await.unwrap(), Some(user(1, "before")));
    for (page, limit) in [(0, 10), (1, 0), (1, 10_001)] {
        let refused = users.find_page(page, limit).await.unwrap_err();
        assert!(matches!(refused, Error::NoPage { .. }), "{refused}");
    }

    fleet.redis.kill().unwrap();
    let refused = users.save(user(1, "after")).await.unwrap_err();
    assert!(matches!(refused, Error::NotForgotten(_)), "{refused}");
    let client = fleet.database.client().await;
    let row = client.query_one("SELECT name FROM example_users", &[]);
    assert_eq!(row.await.unwrap().get::<_, String>(0), "after");
    // Without Redis nothing is cached, and everything is right.
    assert_eq!(users.find_by_id(&1).await.unwrap(), Some(user(1, "after")));
    fleet.stop().await;
}
