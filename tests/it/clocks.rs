//! Clocks that jump by an hour: Redis' own, by which locks and limits end, and a daemon's, which nothing depends on.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

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

/// A process' own time of day. Only that jumps: the kernel's monotonic clock never does.
pub struct Clock {
    library: PathBuf,
    offset: PathBuf,
}

impl Clock {
    /// The library that shows it is small, and made for each test.
    pub fn new(folder: &Folder) -> Self {
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support/clock.c");
        let clock = Self {
            library: folder.path().join("clock.so"),
            offset: folder.path().join("clock"),
        };
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o"]);
        let made = cc.arg(&clock.library).status();
        let made = made.expect("cc: `scripts/deps.sh build` installs it");
        assert!(made.success(), "{made}");
        clock.set(0);
        clock
    }

    /// Jumps to so many seconds beside the real time.
    pub fn set(&self, offset_s: i64) {
        let mut options = File::options();
        options.create(true).truncate(false).write(true);
        let file = options.open(&self.offset).unwrap();
        // In place: the process has the file in its memory.
        file.write_all_at(&offset_s.to_ne_bytes(), 0).unwrap();
    }

    pub fn env(&self) -> Vec<(String, String)> {
        [
            ("LD_PRELOAD", &self.library),
            ("CLOCK_OFFSET", &self.offset),
        ]
        .map(|(name, path)| (name.to_owned(), path.to_str().unwrap().to_owned()))
        .to_vec()
    }
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
