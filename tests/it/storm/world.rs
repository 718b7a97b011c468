//! A Postgres, a Redis and two daemons that may all be broken, and what is asked of them before and after.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::AddAssign;
use std::time::Duration;

use cachewarden::Warden;
use cachewarden::cache::Scripts;
use cachewarden::cli::demo::servers::{Postgres, PostgresOptions, Redis};
use cachewarden::config::Config;
use rustix::process::Signal;
use tokio_postgres::Client as Session;

use super::history::{ASKED, History, ITEMS, LISTS, PUBLISHED, Row, is_gone};
use super::load::version;
use super::writers::WRITERS;
use crate::support::DEADLINE;
use crate::support::daemon::{InProcess, Spawned, cachewarden, config, said};
use crate::support::eventually::eventually;
use crate::support::proxy::Proxy;
use crate::support::resp::{Client, Value};
use crate::support::servers::{connect, database_in, own_postgres, redis};
use crate::support::world::{figure, raw};

/// Some statements pause between their snapshot and their answer, whether there are rows or not. Without a pause no fill is
/// ever late, and nothing is proven.
const PAUSE: &str =
    "SELECT '' WHERE (SELECT pg_sleep(random() * 0.2)::text WHERE random() < 0.15) = 'a row'";

const CACHES: &str = r#"
    redis.timeout = "200ms"

    [caches.item]
    key = "items:{id:bigint}"
    query = "SELECT version::text FROM items WHERE id = :id UNION ALL PAUSE"
    shape = "scalar"
    ttl = "1h"

    [caches.list]
    key = "lists:{id:bigint}:{page:int}"
    query = "SELECT version::text FROM lists WHERE id = :id AND :page >= 0 UNION ALL PAUSE"
    shape = "scalar"
    ttl = "1h"
    index = true

    [caches.asked]
    key = "asked:{id:bigint}:{page:int}"
    query = "SELECT version::text FROM asked WHERE id = :id AND :page >= 0 UNION ALL PAUSE"
    shape = "scalar"
    ttl = "1h"

    [caches.published]
    key = "published:{id:bigint}:{page:int}"
    query = "SELECT version::text FROM published WHERE id = :id AND :page >= 0 UNION ALL PAUSE"
    shape = "scalar"
    ttl = "1h"

    [audit]
    rate = 20

    [invalidation]
    [[invalidation.watch]]
    table = "items"
    invalidate = ["items:{id}"]
    [[invalidation.watch]]
    table = "lists"
    invalidate = ["lists:{id}:*"]
"#;

/// A port on which nobody listens.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
/// A key that nobody changes.
const CALM_KEY: &str = "items:1000000";

/// What auditors have found.
#[derive(Clone, Copy, Debug, Default)]
pub struct Audited {
    pub checked: u64,
    pub inconsistent: u64,
}

impl Audited {
    /// By one daemon, so far.
    async fn by(daemon: SocketAddr) -> Self {
        let mut client = Client::connect(daemon).await;
        let mut found = async |what| {
            let name = format!("cachewarden_audit_{what}_total");
            figure(&mut client, &name, "").await
        };
        Self {
            checked: found("checked").await,
            inconsistent: found("inconsistent").await,
        }
    }
}

impl AddAssign for Audited {
    fn add_assign(&mut self, other: Self) {
        self.checked += other.checked;
        self.inconsistent += other.inconsistent;
    }
}

enum Daemon {
    /// The real binary: it can be killed and frozen.
    Process(Spawned),
    /// Through the library: its scripts can be others.
    Library(InProcess),
    Killed,
}

pub struct World {
    pub postgres: Postgres,
    pub redis: Redis,
    /// Each daemon's only way to Redis, and theirs to Postgres. Writers and who reads straight go past it.
    pub to_redis: [Proxy; 2],
    pub to_postgres: Proxy,
    pub database: String,
    /// How the daemons reach Postgres.
    postgres_url: String,
    caches: String,
    /// What daemons had found that are gone by now.
    audited: Audited,
    daemons: [Daemon; 2],
}

