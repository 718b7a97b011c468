//! The race that leases are for: a load reads a row, pauses, the row changes and is invalidated, the load fills.
//!
//! One round is one key, two daemons, readers on both, and a writer. All loads pause between their snapshot and their
//! fill: the declared query sleeps in the server, after the statement's snapshot was taken. The writer commits and then
//! invalidates through one of the daemons, several times, with pauses of the same length; readers read until it is done.
//! Then all is quiet, and Redis must hold what Postgres says, or nothing.
//!
//! The same rounds through a watched table: nobody invalidates but the database's queue, and a change counts as acknowledged
//! when its row has left it.
//!
//! The same rounds with a fill that does not look at its lease must end with stale values: else the race was not run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use cachewarden::Warden;
use cachewarden::cache::Scripts;
use cachewarden::cli::demo::servers::Redis;
use cachewarden::config::Config;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::support::DEADLINE;
use super::support::daemon::{InProcess, config};
use super::support::resp::{Client, Value};
use super::support::servers::{Database, database, redis};
use super::support::watched::Watched;
use super::support::world::{figure, raw};

const ROUNDS: u64 = 500;
const WRITES_A_ROUND: u64 = 4;
const READERS_A_DAEMON: usize = 3;
/// Between two looks at the queue.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// A load that ran past half of this would read without a lease, and a race without leases proves nothing.
const CACHES: &str = r#"
    postgres.pool_size = 16
    # A machine that is busy is no Redis that is away.
    redis.timeout = "20s"

    [caches.counter]
    key = "counters:{id:bigint}"
    query = "SELECT version || left(pg_sleep(random() * 0.004)::text, 0) FROM counters WHERE id = :id"
    shape = "scalar"
    ttl = "10m"
    load_timeout = "30s"
"#;
/// The same, with the values kept in the daemons' own memory.
const IN_MEMORY: &str = "l1 = true\n";
/// The same, watched. Both daemons look at the queue as often as they may.
const WATCHED: &str = r#"
    [invalidation]
    poll = "1ms"
    [[invalidation.watch]]
    table = "counters"
    invalidate = ["counters:{id}"]
"#;
const UNCHECKED: &str = include_str!("scripts/end_leases_unchecked.lua");

/// How a change is made known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Invalidated {
    ByName,
    ByWatch,
}

impl Invalidated {
    /// Rounds that run side by side, each with a key of its own. Who waits for the queue leaves time for others.
    fn lanes(self) -> u64 {
        match self {
            Self::ByName => 5,
            Self::ByWatch => 10,
        }
    }
}

/// What came of all rounds.
#[derive(Debug, Default)]
struct Outcome {
    /// Reads that were checked.
    reads: u64,
    /// Reads that gave a version older than one whose invalidation was acknowledged before they began.
    stale_reads: u64,
    /// Rounds after which Redis held an outdated value.
    stale_rounds: u64,
    /// Rounds after which a calm read left the right value in Redis.
    cached_rounds: u64,
    /// Fills refused because their lease was gone.
    refused: u64,
    /// Fills that were stored.
    filled: u64,
    /// Reads answered from a daemon's own memory.
    from_memory: u64,
}

/// Who must not read what was invalidated, once that is acknowledged.
#[derive(Clone, Copy)]
enum Heard {
    ByAll,
    /// The other one hears of it a moment later.
    ByItsOwnDaemon,
}

#[tokio::test]
async fn no_fill_overwrites_an_invalidation_and_no_read_after_one_is_outdated() {
    let outcome = race(Invalidated::ByName, Scripts::default, Heard::ByAll).await;
    println!("with leases, {ROUNDS} rounds: {outcome:?}");
    assert_never_stale(&outcome);
}

#[tokio::test]
async fn no_fill_overwrites_what_a_watched_table_has_queued_and_no_read_after_it_is_outdated() {
    let outcome = race(Invalidated::ByWatch, Scripts::default, Heard::ByAll).await;
    println!("watched, with leases, {ROUNDS} rounds: {outcome:?}");
    assert_never_stale(&outcome);
}

#[tokio::test]
async fn the_race_finds_stale_values_when_fills_do_not_look_at_their_lease() {
    let outcome = race(Invalidated::ByName, unchecked, Heard::ByAll).await;
    println!("without, {ROUNDS} rounds: {outcome:?}");
    assert_stale(&outcome);
}

#[tokio::test]
async fn the_race_through_a_watched_table_finds_stale_values_without_that_look_too() {
    let outcome = race(Invalidated::ByWatch, unchecked, Heard::ByAll).await;
    println!("watched, without, {ROUNDS} rounds: {outcome:?}");
    assert_stale(&outcome);
}

