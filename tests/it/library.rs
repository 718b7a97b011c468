//! The library's handle, `Warden`, as a Rust program uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cachewarden::cache::{CacheError, State};
use cachewarden::keyspace::KeyError;
use cachewarden::repository::LoadError;
use cachewarden::{Warden, WardenError};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::eventually::eventually;
use super::support::resp::Value;
use super::support::world::{World, joined, statements};

const SHOP: &str = "
    CREATE TABLE courses (id bigint PRIMARY KEY, title text);
    INSERT INTO courses SELECT g, 'course ' || g FROM generate_series(1, 100) g";

const CACHES: &str = r#"
    [caches.course]
    key = "courses:{id:bigint}"
    query = "SELECT id, title FROM courses WHERE id = :id"
    shape = "object"
    ttl = "10m"

    [caches.brittle]
    key = "brittle:{id:int}"
    query = "SELECT 12 / (:id - 3)"
    shape = "scalar"
    ttl = "10m"

    [namespaces.calc]
    prefix = "calc:"
    ttl = "5m"
    load_timeout = "20s"
    max_value = "1KiB"

    [namespaces.hasty]
    prefix = "hasty:"
    ttl = "5m"
    load_timeout = "100ms"
"#;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Course {
    id: i64,
    title: String,
}

fn course(id: i64) -> Course {
    let title = format!("course {id}");
    Course { id, title }
}

async fn shop() -> World {
    World::start(SHOP, CACHES).await
}

/// A loader that counts its calls, and lets nobody through before the gate has permits.
#[derive(Clone)]
pub(super) struct Gated {
    calls: Arc<AtomicU64>,
    gate: Arc<Semaphore>,
}

impl Gated {
    pub(super) fn new() -> Self {
        Self {
            calls: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
        }
    }

    /// `key` by `get_or_load`; the loader gives the number of its call.
    pub(super) async fn get(&self, warden: &Warden, key: &str) -> Result<Option<u64>, WardenError> {
        let this = self.clone();
        let loader = move || {
            let this = this.clone();
            async move {
                let call = this.calls.fetch_add(1, SeqCst) + 1;
                let _permit = this
                    .gate
                    .acquire()
                    .await
                    .map_err(|error| error.to_string())?;
                Ok(Some(call))
            }
        };
        warden.get_or_load(key, None, loader).await
    }

    pub(super) async fn until_called(&self, calls: u64) {
        eventually(DEADLINE, async || match self.calls.load(SeqCst) {
            made if made == calls => Ok(()),
            made => Err(made),
        })
        .await;
    }

    pub(super) fn open(&self) {
        self.gate.add_permits(1000);
    }
}

#[tokio::test]
async fn values_come_as_the_programs_own_types_loaded_once_and_in_order() {
    let world = shop().await;
    let (warden, mut client) = (&world.daemon.warden, world.client().await);
    for _ in 0..2 {
        let found: Option<Course> = warden.get("courses:7").await.unwrap();
        assert_eq!(found, Some(course(7)));
        assert_eq!(warden.get::<Course>("courses:777").await.unwrap(), None);
        let many = ["courses:3", "courses:777", "courses:1", "courses:3"];
        let many: Vec<Option<Course>> = warden.mget(&many).await.unwrap();
        assert_eq!(
            many,
            [Some(course(3)), None, Some(course(1)), Some(course(3))]
        );
    }
    assert_eq!(statements(&mut client).await, 3);
    assert_eq!(warden.mget::<Course>(&[]).await.unwrap(), []);
    world.daemon.stop().await;
}