impl World {
    /// With daemons as processes of their own, or in this one with these scripts; they keep values in memory, or not.
    pub async fn start(scripts: Option<fn() -> Scripts>, is_l1: bool) -> Self {
        let postgres = own_postgres(&PostgresOptions::default());
        let database = database_in(&postgres).await;
        let tables = format!(
            "CREATE TABLE items (id bigint PRIMARY KEY, version bigint NOT NULL);
             CREATE TABLE lists (id bigint PRIMARY KEY, version bigint NOT NULL);
             CREATE TABLE asked (id bigint PRIMARY KEY, version bigint NOT NULL);
             CREATE TABLE published (id bigint PRIMARY KEY, version bigint NOT NULL);
             CREATE TABLE unwatched (id bigint PRIMARY KEY, version bigint NOT NULL);
             INSERT INTO unwatched SELECT n, 0 FROM generate_series(0, {WRITERS} - 1) n;
             INSERT INTO items SELECT n, 0 FROM generate_series(0, {ITEMS} - 1) n;
             INSERT INTO items VALUES (1000000, 0);
             INSERT INTO lists SELECT n, 0 FROM generate_series(0, {LISTS} - 1) n;
             INSERT INTO asked SELECT n, 0 FROM generate_series(0, {ASKED} - 1) n;
             INSERT INTO published SELECT n, 0 FROM generate_series(0, {PUBLISHED} - 1) n"
        );
        database.execute(&tables).await;
        let redis = redis();
        let to_redis = [
            Proxy::before_port(redis.port()).await,
            Proxy::before_port(redis.port()).await,
        ];
        let to_postgres = Proxy::before_port(postgres.port()).await;
        let past = format!(":{}/", postgres.port());
        let postgres_url = database
            .url()
            .replace(&past, &format!(":{}/", to_postgres.port()));
        let mut caches = CACHES.replace("PAUSE", PAUSE);
        if is_l1 {
            caches = caches.replace("ttl = \"1h\"", "ttl = \"1h\"\nl1 = true");
        }
        let migrate = config(&postgres_url, &redis_url(&to_redis[0]), &caches);
        let (code, out, errors) = said(&cachewarden(&migrate, &["migrate"]).await);
        assert_eq!(code, Some(0), "{out}{errors}");
        let start = async |redis: String| {
            let Some(scripts) = scripts else {
                return Daemon::Process(Spawned::start(&postgres_url, &redis, &caches).await);
            };
            let config = Config::from_toml(&config(&postgres_url, &redis, &caches)).unwrap();
            let warden = Warden::start_with_scripts(config, scripts()).await;
            Daemon::Library(InProcess {
                warden: warden.unwrap(),
            })
        };
        let daemons = [
            start(redis_url(&to_redis[0])).await,
            start(redis_url(&to_redis[1])).await,
        ];
        Self {
            postgres,
            redis,
            to_redis,
            to_postgres,
            database: database.url().to_owned(),
            postgres_url,
            caches,
            audited: Audited::default(),
            daemons,
        }
    }

    /// Where the daemons listen; for one that is away, where nobody does.
    pub fn addresses(&self) -> [SocketAddr; 2] {
        self.daemons.each_ref().map(|daemon| match daemon {
            Daemon::Process(daemon) => daemon.address(),
            Daemon::Library(daemon) => daemon.address(),
            Daemon::Killed => NOBODY,
        })
    }

    pub async fn session(&self) -> Session {
        connect(&self.database).await
    }

    pub async fn kill(&mut self, daemon: usize) {
        self.audited += Audited::by(self.addresses()[daemon]).await;
        self.daemons[daemon] = Daemon::Killed;
    }

    /// Starts a killed one again, elsewhere; until it is ready.
    pub async fn start_again(&mut self, daemon: usize) {
        let redis = redis_url(&self.to_redis[daemon]);
        let started = Spawned::start(&self.postgres_url, &redis, &self.caches).await;
        self.daemons[daemon] = Daemon::Process(started);
    }