fn unchecked() -> Scripts {
    Scripts::with_end(UNCHECKED)
}

fn assert_never_stale(outcome: &Outcome) {
    let sound = outcome.stale_reads == 0 && outcome.stale_rounds == 0;
    // Useful, too, and really raced.
    let lively = outcome.cached_rounds >= ROUNDS * 8 / 10 && outcome.refused > ROUNDS / 10;
    assert!(sound && lively, "{outcome:?}");
}

#[tokio::test]
async fn with_memory_too_nothing_outdated_stays_and_who_invalidates_reads_afresh() {
    let outcome = race(Invalidated::ByName, Scripts::default, Heard::ByItsOwnDaemon).await;
    println!("with leases and memory, {ROUNDS} rounds: {outcome:?}");
    assert_never_stale(&outcome);
    assert!(outcome.from_memory > ROUNDS, "{outcome:?}");
}

fn assert_stale(outcome: &Outcome) {
    let is_found = outcome.stale_rounds > 5 && outcome.stale_reads > 5;
    assert!(is_found, "{outcome:?}");
}

/// Two daemons on one Redis and one database.
struct Arena {
    how: Invalidated,
    database: Database,
    redis: Redis,
    daemons: [InProcess; 2],
    heard: Heard,
}

async fn race(how: Invalidated, scripts: impl Fn() -> Scripts, heard: Heard) -> Outcome {
    let (database, redis) = (database().await, redis());
    let table = "CREATE TABLE counters (id bigint PRIMARY KEY, version bigint)";
    let (database, sections) = match how {
        Invalidated::ByName => {
            database.execute(table).await;
            let memory = match heard {
                Heard::ByAll => "",
                Heard::ByItsOwnDaemon => IN_MEMORY,
            };
            (database, format!("{CACHES}{memory}"))
        }
        Invalidated::ByWatch => {
            let sections = format!("{CACHES}{WATCHED}");
            let watched = Watched::unmigrated_in(database, table, &sections).await;
            watched.migrate().await;
            (watched.database, sections)
        }
    };
    let start = async || {
        let text = config(database.url(), &redis.redis_url(), &sections);
        let config = Config::from_toml(&text).unwrap();
        let warden = Warden::start_with_scripts(config, scripts()).await;
        InProcess {
            warden: warden.unwrap(),
        }
    };
    let daemons = [start().await, start().await];
    let arena = Arc::new(Arena {
        how,
        database,
        redis,
        daemons,
        heard,
    });
    let mut lanes = JoinSet::new();
    for lane in 0..how.lanes() {
        lanes.spawn(run_lane(Arc::clone(&arena), lane));
    }
    let mut outcome = lanes
        .join_all()
        .await
        .into_iter()
        .fold(Outcome::default(), Outcome::plus);
    for daemon in &arena.daemons {
        let mut client = daemon.client().await;
        outcome.refused += figure(&mut client, "cachewarden_fills_total", "refused").await;
        outcome.filled += figure(&mut client, "cachewarden_fills_total", "filled").await;
        outcome.from_memory += figure(&mut client, "cachewarden_reads_total", "hit-l1").await;
        daemon.warden.stop().await;
    }
    outcome
}

async fn run_lane(arena: Arc<Arena>, lane: u64) -> Outcome {
    let mut writer = Writer {
        how: arena.how,
        session: arena.database.client().await,
        daemons: [
            arena.daemons[0].client().await,
            arena.daemons[1].client().await,
        ],
    };
    let mut straight = raw(&arena.redis).await;
    let mut outcome = Outcome::default();
    let lanes = arena.how.lanes();
    for round in 0..ROUNDS / lanes {
        let id = 1 + lane + round * lanes;
        writer.insert(id).await;
        outcome = outcome.plus(run_round(&arena, &mut writer, id).await);
        // All reads were answered, so all fills have run: this is what stays.
        let truth = Value::bulk(format!("\"{WRITES_A_ROUND}\""));
        let key = format!("counters:{id}");
        let left = straight.command(&["GET", &key]).await;
        outcome.stale_rounds += u64::from(left != Value::Nil && left != truth);
        let calm = match arena.heard {
            Heard::ByAll => writer.daemons[0].command(&["GET", &key]).await,
            Heard::ByItsOwnDaemon => until_calm(&mut writer.daemons, &key, &truth).await,
        };
        let cached = straight.command(&["GET", &key]).await;
        outcome.cached_rounds += u64::from(calm == truth && cached == truth);
    }
    outcome
}