#[tokio::test]
async fn an_invalidated_value_is_read_anew_and_the_number_removed_is_told() {
    let world = shop().await;
    let warden = &world.daemon.warden;
    for id in [1, 2] {
        assert!(
            warden
                .get::<Course>(&format!("courses:{id}"))
                .await
                .unwrap()
                .is_some()
        );
    }
    world
        .database
        .execute("UPDATE courses SET title = 'new'")
        .await;
    let removed = warden
        .invalidate(&["courses:1", "courses:2", "courses:3"])
        .await;
    assert_eq!(removed.unwrap(), 2);
    let found = warden.get::<Course>("courses:2").await.unwrap().unwrap();
    assert_eq!(found.title, "new");
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_hundred_callers_of_two_daemons_run_one_loader() {
    let world = shop().await;
    let text = config(world.database.url(), &world.redis.redis_url(), CACHES);
    let other = InProcess::start(&text).await;
    let gated = Gated::new();
    let mut callers = JoinSet::new();
    for warden in [&world.daemon.warden, &other.warden] {
        for _ in 0..50 {
            let (warden, gated) = (warden.clone(), gated.clone());
            callers.spawn(async move { gated.get(&warden, "calc:1").await.unwrap() });
        }
    }
    let (mut here, mut there) = (world.client().await, other.client().await);
    eventually(DEADLINE, async || {
        match joined(&mut here).await + joined(&mut there).await {
            98 => Ok(()),
            fewer => Err(fewer),
        }
    })
    .await;
    gated.open();
    assert_eq!(callers.join_all().await, [Some(1); 100]);
    // It lies there for everybody, and everybody can read it.
    assert_eq!(gated.get(&other.warden, "calc:1").await.unwrap(), Some(1));
    assert_eq!(other.warden.get::<u64>("calc:1").await.unwrap(), Some(1));
    assert_eq!(here.command(&["GET", "calc:1"]).await, Value::bulk("1"));
    assert_eq!(gated.calls.load(SeqCst), 1);
    other.stop().await;
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_loader_overtaken_by_an_invalidation_runs_again_and_by_a_set_gives_way() {
    let world = shop().await;
    let warden = &world.daemon.warden;
    let gated = Gated::new();
    let (invalidated, set) = tokio::join!(gated.get(warden, "calc:1"), async {
        gated.until_called(1).await;
        assert_eq!(warden.invalidate(&["calc:1"]).await.unwrap(), 0);
        let overtaken = Gated::new();
        let (loaded, ()) = tokio::join!(overtaken.get(warden, "calc:2"), async {
            overtaken.until_called(1).await;
            warden.set("calc:2", &22, None).await.unwrap();
            overtaken.open();
        });
        gated.open();
        loaded
    });
    assert_eq!(
        (invalidated.unwrap(), gated.calls.load(SeqCst)),
        (Some(2), 2)
    );
    assert_eq!(set.unwrap(), Some(22));
    assert_eq!(warden.get::<u64>("calc:2").await.unwrap(), Some(22));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_loader_that_fails_panics_or_hangs_is_told_and_the_next_one_runs() {
    let world = shop().await;
    let warden = &world.daemon.warden;
    let failed = warden
        .get_or_load("calc:1", None, async || {
            Err::<Option<u64>, _>("no luck".to_owned())
        })
        .await;
    assert!(matches!(told(failed), CacheError::Loader(words) if words == "no luck"));
    let panicked = warden
        .get_or_load("calc:2", None, async || -> Result<Option<u64>, String> {
            panic!("a loader's panic, planned")
        })
        .await;
    assert!(matches!(told(panicked), CacheError::LoaderPanicked));
    let hung = Gated::new();
    let hung = hung.get(warden, "hasty:3").await;
    assert!(matches!(told(hung), CacheError::TimedOut { after_ms: 100 }));
    for key in ["calc:1", "calc:2", "hasty:3"] {
        let next = Gated::new();
        next.open();
        // The one that hung may still be giving its lease back.
        let loaded = eventually(DEADLINE, async || next.get(warden, key).await).await;
        assert!(loaded.is_some(), "{key}");
    }
    world.daemon.stop().await;
}

pub(super) fn told<T: std::fmt::Debug>(answer: Result<T, WardenError>) -> CacheError {
    match answer {
        Err(WardenError::Cache(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn all_who_wait_for_a_loader_are_told_of_its_failure_and_it_ran_once() {
    let world = shop().await;
    let gated = Gated::new();
    let mut callers = JoinSet::new();
    for _ in 0..50 {
        let (warden, gated) = (world.daemon.warden.clone(), gated.clone());
        callers.spawn(async move { gated.get(&warden, "calc:1").await });
    }
    let mut client = world.client().await;
    eventually(DEADLINE, async || match joined(&mut client).await {
        49 => Ok(()),
        fewer => Err(fewer),
    })
    .await;
    gated.gate.close();
    for answer in callers.join_all().await {
        assert!(matches!(told(answer), CacheError::Loader(_)));
    }
    assert_eq!(gated.calls.load(SeqCst), 1);
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_loader_that_finds_nothing_is_answered_none_and_not_remembered() {
    let world = shop().await;
    let warden = &world.daemon.warden;
    let calls = Arc::new(AtomicU64::new(0));
    for asked in 1..=2 {
        let counted = Arc::clone(&calls);
        let loader = move || {
            counted.fetch_add(1, SeqCst);
            async { Ok(None::<u64>) }
        };
        assert_eq!(
            warden.get_or_load("calc:none", None, loader).await.unwrap(),
            None
        );
        assert_eq!(calls.load(SeqCst), asked);
    }
    let there = world.raw().await.command(&["EXISTS", "calc:none"]).await;
    assert_eq!(there, Value::Int(0));
    world.daemon.stop().await;
}

#[tokio::test]
async fn what_a_program_sets_lies_in_redis_as_json_for_the_life_it_chose() {
    let world = shop().await;
    let (warden, mut raw) = (&world.daemon.warden, world.raw().await);
    assert_eq!(warden.get::<Course>("calc:1").await.unwrap(), None);
    warden.set("calc:1", &course(1), None).await.unwrap();
    let brief = Duration::from_secs(60);
    warden
        .mset(&[("calc:2", course(2)), ("calc:3", course(3))], brief)
        .await
        .unwrap();
    for (key, id, least, most) in [("calc:1", 1, 61_000, 300_000), ("calc:3", 3, 1, 60_000)] {
        assert_eq!(warden.get::<Course>(key).await.unwrap(), Some(course(id)));
        let json = serde_json::to_string(&course(id)).unwrap();
        assert_eq!(raw.command(&["GET", key]).await, Value::bulk(json));
        let left = raw.command(&["PTTL", key]).await;
        assert!(
            matches!(left, Value::Int(ms) if (least..=most).contains(&ms)),
            "{left:?}"
        );
    }
    assert_eq!(warden.invalidate(&["calc:1", "calc:2"]).await.unwrap(), 2);
    assert_eq!(warden.get::<Course>("calc:2").await.unwrap(), None);
    let large = warden.set("calc:4", &"x".repeat(2000), None).await;
    assert!(matches!(
        told(large),
        CacheError::TooLarge { limit: 1024, .. }
    ));
    assert_eq!(raw.command(&["EXISTS", "calc:4"]).await, Value::Int(0));
    world.daemon.stop().await;
}

#[tokio::test]
async fn each_mistake_has_an_error_of_its_own() {
    let world = shop().await;
    let warden = &world.daemon.warden;
    let error = warden.get::<Course>("nowhere:1").await.unwrap_err();
    assert!(matches!(
        error,
        WardenError::Key(KeyError::Undeclared { .. })
    ));
    let error = warden.get::<Course>("courses:007").await.unwrap_err();
    assert!(matches!(error, WardenError::Key(KeyError::BadParam { .. })));
    let error = warden.set("courses:1", &1, None).await.unwrap_err();
    assert!(matches!(error, WardenError::NotANamespace { .. }));
    let error = Gated::new().get(warden, "courses:1").await.unwrap_err();
    assert!(matches!(error, WardenError::NotANamespace { .. }));
    let error = warden.get::<u64>("courses:1").await.unwrap_err();
    assert!(matches!(error, WardenError::Decode { wanted: "u64", .. }));
    let error = told(warden.get::<u64>("brittle:3").await);
    assert!(matches!(error, CacheError::Load(LoadError::Refused { .. })));
    let many = vec!["courses:1"; 10_001];
    let error = warden.mget::<Course>(&many).await.unwrap_err();
    assert!(matches!(error, WardenError::TooMany { given: 10_001, .. }));
    world.daemon.stop().await;
}

#[tokio::test]
async fn a_running_daemons_actors_answer_messages_of_programs() {
    use cachewarden::cache::Read;
    let world = shop().await;
    let warden = world.daemon.warden.clone();
    let key = warden.route("courses:5").unwrap();
    for (cache, state) in warden
        .caches()
        .iter()
        .cycle()
        .zip([State::Miss, State::Hit, State::Hit])
    {
        let keys = vec![key.clone()];
        let read = Read {
            keys: keys.into(),
            with_age: true,
        };
        let found = cache.read.ask(read).await.unwrap().remove(0).unwrap();
        assert_eq!(found.state, state);
        assert!(found.left > Duration::ZERO);
    }
    assert!(warden.health().all_up());
    world.daemon.stop().await;
    let error = warden.get::<Course>("courses:5").await.unwrap_err();
    assert!(
        matches!(error, WardenError::Cache(CacheError::Actor(_))),
        "{error}"
    );
}
