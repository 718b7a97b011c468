//! Clocks that jump by an hour: Redis' own, by which locks and limits end, and a daemon's, which nothing depends on.

use std::fs;
use std::path::PathBuf;

use cachewarden::cli::demo::servers::{Folder, Redis, RedisOptions};

use super::support::DEADLINE;
use super::support::daemon::{InProcess, Spawned, config, config_on};
use super::support::eventually::eventually;
use super::support::resp::{Client, Value};
use super::support::watched::Watched;

const SECTIONS: &str = r#"
[locks]
[limits.fixed]
algorithm = "fixed_window"
limit = 3
window = "10m"
[limits.sliding]
algorithm = "sliding_window"
limit = 3
window = "10m"
[limits.bucket]
algorithm = "token_bucket"
limit = 3
window = "10m"
"#;
const LIMITS: [&str; 3] = ["fixed", "sliding", "bucket"];
const HOUR: i64 = 3600;

/// A clock of somebody else's, as libfaketime shows it to one process. Only the time of day jumps: the kernel's monotonic
/// clock never does.
struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    fn new(folder: &Folder) -> Self {
        let clock = Self {
            library: library(),
            offset: folder.path().join("clock"),
        };
        clock.set(0);
        clock
    }

    /// Jumps to so many seconds beside the real time.
    fn set(&self, offset_s: i64) {
        let beside = self.offset.with_extension("new");
        fs::write(&beside, format!("{offset_s:+}\n")).unwrap();
        fs::rename(&beside, &self.offset).unwrap();
    }

    fn env(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", self.library.to_str().unwrap()),
            ("FAKETIME_TIMESTAMP_FILE", self.offset.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }
}

/// Debian puts it beside the other libraries of the machine's kind.
fn library() -> PathBuf {
    let found = fs::read_dir("/usr/lib").unwrap().flatten();
    let mut found = found.map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"));
    found
        .find(|path| path.exists())
        .expect("libfaketime: `scripts/deps.sh clients` installs it")
}

/// A Redis with such a clock, and a daemon with the real one.
struct World {
    database: Watched,
    clock: Clock,
    redis: Redis,
    _folder: Folder,
    daemon: InProcess,
}

impl World {
    async fn start() -> Self {
        let folder = Folder::new().unwrap();
        let clock = Clock::new(&folder);
        let options = RedisOptions {
            env: clock.env(),
            ..RedisOptions::default()
        };
        let redis = Redis::start(&folder, &options).unwrap();
        let database = Watched::start("SELECT 1", SECTIONS).await;
        let text = config(database.database.url(), &redis.redis_url(), SECTIONS);
        let daemon = InProcess::start(&text).await;
        Self {
            database,
            clock,
            redis,
            _folder: folder,
            daemon,
        }
    }
}