    /// What all auditors have found, in daemons of now and those that were killed.
    pub async fn audited(&self) -> Audited {
        let mut audited = self.audited;
        for address in self.addresses() {
            audited += Audited::by(address).await;
        }
        audited
    }

    pub fn signal(&self, daemon: usize, signal: Signal) {
        if let Daemon::Process(daemon) = &self.daemons[daemon] {
            daemon.signal(signal);
        }
    }

    /// Waits until all that was queued before now is applied, and both daemons cache again.
    pub async fn recovered(&self) {
        let session = self.session().await;
        let now = session
            .query_one("SELECT clock_timestamp()::text", &[])
            .await;
        let now: String = now.unwrap().get(0);
        let older = format!("SELECT count(*) FROM cachewarden.outbox WHERE at <= '{now}'");
        eventually(DEADLINE, async || {
            let row = session.query_one(&older, &[]).await;
            match row.unwrap().get::<_, i64>(0) {
                0 => Ok(()),
                left => Err(format!("{left} changes are queued")),
            }
        })
        .await;
        for address in self.addresses() {
            let mut client = Client::connect(address).await;
            eventually(DEADLINE, async || {
                let found = client.command(&["CACHE.GET", CALM_KEY]).await;
                match found.field("state") {
                    Some(state) if state.text().starts_with("hit") => Ok(()),
                    _ => Err(found),
                }
            })
            .await;
            // What a fault has emptied is full again, so that calm weather is as useful as ever.
            let keys: Vec<String> = Row::all().flat_map(Row::keys).collect();
            let read: Vec<&str> = std::iter::once("MGET")
                .chain(keys.iter().map(String::as_str))
                .collect();
            client.command(&read).await;
        }
    }

    /// Once nobody writes or reads any more: how many values in Redis are wrong, or read so through a daemon.
    pub async fn wrong_at_rest(&self, history: &History) -> Vec<String> {
        self.recovered().await;
        let session = self.session().await;
        let mut raw = raw(&self.redis).await;
        let mut wrong = Vec::new();
        let mut clients = Vec::new();
        for address in self.addresses() {
            clients.push(Client::connect(address).await);
        }
        for row in Row::all() {
            let sql = format!(
                "SELECT version FROM {} WHERE id = {}",
                row.table(),
                row.id()
            );
            let found = session.query_opt(&sql, &[]).await.unwrap();
            let truth = found.map(|row| u64::try_from(row.get::<_, i64>(0)).unwrap());
            let newest = history.newest(row);
            let known = (!is_gone(newest)).then_some(newest);
            assert_eq!(truth, known, "{row:?}");
            for key in row.keys() {
                let cached = raw.command(&["GET", &key]).await;
                if cached != Value::Nil && version(&cached) != truth {
                    wrong.push(format!("{key} is {cached:?}, not {truth:?}"));
                }
                for client in &mut clients {
                    let read = client.command(&["GET", &key]).await;
                    if version(&read) != truth {
                        wrong.push(format!("{key} reads {read:?}, not {truth:?}"));
                    }
                }
            }
        }
        wrong
    }

    pub async fn stop(self) {
        for daemon in self.daemons {
            if let Daemon::Library(daemon) = daemon {
                daemon.stop().await;
            }
        }
    }
}

fn redis_url(way: &Proxy) -> String {
    format!("redis://{}", way.address())
}

/// How late this machine is with a plain timer, at worst.
pub async fn late(over: impl Fn() -> bool) -> Duration {
    const STEP: Duration = Duration::from_millis(10);
    let mut worst = Duration::ZERO;
    while !over() {
        let begun = tokio::time::Instant::now();
        tokio::time::sleep(STEP).await;
        worst = worst.max(begun.elapsed().saturating_sub(STEP));
    }
    worst
}