/// Readers against the writer, until the writer is done.
async fn run_round(arena: &Arena, writer: &mut Writer, id: u64) -> Outcome {
    // The newest version whose invalidation is acknowledged, to the readers of each daemon.
    let acknowledged = [0; 2].map(|_| Arc::new(AtomicU64::new(0)));
    let done = Arc::new(AtomicBool::new(false));
    let mut readers = JoinSet::new();
    for (daemon, acknowledged) in arena.daemons.iter().zip(&acknowledged) {
        for _ in 0..READERS_A_DAEMON {
            let client = daemon.client().await;
            readers.spawn(read_on(
                client,
                id,
                Arc::clone(acknowledged),
                Arc::clone(&done),
            ));
        }
    }
    for version in 1..=WRITES_A_ROUND {
        let by = writer.write(id, version).await;
        for (daemon, acknowledged) in acknowledged.iter().enumerate() {
            if matches!(arena.heard, Heard::ByAll) || daemon == by {
                acknowledged.store(version, SeqCst);
            }
        }
    }
    done.store(true, SeqCst);
    readers
        .join_all()
        .await
        .into_iter()
        .fold(Outcome::default(), Outcome::plus)
}

/// Reads through both daemons until both say the truth: the one that did not invalidate hears of it a moment later.
async fn until_calm(daemons: &mut [Client; 2], key: &str, truth: &Value) -> Value {
    for daemon in daemons {
        let calm = async { while daemon.command(&["GET", key]).await != *truth {} };
        let calm = tokio::time::timeout(DEADLINE, calm).await;
        assert!(calm.is_ok(), "{key} is not {truth:?} in the end");
    }
    truth.clone()
}

async fn read_on(
    mut client: Client,
    id: u64,
    acknowledged: Arc<AtomicU64>,
    done: Arc<AtomicBool>,
) -> Outcome {
    let key = format!("counters:{id}");
    let mut outcome = Outcome::default();
    while !done.load(SeqCst) {
        let least = acknowledged.load(SeqCst);
        let answer = client.command(&["GET", &key]).await;
        let version: u64 = answer.text().trim_matches('"').parse().unwrap();
        outcome.reads += 1;
        outcome.stale_reads += u64::from(version < least);
    }
    outcome
}

struct Writer {
    how: Invalidated,
    session: tokio_postgres::Client,
    daemons: [Client; 2],
}

impl Writer {
    async fn insert(&mut self, id: u64) {
        let sql = format!("INSERT INTO counters VALUES ({id}, 0)");
        self.session.batch_execute(&sql).await.unwrap();
    }

    /// Commits a version and invalidates its key, each after a pause of up to 4 ms. Through which daemon.
    async fn write(&mut self, id: u64, version: u64) -> usize {
        let pause = "SELECT pg_sleep(random() * 0.004)";
        let sql = format!("{pause}; UPDATE counters SET version = {version} WHERE id = {id}");
        self.session.batch_execute(&sql).await.unwrap();
        self.session.batch_execute(pause).await.unwrap();
        let key = format!("counters:{id}");
        if self.how == Invalidated::ByWatch {
            until_applied(&self.session, &key).await;
            return 0;
        }
        let by = usize::from((id + version).is_multiple_of(2));
        let removed = self.daemons[by].command(&["CACHE.INVALIDATE", &key]).await;
        assert!(matches!(removed, Value::Int(0 | 1)), "{removed:?}");
        by
    }
}

/// Until the queue holds nothing of this key: a row is removed when it is applied, and not before.
async fn until_applied(session: &tokio_postgres::Client, key: &str) {
    let sql = "SELECT count(*) FROM cachewarden.outbox WHERE keys @> ARRAY[$1]";
    let applied = async {
        while session
            .query_one(sql, &[&key])
            .await
            .unwrap()
            .get::<_, i64>(0)
            > 0
        {
            sleep(LOOK_EVERY).await;
        }
    };
    timeout(DEADLINE, applied)
        .await
        .unwrap_or_else(|_| panic!("{key} stays in the queue"));
}

impl Outcome {
    fn plus(self, other: Outcome) -> Outcome {
        Outcome {
            reads: self.reads + other.reads,
            stale_reads: self.stale_reads + other.stale_reads,
            stale_rounds: self.stale_rounds + other.stale_rounds,
            cached_rounds: self.cached_rounds + other.cached_rounds,
            refused: self.refused + other.refused,
            filled: self.filled + other.filled,
            from_memory: self.from_memory + other.from_memory,
        }
    }
}