async fn redis_time(redis: &Redis) -> i64 {
    let mut raw = Client::connect_unix(&redis.socket()).await;
    match raw.command(&["TIME"]).await {
        Value::Array(parts) => parts[0].text().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn acquire(client: &mut Client, words: &[&str]) -> Option<(String, i64)> {
    match client.command(&[&["LOCK.ACQUIRE"], words].concat()).await {
        Value::Nil => None,
        Value::Array(parts) => match parts.as_slice() {
            [token, Value::Int(fence)] => Some((token.text().to_owned(), *fence)),
            _ => panic!("{parts:?}"),
        },
        other => panic!("{other:?}"),
    }
}

/// How many of ten requests get through.
async fn let_through(client: &mut Client, limit: &str) -> i64 {
    let mut through = 0;
    for _ in 0..10 {
        match client.command(&["RATE.CHECK", limit, "user:1"]).await {
            Value::Array(parts) => match parts[0] {
                Value::Int(allowed) => through += allowed,
                _ => panic!("{parts:?}"),
            },
            other => panic!("{other:?}"),
        }
    }
    through
}

#[tokio::test]
async fn a_redis_whose_clock_jumps_ahead_ends_locks_and_windows_early_but_gives_no_old_fence() {
    let world = World::start().await;
    let (mut holder, mut other) = (world.daemon.client().await, world.daemon.client().await);
    holder.command(&["HELLO", "3"]).await;
    let (token, fence) = acquire(&mut holder, &["a", "60000", "SESSION"])
        .await
        .unwrap();
    for limit in LIMITS {
        assert_eq!(let_through(&mut other, limit).await, 3, "{limit}");
    }
    let before = redis_time(&world.redis).await;
    world.clock.set(HOUR);
    assert!(redis_time(&world.redis).await >= before + HOUR);
    let (_, next) = eventually(DEADLINE, async || {
        acquire(&mut other, &["a", "60000"]).await.ok_or("held")
    })
    .await;
    assert!(next > fence, "{next} after {fence}");
    let release = ["LOCK.RELEASE", "a", &token];
    let mut answer = holder.command(&release).await;
    if let Value::Push(parts) = &answer {
        assert_eq!(parts[0], Value::bulk("lock-lost"));
        answer = holder.read().await.unwrap();
    }
    assert_eq!(answer, Value::Int(0));
}

#[tokio::test]
async fn a_redis_whose_clock_is_set_back_keeps_locks_with_their_holders_and_lets_no_more_through() {
    let world = World::start().await;
    world.clock.set(HOUR);
    let (mut holder, mut other) = (world.daemon.client().await, world.daemon.client().await);
    let (token, fence) = acquire(&mut holder, &["a", "60000"]).await.unwrap();
    world.clock.set(0);
    assert_eq!(acquire(&mut other, &["a", "60000"]).await, None);
    let extend = ["LOCK.EXTEND", "a", &token, "60000"];
    assert_eq!(holder.command(&extend).await, Value::Int(1));
    assert_eq!(
        holder.command(&["LOCK.RELEASE", "a", &token]).await,
        Value::Int(1)
    );
    let (_, next) = acquire(&mut other, &["a", "60000"]).await.unwrap();
    assert!(next > fence, "{next} after {fence}");
    for limit in LIMITS {
        assert_eq!(let_through(&mut other, limit).await, 3, "{limit}");
    }
    // The same jump while counts are held: at worst they begin anew, once.
    world.clock.set(-HOUR);
    for limit in LIMITS {
        let through = let_through(&mut other, limit).await;
        assert!(through <= 3, "{limit}: {through}");
        assert_eq!(let_through(&mut other, limit).await, 0, "{limit}");
    }
    let _database = &world.database;
}

#[tokio::test]
async fn a_daemon_whose_clock_jumps_loses_no_lock_and_lets_no_more_through() {
    let folder = Folder::new().unwrap();
    let clock = Clock::new(&folder);
    let redis = super::support::servers::redis();
    let database = Watched::start("SELECT 1", SECTIONS).await;
    let (postgres, url) = (database.database.url(), redis.redis_url());
    let mut daemon = Spawned::start_with(
        |address| config_on(&address.to_string(), postgres, &url, SECTIONS),
        |command| {
            command.envs(clock.env());
        },
    );
    daemon.notice("READY=1").await;
    let mut client = Client::connect(daemon.address()).await;
    client.command(&["HELLO", "3"]).await;
    acquire(&mut client, &["a", "600", "SESSION"])
        .await
        .unwrap();
    let life = async |raw: &mut Client| match raw.command(&["PTTL", "cachewarden:lock:a"]).await {
        Value::Int(life) => life,
        other => panic!("{other:?}"),
    };
    let mut raw = Client::connect_unix(&redis.socket()).await;
    for (offset, limit) in [HOUR, -HOUR, 0].into_iter().zip(LIMITS) {
        clock.set(offset);
        assert_eq!(let_through(&mut client, limit).await, 3, "{limit}");
        assert_eq!(let_through(&mut client, limit).await, 0, "{limit}");
        // Renewed at least once after the jump.
        let mut last = life(&mut raw).await;
        eventually(DEADLINE, async || {
            let now = life(&mut raw).await;
            assert!(now > 0, "the lock has expired");
            let before = std::mem::replace(&mut last, now);
            if now > before { Ok(()) } else { Err(now) }
        })
        .await;
    }
    let info = client.command(&["LOCK.INFO", "a"]).await;
    assert_eq!(info.field("yours"), Some(&Value::bulk("held")), "{info:?}");
}
