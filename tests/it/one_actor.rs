//! One cache actor alone, driven through its handles: no door, no daemon.

use std::sync::Arc;
use std::time::Duration;

use actix_rt::Arbiter;
use bytes::Bytes;
use cachewarden::cache::{
    CacheActor, CacheHandle, CacheParts, GetOrLoad, Inspect, Invalidate, Loader, Means, Put, Read,
    Scripts, Spaces, State,
};
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use cachewarden::keyspace::{RoutedKey, Router, SpaceId};
use cachewarden::repository::Repository;
use cachewarden::store::Store;
use cachewarden::supervisor::{AskError, ChildSpec, RestartPolicy, Supervisor};
use cachewarden::telemetry::Metrics;
use tokio::runtime::Handle;

use super::support::DEADLINE;
use super::support::daemon::config;
use super::support::eventually::eventually;
use super::support::servers::{Database, database, redis};

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT title FROM courses WHERE id = :id"
    shape = "scalar"
    ttl = "10m"

    [namespaces.calc]
    prefix = "calc:"
    ttl = "5m"
"#;

/// An actor, and what it stands on.
struct Stage {
    handle: CacheHandle,
    router: Router,
    supervisor: Supervisor,
    database: Database,
    _redis: Redis,
}

impl Stage {
    /// Starts one actor on the test's own thread.
    async fn set(policy: RestartPolicy) -> Self {
        let (database, redis) = (database().await, redis());
        database
            .execute("CREATE TABLE courses (id bigint, title text); INSERT INTO courses VALUES (1, 'old')")
            .await;
        let text = config(database.url(), &redis.redis_url(), CACHES);
        let config = Config::from_toml(&text).unwrap();
        let handle = CacheHandle::unbound(DEADLINE);
        let mut supervisor = Supervisor::new();
        supervisor.start(spec(&config, &handle, policy));
        supervisor.all_up().await.unwrap();
        Self {
            handle,
            router: config.router(),
            supervisor,
            database,
            _redis: redis,
        }
    }

    fn key(&self, key: &'static str) -> RoutedKey {
        let route = self.router.route(key.as_bytes()).unwrap();
        route.with_key(Bytes::from_static(key.as_bytes()))
    }

    /// Value and state of a key.
    async fn read(&self, key: &'static str) -> (Option<Bytes>, State) {
        let keys = vec![self.key(key)];
        let read = Read {
            keys: keys.into(),
            with_age: false,
        };
        let found = self.handle.read.ask(read).await.unwrap().remove(0).unwrap();
        (found.value, found.state)
    }

    /// Sends a key of no declared space, which breaks the actor's trust in its router: it panics.
    async fn make_it_panic(&self) -> AskError {
        let mut key = self.key("courses:1");
        key.space = SpaceId(u16::MAX);
        let read = Read {
            keys: Arc::from([key]),
            with_age: false,
        };
        self.handle.read.ask(read).await.unwrap_err()
    }
}

fn spec(config: &Config, handle: &CacheHandle, policy: RestartPolicy) -> ChildSpec {
    let store = Store::siblings(&config.redis, 1).unwrap().remove(0);
    let postgres = config.postgres.as_ref().unwrap();
    let repository = Repository::new(postgres, &config.caches, Handle::current()).unwrap();
    // Keeps the connection to Redis, on the actor's thread.
    actix_rt::spawn(store.clone().keep());
    let parts = CacheParts {
        means: Means::new(
            Spaces::of(&config.caches, &config.namespaces),
            store,
            Arc::new(Scripts::default()),
            Some(repository),
            Handle::current(),
            Metrics::new(),
        ),
        shard: 0,
        shards: Arc::from([handle.clone()]),
    };
    let bound = handle.clone();
    ChildSpec::new(
        "cache-0",
        Arbiter::current(),
        policy,
        move || CacheActor::new(parts.clone()),
        move |address| CacheActor::bind(&bound, address),
    )
}

fn text(value: &'static str) -> Option<Bytes> {
    Some(Bytes::from_static(value.as_bytes()))
}

#[actix_rt::test]
async fn an_actor_reads_caches_and_invalidates() {
    let mut stage = Stage::set(RestartPolicy::default()).await;
    eventually(DEADLINE, async || {
        let read = stage.read("courses:1").await;
        assert_eq!(read.0, text("\"old\""));
        if read.1 == State::Hit {
            Ok(())
        } else {
            Err(read)
        }
    })
    .await;
    stage
        .database
        .execute("UPDATE courses SET title = 'new'")
        .await;
    let keys = vec![stage.key("courses:1")];
    let invalidate = Invalidate::keys(keys.clone());
    assert_eq!(
        stage.handle.invalidate.ask(invalidate).await.unwrap(),
        Ok(1)
    );
    let inspect = || Inspect { keys: keys.clone() };
    assert_eq!(
        stage.handle.inspect.ask(inspect()).await.unwrap(),
        Ok(vec![None])
    );
    assert_eq!(
        stage.read("courses:1").await,
        (text("\"new\""), State::Miss)
    );
    let left = stage.handle.inspect.ask(inspect()).await.unwrap().unwrap();
    assert!(left[0] > Some(Duration::ZERO), "{left:?}");
    assert_eq!(stage.read("courses:2").await, (None, State::Missing));
    assert_eq!(stage.supervisor.stop(DEADLINE).await, [""; 0]);
}

#[actix_rt::test]
async fn an_actor_runs_a_programs_loader_and_stores_what_it_brings() {
    let mut stage = Stage::set(RestartPolicy::default()).await;
    let loader = Loader::new(async || Ok(text("41")));
    let load = GetOrLoad {
        key: stage.key("calc:1"),
        life: None,
        loader,
    };
    let found = stage.handle.get_or_load.ask(load).await.unwrap().unwrap();
    assert_eq!((found.value, found.state), (text("41"), State::Miss));
    let value = Bytes::from_static(b"42");
    let put = || Put {
        values: vec![(stage.key("calc:1"), value.clone(), None)],
    };
    eventually(DEADLINE, async || {
        stage.handle.put.ask(put()).await.unwrap()
    })
    .await;
    assert_eq!(stage.read("calc:1").await, (text("42"), State::Hit));
    assert_eq!(stage.supervisor.stop(DEADLINE).await, [""; 0]);
}

#[actix_rt::test]
async fn an_actor_that_panicked_is_reached_through_its_old_handle() {
    let mut stage = Stage::set(RestartPolicy::default()).await;
    assert_eq!(stage.read("courses:1").await.0, text("\"old\""));
    for restart in 1..=2 {
        // Who asked is told, and at once: waiting for the handle's deadline would end in another error.
        let told = stage.make_it_panic().await;
        assert_eq!(told, AskError::Unavailable { actor: "cache" });
        let read = eventually(DEADLINE, async || {
            let keys = vec![stage.key("courses:1")];
            stage
                .handle
                .read
                .ask(Read {
                    keys: keys.into(),
                    with_age: false,
                })
                .await
        })
        .await;
        assert_eq!(read[0].as_ref().unwrap().value, text("\"old\""));
        assert_eq!(stage.supervisor.health().snapshot()[0].restarts, restart);
    }
    assert_eq!(stage.supervisor.stop(DEADLINE).await, [""; 0]);
}

#[actix_rt::test]
async fn while_an_actor_is_down_its_handle_says_so_at_once() {
    let long = Duration::from_secs(3600);
    let mut stage = Stage::set(RestartPolicy {
        first_pause: long,
        longest_pause: long,
        ..RestartPolicy::default()
    })
    .await;
    stage.make_it_panic().await;
    for _ in 0..10 {
        let keys = vec![stage.key("courses:1")];
        let refused = stage
            .handle
            .read
            .ask(Read {
                keys: keys.into(),
                with_age: false,
            })
            .await;
        assert_eq!(
            refused.unwrap_err(),
            AskError::Unavailable { actor: "cache" }
        );
    }
    assert_eq!(stage.supervisor.stop(DEADLINE).await, [""; 0]);
}
